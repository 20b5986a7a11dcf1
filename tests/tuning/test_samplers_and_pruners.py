"""Which sampler and pruner go with which space and objectives."""

from __future__ import annotations

import optuna
import pytest

from sightline.errors import SettingsError
from sightline.settings import TuneSettings
from sightline.tuning.objective import read_objectives
from sightline.tuning.pruner import choose_pruner, make_pruner
from sightline.tuning.sampler import check_sampler, combinations, make_sampler
from sightline.tuning.space import read_space

RANGES = read_space({"train.lr": {"from": 1e-4, "to": 0.1, "log": True}, "model.dropout": {"from": 0.0, "to": 0.5, "step": 0.25}})
MIXED = read_space(
    {"train.lr": {"from": 1e-4, "to": 0.1}, "model.dropout": {"from": 0.0, "to": 0.5}, "augment.policy": ["light", "strong"]}
)
ONE, TWO = read_objectives("val_macro_f1", "auto"), read_objectives(["val_macro_f1", "seconds"], "auto")


def test_cmaes_moves_ranges_and_says_what_it_does_not() -> None:
    assert check_sampler(TuneSettings(sampler="cmaes"), RANGES, ONE) == []
    assert check_sampler(TuneSettings(sampler="cmaes"), MIXED, ONE) == [
        "cmaes moves ranges only; these are drawn at random: augment.policy."
    ]
    with pytest.raises(SettingsError, match="one objective"):
        check_sampler(TuneSettings(sampler="cmaes"), RANGES, TWO)


def test_a_grid_knows_its_size() -> None:
    assert combinations(read_space({"model.depth": {"from": 2, "to": 4}, "augment.policy": ["light", "strong"]})) == 6


@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes", "random"])
def test_each_trial_has_draws_of_its_own_that_repeat(name: str) -> None:
    tune = TuneSettings(sampler=name)  # type: ignore[arg-type]

    def first_draw(number: int) -> float:
        study = optuna.create_study(sampler=make_sampler(tune, RANGES, ONE, number))
        return study.ask().suggest_float("x", 0, 1)

    assert first_draw(3) == first_draw(3)
    assert first_draw(3) != first_draw(4)


@pytest.mark.parametrize(
    ("settings", "objectives", "name"),
    [
        ({}, ONE, "median"),
        ({"folds": 5}, ONE, "wilcoxon"),
        ({}, TWO, "none"),
        ({}, read_objectives("val_ece", "auto"), "none"),
        ({"pruner": "hyperband"}, ONE, "hyperband"),
    ],
)
def test_the_pruner_fits_what_is_judged(settings: dict[str, object], objectives: tuple[object, ...], name: str) -> None:
    assert choose_pruner(TuneSettings(**settings), objectives) == name  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["none", "median", "percentile", "halving", "hyperband", "wilcoxon"])
def test_every_pruner_lets_a_first_trial_go_on(name: str) -> None:
    study = optuna.create_study(direction="maximize", pruner=make_pruner(name, TuneSettings(), 9))
    trial = study.ask()
    for step in range(1, 4):
        trial.report(0.5, step)
    assert trial.should_prune() is False or name in ("halving", "hyperband")


def test_a_pruner_that_is_warming_up_ends_nothing() -> None:
    study = optuna.create_study(direction="maximize", pruner=make_pruner("median", TuneSettings(warmup=2), 9))
    for _ in range(6):
        study.add_trial(optuna.create_trial(value=0.9, intermediate_values={1: 0.9, 2: 0.9, 3: 0.9}))
    trial = study.ask()
    ended = []
    for step in (1, 2, 3):
        trial.report(0.1, step)
        ended.append(trial.should_prune())
    assert ended == [False, False, True]
