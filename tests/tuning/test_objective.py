"""Objectives, their directions, and the front of several."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.study._multi_objective import _fast_non_domination_rank

from sightline.errors import SettingsError
from sightline.tuning.objective import OF_AN_EPOCH, OF_THE_END, pareto_front, read_objectives


def test_auto_is_what_training_monitors() -> None:
    assert [one.name for one in read_objectives("auto", "auto", "loss")] == ["val_loss"]
    assert read_objectives("auto", "auto", "loss")[0].direction == "minimize"


@pytest.mark.parametrize("name", [*OF_AN_EPOCH, *OF_THE_END])
def test_every_figure_knows_its_direction(name: str) -> None:
    (one,) = read_objectives(name, "auto")
    small = name in ("val_loss", "val_log_loss", "val_brier", "val_ece", "seconds", "parameters")
    assert one.larger is not small
    assert one.better(2.0, 1.0) is not small


@pytest.mark.parametrize(
    ("names", "directions", "sentence"),
    [
        (["val_macro_f1", "seconds"], "maximize", r"For 2 objectives there is 1 tune\.direction: give one for each"),
        ("val_macro_f1", ["maximize", "minimize"], "For 1 objective there are 2"),
        ("val_loss", "maximize", "would look for the worst"),
        ("test_macro_f1", "auto", "test judges once"),
        ("val_nonsense", "auto", "there is no figure val_nonsense"),
        (["seconds", "seconds"], "auto", "several different ones"),
        ([], "auto", "must name a figure"),
    ],
)
def test_objectives_that_make_no_sense_are_one_sentence(names: str | list[str], directions: str | list[str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        read_objectives(names, directions)


def test_a_direction_for_each_is_taken() -> None:
    assert [one.larger for one in read_objectives(["val_macro_f1", "seconds"], ["maximize", "minimize"])] == [True, False]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
def test_the_front_is_the_one_that_optuna_finds(points: list[tuple[int, int]]) -> None:
    import numpy as np

    objectives = read_objectives(["val_macro_f1", "seconds"], "auto")
    ranks = _fast_non_domination_rank(np.array([(-a, b) for a, b in points], dtype=float))
    assert pareto_front(points, objectives) == np.flatnonzero(ranks == 0).tolist()
