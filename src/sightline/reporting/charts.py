"""Drawings as SVG of our own, which take the page's colours, scale with the screen and print sharply.

    training_curves(history, [(28, "imbalance=sampler")])     losses, scores, rate and gradient over the epochs
    reliability(bins, "calibrated")                           accuracy against confidence
    interval(figure)                                          the band of a 95 % interval, for tables and cards

Each has its numbers in words too (titles, a table beside it), so that nothing is told by a drawing alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.reporting.html import Content, Html, join, tag

WIDTH, HEIGHT = 420, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 8, 28
_MOST_ZONES = 400  # epochs that tell their numbers under the pointer

Figure = Mapping[str, float | None]
Scale = Callable[[float], float]


def interval(figure: Figure) -> Html:
    """The interval of a share as a band on a line from 0 to 100 %; nothing where the figure is not defined."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None:
        return Html("")
    ends = (value, value) if low is None or high is None else (low, high)
    style = f"--value:{100 * value:.1f};--low:{100 * ends[0]:.1f};--high:{100 * ends[1]:.1f}"
    return tag("span", tag("i"), tag("b"), class_="interval", style=style, aria_hidden="true")


# ---- training --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Curve:
    column: str
    name: str
    colour: str


_PANELS: tuple[tuple[str, tuple[_Curve, ...], float], ...] = (
    ("Loss", (_Curve("train_loss", "train", "right"), _Curve("val_loss", "validation", "wrong")), 1.0),
    (
        "Score, %",
        (
            _Curve("train_accuracy", "train accuracy", "right"),
            _Curve("val_accuracy", "validation accuracy", "wrong"),
            _Curve("val_macro_f1", "validation macro F1", "good"),
        ),
        100.0,
    ),
    ("Learning rate", (_Curve("lr", "learning rate", "ink"),), 1.0),
    ("Gradient norm", (_Curve("grad_norm", "gradient norm", "ink"),), 1.0),
)


def training_curves(history: Sequence[Mapping[str, str]], phases: Sequence[tuple[int, str]], best: int | None) -> Html:
    """A drawing for each kind of figure that the history has.

    Args:
        history: rows of `history.csv`.
        phases: (first epoch, what it changes) of each phase after the first.
        best: the epoch whose weights were kept.
    """
    epochs = [number(row.get("epoch")) for row in history]
    drawn = []
    for title, curves, factor in _PANELS:
        columns = [(curve, [_times(number(row.get(curve.column)), factor) for row in history]) for curve in curves]
        columns = [(curve, values) for curve, values in columns if any(math.isfinite(value) for value in values)]
        if columns:
            drawn.append(_panel(title, epochs, columns, phases, best))
    return tag("div", drawn, class_="drawings")


def number(text: Any) -> float:
    """A number of a CSV file; nan where there is none."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def _times(value: float, factor: float) -> float:
    return value * factor


def _panel(
    title: str,
    epochs: Sequence[float],
    columns: Sequence[tuple[_Curve, Sequence[float]]],
    phases: Sequence[tuple[int, str]],
    best: int | None,
) -> Html:
    known = [value for _, values in columns for value in values if math.isfinite(value)]
    log = len(columns) == 1 and min(known) > 0 and max(known) > 20 * min(known)
    ticks = _log_ticks(min(known), max(known)) if log else nice_ticks(min(known), max(known))
    low, high = min(min(known), ticks[0]), max(max(known), ticks[-1])
    up = _scale(low, high, HEIGHT - _BOTTOM, _TOP, log)
    along = _scale(min(epochs) - 0.5, max(epochs) + 0.5, _LEFT, WIDTH - _RIGHT)
    inside = [
        _grid(ticks, up),
        _epoch_axis(epochs, along),
        [_mark(along(first), "phase", str(k)) for k, (first, _) in enumerate(phases, 2) if min(epochs) < first <= max(epochs)],
        _mark(along(best), "best", "") if best is not None else None,
        [_curve(epochs, values, along, up, curve.colour) for curve, values in columns],
        _zones(epochs, columns, along),
    ]
    keys = [(curve.name, curve.colour) for curve, _ in columns] if len(columns) > 1 else []
    words = "; ".join(f"{curve.name} {_last(values)} in the last epoch" for curve, values in columns)
    return tag("figure", _caption(title, keys), _svg(f"{title} over the epochs: {words}", inside), class_="drawing")


def _svg(label: str, inside: Content, width: int = WIDTH, height: int = HEIGHT) -> Html:
    return tag("svg", inside, viewBox=f"0 0 {width} {height}", role="img", aria_label=label)


def _caption(title: str, names: Sequence[tuple[str, str]] = ()) -> Html:
    """The title, and what the colours mean."""
    keys = [tag("span", tag("i", style=f"--fill:var(--{colour})"), name) for name, colour in names]
    return tag("figcaption", tag("strong", title), keys)


def _grid(ticks: Sequence[float], up: Scale) -> Html:
    lines = []
    for tick in ticks:
        y = up(tick)
        lines.append(tag("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="grid"))
        lines.append(tag("text", f"{tick:g}", x=_LEFT - 6, y=f"{y + 3.5:.1f}", text_anchor="end"))
    return join(lines)


def _epoch_axis(epochs: Sequence[float], along: Scale) -> Html:
    first, last = min(epochs), max(epochs)
    ticks = sorted({t for t in nice_ticks(first, last, 8) if t == int(t) and first <= t <= last} | {first})
    ticks = [t for t in ticks if t == first or along(t) - along(first) > 22]
    y = HEIGHT - _BOTTOM
    words = [tag("text", f"{tick:g}", x=f"{along(tick):.1f}", y=y + 15, text_anchor="middle") for tick in ticks]
    end = tag("text", "epoch", x=WIDTH - _RIGHT, y=HEIGHT - 1, text_anchor="end")
    return join([tag("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y, class_="axis"), *words, end])


def _mark(x: float, kind: str, words: str) -> Html:
    line = tag("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=_TOP, y2=HEIGHT - _BOTTOM, class_=f"axis {kind}")
    return join([line, tag("text", words, x=f"{x + 3:.1f}", y=_TOP + 9, class_=f"{kind}-number") if words else None])


def _curve(epochs: Sequence[float], values: Sequence[float], along: Scale, up: Scale, colour: str) -> Html:
    """A line with gaps where there is no number; a dot where one stands alone."""
    pieces: list[list[str]] = [[]]
    for epoch, value in zip(epochs, values, strict=True):
        if math.isfinite(value):
            pieces[-1].append(f"{along(epoch):.1f},{up(value):.1f}")
        elif pieces[-1]:
            pieces.append([])
    lines = [tag("polyline", points=" ".join(piece), class_=f"curve s-{colour}") for piece in pieces if len(piece) > 1]
    dots = [_dot(piece[0], colour) for piece in pieces if len(piece) == 1]
    return join([*lines, *dots])


def _dot(point: str, colour: str) -> Html:
    x, _, y = point.partition(",")
    return tag("circle", cx=x, cy=y, r=2.5, class_=f"f-{colour}")


def _zones(epochs: Sequence[float], columns: Sequence[tuple[_Curve, Sequence[float]]], along: Scale) -> Html:
    """A strip an epoch that tells its numbers under the pointer."""
    if len(epochs) > _MOST_ZONES:
        return Html("")
    strips = []
    for k, epoch in enumerate(epochs):
        told = ", ".join(f"{curve.name} {values[k]:.4g}" for curve, values in columns if math.isfinite(values[k]))
        x = along(epoch - 0.5)
        wide, high = f"{along(epoch + 0.5) - x:.1f}", HEIGHT - _BOTTOM - _TOP
        words = tag("title", f"epoch {epoch:g}: {told}")
        strips.append(tag("rect", words, class_="zone", x=f"{x:.1f}", y=_TOP, width=wide, height=high))
    return join(strips)


def _last(values: Sequence[float]) -> str:
    return next((f"{value:.4g}" for value in reversed(values) if math.isfinite(value)), "unknown")


# ---- calibration -----------------------------------------------------------------------------------------------------


def reliability(bins: Sequence[Mapping[str, Any]], title: str) -> Html:
    """The reliability diagram (Niculescu-Mizil and Caruana 2005): the share that is right among answers of like confidence.

    Args:
        bins: `low`, `high`, `n`, `confidence`, `accuracy` of each; the last two None where it is empty.
    """
    side = 300
    along = _scale(0, 1, 40, side - 8)
    up = _scale(0, 1, side - 40, 8)
    most = max((bin_["n"] for bin_ in bins), default=0) or 1
    ticks = (0, 0.2, 0.4, 0.6, 0.8, 1)
    inside: list[Content] = []
    for tick in ticks:
        inside += [
            tag("line", x1=along(0), x2=along(1), y1=f"{up(tick):.1f}", y2=f"{up(tick):.1f}", class_="grid"),
            tag("text", f"{100 * tick:.0f}", x=34, y=f"{up(tick) + 3.5:.1f}", text_anchor="end"),
            tag("text", f"{100 * tick:.0f}", x=f"{along(tick):.1f}", y=side - 25, text_anchor="middle"),
        ]
    inside.append(tag("line", x1=along(0), y1=up(0), x2=along(1), y2=up(1), class_="axis best"))
    for bin_ in bins:
        if bin_["n"]:
            inside.append(_bin(bin_, along, up, most))
    middle = f"{up(0.5):.1f}"
    inside.append(tag("text", "confidence, %", x=along(0.5), y=side - 6, class_="name"))
    inside.append(tag("text", "right, %", x=10, y=middle, transform=f"rotate(-90 10 {middle})", class_="name"))
    label = f"Reliability diagram, {title}: " + "; ".join(_bin_words(bin_) for bin_ in bins if bin_["n"])
    return tag("figure", _caption(title), _svg(label, inside, side, side), class_="drawing square")


def _bin(bin_: Mapping[str, Any], along: Scale, up: Scale, most: int) -> Html:
    """A bar as wide as its bin and a dot whose size goes with the number of images."""
    x, width = along(bin_["low"]), along(bin_["high"]) - along(bin_["low"])
    top = up(bin_["accuracy"])
    box = {"x": f"{x + 0.7:.1f}", "width": f"{max(width - 1.4, 0.7):.1f}", "y": f"{top:.1f}", "height": f"{up(0) - top:.1f}"}
    bar = tag("rect", tag("title", _bin_words(bin_)), class_="f-right", opacity=0.28, **box)
    radius = 2 + 4 * math.sqrt(bin_["n"] / most)
    return join([bar, tag("circle", cx=f"{along(bin_['confidence']):.1f}", cy=f"{top:.1f}", r=f"{radius:.1f}", class_="f-right")])


def _bin_words(bin_: Mapping[str, Any]) -> str:
    right, sure = 100 * bin_["accuracy"], 100 * bin_["confidence"]
    return f"{right:.1f} % right where {sure:.1f} % sure, {bin_['n']:,} {'image' if bin_['n'] == 1 else 'images'}"


# ---- scales ----------------------------------------------------------------------------------------------------------


def _scale(low: float, high: float, start: float, end: float, log: bool = False) -> Scale:
    if log:
        low, high = math.log10(low), math.log10(high)
    span = (high - low) or 1.0
    return lambda value: start + ((math.log10(value) if log else value) - low) / span * (end - start)


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers, steps of 1, 2 or 5, that enclose low and high: at most `most` steps."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / most
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10, 20) if unit * factor >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten inside the range; with 2 and 5 between them where there are few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    tens = [10.0**k for k in decades]
    inside = [t for t in tens if low <= t <= high]
    if len(inside) >= 3:
        return inside
    return [t for t in (factor * ten for ten in tens for factor in (1, 2, 5)) if low <= t <= high] or [low, high]
