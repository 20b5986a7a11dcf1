"""The rate's factor, step by step, against torch's own schedulers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sightline.settings import TrainSettings
from sightline.training.schedule import Plateau, build_schedule


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def torch_factors(scheduler: torch.optim.lr_scheduler.LRScheduler, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("epochs", [1, 7])
def test_cosine_is_torchs(epochs: int) -> None:
    schedule = build_schedule(TrainSettings(schedule="cosine", epochs=epochs), 10)
    theirs = torch_factors(torch.optim.lr_scheduler.CosineAnnealingLR(optimizer(), epochs * 10), epochs * 10)
    assert [schedule.factor(s) for s in range(epochs * 10)] == pytest.approx(theirs, abs=1e-12)


def test_step_is_torchs() -> None:
    schedule = build_schedule(TrainSettings(schedule="step", step_epochs=2, factor=0.3, epochs=7), 5)
    theirs = torch_factors(torch.optim.lr_scheduler.StepLR(optimizer(), 10, 0.3), 35)
    assert [schedule.factor(s) for s in range(35)] == pytest.approx(theirs, abs=1e-12)


def test_one_cycle_rises_and_falls_between_torchs_ends() -> None:
    schedule = build_schedule(TrainSettings(schedule="onecycle", onecycle_rise=0.3, epochs=10), 100)
    theirs = torch_factors(torch.optim.lr_scheduler.OneCycleLR(optimizer(), 1.0, 1001, pct_start=0.3, cycle_momentum=False), 1000)
    assert [schedule.factor(s) for s in range(1000)] == pytest.approx(theirs, abs=6e-3)  # torch counts one step fewer
    assert schedule.factor(0) == pytest.approx(1 / 25)
    assert schedule.factor(300) == pytest.approx(1)


def test_warm_up_rises_in_equal_steps_and_then_the_schedule_starts() -> None:
    schedule = build_schedule(TrainSettings(schedule="cosine", warmup=2, epochs=10), 4)
    assert [schedule.factor(s) for s in range(8)] == pytest.approx([(s + 1) / 9 for s in range(8)])
    assert schedule.factor(8) == 1
    assert schedule.factor(24) == pytest.approx(0.5)


def test_constant_stays() -> None:
    schedule = build_schedule(TrainSettings(schedule="constant", epochs=3), 4)
    assert {schedule.factor(s) for s in range(12)} == {1.0}


@pytest.mark.parametrize("kind", ["constant", "step", "cosine", "onecycle"])
@given(epochs=st.integers(1, 50), per_epoch=st.integers(1, 40), warmup=st.floats(0, 60))
def test_a_factor_is_always_between_zero_and_one(kind: str, epochs: int, per_epoch: int, warmup: float) -> None:
    settings = TrainSettings(schedule=kind, epochs=epochs, warmup=warmup)
    schedule = build_schedule(settings, per_epoch)
    for step in range(epochs * per_epoch + 3):
        assert 0 <= schedule.factor(step) <= 1 + 1e-12
        assert math.isfinite(schedule.factor(step))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(0, 3), st.sampled_from([True, False]), st.sampled_from([0.1, 0.5]))
def test_the_plateau_is_torchs(values: list[float], patience: int, larger: bool, factor: float) -> None:
    theirs_optimizer = optimizer()
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs_optimizer, "max" if larger else "min", factor, patience, eps=1e-3)
    ours = Plateau(factor, patience, larger, 1e-3)
    for value in values:
        theirs.step(value)
        ours.update(value)
        assert ours.scale == pytest.approx(theirs_optimizer.param_groups[0]["lr"], rel=1e-9)


def test_the_rate_of_a_plateau_ends_near_1e_8_like_torchs() -> None:
    settings = TrainSettings(schedule="plateau", plateau_patience=0, lr=1e-3, monitor="accuracy")
    schedule = build_schedule(settings, 1)
    theirs_optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1e-3)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs_optimizer, "max", 0.1, 0)
    assert schedule.plateau is not None
    for _ in range(30):
        schedule.plateau.update(0.5)
        theirs.step(0.5)
    assert 1e-3 * schedule.factor(0) == pytest.approx(theirs_optimizer.param_groups[0]["lr"], rel=1e-6) == pytest.approx(1e-8)


def test_the_plateau_drives_the_factor() -> None:
    schedule = build_schedule(TrainSettings(schedule="plateau", plateau_patience=0, factor=0.5, monitor="loss"), 3)
    assert schedule.plateau is not None
    assert schedule.factor(100) == 1
    for value in (1.0, 1.0, 0.5, 0.5):
        schedule.plateau.update(value)
    assert schedule.factor(0) == 0.25
