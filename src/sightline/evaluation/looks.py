"""A colour and a mark for each class in a plane of points, for the picture and for the page alike.

    styles = looks(places, labels, count)          a Look a class
    anchors = class_anchors(places, labels, count) where most of each class lies

Classes that lie close to each other are given colours and marks that are far apart, so that 102 can be told apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sightline.evaluation.embedding import Floats


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
