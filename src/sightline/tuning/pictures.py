"""Pictures of a study as PNG files, in the style of the others: matplotlib without its global state.

    draw_pictures(trials, objectives, space, importances, "STUDY/pictures")
        history.png          each trial's value and the best so far; pruned ones marked
        importance.png       the share of each setting in how the trials differ
        slices.png           a setting a panel: its value against the figure
        parallel.png         a line a trial through its settings, coloured by the figure
        steps.png            the figure over the epochs of each trial; pruned ones end with a cross
        front.png            of several objectives: two figures against each other, and the trials that none beats

A picture for which there is too little (one trial, one setting) is not drawn. Blue is a complete trial, orange a pruned
one, green the best. It gives up interaction: `optuna-dashboard` on the same storage has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from sightline.config import show
from sightline.evaluation.drawing import BLUE, DPI, GREEN, GREY, INK, LINE, ORANGE, PEN, axes_at, save
from sightline.tuning.objective import Objective
from sightline.tuning.record import Trial, best_of, finished, front_of
from sightline.tuning.space import Choice, Dimension, Range, Space, label_of

_WIDTH = 7.2  # inches
_GOOD = LinearSegmentedColormap.from_list("good", ["#cfd8df", "#56a8dc", "#084594"])  # from bad to good, readable without colour
_COLUMNS = 3  # of slices
_MOST_LINES = 300  # of parallel coordinates: the best ones


def draw_pictures(
    trials: Sequence[Trial], objectives: Sequence[Objective], space: Space, importances: dict[str, float], folder: Path
) -> list[Path]:
    """Draws what there is enough for; gives the files."""
    made: list[tuple[str, Callable[[], Figure]]] = []
    done = finished(trials)
    if done:
        made.append(("history.png", lambda: history_figure(trials, objectives)))
        made.append(("slices.png", lambda: slices_figure(trials, objectives, space)))
    if len(objectives) > 1 and done:
        made.append(("front.png", lambda: front_figure(trials, objectives)))
    if importances:
        made.append(("importance.png", lambda: importance_figure(importances, objectives[0])))
    if len(done) > 1 and len(space) > 1:
        made.append(("parallel.png", lambda: parallel_figure(trials, objectives, space)))
    if any(len(trial.steps) > 1 for trial in trials):
        made.append(("steps.png", lambda: steps_figure(trials, objectives)))
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in made:
        save(draw(), folder / name)
    return [folder / name for name, _ in made]


# ---- what all share ----------------------------------------------------------------------------------------------------


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    axes.grid(color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7.5, colors=INK, length=2.5)


def _titled(axes: Axes, title: str, across: str = "", up: str = "") -> None:
    axes.set_title(title, loc="left", pad=5, **PEN.style(9))
    axes.set_xlabel(across, labelpad=2, **PEN.style(7.5, GREY))
    axes.set_ylabel(up, labelpad=2, **PEN.style(7.5, GREY))


def _keys(axes: Axes) -> None:
    # Above the axes, on the right: a legend inside would lie over points.
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) > 1:
        where: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.1, "ncols": len(labels)}
        axes.legend(handles, labels, frameon=False, fontsize=7.5, handletextpad=0.3, columnspacing=1.0, **where)


def _value(trial: Trial, k: int = 0) -> float:
    """Of a complete or pruned trial; nan where there is none."""
    if trial.values is not None and k < len(trial.values):
        return trial.values[k]
    return float("nan")


def _named(objective: Objective) -> str:
    """With its unit."""
    return f"{objective.title}, %" if objective.share else objective.title


def _words(objective: Objective) -> str:
    return f"{_named(objective)}: {'larger' if objective.larger else 'smaller'} is better"


def _in_percent(axis: Axis, objective: Objective) -> None:
    if objective.share:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))


# ---- pictures ----------------------------------------------------------------------------------------------------------


def history_figure(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Figure:
    """The value of each trial in their order, and the best so far."""
    figure = Figure((_WIDTH, 0.35 + 2.6 * len(objectives)), dpi=DPI)
    for k, one in enumerate(objectives):
        axes = axes_at(figure, 0.65, 0.45 + 2.6 * (len(objectives) - 1 - k), _WIDTH - 0.85, 1.85)
        _plain(axes)
        _titled(axes, _words(one), "trial" if k == len(objectives) - 1 else "")
        done, pruned = finished(trials), [trial for trial in trials if trial.state == "pruned"]
        values = [_value(trial, k) for trial in done]
        best = np.maximum.accumulate(values) if one.larger else np.minimum.accumulate(values)
        ends = [max(trial.number for trial in trials)], [best[-1]]  # it holds to the last trial
        axes.step(
            [*(trial.number for trial in done), *ends[0]], [*best, *ends[1]], where="post", color=GREEN, linewidth=1.4, label="best so far"
        )
        axes.scatter([trial.number for trial in done], values, s=16, color=BLUE, label="complete", zorder=3)
        if pruned and k == 0:
            axes.scatter([t.number for t in pruned], [_value(t) for t in pruned], s=18, marker="x", color=ORANGE, label="pruned", zorder=3)
        failed = [trial.number for trial in trials if trial.state == "failed"]
        if failed:
            bottom = np.nanmin([*values, *(_value(trial) for trial in pruned if k == 0)])
            axes.scatter(failed, [bottom] * len(failed), s=18, marker="v", color=GREY, label="failed", zorder=3, clip_on=False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _in_percent(axes.yaxis, one)
        _keys(axes)
    return figure


def importance_figure(importances: dict[str, float], objective: Objective) -> Figure:
    """Bars, the longest first."""
    names = list(importances)
    left = 0.25 + PEN.widest(names, 8)
    height = 0.26 * len(names)
    figure = Figure((_WIDTH, height + 0.85), dpi=DPI)
    axes = axes_at(figure, left, 0.4, _WIDTH - left - 0.55, height)
    _plain(axes)
    _titled(axes, f"share in how trials differ by {objective.title}, %")
    places = np.arange(len(names))[::-1]
    shares = [100 * importances[name] for name in names]
    axes.barh(places, shares, color=BLUE, height=0.62)
    for place, share in zip(places, shares, strict=True):
        axes.text(share, place, f" {share:.0f}", va="center", **PEN.style(8))
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.grid(axis="y", visible=False)
    axes.set_ylim(-0.6, len(names) - 0.4)
    return figure


def slices_figure(trials: Sequence[Trial], objectives: Sequence[Objective], space: Space) -> Figure:
    """Each setting against the first figure."""
    one = objectives[0]
    columns = min(_COLUMNS, len(space))
    rows = -(-len(space) // columns)
    longest = max((PEN.widest([show(v) for v in d.domain.values], 7) for d in space if isinstance(d.domain, Choice)), default=0)
    wide, high = (_WIDTH - 0.55) / columns, 1.75 + min(1.0, longest)
    figure = Figure((_WIDTH, rows * high + 0.35), dpi=DPI)
    best = best_of(trials, objectives)
    for i, dimension in enumerate(space):
        row, column = divmod(i, columns)
        below = min(1.0, longest) + 0.28
        axes = axes_at(figure, 0.6 + column * wide, (rows - 1 - row) * high + below, wide - 0.25, high - below - 0.32)
        _slice(axes, trials, dimension, best)
        _titled(axes, dimension.path, "", _named(one) if column == 0 else "")
        _in_percent(axes.yaxis, one)
        if column:
            axes.yaxis.set_major_formatter(NullFormatter())
        axes.set_ylim(*_limits([_value(trial) for trial in trials]))
    return figure


def _slice(axes: Axes, trials: Sequence[Trial], dimension: Dimension, best: Trial | None) -> None:
    _plain(axes)
    for state, colour, marker in (("pruned", ORANGE, "x"), ("complete", BLUE, "o")):
        there = [trial for trial in trials if trial.state == state and dimension.path in trial.chosen]
        places = [_place(dimension, trial.chosen[dimension.path]) for trial in there]
        axes.scatter(places, [_value(trial) for trial in there], s=14, marker=marker, color=colour, linewidths=1.0, alpha=0.85)
    if best is not None and dimension.path in best.chosen:
        place = _place(dimension, best.chosen[dimension.path])
        axes.scatter([place], [_value(best)], s=46, facecolors="none", edgecolors=GREEN, linewidths=1.6, zorder=4)
    _axis_of(axes, dimension)


def _place(dimension: Dimension, value: Any) -> float:
    """Where a value lies on its axis."""
    if isinstance(dimension.domain, Choice):
        return float(dimension.domain.labels.index(label_of(value)))
    return float(value)


def _axis_of(axes: Axes, dimension: Dimension) -> None:
    domain = dimension.domain
    if isinstance(domain, Choice):
        upright = len(domain.values) > 3 or any(len(show(value)) > 6 for value in domain.values)
        axes.set_xticks(range(len(domain.values)), [show(value) for value in domain.values], rotation=90 if upright else 0)
        axes.set_xlim(-0.5, len(domain.values) - 0.5)
        return
    if domain.log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(domain.low / 1.15, domain.high * 1.15)
        return
    edge = 0.04 * (domain.high - domain.low)
    axes.set_xlim(domain.low - edge, domain.high + edge)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=domain.whole))


def _limits(values: Sequence[float]) -> tuple[float, float]:
    known = [value for value in values if np.isfinite(value)]
    edge = 0.06 * (max(known) - min(known)) or 0.01
    return min(known) - edge, max(known) + edge


def parallel_figure(trials: Sequence[Trial], objectives: Sequence[Objective], space: Space) -> Figure:
    """A line a complete trial: through its settings to its value; the best drawn last."""
    one = objectives[0]
    done = sorted(finished(trials), key=_value, reverse=not one.larger)[-_MOST_LINES:]
    names = [dimension.path for dimension in space]
    figure = Figure((max(_WIDTH, 1.15 * (len(names) + 1)), 3.7), dpi=DPI)
    width = figure.get_size_inches()[0]
    axes = axes_at(figure, 0.55, 0.95, width - 1.1, 2.3)
    values = np.array([_value(trial) for trial in done])
    low, high = float(values.min()), float(values.max())
    norm = Normalize(low, high if high > low else low + 1)
    for trial, value in zip(done, values, strict=True):
        places, heights = _path_of(trial, space)
        end = float(norm(value))
        colour = _GOOD(end if one.larger else 1 - end)
        strong: dict[str, Any] = (
            {"color": GREEN, "linewidth": 2.2, "zorder": 3} if trial is done[-1] else {"color": colour, "linewidth": 1.0, "zorder": 2}
        )
        axes.plot([*places, len(names)], [*heights, end], **strong)
    for k, dimension in enumerate(space):
        _upright(axes, k, *_ends(dimension))
    _upright(axes, len(names), *(f"{100 * end:.4g}" if one.share else f"{end:.4g}" for end in (low, high)))
    axes.set_xlim(-0.15, len(names) + 0.3)
    axes.set_ylim(-0.06, 1.06)
    axes.set_xticks(range(len(names) + 1), [*names, _named(one)], rotation=22, ha="right", rotation_mode="anchor")
    axes.tick_params(axis="x", labelsize=7.5, length=0, pad=12)
    axes.set_yticks([])
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_title(f"{len(done)} complete trials; green is the best, the fainter the worse", loc="left", pad=14, **PEN.style(9))
    return figure


def _path_of(trial: Trial, space: Space) -> tuple[list[int], list[float]]:
    """The axes that a trial's line meets, and where; an axis of a setting that it was not drawn is passed by."""
    met = [(k, dimension) for k, dimension in enumerate(space) if dimension.path in trial.chosen]
    return [k for k, _ in met], [_share(dimension, trial.chosen[dimension.path]) for _, dimension in met]


def _upright(axes: Axes, place: int, low: str, high: str) -> None:
    axes.plot([place, place], [0, 1], color=GREY, linewidth=0.8, zorder=1)
    axes.text(place, 1.03, high, ha="center", va="bottom", **PEN.style(6.5, GREY))
    axes.text(place, -0.03, low, ha="center", va="top", **PEN.style(6.5, GREY))


def _ends(dimension: Dimension) -> tuple[str, str]:
    domain = dimension.domain
    if isinstance(domain, Choice):
        return show(domain.values[0]), show(domain.values[-1])
    return f"{domain.low:.3g}", f"{domain.high:.3g}"


def _share(dimension: Dimension, value: Any) -> float:
    """Where a value lies between the ends of its axis, 0 to 1."""
    domain = dimension.domain
    if isinstance(domain, Choice):
        return _place(dimension, value) / (len(domain.values) - 1)
    assert isinstance(domain, Range)
    scale = np.log if domain.log else np.asarray
    low, high, own = (float(scale(number)) for number in (domain.low, domain.high, value))
    return (own - low) / (high - low)


def steps_figure(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Figure:
    """The first figure over the steps of each trial; pruned ones end with a cross."""
    figure = Figure((_WIDTH, 3.0), dpi=DPI)
    axes = axes_at(figure, 0.65, 0.45, _WIDTH - 0.85, 2.2)
    _plain(axes)
    _titled(axes, f"{_named(objectives[0])}, over the epochs", "epoch")
    best = best_of(trials, objectives)
    for trial in (one for one in trials if one.steps and one.state != "lost"):
        pruned = trial.state == "pruned"
        own = best is not None and trial.number == best.number
        colour = GREEN if own else ORANGE if pruned else BLUE
        strong: dict[str, Any] = {"linewidth": 2.0, "alpha": 1.0, "zorder": 4} if own else {"linewidth": 0.9, "alpha": 0.55, "zorder": 2}
        axes.plot(list(trial.steps), list(trial.steps.values()), color=colour, **strong)
        if pruned:
            axes.scatter([max(trial.steps)], [trial.steps[max(trial.steps)]], marker="x", s=22, color=ORANGE, zorder=3)
    for colour, label, marker in ((GREEN, "best", ""), (BLUE, "complete", ""), (ORANGE, "pruned", "x")):
        axes.plot([], [], color=colour, label=label, marker=marker, markersize=4)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _in_percent(axes.yaxis, objectives[0])
    _keys(axes)
    return figure


def front_figure(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Figure:
    """The first figure against each other one; the trials that no other one beats are joined."""
    count = len(objectives) - 1
    figure = Figure((_WIDTH, 3.1 * count + 0.2), dpi=DPI)
    front = {trial.number for trial in front_of(trials, objectives)}
    done = finished(trials)
    for k, one in enumerate(objectives[1:], 1):
        axes = axes_at(figure, 0.65, 0.5 + 3.1 * (count - k), _WIDTH - 0.85, 2.25)
        _plain(axes)
        _titled(axes, f"trials by {objectives[0].title} and {one.title}", _words(one), _named(objectives[0]))
        _in_percent(axes.yaxis, objectives[0])
        _in_percent(axes.xaxis, one)
        rest = [trial for trial in done if trial.number not in front]
        axes.scatter([_value(t, k) for t in rest], [_value(t) for t in rest], s=16, color=BLUE, alpha=0.7, label="beaten by another")
        best = sorted((t for t in done if t.number in front), key=lambda trial: _value(trial, k))
        axes.plot(
            [_value(t, k) for t in best], [_value(t) for t in best], "o-", color=GREEN, linewidth=1.2, markersize=5, label="the front"
        )
        for trial in best:
            axes.annotate(
                str(trial.number), (_value(trial, k), _value(trial)), xytext=(5, -9), textcoords="offset points", **PEN.style(7, GREY)
            )
        _keys(axes)
    return figure
