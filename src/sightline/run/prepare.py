"""From a folder to data that is ready to train on: scan, decode once, find twins, split.

    prepared = prepare("photos", config)
    prepared.split.rows("train"), prepared.pixels, prepared.labels

The same steps serve training, resuming and evaluating; nothing is trained and nothing is written into the folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.config import Config
from sightline.data.batches import image_keys
from sightline.data.corrections import correct, read_corrections
from sightline.data.groups import group_rows, join_twins, twin_counts, twins_sentence
from sightline.data.known_twins import known_twins
from sightline.data.split import Fold, Split, make_split
from sightline.data.store import Pixels, open_pixels
from sightline.data.table import ImageTable, scan
from sightline.data.twins import Twins
from sightline.errors import DataError
from sightline.run.decoding import choose_size, limits, store_size
from sightline.settings import SplitSettings

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Prepared:
    """Data that is ready: row i of everything belongs to row i of `table.usable`.

    Attributes:
        labels: class numbers.
        keys: of the random draws.
        twins: the near twins that were found; None where they were not looked for.
    """

    table: ImageTable
    pixels: Pixels
    groups: npt.NDArray[np.int64]
    split: Split
    labels: npt.NDArray[np.int64]
    keys: npt.NDArray[np.uint64]
    twins: Twins | None = None

    def __repr__(self) -> str:
        """One line; `images()` is the table."""
        parts = ", ".join(f"{int((self.split.part == name).sum()):,} {name}" for name in ("train", "val", "test"))
        return f"Prepared({str(self.table.root)!r}, {len(self.classes)} classes, {parts})"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        return self.table.classes

    def images(self) -> pl.DataFrame:
        """All rows found, used or not, as `images.parquet` keeps them."""
        part = pl.Series(self.split.part, dtype=pl.String)
        parts = pl.DataFrame({"group_number": self.groups, "split": part, "twin": self.split.twins})
        parts = parts.with_columns(split=pl.when(part != "").then(part), left_out=pl.when(part == "").then(pl.lit(self.split.left_out)))
        columns = ["path", "label", "found_label", "split", "group_number", "twin", "reason", "digest", "pixel_digest"]
        columns += ["height", "width", "notes", "given", "group", "bytes"]
        frame = self.table.frame.hstack(self.table.spread(parts))
        reasons = [name for name in ("reason", "dropped", "left_out") if name in frame.columns]
        return frame.with_columns(found_label=found_labels(frame), reason=pl.coalesce(reasons)).select(columns)


def prepare(source: str | Path, config: Config | None = None, progress: Progress | None = None) -> Prepared:
    """The data of a folder, decoded and split.

    Args:
        source: folder, or CSV or Parquet table.
        config: the settings `data.*` and `split.*` are used; `data.size` and `data.store_size` may be "auto".
        progress: called with (done, all) while files are decoded.

    Raises:
        DataError: what the folder holds cannot be used.
        DiskError: the pixels cannot be stored.
    """
    config = config or Config()
    table = scan(source)
    size = choose_size(config, table, None)
    return divide(*open_pixels(table, store_size(config, size), limits(config), progress), config)


def divide(table: ImageTable, pixels: Pixels, config: Config, progress: Progress | None = None) -> Prepared:
    """A decoded table with its twins found (`progress` is called with (done, all) meanwhile), and split."""
    usable, split = table.usable, config.split
    groups = group_rows([usable["pixel_digest"], usable["group"]])
    notes: tuple[str, ...] = ()
    twins = None
    if split.twins == "near":
        twins = near_twins(table, pixels, config, progress)
        joined = join_twins(groups, twins, usable["label"])
        groups, notes = joined.numbers, (*twins.notes, *joined.notes)
    fold = None if split.folds is None or split.fold is None else Fold(split.fold, split.folds)
    fractions = split.fractions
    if split.folds is not None and fold is None:  # the folds judge
        fractions = (fractions[0] + fractions[2], fractions[1], 0.0)
        _check_folds(usable, groups, split)
    repair = split.repair if fold is None and set(usable["given"]) - {"train", None} else "keep"
    divided = make_split(usable, groups, fractions, split.seed, repair, fold)
    divided = replace(divided, notes=(*notes, *divided.notes))
    if config.data.corrections is not None:
        corrections = read_corrections(config.data.corrections, table)
        table, divided = correct(table, divided, corrections, config.data.correct_test)
    return Prepared(table, pixels, groups, divided, class_numbers(table), image_keys(usable["path"]), twins)


def near_twins(table: ImageTable, pixels: Pixels, config: Config, progress: Progress | None = None) -> Twins:
    """The near twins of a decoded table, looked for once (`progress` is called with (done, all) then)."""
    allowed = limits(config)
    return known_twins(pixels, table.usable["digest"], allowed.cache, progress, allowed.workers)


def _check_folds(usable: pl.DataFrame, groups: npt.NDArray[np.int64], split: SplitSettings) -> None:
    """Raises DataError before anything is trained where a fold could not be."""
    assert split.folds is not None
    for number in range(1, split.folds + 1):
        divided = make_split(usable, groups, split.fractions, split.seed, fold=Fold(number, split.folds))
        if not (divided.part == "test").any():
            raise DataError(f"split.folds={split.folds} are too many for so few images or groups: fold {number} would be empty.")


def found_labels(frame: pl.DataFrame) -> pl.Series:
    """The labels as they were found, before any corrections."""
    return frame["found_label" if "found_label" in frame.columns else "label"]


def class_numbers(table: ImageTable) -> npt.NDArray[np.int64]:
    """(N,) the class of each usable row, in the order of `table.classes`."""
    numbers = pl.Series(range(len(table.classes)), dtype=pl.Int64)
    found: npt.NDArray[np.int64] = (
        table.usable["label"].replace_strict(pl.Series(table.classes), numbers, return_dtype=pl.Int64).to_numpy(writable=True)
    )
    return found


def _conflicts(table: ImageTable) -> list[str]:
    """The same picture under two labels: at least one of them is wrong."""
    own = table.usable.select("path", "label", "pixel_digest")
    several = own.filter(pl.col("label").n_unique().over("pixel_digest") > 1).sort("pixel_digest", "path")
    if several.is_empty():
        return []
    first = several.filter(pl.col("pixel_digest") == several["pixel_digest"][0])["path"].head(2).to_list()
    count = several["pixel_digest"].n_unique()
    what = "One picture carries two labels" if count == 1 else f"{count:,} pictures carry two labels each"
    return [f"{what}, such as {' = '.join(first)}: at least one of them is wrong. All are used as they are."]


def _reasons(word: str, reasons: pl.Series) -> list[str]:
    """The five most frequent reasons, and the rest in one line."""
    counted = reasons.value_counts(sort=True)
    lines = [f"  {word}: {row['count']:,} {row['reason']}" for row in counted.head(5).to_dicts()]
    if len(counted) > 5:
        lines.append(f"  {word}: {int(counted['count'][5:].sum()):,} for other reasons; images.parquet has each")
    return lines


def count_lines(prepared: Prepared) -> list[str]:
    """What was found and what became of it, as sentences whose numbers add up."""
    table, split = prepared.table, prepared.split
    images = prepared.images()
    quarantined = images.filter(pl.col("group_number").is_null())["reason"]
    left_out = images.filter(pl.col("group_number").is_not_null() & pl.col("split").is_null())["reason"]
    used = int((split.part != "").sum())
    parts = ", ".join(f"{int((split.part == name).sum()):,} {name}" for name in ("train", "val", "test"))
    rest = f"{len(quarantined):,} quarantined" + (f", {len(left_out):,} left out" if len(left_out) else "")
    lines = [f"{len(table):,} images in {len(table.classes)} classes: {used:,} used ({parts}), {rest}."]
    lines += [*_reasons("quarantined", quarantined), *_reasons("left out", left_out)]
    if table.skipped:
        told = ", ".join(f"{n:,} {reason}" for reason, n in sorted(table.skipped.items()))
        lines.append(f"Passed over, as no images to learn from: {told}.")
    twins, groups = twin_counts(prepared.groups)
    if twins:
        lines.append(twins_sentence(twins, groups) + ("." if split.twins.any() else "; each group stays on one side of the split."))
    lines += _conflicts(table)
    leaks = {name: int(split.twins[split.part == name].sum()) for name in ("val", "test")}
    if any(leaks.values()):
        told = " and ".join(f"{n:,} of {name}" for name, n in leaks.items() if n)
        lines.append(f"Your split leaks: {told} have a twin on the other side. Figures are given with and without them.")
    return lines + list(table.notes) + list(split.notes)
