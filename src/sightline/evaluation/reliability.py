"""A picture of how far confidence can be trusted: how often answers are right, against how sure they were.

    reliability_picture(metrics, "reliability.png")
    figure = reliability_figure(metrics)

One panel before calibration and one after, or a single one where nothing was calibrated. A bar is the share of right
answers among the images of a bin, its whisker the 95 % interval. An orange piece on top is what is missing to the mean
confidence (too sure), a pale one at its end what goes beyond it (not sure enough): without them the bars end on the
diagonal. Below, how many images there are in each bin; a bin with few of them says little, however far off it is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sightline.evaluation.drawing import BLUE, DPI, GREY, INK, LINE, PEN, axes_at, save

SIDE, COUNTS = 2.7, 0.75  # inches: of a diagram, and the height of the counts below it
_LEFT, _BOTTOM, _ABOVE, _BETWEEN = 0.75, 0.55, 0.88, 0.75
_TOO_SURE, _TOO_SHY, _PALE = "#f0b290", "#7fb3d9", "#a9c8de"
_PANELS = (("uncalibrated", "before calibration", "ece_uncalibrated"), ("calibrated", "calibrated", "ece"))


def reliability_picture(metrics: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Writes the figure as a PNG file.

    Args:
        metrics: with `n`, `reliability`, `ece` and `ece_uncalibrated`, as `metrics.json`.
    """
    save(reliability_figure(metrics), path)


def reliability_figure(metrics: dict[str, Any]) -> Figure:
    """The figure of `reliability_picture`."""
    bins = metrics["reliability"]
    panels = _PANELS if bins.get("uncalibrated", bins["calibrated"]) != bins["calibrated"] else _PANELS[1:]
    width = _LEFT + len(panels) * SIDE + (len(panels) - 1) * _BETWEEN + 0.3
    height = _BOTTOM + COUNTS + 0.15 + SIDE + _ABOVE
    figure = Figure((max(width, 4.3), height), dpi=DPI)
    figure.text(0.15 / width, 1 - 0.13 / height, "How far confidence can be trusted", va="top", **PEN.style(11))
    about = f"{metrics['n']:,} images; orange: too sure, pale: not sure enough"
    figure.text(0.15 / width, 1 - 0.36 / height, about, va="top", **PEN.style(7, GREY))
    for k, (key, name, error) in enumerate(panels):
        left = _LEFT + k * (SIDE + _BETWEEN)
        diagram = axes_at(figure, left, _BOTTOM + COUNTS + 0.15, SIDE, SIDE)
        _draw_bins(diagram, bins[key], labelled=k == 0)
        diagram.set_title(f"{name}: error {_with_ends(metrics[error])}", loc="left", pad=6, **PEN.style(8))
        _draw_counts(axes_at(figure, left, _BOTTOM, SIDE, COUNTS), bins[key], labelled=k == 0)
    return figure


def _draw_bins(axes: Axes, bins: Sequence[dict[str, Any]], labelled: bool) -> None:
    low, high, confidence, accuracy = (_column(bins, name) for name in ("low", "high", "confidence", "accuracy"))
    middle, width = (low + high) / 2, 0.86 * (high - low)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=4)
    axes.bar(middle, accuracy, width, color=BLUE, zorder=2)
    bottom = np.minimum(accuracy, confidence)
    colours = np.where(confidence > accuracy, _TOO_SURE, _TOO_SHY).tolist()
    axes.bar(middle, np.abs(accuracy - confidence), width, bottom, color=colours, zorder=3)
    ends = np.clip([accuracy - _column(bins, "accuracy_low"), _column(bins, "accuracy_high") - accuracy], 0, 1)
    axes.errorbar(middle, accuracy, yerr=ends, fmt="none", ecolor=INK, elinewidth=0.7, capsize=1.5, capthick=0.7, zorder=5)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_xticks(np.linspace(0, 1, 6), [""] * 6)
    _scale(axes, np.linspace(0, 1, 6), [f"{share:.0f}" for share in np.linspace(0, 100, 6)], labelled)
    _plain(axes)
    if labelled:
        axes.set_ylabel("right answers, %", **PEN.style(8, GREY))


def _draw_counts(axes: Axes, bins: Sequence[dict[str, Any]], labelled: bool) -> None:
    low, high, n = (_column(bins, name) for name in ("low", "high", "n"))
    axes.bar((low + high) / 2, n, 0.86 * (high - low), color=_PALE, zorder=2)
    axes.set(xlim=(0, 1), ylim=(0, 1.12 * n.max()))
    axes.set_xticks(np.linspace(0, 1, 6), [f"{share:.0f}" for share in np.linspace(0, 100, 6)], **PEN.style(7, GREY))
    axes.set_xlabel("confidence, %", **PEN.style(8, GREY))
    _scale(axes, np.array([0, n.max()]), ["0", f"{int(n.max()):,}"], labelled=True)
    _plain(axes)
    if labelled:
        axes.set_ylabel("images", **PEN.style(8, GREY))


def _scale(axes: Axes, ticks: np.ndarray, names: list[str], labelled: bool) -> None:
    axes.set_yticks(ticks, names if labelled else [""] * len(names), **PEN.style(7, GREY))


def _plain(axes: Axes) -> None:
    axes.tick_params(length=0)
    axes.grid(color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


def _column(bins: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([one[name] for one in bins], dtype=float)


def _with_ends(figure: dict[str, float | None]) -> str:
    value, low, high = figure["value"], figure["low"], figure["high"]
    assert value is not None
    ends = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * value:.1f} %{ends}"
