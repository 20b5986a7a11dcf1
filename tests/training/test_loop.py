"""The loop on a tiny network: it learns, stops, goes on bit for bit, and never takes NaN for the best."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sightline.config import TrainSettings
from sightline.data.augment import POLICIES, View
from sightline.data.batches import TrainBatches
from sightline.device import Device
from sightline.errors import TrainingError
from sightline.training.checkpoint import Checkpoints
from sightline.training.loop import Interruption, Plan, Row, Trainer
from sightline.training.losses import build_loss
from sightline.training.optim import build_optimizer
from sightline.training.schedule import build_schedule

CPU = Device("cpu", "float32", 1, channels_last=True)
N, SIDE = 26, 8


class FakePixels:
    """Two classes: dark and bright squares."""

    side = SIDE
    extents = np.full((N, 2), SIDE, dtype=np.int32)

    def __init__(self) -> None:
        draws = np.random.default_rng(0)
        labels = np.arange(N) % 2
        values = draws.integers(0, 120, (N, SIDE, SIDE, 3)) + 120 * labels[:, None, None, None]
        self.pixels = torch.from_numpy(values.astype(np.uint8))

    def read(self, rows: Any, into: torch.Tensor | None = None) -> torch.Tensor:
        return self.pixels[torch.from_numpy(rows)]


class Quiet:
    """A reporter that keeps what it hears."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.batches = 0

    def batch(self, epoch: int, done: int, batches: int, images: int, loss: float) -> None:
        self.batches += 1

    def epoch(self, row: Row) -> None:
        self.rows.append(row)


def make_trainer(folder: Path, **settings: Any) -> Trainer:
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 2)
    ).to(memory_format=torch.channels_last)
    train = TrainSettings(**({"epochs": 3, "batch_size": 8, "monitor": "accuracy", "schedule": "plateau"} | settings))
    view = View(SIDE, "squash", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    keys = np.arange(N, dtype=np.uint64)
    batches = TrainBatches(
        FakePixels(), np.arange(N), np.arange(N) % 2, keys, view, POLICIES["strong"], train.batch_size, train.seed, torch.device("cpu")
    )
    optimizer = build_optimizer(network, train, 0.01, fused=True)
    schedule = build_schedule(train, -(-len(batches) // train.accumulate))
    return Trainer(network, batches, build_loss(train), optimizer, schedule, 0.01, Plan.of(train), CPU, Checkpoints(folder / "checkpoints"))


def validator(trainer: Trainer, values: list[float] | None = None):
    """Figures on val: those given, epoch by epoch, or the network's own mean output."""
    planned = iter(values or [])

    def validate() -> Row:
        trainer.network.eval()
        with torch.inference_mode():
            own = trainer.network(torch.ones(2, 3, SIDE, SIDE)).mean().item()
        value = next(planned, None) if values else own
        return {"val_loss": 1.0 if values else own, "val_accuracy": value}

    return validate


def digest(network: nn.Module) -> str:
    return hashlib.sha256(b"".join(v.contiguous().numpy().tobytes() for v in network.state_dict().values())).hexdigest()


def never() -> bool:
    return False


def after(calls: int):
    """A `should_stop` that says yes from its n-th question on."""
    asked = iter(range(10**6))
    return lambda: next(asked) >= calls


def whole_run(folder: Path, **settings: Any) -> tuple[str, list[Row]]:
    trainer = make_trainer(folder, **settings)
    history = trainer.fit(validator(trainer), Quiet(), never)
    return digest(trainer.network), history


def test_it_learns_dark_from_bright(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, epochs=15)
    history = trainer.fit(validator(trainer), Quiet(), never)
    assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]
    assert history[-1]["train_accuracy"] > 0.9


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    first, again, other = (whole_run(tmp_path / name, seed=seed)[0] for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert first == again
    assert first != other


@pytest.mark.parametrize("settings", [{}, {"accumulate": 3}, {"optimizer": "sgd", "schedule": "onecycle"}, {"clip_norm": 0.1}])
@pytest.mark.parametrize("stop_after", range(9))
def test_stopped_anywhere_and_resumed_it_ends_with_the_same_weights(tmp_path: Path, stop_after: int, settings: dict[str, Any]) -> None:
    expected, rows = whole_run(tmp_path / "whole", **settings)
    trainer = make_trainer(tmp_path / "parts", **settings)
    try:
        trainer.fit(validator(trainer), Quiet(), after(stop_after))
    except Interruption:
        trainer = make_trainer(tmp_path / "parts", **settings)
        state = trainer.checkpoints.newest()
        assert state is not None
        trainer.resume(state)
        trainer.fit(validator(trainer), Quiet(), never)
    assert digest(trainer.network) == expected
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in trainer.progress.history] == [
        {k: v for k, v in row.items() if k != "seconds"} for row in rows
    ]


def test_a_stop_in_the_middle_of_an_epoch_is_saved_in_the_middle(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    with pytest.raises(Interruption):
        trainer.fit(validator(trainer), Quiet(), after(1))
    state = trainer.checkpoints.newest()
    assert state is not None
    assert (state.facts["epoch"], state.facts["batch"]) == (0, 2)


def test_accumulated_batches_are_one_step_of_their_mean(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, accumulate=4, epochs=2)
    trainer.fit(validator(trainer), Quiet(), never)
    assert len(trainer.batches) == 4
    assert trainer.progress.step == 2


def test_the_best_epoch_is_restored(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    seen: list[str] = []
    given = validator(trainer, [0.5, 0.9, 0.7])

    def validate() -> Row:
        seen.append(digest(trainer.network))
        return given()

    history = trainer.fit(validate, Quiet(), never)
    assert [row["best"] for row in history] == [True, True, False]
    assert digest(trainer.network) == seen[1]


def test_without_restoring_the_last_weights_stay(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, restore_best=False)
    seen: list[str] = []
    given = validator(trainer, [0.5, 0.9, 0.7])

    def validate() -> Row:
        seen.append(digest(trainer.network))
        return given()

    trainer.fit(validate, Quiet(), never)
    assert digest(trainer.network) == seen[2]


def test_for_a_loss_the_smallest_is_best(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, monitor="loss")
    losses = iter([0.5, 0.2, 0.3])
    trainer.fit(lambda: {"val_loss": next(losses), "val_accuracy": 0.0}, Quiet(), never)
    assert trainer.progress.best_epoch == 1


def test_patience_counts_epochs_without_a_better_one(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, epochs=50, patience=2)
    history = trainer.fit(validator(trainer, [0.5, 0.6, 0.6, 0.4, 0.9]), Quiet(), never)
    assert len(history) == 4


def test_a_loss_that_is_no_number_stops_and_the_batch_is_kept(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    before = digest(trainer.network)
    trainer.loss = lambda logits, labels: logits.sum() * math.nan
    with pytest.raises(TrainingError, match=r"not finite in epoch 1, batch 1.*Lower train.lr"):
        trainer.fit(validator(trainer), Quiet(), never)
    assert (tmp_path / "failed_batch" / "batch.safetensors").exists()
    # Only the running statistics of batch norm may have moved: the update was not made.
    assert trainer.progress.step == 0
    assert before != digest(trainer.network)


def test_figures_that_are_no_number_never_become_the_best(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    with pytest.raises(TrainingError, match="not finite after epoch 2"):
        trainer.fit(validator(trainer, [0.5, math.nan, 0.7]), Quiet(), never)
    assert trainer.progress.best_epoch == 0
    assert [p.name for p in (tmp_path / "checkpoints").glob("best-*")] == ["best-000000"]


def test_the_plateau_is_part_of_the_checkpoint(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, plateau_patience=0, epochs=3)
    trainer.fit(validator(trainer, [0.5, 0.4, 0.3]), Quiet(), never)
    state = trainer.checkpoints.newest()
    assert state is not None
    assert state.facts["plateau"] == [0.5, 0, pytest.approx(0.01)]


def largest_move(trainer: Trainer) -> float:
    """How far training moves a parameter at most."""
    trainer.plan = replace(trainer.plan, restore_best=False)
    for group in trainer.optimizer.param_groups:
        group["weight_decay"] = 0.0
    start = [p.detach().clone() for p in trainer.network.parameters()]
    trainer.fit(validator(trainer), Quiet(), never)
    return max((p - q).abs().max().item() for p, q in zip(trainer.network.parameters(), start, strict=True))


def test_clipping_bounds_the_update(tmp_path: Path) -> None:
    settings = {"optimizer": "sgd", "epochs": 1, "schedule": "constant"}
    assert largest_move(make_trainer(tmp_path / "bound", **settings, clip_norm=1e-6)) < 1e-6
    assert largest_move(make_trainer(tmp_path / "free", **settings)) > 1e-4
