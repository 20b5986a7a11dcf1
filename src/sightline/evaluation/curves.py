"""Pictures of training as PNG files: the curves of a run with its phases, and the learning-rate range test.

    curves_picture(history, "curves.png", [(28, "imbalance=sampler, augment.policy=light")])
    range_picture(range_test(step), "lr_range.png")

Blue is train, orange is validation. It gives up curves of more than one run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from sightline.evaluation.drawing import BLUE, DPI, GREEN, GREY, INK, LINE, ORANGE, PEN, Pen, axes_at, save
from sightline.training.lr_range import Range

PURPLE = "#8f4b7a"  # of the phases; darker than Okabe and Ito's, for thin lines and small numbers
Phases = Sequence[tuple[int, str]]


def curves_picture(history: Sequence[dict[str, Any]], path: str | os.PathLike[str], phases: Phases = ()) -> None:
    """Losses, scores, the learning rate and the gradient's norm over the epochs; the best epoch and the phases marked.

    Args:
        history: at least one row with `epoch` and any of `train_loss`, `val_loss`, `train_accuracy`, `val_accuracy`,
            `val_macro_f1`, `lr`, `grad_norm`, `seconds`, `best`; numbers may come as text, and be missing, None or nan.
        path: of a PNG file.
        phases: (first epoch, what it changes), in order; those that begin after the first epoch of the history and not
            after its last are marked by a line and named above the curves.
    """
    save(_curves_figure(history, phases), path)


def range_picture(found: Range, path: str | os.PathLike[str]) -> None:
    """The losses of a range test over the rate, smoothed and as they were, and the suggested rate.

    Args:
        path: of a PNG file.
    """
    save(_range_figure(found), path)


@dataclass(frozen=True, slots=True)
class _Panel:
    """One panel of the curves: `curves` are (column, name, colour); its numbers are shown times `factor`."""

    title: str
    curves: tuple[tuple[str, str, str], ...]
    height: float
    factor: float = 1.0


_LOSSES = (("train_loss", "train", BLUE), ("val_loss", "validation", ORANGE))
_SCORES = (
    ("train_accuracy", "train accuracy", BLUE),
    ("val_accuracy", "validation accuracy", ORANGE),
    ("val_macro_f1", "validation macro F1", GREEN),
)
_PANELS = (
    _Panel("loss", _LOSSES, 2.1),
    _Panel("score, %", _SCORES, 2.1, 100.0),
    _Panel("learning rate", (("lr", "learning rate", INK),), 0.8),
    _Panel("gradient norm", (("grad_norm", "gradient norm", INK),), 0.8),
)


def _curves_figure(history: Sequence[dict[str, Any]], phases: Phases = ()) -> Figure:
    if not history:
        raise ValueError("there is no epoch to draw")
    columns = {name: _column(history, name) for name in ("epoch", "seconds", *_drawn_columns())}
    panels = [panel for panel in _PANELS if any(np.isfinite(columns[name]).any() for name, _, _ in panel.curves)]
    later = [(first, text) for first, text in phases if np.nanmin(columns["epoch"]) < first <= np.nanmax(columns["epoch"])]
    height = 1.0 + _legend_height(later) + sum(panel.height + 0.45 for panel in panels)
    figure = Figure((7.0, height), dpi=DPI)
    top = height - 0.75 - _legend_height(later)
    for panel in panels:
        axes = axes_at(figure, 0.8, top - panel.height, 5.9, panel.height)
        _draw_panel(axes, panel, columns)
        _style_epochs(axes, columns["epoch"], last=panel is panels[-1])
        _mark_phases(axes, later, numbered=panel is panels[0])
        _mark_best(axes, _best_epoch(history))
        top -= panel.height + 0.45
    _curves_heading(figure, columns, _best_epoch(history))
    _draw_legend(figure, later)
    return figure


def _drawn_columns() -> list[str]:
    return [name for panel in _PANELS for name, _, _ in panel.curves]


def _draw_panel(axes: Axes, panel: _Panel, columns: dict[str, np.ndarray]) -> None:
    epochs = columns["epoch"]
    marker = "o" if len(epochs) <= 30 else None  # a single epoch would otherwise be an invisible line
    for name, label, colour in panel.curves:
        values = columns[name] * panel.factor
        if np.isfinite(values).any():
            axes.plot(epochs, values, color=colour, label=label, linewidth=1.4, marker=marker, markersize=3)
    axes.set_title(panel.title, loc="left", pad=6, **PEN.style(9))
    if len(panel.curves) == 1:
        _style_alone(axes, columns[panel.curves[0][0]])
    else:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, fontsize=8, borderpad=0)


def _style_alone(axes: Axes, values: np.ndarray) -> None:
    """A panel whose title names its only curve; a logarithmic one where the values span more than a decade."""
    positive = values[values > 0]
    if len(positive) and positive.max() > 20 * positive.min():
        axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())  # within two decades a log axis would name every line


def _mark_best(axes: Axes, best: float | None) -> None:
    if best is not None:
        axes.axvline(best, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)


# ---- phases ----------------------------------------------------------------------------------------------------------


def _legend_height(phases: Phases) -> float:
    return 0.17 * len(phases) + (0.08 if phases else 0.0)


def _chip(size: float) -> dict[str, Any]:
    """The look of the number of an epoch at which a phase begins."""
    frame = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": PURPLE, "linewidth": 0.6}
    return {"bbox": frame, "va": "center_baseline", "ha": "center", **PEN.style(size, PURPLE)}


def _mark_phases(axes: Axes, phases: Phases, numbered: bool) -> None:
    """A line at the first epoch of each phase; its number on it, lower where it would lie on the one before."""
    width, height = axes.bbox.width / DPI, axes.bbox.height / DPI
    low, high = axes.get_xlim()
    ends: list[float] = []  # of the numbers on each level, in inches
    for first, _ in phases:
        axes.axvline(first, color=PURPLE, linewidth=0.8, alpha=0.7, zorder=0.5)
        if not numbered:
            continue
        place = (first - low) / (high - low) * width
        half = PEN.widest([f"{first}"], 6.5) / 2 + 0.05
        level = next((k for k, end in enumerate(ends) if end <= place - half), len(ends))
        ends[level : level + 1] = [place + half]
        axes.text(first, 1 - (0.1 + 0.17 * level) / height, f"{first}", transform=axes.get_xaxis_transform(), zorder=5, **_chip(6.5))


def _draw_legend(figure: Figure, phases: Phases) -> None:
    """What each phase changes, a line a phase under the heading."""
    width, height = figure.get_size_inches()
    widest = PEN.widest([f"{first}" for first, _ in phases], 7) if phases else 0.0
    for k, (first, text) in enumerate(phases):
        pen = Pen.for_texts([text])
        y = 1 - (0.55 + 0.17 * k) / height
        figure.text((0.22 + widest / 2) / width, y, f"{first}", **_chip(7))
        shown = pen.cut(f"from epoch {first}: {text}", width - widest - 0.55, 7.5)
        figure.text((0.35 + widest) / width, y, shown, va="center_baseline", **pen.style(7.5))


def _style_epochs(axes: Axes, epochs: np.ndarray, last: bool) -> None:
    """The shared axis: whole epochs, half a step of air on either side, numbers under the last panel."""
    known = epochs[np.isfinite(epochs)]
    air = max(0.5, 0.02 * float(np.ptp(known)))
    axes.set_xlim(known.min() - air, known.max() + air)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12, min_n_ticks=1))
    axes.tick_params(labelsize=8, labelbottom=last, color=GREY, labelcolor=INK, length=3, width=0.5)
    _style_frame(axes)
    if last:
        axes.set_xlabel("epoch", **PEN.style(9))


def _style_frame(axes: Axes) -> None:
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=GREY, linewidth=0.6)


def _curves_heading(figure: Figure, columns: dict[str, np.ndarray], best: float | None) -> None:
    n, seconds = len(columns["epoch"]), float(np.nansum(columns["seconds"]))
    about = f"{n} epoch{'' if n == 1 else 's'}" + (f" in {_duration(seconds)}" if seconds else "")
    about += "" if best is None else f"; dashed: the best on validation, epoch {best:g}"
    width, height = figure.get_size_inches()
    figure.text(0.15 / width, 1 - 0.15 / height, "Training", va="top", **PEN.style(11))
    figure.text(1 - 0.3 / width, 1 - 0.19 / height, about, va="top", ha="right", **PEN.style(8, GREY))


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def _column(history: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    """(epochs,) float64, nan for what is missing or no number."""
    return np.array([_number(row.get(name)) for row in history])


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _best_epoch(history: Sequence[dict[str, Any]]) -> float | None:
    """The last epoch that was better than all before it; a CSV file may say so as true, True or 1."""
    marked = [_number(row.get("epoch")) for row in history if str(row.get("best")).lower() in ("true", "1", "1.0")]
    return marked[-1] if marked else None


# ---- the range test --------------------------------------------------------------------------------------------------


def _range_figure(found: Range) -> Figure:
    rates, losses, smoothed = (np.array(values) for values in (found.rates, found.losses, found.smoothed))
    figure = Figure((7.0, 3.9), dpi=DPI)
    axes = axes_at(figure, 0.8, 0.6, 5.9, 2.6)
    axes.plot(rates, losses, color=BLUE, alpha=0.35, linewidth=0, marker="o", markersize=3, markeredgewidth=0, label="a step")
    axes.plot(rates, smoothed, color=BLUE, linewidth=1.6, label="smoothed")
    axes.set_xscale("log")
    air = max(1.2, (rates[-1] / rates[0]) ** 0.03)
    axes.set_xlim(rates[0] / air, rates[-1] * air)
    low, high = _loss_limits(losses, smoothed)
    axes.set_ylim(low, high)
    axes.ticklabel_format(axis="y", useOffset=False)
    _style_frame(axes)
    axes.xaxis.set_major_locator(LogLocator(numticks=12))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.tick_params(which="both", labelsize=8, color=GREY, labelcolor=INK, width=0.5)
    axes.tick_params(which="major", length=3)
    axes.tick_params(which="minor", length=1.5)
    axes.set_xlabel("learning rate", **PEN.style(9))
    axes.set_title("loss", loc="left", pad=6, **PEN.style(9))
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, fontsize=8, borderpad=0)
    _mark_suggestion(axes, found)
    _range_heading(figure, found)
    return figure


def _loss_limits(losses: np.ndarray, smoothed: np.ndarray) -> tuple[float, float]:
    """The smoothed curve up to a little above where it began; what explodes at high rates leaves the picture."""
    low, first = min(smoothed.min(), np.quantile(losses, 0.02)), smoothed[0]
    high = max(np.quantile(losses[: max(1, len(losses) // 2)], 0.98), first + 0.5 * (first - low))
    air = 0.08 * max(high - low, 1e-3 * abs(high), 1e-9)
    return float(low - air), float(high + air)


def _mark_suggestion(axes: Axes, found: Range) -> None:
    if found.suggestion is None:
        return
    loss = found.smoothed[found.rates.index(found.suggestion)]
    axes.axvline(found.suggestion, color=ORANGE, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.plot([found.suggestion], [loss], color=ORANGE, marker="o", markersize=6, zorder=4)
    axes.annotate(
        f"{found.suggestion:.2g}",
        (found.suggestion, loss),
        xytext=(8, 6),
        textcoords="offset points",
        **PEN.style(10, ORANGE),
    )


def _range_heading(figure: Figure, found: Range) -> None:
    steps = f"{len(found.rates)} step{'' if len(found.rates) == 1 else 's'}"
    told = (
        "the loss never fell by more than its noise"
        if found.suggestion is None
        else f"suggested: {found.suggestion:.2g}, where the loss falls most steeply"
    )
    width, height = figure.get_size_inches()
    figure.text(0.15 / width, 1 - 0.15 / height, "Learning-rate range test", va="top", **PEN.style(11))
    figure.text(1 - 0.3 / width, 1 - 0.19 / height, f"{steps}; {told}", va="top", ha="right", **PEN.style(8, GREY))
