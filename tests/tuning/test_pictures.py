"""The pictures and the page of a study: what there is enough for is drawn, and what the page says is so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from matplotlib.collections import PathCollection

from sightline.settings import TuneSettings
from sightline.tuning.objective import Objective, read_objectives
from sightline.tuning.page import StudyFacts, study_page
from sightline.tuning.pictures import draw_pictures, front_figure, history_figure, parallel_figure, steps_figure
from sightline.tuning.pruner import ENDS
from sightline.tuning.record import Trial, best_of, front_of
from sightline.tuning.sampler import PROPOSES
from sightline.tuning.space import Space, read_space

SPACE = read_space(
    {
        "train.optimizer": ["adamw", "sgd"],
        "train.lr": {"from": 1e-4, "to": 0.1, "log": True},
        "train.momentum": {"from": 0.5, "to": 0.9, "if": {"train.optimizer": "sgd"}},
    }
)
ONE = read_objectives("val_macro_f1", "auto")
TWO = read_objectives(["val_macro_f1", "seconds"], "auto")


def trials(objectives: Sequence[Objective] = ONE) -> list[Trial]:
    made = []
    for k, value in enumerate((0.5, 0.7, 0.6, 0.65)):
        chosen = {"train.optimizer": "adamw" if k % 2 else "sgd", "train.lr": 10.0 ** -(k % 3 + 1)} | (
            {} if k % 2 else {"train.momentum": 0.6}
        )
        values = (value, 10.0 * value)[: len(objectives)]
        made.append(Trial(k, k, "complete", values, chosen, {1: value - 0.2, 2: value}, {"seconds": 3.0, "epochs": 2}))
    made.append(Trial(4, 4, "pruned", (0.3,), {"train.optimizer": "adamw", "train.lr": 0.05}, {1: 0.3}, {"epochs": 1}))
    made.append(Trial(5, 5, "failed", None, {"train.optimizer": "adamw", "train.lr": 0.1}, {}, {}, "too little <memory>"))
    return made


def test_what_there_is_enough_for_is_drawn(tmp_path: Path) -> None:
    names = [path.name for path in draw_pictures(trials(TWO), TWO, SPACE, {"train.lr": 1.0}, tmp_path / "a")]
    assert names == ["history.png", "slices.png", "front.png", "importance.png", "parallel.png", "steps.png"]
    assert all((tmp_path / "a" / name).stat().st_size > 5000 for name in names)
    assert draw_pictures([], ONE, SPACE, {}, tmp_path / "b") == []
    assert [path.name for path in draw_pictures(trials()[5:], ONE, SPACE, {}, tmp_path / "c")] == []


def test_one_trial_and_one_setting_are_no_error(tmp_path: Path) -> None:
    space = Space(SPACE.dimensions[:1])
    assert [path.name for path in draw_pictures(trials()[:1], ONE, space, {}, tmp_path)] == ["history.png", "slices.png", "steps.png"]


def test_the_best_so_far_never_gets_worse() -> None:
    (axes,) = history_figure(trials(), ONE).axes
    line = axes.get_lines()[0].get_ydata()
    assert np.all(np.diff(np.asarray(line, dtype=float)) >= 0)
    assert line[-1] == 0.7


def test_pruned_trials_are_marked_where_they_ended() -> None:
    (axes,) = steps_figure(trials(), ONE).axes
    (cross,) = [c for c in axes.collections if isinstance(c, PathCollection)]
    assert np.asarray(cross.get_offsets()).tolist() == [[1.0, 0.3]]


def test_a_line_passes_by_the_axis_of_a_setting_that_was_not_drawn() -> None:
    (axes,) = parallel_figure(trials(), ONE, SPACE).axes
    lengths = sorted(len(line.get_xdata()) for line in axes.get_lines()[:4])
    assert lengths == [3, 3, 4, 4]


def test_the_front_joins_what_none_beats() -> None:
    (axes,) = front_figure(trials(TWO), TWO).axes
    assert len(axes.get_lines()[0].get_xdata()) == len(front_of(trials(TWO), TWO)) == 4


def test_the_best_of_several_objectives_is_on_the_front() -> None:
    equal = [Trial(k, k, "complete", (1.0, seconds), {}) for k, seconds in enumerate((9.0, 5.0, 7.0))]
    best = best_of(equal, TWO)
    assert best is not None
    assert best.number == 1


def facts(pictures: Sequence[Path], metrics: dict[str, object]) -> StudyFacts:
    return StudyFacts(
        "s", "photos", "sqlite", SPACE, ONE, trials(), metrics, "train: {lr: 0.01}", "sightline tune photos", pictures, "tpe."
    )


def test_the_page_says_who_chose_and_who_judged(tmp_path: Path) -> None:
    pictures = draw_pictures(trials(), ONE, SPACE, {}, tmp_path)
    figure = {"value": 0.5, "low": 0.4, "high": 0.6}
    html = study_page(facts(pictures, {"test": {"n": 100, "macro_f1": figure, "accuracy": figure}}))
    assert "Validation chose among 5 trials" in html
    assert "100 test images, which chose nothing, judged once" in html
    assert html.count("data:image/png;base64,") == len(pictures)
    assert "too little &lt;memory&gt;" in html
    assert "<memory>" not in html
    assert "No test part has judged yet" in study_page(facts([], {}))


def test_shares_are_in_percent_and_figures_in_words() -> None:
    html = study_page(facts([], {}))
    assert "Trial 1 is the best: <strong>macro F1 on validation 70.0\N{NO-BREAK SPACE}%</strong>" in html
    assert "val_macro_f1" not in html
    titles = [one.title for one in read_objectives(["val_top5_accuracy", "val_ece", "val_log_loss", "seconds"], "auto")]
    assert titles == ["top-5 accuracy on validation", "calibration error on validation", "log loss on validation", "training time"]
    (axes,) = history_figure(trials(), ONE).axes
    assert axes.yaxis.get_major_formatter()(0.65, 0) == "65"


def test_a_tie_for_the_best_is_told() -> None:
    equal = [Trial(k, k, "complete", (value,), {"train.lr": 0.1}) for k, value in enumerate((0.2, 0.5, 0.4, 0.5))]
    html = study_page(replace(facts([], {}), trials=equal))
    assert "2 trials tie for the best (1, 3), and the first of them, trial 1, was taken" in html
    assert "Trial 1, the first of 2 that tie" in html


def test_every_sampler_and_pruner_has_its_words() -> None:
    for name, words in (("sampler", PROPOSES), ("pruner", ENDS)):
        known = get_args(TuneSettings.model_fields[name].annotation)
        assert set(words) == set(known) - {"auto"}


@pytest.mark.parametrize("state", ["running", "waiting", "lost"])
def test_trials_in_any_state_have_a_row(state: str) -> None:
    row = Trial(9, 9, state, None, {"train.lr": 0.1})  # type: ignore[arg-type]
    html = study_page(StudyFacts("s", "p", "q", SPACE, ONE, [*trials(), row], {}, "", "", [], ""))
    assert f"<td>{state}</td>" in html
