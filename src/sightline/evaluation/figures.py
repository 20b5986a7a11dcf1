"""Pictures of what a classifier said: the confusion matrix, F1 of each class, one image with its predictions, a sheet.

    confusion_picture(metrics, "confusion.png")
    predictions_picture(image, ["cat", "dog"], [0.93, 0.07], "cat.png", title="photos/1.jpg")
    figure = per_class_f1_figure(["cat", "dog"], [0.9, 0.7])
    figure = sheet_figure(images, ["cat", "dog", "cat"])

A `..._picture` is saved as a PNG file; a `..._figure` is for those who want its pixels. Blue is right, orange is wrong:
a pair that every common colour blindness keeps apart.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

from sightline.evaluation.drawing import BLUE, DPI, GREY, INK, LINE, PEN, Pen, axes_at, save

RIGHT = LinearSegmentedColormap.from_list("right", ["#deebf7", "#6baed6", "#084594"])
WRONG = LinearSegmentedColormap.from_list("wrong", ["#fee8d2", "#fd8d3c", "#8c2d04"])
LARGEST = 40  # inches; where more classes come than fit so, not every one is named
MOST_BARS = 200  # classes whose F1 is drawn
TILE = 140  # pixels; about the side of a picture in a sheet


def confusion_picture(metrics: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """A matrix of true (rows) against predicted classes; the colour of a cell is its share of the row.

    The side of a cell shrinks from 1.1 to 0.18 inches as classes become many, and the picture grows, to 40 inches at
    most. Counts stand in the cells where they fit, the number of images of a class beside its name; the row of a class
    without images is grey.

    Args:
        metrics: with `n`, `classes`, `confusion` and `accuracy`, as `metrics.json`.
        path: of a PNG file.
    """
    save(confusion_figure(metrics), path)


def confusion_figure(metrics: dict[str, Any]) -> Figure:
    """The figure of `confusion_picture`."""
    pen = Pen.for_texts(metrics["classes"])
    matrix = _Matrix(np.array(metrics["confusion"]), pen.names(metrics["classes"]), pen)
    longest, line = matrix.longest, matrix.size / 72
    flat = longest < 0.9 * matrix.cell
    left = 0.3 + 1.5 * line + longest + matrix.support_width
    bottom = 0.3 + 1.5 * line + (line if flat else longest)
    above = 0.3 + 3 * matrix.heading / 72
    figure = Figure((max(left + matrix.side + 1.1, 4.2), bottom + matrix.side + above), dpi=DPI)
    axes = axes_at(figure, left, bottom, matrix.side, matrix.side)
    axes.imshow(_confusion_colours(matrix.table), interpolation="nearest", aspect="auto")
    _draw_frame(axes, matrix, flat)
    _draw_support(axes, matrix)
    _draw_counts(axes, matrix)
    _draw_keys(figure, matrix, left + matrix.side + 0.25, bottom + matrix.side)
    _draw_heading(figure, matrix, metrics)
    return figure


def per_class_f1_figure(names: Sequence[str], f1: Sequence[float]) -> Figure:
    """A bar a class, the weakest on top, and a line at the mean.

    Args:
        names: of the K classes; where there are more than 200, the 200 weakest are drawn.
        f1: (K,) in [0, 1], nan for a class without images.
    """
    scores = np.asarray(f1, dtype=float)
    if len(names) != len(scores) or len(scores) == 0:
        raise ValueError("there must be one F1 a class, and at least one class")
    pen = Pen.for_texts(names)
    weakest = np.argsort(scores, kind="stable")[:MOST_BARS]  # nan comes last
    named = pen.names(names)
    shown = [named[k] for k in weakest]
    margin = 0.3 + pen.widest(shown, 8)
    height = 0.17 * len(shown)
    figure = Figure((margin + 4.2, height + 0.95), dpi=DPI)
    axes = axes_at(figure, margin, 0.35, 3.4, height)
    _draw_scores(axes, shown, scores[weakest], pen)
    _draw_f1_heading(figure, axes, scores)
    return figure


def sheet_figure(images: np.ndarray, names: Sequence[str]) -> Figure:
    """Pictures in rows of eight, pixel for pixel or magnified by a whole number, each above its name.

    Args:
        images: (B, S, S, 3) uint8, at least one.
        names: B of them.
    """
    count, side = images.shape[:2]
    times = max(1, round(TILE / side))
    tile, line, gap = side * times, 26, 10  # pixels
    columns = min(8, count)
    rows = -(-count // columns)
    width, height = columns * (tile + gap) + gap, rows * (tile + line + gap) + gap
    figure = Figure((width / DPI, height / DPI), dpi=DPI)
    pen = Pen.for_texts(names)
    for k, (image, name) in enumerate(zip(images, names, strict=True)):
        left, top = gap + k % columns * (tile + gap), gap + k // columns * (tile + line + gap)
        # figimage puts array pixels on picture pixels; axes would blend them.
        figure.figimage(image.repeat(times, axis=0).repeat(times, axis=1), left, height - top - tile)
        label = pen.cut(name, tile / DPI, 7)
        figure.text(left / width, 1 - (top + tile + 4) / height, label, va="top", **pen.style(7))
    return figure


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
    save(_predictions_figure(image, names, probabilities, title), path)


@dataclass(frozen=True, slots=True)
class _Matrix:
    """The layout of a confusion matrix: lengths in inches, sizes of text in points."""

    table: np.ndarray
    names: list[str]
    pen: Pen

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
    pen: Pen,
    colours: Colormap,
    title: str,
    place: tuple[float, float, float],
    ticks: tuple[np.ndarray, np.ndarray],
) -> None:
    left, top, height = place
    axes = axes_at(figure, left, top - height, 0.13, height)
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


def _draw_scores(axes: Axes, names: Sequence[str], scores: np.ndarray, pen: Pen) -> None:
    places = np.arange(len(names))
    axes.barh(places, np.nan_to_num(scores), height=0.66, color=BLUE)
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5))
    axes.set_yticks(places, names, **pen.style(8))
    axes.set_xticks(np.linspace(0, 1, 6), [f"{share:.0f}" for share in np.linspace(0, 100, 6)], **pen.style(7, GREY))
    axes.tick_params(length=0)
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # the line of the mean must not cross a number
    for place, score in zip(places, scores, strict=True):
        text = "no images" if np.isnan(score) else f"{100 * score:.1f}"
        axes.text(float(np.nan_to_num(score)) + 0.012, float(place), text, va="center_baseline", bbox=behind, **pen.style(7, GREY))


def _draw_f1_heading(figure: Figure, axes: Axes, scores: np.ndarray) -> None:
    known = scores[np.isfinite(scores)]
    about = "%" if len(scores) <= MOST_BARS else f"%, the {MOST_BARS} weakest of {len(scores):,} classes"
    if len(known):
        axes.axvline(known.mean(), color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        about += f"; dashed: the mean, {100 * known.mean():.1f}"
    width, height = figure.get_size_inches()
    figure.text(0.15 / width, 1 - 0.13 / height, "F1 of each class", va="top", **PEN.style(11))
    figure.text(0.15 / width, 1 - 0.34 / height, about, va="top", **PEN.style(8, GREY))


def _predictions_figure(image: np.ndarray, names: Sequence[str], probabilities: Sequence[float], title: str) -> Figure:
    pen = Pen.for_texts([*names, title])
    shown = [pen.clean(name) for name in names]
    margin = pen.widest(shown, 9)
    height = max(2.4, 0.3 * len(shown))
    wide = float(np.clip(height * image.shape[1] / image.shape[0], 0.6 * height, 1.8 * height))
    figure = Figure((0.2 + wide + 0.3 + margin + 2.6, height + 0.65), dpi=DPI)
    _draw_image(axes_at(figure, 0.2, 0.2, wide, height), image)
    tall = min(height, 0.42 * len(shown))  # few bars stand in the middle, not stretched
    bars = axes_at(figure, 0.2 + wide + 0.3 + margin, 0.2 + (height - tall) / 2, 2.0, tall)
    _draw_bars(bars, shown, np.asarray(probabilities, dtype=float), pen)
    w, h = figure.get_size_inches()
    figure.text(0.2 / w, 1 - 0.15 / h, pen.fitted(title, w - 0.4, 9), va="top", **pen.style(9))
    return figure


def _draw_image(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image)
    axes.set_axis_off()
    axes.set_anchor("W")


def _draw_bars(axes: Axes, names: Sequence[str], probabilities: np.ndarray, pen: Pen) -> None:
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
