"""The curves of training and of the range test: what they show, and that nothing lies on anything else."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from sightline.evaluation import curves
from sightline.evaluation.curves import curves_picture, range_picture
from sightline.training.lr_range import Range, range_test

LONG = "imbalance=sampler, augment.policy=light, train.lr=0.001, train.schedule=plateau, model.freeze=until:layer4, augment.mixup=0.2"


def history(epochs: int) -> list[dict[str, Any]]:
    return [
        {
            "epoch": e,
            "train_loss": 1 / e,
            "val_loss": 1.2 / e,
            "val_accuracy": 1 - 1 / (1 + e),
            "lr": 0.1 / e,
            "best": e < 3,
        }
        for e in range(1, epochs + 1)
    ]


def laid_out(figure: Figure) -> Figure:
    figure.draw_without_rendering()
    return figure


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert np.asarray(image.convert("RGB")).std() > 0
        return image.size


def overlap(one: Text, other: Text) -> bool:
    return bool(one.get_window_extent().overlaps(other.get_window_extent()))


def marks(axes: Axes) -> list[float]:
    """Where the lines of phases stand."""
    return [float(line.get_xdata()[0]) for line in axes.lines if line.get_color() == curves.PURPLE]


@pytest.mark.parametrize("epochs", [1, 2, 40])
def test_curves_show_every_epoch_and_the_best(tmp_path: Path, epochs: int) -> None:
    figure = laid_out(curves._curves_figure(history(epochs)))
    loss, score, rate = figure.axes
    assert [len(axes.lines) for axes in figure.axes] == [3, 2, 2]  # one of them marks the best epoch
    assert loss.lines[0].get_ydata().tolist() == [1 / e for e in range(1, epochs + 1)]
    assert score.lines[0].get_ydata()[0] == 50  # percent
    assert all(list(axes.lines[-1].get_xdata()) == [min(2, epochs)] * 2 for axes in figure.axes)
    assert loss.get_xlim() == score.get_xlim() == rate.get_xlim()
    assert rate.get_yscale() == ("log" if epochs == 40 else "linear")
    assert all(float(text.get_text()).is_integer() for text in rate.get_xticklabels())
    curves_picture(history(epochs), tmp_path / "h.png")
    assert size(tmp_path / "h.png")[0] == 1050


def test_curves_survive_gaps_and_text() -> None:
    rows = [{key: str(value) for key, value in row.items()} for row in history(5)]
    rows[1] |= {"train_loss": "", "val_loss": "nan", "best": "False"}
    del rows[2]["val_accuracy"]
    figure = curves._curves_figure([*rows, {"epoch": 6, "train_loss": None}])
    assert np.isnan(figure.axes[0].lines[0].get_ydata()).tolist() == [False, True, False, False, False, True]
    assert list(figure.axes[0].lines[-1].get_xdata()) == [1, 1]


def test_a_panel_without_numbers_is_left_out() -> None:
    figure = laid_out(curves._curves_figure([{"epoch": 1, "train_loss": 0.5, "val_loss": None, "lr": float("nan")}]))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss"]
    with pytest.raises(ValueError, match="no epoch"):
        curves._curves_figure([])


def test_the_gradients_norm_has_a_panel_of_its_own() -> None:
    rows = [{**row, "grad_norm": 2.0 / row["epoch"]} for row in history(3)]
    figure = laid_out(curves._curves_figure(rows))
    assert [axes.get_title(loc="left") for axes in figure.axes][-1] == "gradient norm"
    assert figure.axes[-1].lines[0].get_ydata().tolist() == [2.0, 1.0, 2 / 3]
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "", "epoch"]


PHASES = {
    "one": [(1, "")],
    "three": [(1, ""), (9, "model.freeze=none"), (28, LONG)],
    "eight": [(k, f"train.lr=0.00{k}") for k in (2, 3, 4, 5, 6, 20, 29, 30)],
    "any name": [(5, "model.weights=狐/$x^{$.safetensors"), (6, "a\nb")],
}


@pytest.mark.parametrize("name", PHASES)
@pytest.mark.parametrize("epochs", [1, 30, 200])
def test_phases_are_marked_and_named_and_nothing_collides(epochs: int, name: str) -> None:
    drawn = [(first, text) for first, text in PHASES[name] if 1 < first <= epochs]
    figure = laid_out(curves._curves_figure(history(epochs), PHASES[name]))
    assert all(marks(axes) == [first for first, _ in drawn] for axes in figure.axes)
    numbers = figure.axes[0].texts
    assert [text.get_text() for text in numbers] == [str(first) for first, _ in drawn]
    assert not any(overlap(*pair) for pair in combinations(numbers, 2))
    assert not any(overlap(*pair) for pair in combinations([*figure.texts, figure.axes[0].title], 2))
    for text in [*figure.texts, *numbers]:
        box = text.get_window_extent()
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    legend = [text.get_text() for text in figure.texts if text.get_text().startswith("from epoch")]
    assert len(legend) == len(drawn)
    for (first, text), line in zip(drawn, legend, strict=True):
        whole = f"from epoch {first}: {' '.join(text.split())}".replace("狐", "·")
        line = line.replace("狐", "·")  # whether or not a font has it
        assert line == whole or (line.endswith("…") and len(line) > 80 and whole.startswith(line[:-1]))


def test_the_curves_themselves_do_not_change_with_phases(tmp_path: Path) -> None:
    plain, marked = (curves._curves_figure(history(30), phases) for phases in ((), [(1, "a"), (9, "b"), (20, "c")]))
    for one, other in zip(plain.axes, marked.axes, strict=True):
        assert one.bbox.size == pytest.approx(other.bbox.size)
        assert one.get_xlim() == other.get_xlim()
        assert one.get_ylim() == other.get_ylim()
    curves_picture(history(30), tmp_path / "plain.png", [(1, "a")])
    curves_picture(history(30), tmp_path / "marked.png", [(1, "a"), (9, "b"), (20, "c")])
    assert size(tmp_path / "marked.png")[1] > size(tmp_path / "plain.png")[1]  # by the lines that name them


def sigmoid(rate: float) -> float:
    return 1.3 + 1 / (1 + (rate / 1e-3) ** 1.5) + rate**2


def test_a_range_shows_every_step_and_the_suggestion(tmp_path: Path) -> None:
    found = range_test(sigmoid)
    axes = laid_out(curves._range_figure(found)).axes[0]
    steps, smooth, rule, dot = axes.lines
    assert steps.get_ydata().tolist() == list(found.losses)
    assert smooth.get_ydata().tolist() == list(found.smoothed)
    assert axes.get_xscale() == "log"
    assert list(rule.get_xdata()) == [found.suggestion] * 2
    assert dot.get_ydata()[0] == found.smoothed[found.rates.index(found.suggestion)]  # type: ignore[arg-type]
    assert [text.get_text() for text in axes.texts] == [f"{found.suggestion:.2g}"]
    range_picture(found, tmp_path / "r.png")
    assert size(tmp_path / "r.png") == (1050, 585)


def test_a_range_without_a_suggestion_says_so() -> None:
    figure = laid_out(curves._range_figure(range_test(lambda _: 1.0)))
    assert len(figure.axes[0].lines) == 2
    assert "never fell" in figure.texts[-1].get_text()
    assert "+1" not in figure.axes[0].yaxis.get_offset_text().get_text()


@pytest.mark.parametrize("losses", [(2.0,), (2.0, 0.0), (1.0, 1e6), (-1.0, 1e-30), (0.0, 0.0)])
def test_any_range_is_drawn_with_its_beginning_in_sight(losses: tuple[float, ...], tmp_path: Path) -> None:
    rates = tuple(1e-4 * 10.0**k for k in range(len(losses)))
    figure = laid_out(curves._range_figure(Range(rates, losses, losses, None)))
    low, high = figure.axes[0].get_ylim()
    assert low < losses[0] < high
    range_picture(Range(rates, losses, losses, rates[0]), tmp_path / "r.png")
    assert not any(overlap(*pair) for pair in combinations([*figure.texts, figure.axes[0].title], 2))


def test_what_explodes_leaves_the_picture_and_the_descent_fills_it() -> None:
    found = range_test(lambda rate: sigmoid(rate) if rate < 0.1 else 100 * rate)
    low, high = curves._range_figure(found).axes[0].get_ylim()
    assert high - low < 2.5
