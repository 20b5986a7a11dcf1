"""The reliability picture: bars where the figures are, and every word inside the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from sightline.evaluation.calibration import softmax
from sightline.evaluation.metrics import evaluate
from sightline.evaluation.predictions import Predictions
from sightline.evaluation.reliability import reliability_figure, reliability_picture


def measured(n: int, temperature: float = 0.4) -> dict[str, Any]:
    """Figures of n images whose uncalibrated probabilities are too sure."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(n, 4))
    labels = (rng.random((n, 1)) > softmax(logits).cumsum(axis=1)[:, :-1]).sum(axis=1)
    names, ids = ("a", "b", "c", "d"), tuple(map(str, range(n)))
    raw = Predictions(ids, softmax(logits, temperature), names, labels)
    return evaluate(Predictions(ids, softmax(logits), names, labels), uncalibrated=raw, resamples=50)


def laid_out(figure: Figure) -> Figure:
    figure.draw_without_rendering()
    return figure


@pytest.mark.parametrize("n", [1, 7, 900, 40_000])
def test_every_word_is_inside_the_page(n: int) -> None:
    figure = laid_out(reliability_figure(measured(n)))
    page = figure.bbox
    words = [*figure.texts]
    for axes in figure.axes:
        words += [axes.xaxis.label, axes.yaxis.label, axes._left_title, *axes.get_xticklabels(), *axes.get_yticklabels()]  # type: ignore[attr-defined]
    for box in [word.get_window_extent() for word in words if word.get_text()]:
        assert page.x0 <= box.x0 < box.x1 <= page.x1
        assert page.y0 <= box.y0 < box.y1 <= page.y1


def test_bars_are_as_high_as_the_share_right_and_counts_add_up() -> None:
    metrics = measured(900)
    figure = reliability_figure(metrics)
    assert len(figure.axes) == 4  # a diagram and its counts, before and after
    for axes, key in zip((figure.axes[0], figure.axes[2]), ("uncalibrated", "calibrated"), strict=True):
        bins = metrics["reliability"][key]
        bars, gaps = axes.containers[0], axes.containers[1]
        assert [bar.get_height() for bar in bars] == pytest.approx([one["accuracy"] for one in bins])
        assert [gap.get_height() for gap in gaps] == pytest.approx([abs(one["accuracy"] - one["confidence"]) for one in bins])
    for axes in (figure.axes[1], figure.axes[3]):
        assert sum(bar.get_height() for bar in axes.containers[0]) == 900


def test_what_was_not_calibrated_has_one_panel() -> None:
    assert len(reliability_figure(measured(200, temperature=1.0)).axes) == 2


def test_the_picture_is_a_png_file(tmp_path: Path) -> None:
    reliability_picture(measured(300), tmp_path / "reliability.png")
    with Image.open(tmp_path / "reliability.png") as picture:
        assert picture.format == "PNG"
        assert picture.size[0] > 900
