"""What the checks of an audit see: the images of a folder, their split, their twins, and what was measured on each.

    material = Material(table, part, groups, twins, measure(pixels))
    material.frame["label"], material.same_pixels, material.measures.sharpness

Row i of everything is row i of the usable rows, as everywhere. Checks read it and give a `Finding`; none opens a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.auditing.measures import Measures
from sightline.data.table import ImageTable
from sightline.data.twins import Twins

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Material:
    """One folder, decoded and split.

    Attributes:
        table: with the columns that decoding adds.
        part: (N,) of "train", "val", "test", or "" where the image is left out.
        groups: (N,) numbers; equal ones stay together in a split.
        twins: near twins.
        measures: of each image.
        left_out: why rows without a part are left out.
    """

    table: ImageTable
    part: npt.NDArray[np.str_]
    groups: Rows
    twins: Twins
    measures: Measures
    left_out: str = ""

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The usable rows."""
        return self.table.usable

    @cached_property
    def quarantined(self) -> pl.Series:
        """Why files cannot be used, a reason each."""
        return self.table.frame["reason"].drop_nulls()

    @cached_property
    def unused(self) -> pl.Series:
        """Why usable images are left out by the user's own settings (corrections, a repaired split), a reason each."""
        rows = self.frame.filter(pl.Series(self.part, dtype=pl.String) == "")
        own = [name for name in ("dropped",) if name in rows.columns]
        return rows.with_columns(why=pl.coalesce(*own, pl.lit(self.left_out or "left out")))["why"]

    @cached_property
    def same_pixels(self) -> Rows:
        """(N,) numbers from 0, equal exactly where the decoded pixels are."""
        return (self.frame["pixel_digest"].rank("dense").to_numpy() - 1).astype(np.int64)

    @cached_property
    def label_numbers(self) -> Rows:
        """(N,) a number a label."""
        return (self.frame["label"].rank("dense").to_numpy() - 1).astype(np.int64)

    @cached_property
    def near(self) -> Twins:
        """The twins whose pixels are not equal."""
        near = self.same_pixels[self.twins.first] != self.same_pixels[self.twins.second]
        return Twins(self.twins.first[near], self.twins.second[near], self.twins.similarity[near])

    def noted(self, word: str) -> npt.NDArray[np.bool_]:
        """(N,) where the decoder left this note, see `sightline.data.images.NOTES`."""
        notes = self.frame["notes"].cast(pl.String).fill_null("").str.split(" ")
        return notes.list.contains(word).to_numpy().astype(bool)


def members(numbers: Rows, among: npt.NDArray[np.bool_]) -> tuple[Rows, ...]:
    """The rows of each number that `among` holds, ascending, the largest groups first."""
    rows = np.flatnonzero(among)
    if not len(rows):
        return ()
    ordered = rows[np.argsort(numbers[rows], kind="stable")]
    ends = np.flatnonzero(np.diff(numbers[ordered])) + 1
    return tuple(sorted(np.split(ordered, ends), key=lambda group: -len(group)))
