"""Images that must stay together: twins, exact and near, and what the user's `group` column names.

    groups = group_rows([pixel_digests, user_groups])      (N,) int64; equal numbers stay on one side of a split
    joined = join_twins(groups, find_twins(pixels), labels)      .numbers as above, .notes for the user

Rows that share a value in any column are joined, and joins carry on (a with b, b with c: all three). Exact twins share
their decoded pixels, whatever the files are called and however they are packed. Near twins (data/twins.py) are joined
in the same way, but there joins may carry too far: each frame of a film is like the next, the last is nothing like the
first, and one group that holds most of a class leaves nothing to judge it on. Such chains are cut, and told.

It gives up the promise that twins stay together where a chain is cut: some lie on both sides then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.data.twins import SURE, Twins, components

MOST_OF_A_CLASS = 1 / 3
"""A group may not hold a larger share of a class than this, where that takes links below `twins.SURE`."""

SMALL = 20
"""Groups of up to as many images of a class are let be: so few links do not carry far."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Which rows stay together.

    Attributes:
        numbers: (N,) from 0, in the order in which they first appear.
        notes: sentences that the user should see.
    """

    numbers: npt.NDArray[np.int64]
    notes: tuple[str, ...] = ()


def twin_counts(numbers: npt.NDArray[np.int64]) -> tuple[int, int]:
    """How many images are not alone in their group, and in how many groups these are: twins are counted so everywhere."""
    sizes = np.unique(numbers, return_counts=True)[1]
    several = sizes[sizes > 1]
    return int(several.sum()), len(several)


def twins_sentence(images: int, groups: int) -> str:
    """The two counts of `twin_counts` in words, without a full stop."""
    return f"{images:,} images have a twin or share a group, in {groups:,} group{'' if groups == 1 else 's'}"


def group_rows(columns: Sequence[pl.Series]) -> npt.NDArray[np.int64]:
    """Connected components of 'has the same value in some column'; null joins nothing.

    Args:
        columns: each (N,), of any type; equal non-null values of one column join their rows.

    Returns:
        (N,) numbers of groups, from 0, in the order in which they first appear.
    """
    n = len(columns[0])
    rows, values, above = [], [], n
    for column in columns:
        shared = column.is_duplicated() & column.is_not_null()  # the others join nothing, and are by far the most
        codes = column.filter(shared).rank("dense").to_numpy().astype(np.int64)
        rows.append(np.flatnonzero(shared.to_numpy()))
        values.append(above + codes)
        above += int(codes.max(initial=0)) + 1
    return _in_order(components(np.concatenate(rows), np.concatenate(values), above)[:n])


def join_twins(groups: npt.NDArray[np.int64], twins: Twins, labels: pl.Series) -> Groups:
    """Groups with their near twins; chains that would swallow a class are cut through their weaker links.

    Where near twins would bring more than a third of a class (and more than 20 of its images) into one group, that group
    is built anew, its most similar pairs first, and without the pairs that would make it too large: Kruskal's (1956)
    spanning tree with a bound. Pairs at or above `twins.SURE`, and the groups that are given, stay together whatever becomes
    of the class.

    Args:
        groups: (N,) numbers from 0, as `group_rows` gives them.
        twins: pairs of rows.
        labels: (N,) names of classes.
    """
    count = int(groups.max(initial=-1)) + 1
    first, second = groups[twins.first], groups[twins.second]
    numbers = components(first, second, count)
    classes = labels.rank("dense").to_numpy().astype(np.int64) - 1
    limits = np.maximum(SMALL, np.bincount(classes) * MOST_OF_A_CLASS)
    notes = []
    for chain in _too_large(numbers[groups], classes, limits):
        rows = np.flatnonzero(numbers[groups] == chain)
        links = np.flatnonzero(numbers[first] == chain)
        links = links[np.lexsort((second[links], first[links], -twins.similarity[links]))]
        parts = _Parts(groups[rows].tolist(), classes[rows].tolist())
        for link in links.tolist():
            parts.join(int(first[link]), int(second[link]), limits if twins.similarity[link] < SURE else None)
        cut = sum(parts.root(a) != parts.root(b) for a, b in zip(first[links].tolist(), second[links].tolist(), strict=True))
        for member in parts.held:
            numbers[member] = count + parts.root(member)
        notes += [_told(rows, labels, cut)] if cut else []
    return Groups(_in_order(numbers[groups]), tuple(notes))


def _in_order(found: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The same groups, numbered from 0 in the order in which they first appear."""
    _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first)).astype(np.int64)[inverse]


def _too_large(groups: npt.NDArray[np.int64], classes: npt.NDArray[np.int64], limits: npt.NDArray[np.float64]) -> list[int]:
    """Numbers of the groups that hold more of a class than its limit, ascending."""
    held = pl.DataFrame({"group": groups, "label": classes, "limit": limits[classes]}).group_by("group", "label", "limit").len()
    return held.filter(pl.col("len") > pl.col("limit"))["group"].unique().sort().to_list()


class _Parts:
    """Groups that grow together, and how many images of each class they hold (union-find)."""

    def __init__(self, nodes: list[int], classes: list[int]) -> None:
        """A row an image: its node, its class."""
        self.parent = {node: node for node in nodes}
        self.held: dict[int, Counter[int]] = {node: Counter() for node in nodes}
        for node, label in zip(nodes, classes, strict=True):
            self.held[node][label] += 1

    def root(self, node: int) -> int:
        while self.parent[node] != node:
            self.parent[node] = node = self.parent[self.parent[node]]
        return node

    def join(self, a: int, b: int, limits: npt.NDArray[np.float64] | None) -> None:
        """Unless together they would hold more images of a class than its limit."""
        small, large = sorted((self.root(a), self.root(b)), key=lambda node: (self.held[node].total(), node))
        if small == large:
            return
        together = self.held[small] + self.held[large]
        if limits is None or all(images <= limits[label] for label, images in together.items()):
            self.parent[small], self.held[large] = large, together


def _told(rows: npt.NDArray[np.int64], labels: pl.Series, cut: int) -> str:
    """The sentence about one chain."""
    shares = labels.gather(rows).value_counts().join(labels.value_counts(name="all"), on=labels.name)
    shares = shares.with_columns(share=pl.col("count") / pl.col("all")).sort("share", labels.name, descending=[True, False])
    name, share = shares[labels.name][0], shares["share"][0]
    return (
        f"A chain of near twins would have joined {len(rows):,} images, {share:.0%} of class {name} among them: it was cut "
        f"through {cut:,} of its weaker links, so that some near twins may lie on both sides of the split."
    )
