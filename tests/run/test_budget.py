"""A budget is planned from measured costs, kept within its time, and refused where it cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.config import Config
from sightline.errors import SettingsError
from sightline.run import planned
from sightline.run.budget import (
    ENOUGH,
    FEWEST,
    MOST,
    Amounts,
    Budget,
    Cost,
    epochs_that_fit,
    pace,
    plan_budget,
    refuse_with_budget,
    sentence,
    sizes_to_try,
)
from sightline.run.changes import given_of
from sightline.run.train import TrainResult, train

COSTS = [Cost(128, 1000, 4e-3, 4e-3, 1e-3), Cost(96, 1000, 2e-3, 2e-3, 5e-4), Cost(72, 1000, 1e-3, 1e-3, 3e-4)]
AMOUNTS = Amounts(val=200, judged=400, report=5.0)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10 m", 600), ("1.5h", 5400), ("1h 30m", 5400), ("2d", 172800)])
def test_a_time_is_read_as_people_write_it(text: str, seconds: float) -> None:
    assert Budget.of(text).seconds == seconds
    assert Budget.of(text).left() == pytest.approx(seconds, abs=1)


@pytest.mark.parametrize("text", ["", "ten minutes", "-5m", "0", "0s", "5w", "m", "10m5", "1.2.3", "1 2m 3"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="such as 90s, 10m"):
        Budget.of(text)


def test_smaller_pictures_are_tried_but_not_of_small_ones() -> None:
    assert sizes_to_try(128) == (128, 96, 72)
    assert sizes_to_try(224) == (224, 168, 128)
    assert sizes_to_try(28) == (28,)
    assert sizes_to_try(48) == (48, 32)
    assert sizes_to_try(128, 80) == (128, 96)  # pictures of 80 pixels come first


def test_the_largest_pictures_that_leave_time_for_enough_epochs_are_taken() -> None:
    assert plan_budget(200, COSTS, AMOUNTS).size == 128
    assert plan_budget(60, COSTS, AMOUNTS).size == 96
    assert plan_budget(20, COSTS, AMOUNTS).size == 72


@given(st.floats(0, 3000), st.integers(1, 10**6), st.integers(1, 10**5), st.floats(1e-5, 1e-1), st.integers(1, 256))
def test_a_plan_fits_into_the_time(left: float, shown: int, val: int, cost: float, batch: int) -> None:
    batch = min(batch, shown)
    costs = [Cost(64, shown, cost / 3, cost, cost / 4, batch), Cost(32, shown, cost / 12, cost / 4, cost / 16, batch)]
    amounts = Amounts(val, 2 * val, 5.0)
    plan = plan_budget(left, costs, amounts)
    assert FEWEST <= plan.epochs <= MOST
    least = FEWEST * (batch * costs[-1].train + val * costs[-1].judge) + plan.after  # one step an epoch: less there is not
    assert plan.seconds <= max(left, least) * 1.0001
    if plan.images_per_epoch is None and plan.size == 64:
        assert plan.epochs >= ENOUGH or left < plan.after
    if plan.images_per_epoch is not None:
        assert batch <= plan.images_per_epoch < shown
        assert plan.epochs == FEWEST


TEN_SECONDS = plan_budget(200, [Cost(28, 1000, 9e-3, 9e-3, 5e-3)], AMOUNTS)  # an epoch


def test_training_is_cut_short_where_the_machine_became_slower() -> None:
    assert epochs_that_fit(5, 20, TEN_SECONDS, 1.0, 100.1) == 15
    assert epochs_that_fit(5, 20, TEN_SECONDS, 2.0, 100.1) == 10
    assert epochs_that_fit(5, 20, TEN_SECONDS, 1.0, -3.0) == 5
    assert epochs_that_fit(5, 20, TEN_SECONDS, 1.0, 140.1) == 20  # one epoch too long: it is early yet
    assert epochs_that_fit(17, 20, TEN_SECONDS, 1.0, 20.1) == 19


def test_training_is_lengthened_only_early_and_only_by_much() -> None:
    assert epochs_that_fit(5, 20, TEN_SECONDS, 1.0, 200.1) == 25
    assert epochs_that_fit(5, 20, TEN_SECONDS, 1.0, 160.1) == 20
    assert epochs_that_fit(15, 20, TEN_SECONDS, 1.0, 200.1) == 20
    assert epochs_that_fit(5, 20, TEN_SECONDS, 0.001, 200.0) == MOST


def test_growing_pictures_are_reckoned_with() -> None:
    cost = Cost(128, 1000, 1e-3, 4e-3, 0.0)
    assert [cost.epoch(e, 20, 0) for e in (0, 13, 14, 16, 17, 19)] == pytest.approx([1, 1, 2.5, 2.5, 4, 4])
    assert cost.epochs(20, 0) == pytest.approx(14 * 1 + 3 * 2.5 + 3 * 4)
    assert cost.epochs(20, 0, 17) == pytest.approx(12)


def test_the_pace_is_that_of_the_last_three_epochs_and_not_of_a_short_first_one() -> None:
    assert pace([0, 12], 20, TEN_SECONDS, 190) is None  # it may have had to load something
    assert pace([0, 30], 20, TEN_SECONDS, 190) == pytest.approx(3)  # too long to wait for the next
    assert pace([0, 12, 22], 20, TEN_SECONDS, 100) == pytest.approx(1)
    assert pace([0, 12, 22, 42], 20, TEN_SECONDS, 100) == pytest.approx(1.5)
    assert pace([0, 99, 100, 110, 120, 130], 20, TEN_SECONDS, 100) == pytest.approx(1)


@pytest.mark.parametrize("path", ["train.epochs", "train.images_per_epoch", "phases"])
def test_what_a_budget_plans_cannot_be_given(path: str) -> None:
    with pytest.raises(SettingsError, match=f"--budget plans {path}"):
        refuse_with_budget({path: 3}, 1)


@pytest.mark.parametrize("given", [{"split.folds": 5}, {"train.seeds": 3}, {"imbalance": "crt"}, {"train.compile": True}])
def test_a_budget_is_for_one_training_with_one_end(given: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(given))):
        refuse_with_budget(given, 1)


def test_a_budget_is_for_one_process() -> None:
    with pytest.raises(SettingsError, match="torchrun"):
        refuse_with_budget({}, 2)
    refuse_with_budget({"data.size": 64, "train.seeds": 1, "split.folds": None}, 1)


def test_what_is_planned_is_told() -> None:
    budget = Budget(600.0)
    plan = plan_budget(60, COSTS, AMOUNTS)
    assert f"{plan.epochs} epochs of all 1,000 images at 96 px" in sentence(budget, plan, 1000)
    short = plan_budget(1, COSTS, AMOUNTS)
    assert "too short for this folder" in sentence(Budget(1.0), short, 1000)
    assert "are left over" in sentence(budget, plan_budget(5000, [Cost(28, 100, 1e-3, 1e-3, 1e-4)], AMOUNTS), 100)


def run_for(budget: str, folder: Path, run: Path) -> TrainResult:
    settings = ["model.name=sightline_tiny", "device.threads=1", "train.report=false", "train.tensorboard=false"]
    return train(folder, settings, run=run, budget=budget)


def test_the_epochs_of_a_recipe_do_not_count_and_that_is_told(
    make_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = {"model": {"name": "sightline_tiny"}, "train": {"epochs": 99, "report": False, "tensorboard": False}}
    photos = make_folder("photos", {"red": 40, "blue": 30})
    result = train(photos, {"device.threads": 1}, recipe, tmp_path / "run", budget="1s")
    assert result.run.read_config().train.epochs == 1
    assert "train.epochs=99 of the recipe does not count" in capsys.readouterr().err
    with pytest.raises(SettingsError, match=r"--budget plans train\.epochs"):
        train(photos, {"train.epochs": 99}, recipe, tmp_path / "other", budget="1s")


def test_views_of_a_class_are_planned_too(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Half a million views an epoch would never end."""
    settings = ["model.name=sightline_tiny", "device.threads=1", "train.report=false", "train.tensorboard=false"]
    photos = make_folder("photos", {"red": 40, "blue": 30})
    result = train(photos, [*settings, "train.views_per_class=250000"], run=tmp_path / "run", budget="8s")
    config = result.run.read_config().train
    assert config.images_per_epoch is not None
    assert config.images_per_epoch < 100_000


def test_a_run_that_had_no_time_is_whole(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    result = run_for("1s", make_folder("photos", {"red": 40, "blue": 30}), tmp_path / "run")
    assert len(pl.read_csv(result.run.history)) == 1  # the clock had run out when the first epoch ended
    assert result.run.read_config().train.epochs == given_of(result.run)["train.epochs"] == 1
    assert {"val", "test"} <= set(result.metrics)
    assert result.classifier.classes == ("blue", "red")


def test_a_run_with_time_to_spare_ends_after_the_most_there_is(
    make_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sightline.run.budget.MOST", 6)
    result = run_for("2h", make_folder("photos", {"red": 40, "blue": 30}), tmp_path / "run")
    history = pl.read_csv(result.run.history)
    assert len(history) == 6
    assert history["lr"][-1] < history["lr"].max() / 5  # the schedule ended with it
    assert "6 epochs of all 50 images at 16 px" in capfd.readouterr().err


def test_a_report_is_given_as_much_more_time_as_this_machine_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = SimpleNamespace(split=SimpleNamespace(rows=lambda part: range(40)))
    configs = [Config().with_values({"train.report": report}) for report in (True, False)]
    fits: list[Any] = [SimpleNamespace(prepared=prepared, recipe=SimpleNamespace(config=config)) for config in configs]
    wanted, unwanted = fits
    for seconds in (0.0064, 0.014):
        slow_moments = iter([9.0, seconds, 9.0, seconds, 9.0])
        monkeypatch.setattr(planned, "_loop", lambda moments=slow_moments: next(moments))
        assert planned._amounts(wanted).report == pytest.approx(1000 * seconds)
    assert planned._amounts(unwanted).report == 1.0
