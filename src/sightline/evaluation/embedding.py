"""Where images lie to a network: features in many dimensions laid out in two, and the picture of it with its legend.

    layout = lay_out(features, "tsne", seed=0)              (N, D) -> layout.places (N, 2)
    embedding = Embedding(paths, classes, labels, predicted, confidence, layout.places, layout.method, layout.notes, of=N)
    embedding_picture(embedding, "embedding.png")

t-SNE (van der Maaten and Hinton 2008) keeps neighbours together: who lies beside whom means something; how far groups
are apart, and how large they are, means little. Features go through a principal component analysis to 50 dimensions
first, as its authors do. The same features and seed give the same picture, which is why one thread draws it. Classes
that lie close to each other are given colours and marks that are far apart, so that 102 classes can be told apart. It
gives up placing new images into an old picture.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from sightline.errors import SettingsError
from sightline.evaluation.drawing import DPI, GREY, INK, ORANGE, PEN, Pen, axes_at, save
from sightline.randomness import key

Floats = npt.NDArray[np.float32]
FEWEST = 5
"""With fewer images there are no neighbourhoods to keep: they are drawn by their principal components."""

PERPLEXITY = 30.0
"""How many neighbours an image is given, where there are enough: t-SNE's own middle value."""

MANY = 10_000
"""From here on openTSNE takes over where it is installed: 31 s for 20,000 images where scikit-learn takes 120."""

_DIMENSIONS = 50
_ITERATIONS = 500  # of 5,000 images, as trustworthy to the 4th digit as after scikit-learn's 1,000, in half the time


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Places (N, 2) float32 in -1..1, NaN where an image has none; what made them; what a person must be told."""

    places: Floats
    method: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """N images in the plane.

    Attributes:
        paths: N of them.
        classes: K names.
        labels, predicted: (N,) class numbers.
        confidence: (N,) of `predicted`.
        places: (N, 2) in -1..1; NaN where an image has no place.
        method: "t-SNE", "UMAP", ...
        notes: what a person must be told.
        of: images that there were to choose from.
    """

    paths: tuple[str, ...]
    classes: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    places: Floats
    method: str
    notes: tuple[str, ...]
    of: int

    def __post_init__(self) -> None:
        n = len(self.paths)
        shapes = [np.shape(a) for a in (self.labels, self.predicted, self.confidence, self.places)]
        if shapes != [(n,), (n,), (n,), (n, 2)] or self.of < n:
            raise ValueError(f"{n} of {self.of} images, and arrays of the shapes {shapes}")

    def frame(self) -> pl.DataFrame:
        """A row an image: path, label, predicted, confidence, x, y; places that are not known are null."""
        names = pl.Series(self.classes, dtype=pl.String)
        places = pl.DataFrame(self.places, schema={"x": pl.Float32, "y": pl.Float32}, orient="row").fill_nan(None)
        columns = {"path": self.paths, "label": names.gather(self.labels), "predicted": names.gather(self.predicted)}
        return pl.DataFrame(columns | {"confidence": self.confidence}).hstack(places)


# ---- from many dimensions to two -------------------------------------------------------------------------------------


def lay_out(features: Floats, method: str = "tsne", seed: int = 0) -> Layout:
    """Each row a place in the plane, neighbours near each other.

    Args:
        features: (N, D). Rows with a value that is no number get no place.
        method: "tsne", or "umap" (McInnes et al. 2018), which needs the extra sightline[umap].
        seed: of the method's own random draws.

    Raises:
        SettingsError: the method is unknown or not installed.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped, unused-ignore]

    _check(method)
    whole = np.isfinite(features).all(1) if features.size else np.ones(len(features), dtype=bool)
    with threadpool_limits(1):  # type: ignore[no-untyped-call, unused-ignore]  # threads add up in any order, and t-SNE makes a picture of the last digit
        inner = _lay_out_whole(np.asarray(features[whole], dtype=np.float64), method, key(seed, "embedding") % 2**31)
    places = np.full((len(features), 2), np.nan, dtype=np.float32)
    places[whole] = _framed(inner.places)
    lost = int((~whole).sum())
    told = (f"{lost:,} image{'s have' if lost > 1 else ' has'} features that are no numbers, and no place.",) if lost else ()
    return Layout(places, inner.method, inner.notes + told)


def _check(method: str) -> None:
    if method not in ("tsne", "umap"):
        raise SettingsError(f"--method must be tsne or umap, not {method}.")
    if method == "umap" and find_spec("umap") is None:
        raise SettingsError("--method umap needs UMAP, which is not installed: pip install 'sightline[umap]', or use --method tsne.")


def _lay_out_whole(features: npt.NDArray[np.float64], method: str, seed: int) -> Layout:
    different = len({row.tobytes() for row in features})
    if different == 1 < len(features):
        return Layout(np.zeros((len(features), 2), dtype=np.float32), "none", ("All images have the same features, and one place.",))
    components = _components(features, seed)
    if different < FEWEST:
        note = f"{different} different images are too few for neighbourhoods: drawn by principal components."
        return Layout(components[:, :2], "PCA", (note,) if different else ())
    return (_umap if method == "umap" else _tsne)(components, seed)


def _components(features: npt.NDArray[np.float64], seed: int) -> Floats:
    """Principal components (N, 2 to 50), the first with a standard deviation of 1: units of the features mean nothing."""
    from sklearn.decomposition import PCA

    n, width = features.shape
    kept = min(_DIMENSIONS, n, width)
    if n < 2 or not kept:
        return np.zeros((n, 2), dtype=np.float32)
    # Randomised only where it pays, and from a seed: the same features give the same components.
    solver = "randomized" if min(n, width) > 8 * kept else "full"
    largest = max(float(np.abs(features).max()), 1e-30)  # squares of huge features would overflow
    found = PCA(kept, svd_solver=solver, random_state=seed).fit_transform(features / largest)  # type: ignore[no-untyped-call]
    found = np.pad(found, ((0, 0), (0, max(0, 2 - kept))))
    scaled: Floats = (found / max(float(found[:, 0].std()), 1e-30)).astype(np.float32)
    return scaled


def _tsne(components: Floats, seed: int) -> Layout:
    # 3 * perplexity neighbours are looked at, so there must be that many.
    perplexity = min(PERPLEXITY, max(1.0, (len(components) - 1) / 3))
    start = components[:, :2] * 1e-4
    if len(components) >= MANY and find_spec("openTSNE") is not None:
        from openTSNE import TSNE as Fast  # type: ignore[import-not-found, unused-ignore]

        fast = Fast(perplexity=perplexity, initialization=np.asarray(start, dtype=np.float64), random_state=seed, n_jobs=1)
        return Layout(np.asarray(fast.fit(components), dtype=np.float32), "t-SNE")
    from sklearn.manifold import TSNE

    found = TSNE(perplexity=perplexity, init=start, max_iter=_ITERATIONS, random_state=seed, n_jobs=1)  # type: ignore[no-untyped-call]
    return Layout(found.fit_transform(components), "t-SNE")


def _umap(components: Floats, seed: int) -> Layout:
    import warnings

    from umap import UMAP  # type: ignore[import-not-found, unused-ignore]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed means one thread, and others about itself
        made = UMAP(n_neighbors=min(15, len(components) - 1), random_state=seed, n_jobs=1, init="pca").fit_transform(components)
    return Layout(np.asarray(made, dtype=np.float32), "UMAP")


def _framed(places: Floats) -> Floats:
    """Moved and scaled into -1..1, the sides in proportion."""
    if not len(places):
        return places
    low, high = places.min(0), places.max(0)
    framed: Floats = ((places - (low + high) / 2) / max(float((high - low).max()) / 2, 1e-30)).astype(np.float32)
    return framed


# ---- looks: a colour and a mark for each class -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    """How the points of a class are drawn: a colour "#rrggbb" and the number of a mark of `MARKS`."""

    colour: str
    mark: int


MARKS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", "*")
"""matplotlib's letters: circle, square, triangle, diamond, triangle down, plus, cross, pentagon, triangle left, star."""

# Okabe and Ito's first, which every common colour blindness keeps apart; then others that can be told from them.
COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
    *("#7b52c7", "#8c564b", "#d62728", "#7f8c1f", "#4a4a4a", "#17a2a2"),
)


def looks(places: Floats, labels: npt.NDArray[np.int64], count: int) -> list[Look]:
    """A look for each of `count` classes; classes that lie near each other get different colours, then different marks."""
    if count <= len(COLOURS):
        return [Look(COLOURS[k], k % len(MARKS)) for k in range(count)]
    anchors, sizes = class_anchors(places, labels, count), np.bincount(labels, minlength=count)
    pairs = [(c, m) for m in range(len(MARKS)) for c in range(len(COLOURS))]
    colour, mark = (np.array(column) for column in zip(*pairs, strict=True))
    taken, chosen = np.zeros(len(pairs)), np.zeros(count, dtype=np.int64)
    for done, k in enumerate(order := np.argsort(-sizes, kind="stable")):
        before = order[:done]
        near = 1 / (np.square(anchors[before] - anchors[k]).sum(1) + 0.01)
        alike = (colour[:, None] == colour[chosen[before]]) + 0.5 * (mark[:, None] == mark[chosen[before]])
        chosen[k] = int((alike @ np.nan_to_num(near) + 1e6 * taken).argmin())  # one that is taken comes after all that are not
        taken[chosen[k]] += 1
    return [Look(COLOURS[colour[i]], int(mark[i])) for i in chosen]


def class_anchors(places: Floats, labels: npt.NDArray[np.int64], count: int) -> Floats:
    """(K, 2): where most of a class lies close together; NaN for a class without places.

    The median of a class in two groups would lie between them, where none of it is.
    """
    anchors = np.full((count, 2), np.nan, dtype=np.float32)
    for k in range(count):
        own = places[(labels == k) & np.isfinite(places[:, 0])][:2000]
        if len(own):
            close = np.square(own[:, None] - own[None]).sum(2) < 0.12**2
            anchors[k] = own[close[close.sum(1).argmax()]].mean(0)
    return anchors


# ---- the picture -----------------------------------------------------------------------------------------------------

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
