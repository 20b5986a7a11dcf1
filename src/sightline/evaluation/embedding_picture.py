"""The plane of images as a PNG file with its legend: readable with 102 classes, on paper and without JavaScript.

    embedding_picture(embedding, "embedding.png", "flowers: test images as the network sees them")

Few classes have their names in the plane, more have numbers, which the legend explains.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from sightline.evaluation.drawing import DPI, GREY, INK, ORANGE, PEN, Pen, axes_at, save
from sightline.evaluation.embedding import Embedding, Floats
from sightline.evaluation.looks import MARKS, Look, class_anchors, looks

_SIDE = 7.6  # inches, of the plane
_UNITS = 2.12 / _SIDE  # of the plane, an inch
_ROWS = 36  # lines of a column of the legend
_LINE = 0.205  # inches a line
_NAMED = 25  # so many classes have their names in the plane; more have numbers
_LONGEST = 24  # characters of a name in the legend


def embedding_picture(embedding: Embedding, path: str | os.PathLike[str], title: str = "") -> None:
    """Writes the plane with all images and the legend as a PNG file; see `embedding_figure`."""
    save(embedding_figure(embedding, title), path)


def embedding_figure(embedding: Embedding, title: str = "") -> Figure:
    """All images by their true class, those taken for another ringed in black; the legend with counts beside it."""
    names = [name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…" for name in embedding.classes]
    pen = Pen.for_texts([*names, title])
    legend = _Legend.of(embedding, pen.names(names), pen)
    figure = Figure((0.3 + _SIDE + 0.3 + legend.width + 0.2, 0.3 + _SIDE + 0.75), dpi=DPI)
    axes = axes_at(figure, 0.3, 0.3, _SIDE, _SIDE)
    axes.set(xlim=(-1.06, 1.06), ylim=(-1.06, 1.06), xticks=[], yticks=[])
    axes.spines[:].set(color="#d0d0d0", linewidth=0.8)
    styles = looks(embedding.places, embedding.labels, len(embedding.classes))
    _draw_points(axes, embedding, styles)
    _draw_labels(axes, embedding, legend)
    _draw_legend(axes_at(figure, 0.3 + _SIDE + 0.3, 0.3, legend.width, _SIDE), legend, styles)
    _draw_heading(figure, embedding, title, pen)
    return figure


def _draw_points(axes: Axes, embedding: Embedding, styles: Sequence[Look]) -> None:
    n = len(embedding.paths)
    area = float(np.clip(26_000 / max(n, 1), 9, 60))
    wrong = embedding.predicted != embedding.labels
    marks = np.array([style.mark for style in styles])[embedding.labels]
    colours = np.array([style.colour for style in styles])[embedding.labels]
    for missed in (False, True):  # the wrong ones above all others
        edge, line = ("#111111", 0.9) if missed else ("white", 0.3)
        for mark in np.unique(marks):
            chosen = (marks == mark) & (wrong == missed)
            x, y = embedding.places[chosen].T
            size = area * (1.7 if missed else 1.0)
            axes.scatter(x, y, size, colours[chosen], marker=MARKS[mark], zorder=2 + missed, alpha=0.9, edgecolors=edge, linewidths=line)


@dataclass(frozen=True, slots=True, eq=False)
class _Legend:
    """Classes that have images, in their order: numbers (or names) as in the plane, names, images, wrong ones."""

    classes: npt.NDArray[np.int64]
    short: list[str]
    names: list[str]
    images: npt.NDArray[np.int64]
    wrong: npt.NDArray[np.int64]
    numbered: bool
    column: float
    pen: Pen

    @classmethod
    def of(cls, embedding: Embedding, names: list[str], pen: Pen) -> _Legend:
        k = len(names)
        images = np.bincount(embedding.labels, minlength=k)
        wrong = np.bincount(embedding.labels[embedding.labels != embedding.predicted], minlength=k)
        numbered = int((images > 0).sum()) > _NAMED and max(map(len, names)) > 4
        short = [str(i + 1) for i in range(k)] if numbered else names
        column = 0.2 + (0.3 if numbered else 0.0) + pen.widest(names, 7.5) + 0.82
        return cls(np.flatnonzero(images), short, names, images, wrong, numbered, column, pen)

    @property
    def columns(self) -> int:
        return max(1, math.ceil(len(self.classes) / _ROWS))

    @property
    def width(self) -> float:
        return max(self.columns * self.column, 2.0)


def _draw_legend(axes: Axes, legend: _Legend, styles: Sequence[Look]) -> None:
    """In inches from the upper left corner, so that lines keep their distance whatever the number of classes."""
    axes.set(xlim=(0, legend.width), ylim=(_SIDE, 0))
    axes.set_axis_off()
    rows = min(_ROWS, len(legend.classes))
    for c in range(legend.columns):
        right = (c + 1) * legend.column - 0.2
        axes.text(right - 0.36, -0.02, "images", ha="right", va="bottom", **PEN.style(6, GREY))
        axes.text(right, -0.02, "wrong", ha="right", va="bottom", **PEN.style(6, GREY))
    for i, k in enumerate(legend.classes):
        left, y = i // _ROWS * legend.column, (i % _ROWS + 0.5) * _LINE
        style, right = styles[k], (i // _ROWS + 1) * legend.column - 0.2
        axes.plot([left + 0.08], [y], MARKS[style.mark], color=style.colour, markersize=5.8, markeredgecolor="white", markeredgewidth=0.3)
        at = left + 0.2
        if legend.numbered:
            axes.text(at + 0.2, y, legend.short[k], ha="right", va="center_baseline", weight="bold", **PEN.style(7, style.colour))
            at += 0.26
        axes.text(at, y, legend.names[k], va="center_baseline", **legend.pen.style(7.5))
        axes.text(right - 0.36, y, f"{legend.images[k]:,}", ha="right", va="center_baseline", **PEN.style(7, GREY))
        if legend.wrong[k]:
            axes.text(right, y, f"{legend.wrong[k]:,}", ha="right", va="center_baseline", weight="bold", **PEN.style(7, ORANGE))
    _draw_key(axes, min(rows * _LINE + 0.25, _SIDE - 0.15) if rows < _ROWS else _SIDE - 0.06)


def _draw_key(axes: Axes, y: float) -> None:
    axes.scatter([0.08], [y], s=40, c="#bbbbbb", marker="o", edgecolors="#111111", linewidths=0.9)
    axes.text(0.2, y, "ringed: taken for another class", va="center_baseline", **PEN.style(7.5))


def _draw_labels(axes: Axes, embedding: Embedding, legend: _Legend) -> None:
    """Each class's name or number where most of it lies, or beside it where it would cover less there."""
    anchors = class_anchors(embedding.places, embedding.labels, len(legend.names))
    size = 7.5 if legend.numbered else 8.5
    shown = [int(k) for k in legend.classes if np.isfinite(anchors[k, 0])]
    boxes: list[tuple[float, float, float, float]] = []
    for k in sorted(shown, key=lambda k: -int(legend.images[k])):
        half = np.array([0.31 * len(legend.short[k]), 0.575]) * size / 72 * _UNITS
        x, y = _free_place(anchors[k], half, boxes, embedding.places)
        if np.hypot(x - anchors[k, 0], y - anchors[k, 1]) > 3.5 * half[1]:
            axes.plot([anchors[k, 0], x], [anchors[k, 1], y], color=INK, linewidth=0.6, zorder=5)
        text = axes.text(x, y, legend.short[k], ha="center", va="center", weight="bold", zorder=6, **legend.pen.style(size, INK))
        text.set_path_effects([withStroke(linewidth=2.4, foreground="white", alpha=0.85)])


def _free_place(
    anchor: Floats, half: npt.NDArray[np.float64], boxes: list[tuple[float, float, float, float]], points: Floats
) -> tuple[float, float]:
    """Where around the anchor a text of this half width and height covers no other text and few points; its box is kept."""
    best, least = (float(anchor[0]), float(anchor[1])), math.inf
    for ring, dx, dy in _around():
        offset = np.array([dx * (half[0] + half[1]), dy * 2 * half[1]])
        x, y = (float(v) for v in np.clip(anchor + offset, half - 1.05, 1.05 - half))
        box = (x - half[0], y - half[1], x + half[0], y + half[1])
        if any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in boxes):
            continue
        covered = int((np.abs(points - (x, y)) < half + 0.01).all(1).sum())
        cost = math.sqrt(covered) + 0.7 * ring  # a name belongs to its points: it goes no further than it must
        if cost < least:
            best, least = (x, y), cost
    boxes.append((best[0] - half[0], best[1] - half[1], best[0] + half[0], best[1] + half[1]))
    return best


def _around() -> Iterator[tuple[int, float, float]]:
    """(ring, right, up) in ever larger circles."""
    yield 0, 0.0, 0.0
    for ring in range(1, 8):
        for step in range(8):
            angle = step * math.pi / 4
            yield ring, ring * math.cos(angle), ring * math.sin(angle)


def _draw_heading(figure: Figure, embedding: Embedding, title: str, pen: Pen) -> None:
    width, height = figure.get_size_inches()
    shown, wrong = int(np.isfinite(embedding.places[:, 0]).sum()), int((embedding.labels != embedding.predicted).sum())
    about = f"{embedding.method} of {shown:,} images"
    about += f", a sample of {embedding.of:,}" if embedding.of > len(embedding.paths) else ""
    about += f"; {wrong:,} taken for another class. Neighbours are alike to the network; distances between groups mean little."
    style: dict[str, Any] = {"va": "top"}
    figure.text(0.3 / width, 1 - 0.12 / height, title or "What the network sees", **style, **pen.style(12))
    figure.text(0.3 / width, 1 - 0.39 / height, " ".join((about, *embedding.notes)), **style, **pen.style(8, GREY))
