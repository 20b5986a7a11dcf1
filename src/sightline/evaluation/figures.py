"""Pictures of a run as PNG files: the confusion matrix, the curves of training, one image with its predictions.

    confusion_picture(metrics, "confusion.png")
    curves_picture(history, "curves.png")
    predictions_picture(image, ["cat", "dog"], [0.93, 0.07], "cat.png", title="photos/1.jpg")

Blue is right or train, orange is wrong or validation: a pair that every common colour blindness keeps apart. Nothing
here touches matplotlib's global state. Names are drawn in any script for which a font is installed; else the missing
characters become dots, and the number of the class goes before them.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"  # Okabe and Ito (2008): apart for every common colour blindness
INK, GREY, LINE = "#222222", "#777777", "#e2e2e2"
RIGHT = LinearSegmentedColormap.from_list("right", ["#deebf7", "#6baed6", "#084594"])
WRONG = LinearSegmentedColormap.from_list("wrong", ["#fee8d2", "#fd8d3c", "#8c2d04"])
DPI = 150
LARGEST = 40  # inches; where more classes come than fit so, not every one is named
LONGEST = 40  # characters of a name
_FONT = "DejaVu Sans"  # comes with matplotlib


def confusion_picture(metrics: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """A matrix of true (rows) against predicted classes; the colour of a cell is its share of the row.

    The side of a cell shrinks from 1.1 to 0.18 inches as classes become many, and the picture grows, to 40 inches at
    most. Counts stand in the cells where they fit, the number of images of a class beside its name; the row of a class
    without images is grey.

    Args:
        metrics: with `n`, `classes`, `confusion` and `accuracy`, as `metrics.json`.
        path: of a PNG file.
    """
    _save(_confusion_figure(metrics), path)


def curves_picture(history: Sequence[dict[str, Any]], path: str | os.PathLike[str]) -> None:
    """Losses, scores and the learning rate over the epochs, with the best epoch marked.

    Args:
        history: at least one row with `epoch` and any of `train_loss`, `val_loss`, `train_accuracy`, `val_accuracy`,
            `val_macro_f1`, `lr`, `seconds`, `best`; numbers may come as text, and be missing, None or nan.
        path: of a PNG file.
    """
    _save(_curves_figure(history), path)


def predictions_picture(
    image: np.ndarray, names: Sequence[str], probabilities: Sequence[float], path: str | os.PathLike[str], title: str
) -> None:
    """An image beside bars of its most probable classes.

    Args:
        image: (H, W, 3) uint8.
        names, probabilities: of the classes to show, the most probable first; the same length, at least one.
        path: of a PNG file.
        title: stands above, cut to the width of the picture.
    """
    _save(_predictions_figure(image, names, probabilities, title), path)


@dataclass(frozen=True, slots=True)
class _Pen:
    """Writes names in the fonts that have their characters; `families` in the order in which they are tried."""

    families: tuple[str, ...]
    drawable: frozenset[int]

    @classmethod
    def for_texts(cls, texts: Iterable[str]) -> _Pen:
        wanted = {ord(character) for text in texts for character in text}
        families, drawable = [_FONT], set(_characters(font_manager.findfont(_FONT)))
        # "Last Resort" has a box for everything, which is what is to be avoided.
        others = (font for font in font_manager.fontManager.ttflist if not font.name.startswith("Last Resort"))
        for font in others:
            if wanted <= drawable:
                break
            found = _characters(font.fname)
            if (wanted - drawable) & found:
                families.append(font.name)
                drawable |= found
        return cls(tuple(families), frozenset(drawable))

    def drawn(self, text: str) -> str:
        """The text on one line; characters that no font has become dots."""
        return "".join(letter if ord(letter) in self.drawable else "·" for letter in " ".join(text.split()))

    def clean(self, text: str) -> str:
        """As `drawn`, and not longer than LONGEST."""
        line = self.drawn(text)
        return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"

    def names(self, names: Sequence[str]) -> list[str]:
        """Names to tell classes apart by: a name that lost characters gets the number of its class, from 1."""
        whole = [all(ord(character) in self.drawable for character in "".join(name.split())) for name in names]
        pairs = enumerate(zip(names, whole, strict=True), 1)
        return [self.clean(name) if intact else self.clean(f"{k}: {name}") for k, (name, intact) in pairs]

    def style(self, size: float, color: str = INK) -> dict[str, Any]:
        """For every text that is drawn; a name may hold a $, which must not begin a formula."""
        return {"family": list(self.families), "size": size, "color": color, "parse_math": False}

    def widest(self, texts: Iterable[str], size: float) -> float:
        """The width of the widest text, in inches."""
        figure = Figure((1, 1), dpi=DPI)
        FigureCanvasAgg(figure)
        drawn = (figure.text(0, 0, text, **self.style(size)) for text in texts)
        return max(float(text.get_window_extent().width) for text in drawn) / DPI

    def fitted(self, text: str, width: float, size: float) -> str:
        """One line, its middle left out where it is wider than `width` inches: the end of a path tells most."""
        line = self.drawn(text)
        if self.widest([line], size) <= width:
            return line
        shorter = [f"{line[: keep // 3]}…{line[keep // 3 - keep :]}" for keep in range(1, len(line))]
        fitting = bisect_right(shorter, width, key=lambda candidate: self.widest([candidate], size))
        return shorter[max(0, fitting - 1)]


@lru_cache(maxsize=1024)
def _characters(font: str) -> frozenset[int]:
    try:
        opened = font_manager.get_font(font)
        return frozenset(opened.get_charmap()) if opened.scalable else frozenset()
    except (OSError, RuntimeError):  # a font that cannot be read is one that is not there
        return frozenset()


_PEN = _Pen.for_texts(())  # for our own words


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    figure.savefig(Path(path), format="png")


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches, so that sizes of text and of cells stay in a known proportion."""
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, bottom / h, width / w, height / h))


@dataclass(frozen=True, slots=True)
class _Matrix:
    """The layout of a confusion matrix: lengths in inches, sizes of text in points."""

    table: np.ndarray
    names: list[str]
    pen: _Pen

    @property
    def k(self) -> int:
        return len(self.table)

    @property
    def cell(self) -> float:
        """Whole pixels, or the cells would differ in size."""
        side = min(np.interp(self.k, [2, 10, 42, 102], [1.1, 0.55, 0.26, 0.18]), LARGEST / self.k)
        return max(1, round(float(side) * DPI)) / DPI

    @property
    def side(self) -> float:
        return self.cell * self.k

    @property
    def size(self) -> float:
        return float(np.clip(self.cell * 72 * 0.6, 5, 10))

    @property
    def heading(self) -> float:
        return float(np.clip(8 + 0.5 * self.side, 10, 16))

    @property
    def step(self) -> int:
        """How many rows share a name, as a line of text is 1.3 times as high as its size."""
        return int(np.ceil(round(self.size * 1.3 / (self.cell * 72), 6)))

    @property
    def longest(self) -> float:
        return self.pen.widest(self.names, self.size)

    @property
    def support_width(self) -> float:
        return self.pen.widest([f"{self.table.sum(axis=1).max():,}"], self.size) + 0.14


def _confusion_figure(metrics: dict[str, Any]) -> Figure:
    pen = _Pen.for_texts(metrics["classes"])
    matrix = _Matrix(np.array(metrics["confusion"]), pen.names(metrics["classes"]), pen)
    longest, line = matrix.longest, matrix.size / 72
    flat = longest < 0.9 * matrix.cell
    left = 0.3 + 1.5 * line + longest + matrix.support_width
    bottom = 0.3 + 1.5 * line + (line if flat else longest)
    above = 0.3 + 3 * matrix.heading / 72
    figure = Figure((max(left + matrix.side + 1.1, 4.2), bottom + matrix.side + above), dpi=DPI)
    axes = _axes(figure, left, bottom, matrix.side, matrix.side)
    axes.imshow(_confusion_colours(matrix.table), interpolation="nearest", aspect="auto")
    _draw_frame(axes, matrix, flat)
    _draw_support(axes, matrix)
    _draw_counts(axes, matrix)
    _draw_keys(figure, matrix, left + matrix.side + 0.25, bottom + matrix.side)
    _draw_heading(figure, matrix, metrics)
    return figure


def _confusion_colours(table: np.ndarray) -> np.ndarray:
    """(K, K, 3): white where nothing is, blue on the diagonal, orange off it, darker with the share of the row."""
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    # The root sets one mistake in fifty apart from none; shares of 0.5 and more are rare off the diagonal.
    diagonal = np.eye(len(table), dtype=bool)[..., None]
    colours: np.ndarray = np.where(diagonal, RIGHT(share), WRONG(np.sqrt(share)))[..., :3]
    colours[table == 0] = 1.0
    colours[table.sum(axis=1) == 0] = 0.95  # a class without images
    return colours


def _draw_frame(axes: Axes, matrix: _Matrix, flat: bool) -> None:
    """Names at the rows and columns, and lines between the cells."""
    shown = range(0, matrix.k, matrix.step)
    style = matrix.pen.style(matrix.size)
    names = [matrix.names[k] for k in shown]
    axes.set_yticks(shown, names, **style)
    axes.tick_params(axis="y", length=0, pad=matrix.support_width * 72)
    axes.set_xticks(shown, names, rotation=0 if flat else 90, **style)
    axes.tick_params(axis="x", length=0, pad=4)
    axes.set_xlabel("predicted class", **matrix.pen.style(matrix.size * 1.1, GREY))
    axes.set_ylabel("true class", **matrix.pen.style(matrix.size * 1.1, GREY))
    edges = np.arange(0.5, matrix.k - 1)
    width = min(0.4, matrix.cell * 3)  # points; lines must not fill small cells
    axes.hlines(edges, -0.5, matrix.k - 0.5, color=LINE, linewidth=width)
    axes.vlines(edges, -0.5, matrix.k - 0.5, color=LINE, linewidth=width)
    axes.spines[:].set(color=GREY, linewidth=0.6)


def _draw_support(axes: Axes, matrix: _Matrix) -> None:
    """The number of images of a class, between its name and its row."""
    style: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "center_baseline"}
    style |= matrix.pen.style(matrix.size, GREY)
    for k in range(0, matrix.k, matrix.step):
        axes.text(-4 / 72 / matrix.side, k, f"{matrix.table[k].sum():,}", **style)


def _draw_counts(axes: Axes, matrix: _Matrix) -> None:
    """Counts in the cells, as large as they fit; left out where that is below 4 points."""
    colours = _confusion_colours(matrix.table)
    points = matrix.cell * 72
    for row, column in np.argwhere(matrix.table > 0):
        text = f"{matrix.table[row, column]}"
        size = min(11, points * 0.5, points * 0.86 / (0.64 * len(text)))  # a digit is 0.64 of its size wide
        if size >= 4:
            ink = "white" if colours[row, column] @ (0.299, 0.587, 0.114) < 0.55 else INK
            axes.text(column, row, text, ha="center", va="center_baseline", **matrix.pen.style(size, ink))


def _draw_keys(figure: Figure, matrix: _Matrix, left: float, top: float) -> None:
    """The two scales of colour, stacked at the right."""
    height = min(1.4, matrix.side / 2 - 0.4)
    even, rooted = np.linspace(0, 1, 3), np.array([0.01, 0.1, 0.25, 0.5, 1])
    _draw_key(figure, matrix.pen, RIGHT, "right", (left, top - 0.25, height), (even, even))
    _draw_key(figure, matrix.pen, WRONG, "wrong", (left, top - height - 0.75, height), (np.sqrt(rooted), rooted))


def _draw_key(
    figure: Figure,
    pen: _Pen,
    colours: Colormap,
    title: str,
    place: tuple[float, float, float],
    ticks: tuple[np.ndarray, np.ndarray],
) -> None:
    left, top, height = place
    axes = _axes(figure, left, top - height, 0.13, height)
    axes.imshow(np.linspace(0, 1, 128)[:, None], cmap=colours, origin="lower", extent=(0, 1, 0, 1), aspect="auto")
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.set_yticks(ticks[0], [f"{100 * share:.0f} %" for share in ticks[1]], **pen.style(7, GREY))
    axes.tick_params(axis="y", length=2, width=0.5, color=GREY, pad=2)
    axes.spines[:].set(color=GREY, linewidth=0.5)
    axes.set_title(title, loc="left", pad=7, **pen.style(8))


def _draw_heading(figure: Figure, matrix: _Matrix, metrics: dict[str, Any]) -> None:
    width, height = figure.get_size_inches()
    accuracy, low, high = (100 * metrics["accuracy"][key] for key in ("value", "low", "high"))
    share = f"accuracy {accuracy:.1f} % ({low:.1f} to {high:.1f})"
    about = f"{metrics['n']:,} images, {share}. Colour is the share of a row."
    size = matrix.heading
    figure.text(0.15 / width, 1 - 0.15 / height, "Confusion matrix", va="top", **matrix.pen.style(size))
    below = 1 - (0.15 + 1.5 * size / 72) / height
    figure.text(0.15 / width, below, about, va="top", **matrix.pen.style(max(7, 0.7 * size), GREY))


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
)


def _curves_figure(history: Sequence[dict[str, Any]]) -> Figure:
    if not history:
        raise ValueError("there is no epoch to draw")
    columns = {name: _column(history, name) for name in ("epoch", "seconds", *_drawn_columns())}
    panels = [panel for panel in _PANELS if any(np.isfinite(columns[name]).any() for name, _, _ in panel.curves)]
    height = 1.0 + sum(panel.height + 0.45 for panel in panels)
    figure = Figure((7.0, height), dpi=DPI)
    top = height - 0.75
    for panel in panels:
        axes = _axes(figure, 0.8, top - panel.height, 5.9, panel.height)
        _draw_panel(axes, panel, columns)
        _mark_best(axes, _best_epoch(history))
        _style_epochs(axes, columns["epoch"], last=panel is panels[-1])
        top -= panel.height + 0.45
    _curves_heading(figure, columns, _best_epoch(history))
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
    axes.set_title(panel.title, loc="left", pad=6, **_PEN.style(9))
    if panel.title == "learning rate":
        _style_rates(axes, columns["lr"])
    else:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, fontsize=8, borderpad=0)


def _style_rates(axes: Axes, rates: np.ndarray) -> None:
    positive = rates[rates > 0]
    if len(positive) and positive.max() > 20 * positive.min():
        axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _mark_best(axes: Axes, best: float | None) -> None:
    if best is not None:
        axes.axvline(best, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)


def _style_epochs(axes: Axes, epochs: np.ndarray, last: bool) -> None:
    """The shared axis: whole epochs, half a step of air on either side, numbers under the last panel."""
    known = epochs[np.isfinite(epochs)]
    air = max(0.5, 0.02 * float(np.ptp(known)))
    axes.set_xlim(known.min() - air, known.max() + air)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12, min_n_ticks=1))
    axes.tick_params(labelsize=8, labelbottom=last, color=GREY, labelcolor=INK, length=3, width=0.5)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=GREY, linewidth=0.6)
    if last:
        axes.set_xlabel("epoch", **_PEN.style(9))


def _curves_heading(figure: Figure, columns: dict[str, np.ndarray], best: float | None) -> None:
    n, seconds = len(columns["epoch"]), float(np.nansum(columns["seconds"]))
    about = f"{n} epoch{'' if n == 1 else 's'}" + (f" in {_duration(seconds)}" if seconds else "")
    about += "" if best is None else f"; dashed: the best on validation, epoch {best:g}"
    width, height = figure.get_size_inches()
    figure.text(0.15 / width, 1 - 0.15 / height, "Training", va="top", **_PEN.style(11))
    figure.text(1 - 0.3 / width, 1 - 0.19 / height, about, va="top", ha="right", **_PEN.style(8, GREY))


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


def _predictions_figure(image: np.ndarray, names: Sequence[str], probabilities: Sequence[float], title: str) -> Figure:
    pen = _Pen.for_texts([*names, title])
    shown = [pen.clean(name) for name in names]
    margin = pen.widest(shown, 9)
    height = max(2.4, 0.3 * len(shown))
    wide = float(np.clip(height * image.shape[1] / image.shape[0], 0.6 * height, 1.8 * height))
    figure = Figure((0.2 + wide + 0.3 + margin + 2.6, height + 0.65), dpi=DPI)
    _draw_image(_axes(figure, 0.2, 0.2, wide, height), image)
    tall = min(height, 0.42 * len(shown))  # few bars stand in the middle, not stretched
    bars = _axes(figure, 0.2 + wide + 0.3 + margin, 0.2 + (height - tall) / 2, 2.0, tall)
    _draw_bars(bars, shown, np.asarray(probabilities, dtype=float), pen)
    w, h = figure.get_size_inches()
    figure.text(0.2 / w, 1 - 0.15 / h, pen.fitted(title, w - 0.4, 9), va="top", **pen.style(9))
    return figure


def _draw_image(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image)
    axes.set_axis_off()
    axes.set_anchor("W")


def _draw_bars(axes: Axes, names: Sequence[str], probabilities: np.ndarray, pen: _Pen) -> None:
    places = np.arange(len(names))
    colours = [BLUE] + ["#a9c8de"] * (len(names) - 1)
    axes.barh(places, probabilities, height=0.62, color=colours)
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5))
    axes.set_xticks([])
    axes.set_yticks(places, names, **pen.style(9))
    axes.tick_params(length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set(color=GREY, linewidth=0.6)
    for place, p in zip(places, probabilities, strict=True):
        axes.text(float(p) + 0.02, float(place), _percent(float(p)), va="center_baseline", **pen.style(8, GREY))


def _percent(share: float) -> str:
    """One decimal, and never 0 or 100 for what is only near it."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return "> 99.9 %" if 0.9995 <= share < 1 else f"{100 * share:.1f} %"
