"""From a folder, or a CSV or Parquet table, to an ImageTable: which files there are and what they are called.

    table = scan("photos")            photos/CLASS/image.jpg
    table = scan("photos")            photos/{train,val,test}/CLASS/image.jpg
    table = scan("photos.csv")        columns path,label[,split][,group]; paths relative to the file

Nothing is decoded here. Every file found is a row or is counted in `skipped` with its reason. Rows are ordered by
path, so the table does not depend on the order in which the file system lists them. Names of classes are compared in
Unicode's composed form (NFC), since a macOS archive spells é in two characters. It gives up file names that are not
valid Unicode (they are counted).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unicodedata import normalize

import numpy as np
import polars as pl

from sightline.data.formats import SUFFIXES
from sightline.data.listed import SPLIT_NAMES, read_listed
from sightline.data.walk import counted, walk
from sightline.errors import DataError

SPLITS = ("train", "val", "test")
_UNKNOWN_CLASS = "class is not in train"
_NO_CLASS = "without a class folder"
_OUTSIDE = "outside of train, val and test"
_SCHEMA = {
    "path": pl.String,
    "label": pl.String,
    "given": pl.String,
    "group": pl.String,
    "bytes": pl.Int64,
    "changed": pl.Int64,
    "reason": pl.String,
}


@dataclass(frozen=True)
class ImageTable:
    """What a folder holds.

    Attributes:
        root: the folder that `path` is relative to.
        frame: a row an image: `path` (posix), `label`, `given` (train, val, test or null: the user's own split),
            `group` (or null), `bytes` and `changed` (nanoseconds; the time when the content or the name last changed;
            both 0 where the file is not there), `reason` (why the image cannot be used, or null).
        classes: names of the classes that can be learned, sorted.
        skipped: {reason: count} of what was found and is no row.
        notes: sentences that the user should see.
        found: names of all classes, those without a usable image too.
        told: the notes of the scan; the others follow from the frame.
        least: how many classes there must be.
    """

    root: Path
    frame: pl.DataFrame
    classes: tuple[str, ...]
    skipped: dict[str, int]
    notes: tuple[str, ...] = ()
    found: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    least: int = 2

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def usable(self) -> pl.DataFrame:
        """The rows without a reason against them."""
        reason = self.frame["reason"]
        return self.frame if reason.null_count() == len(reason) else self.frame.filter(reason.is_null())

    def spread(self, rows: pl.DataFrame) -> pl.DataFrame:
        """(N) rows, of the (M) usable ones; null in the others."""
        usable = self.frame["reason"].is_null()
        return rows if usable.all() else rows.select(pl.all().gather(pl.select(pl.when(usable).then(usable.cum_sum() - 1)).to_series()))

    def quarantine(self, reasons: dict[str, str]) -> ImageTable:
        """The table with reasons, by path, against some rows; classes that lose all images leave and are told.

        Raises:
            DataError: fewer classes than `least` remain.
        """
        if not reasons:
            return _settle(self)
        new = pl.col("path").replace_strict(list(reasons), list(reasons.values()), default=None, return_dtype=pl.String)
        return _settle(replace(self, frame=self.frame.with_columns(reason=pl.coalesce("reason", new))))


def scan(source: str | Path, least: int = 2, learn: bool = True) -> ImageTable:
    """The images of a folder or of a CSV or Parquet table.

    Args:
        least: how many classes there must be; 0: a folder without a usable image will do.
        learn: whether it is to be learned from. Else its own train part says nothing of what is known: all of its parts
            are one, told, and there need be no train.

    Raises:
        DataError: nothing there, no images, too few classes, a malformed table. The message says what to do.
    """
    path = Path(os.path.expanduser(source))
    if path.is_dir():
        return _settle(_as_one(replace(_scan_folder(path.resolve(), learn), least=least), learn))
    if path.is_file() and path.suffix.lower() in (".csv", ".parquet"):
        frame, skipped, notes = read_listed(path.resolve(), learn)
        found = tuple(sorted(frame["label"].unique()))
        listed = ImageTable(path.resolve().parent, frame.select(*_SCHEMA), (), counted(skipped), found=found, told=notes)
        return _settle(_as_one(replace(listed, least=least), learn))
    if path.exists():
        raise DataError(f"{path} is a file: give the folder that holds one folder a class, or a .csv or .parquet table.")
    raise DataError(f"There is no folder {path}.")


# ---- folders ---------------------------------------------------------------------------------------------------------


def _scan_folder(root: Path, learn: bool) -> ImageTable:
    found = walk(root)
    if not found.folders:
        if (root / "ledger.jsonl").exists():
            raise DataError(f"{root} is a run folder of sightline: give the folder of images that it was trained on.")
        raise DataError(f"The folder {root} cannot be read: change its rights.")
    images = found.images()
    counts = np.bincount(images["folder"].to_numpy(), minlength=len(found.folders)).tolist()
    holding = [parts for parts, n in zip(found.folders, counts, strict=True) if n]
    tops = sorted({parts[0] for parts in holding if parts})
    splits = _own_splits(root, tops, learn)
    level = 1 if splits else 0  # of the class folder, below the root
    left_out: Counter[tuple[str, str]] = Counter()
    reasons = [_reason_without_label(parts, splits, level) for parts in found.folders]
    for parts, n, reason in zip(found.folders, counts, reasons, strict=True):
        if n and reason:
            left_out[reason, parts[0] if parts else ""] += n
    if left_out.total() == len(images):
        raise DataError(_nothing_found(root, left_out.total(), bool(splits), found.folders))
    if left_out:
        images = images.filter(pl.Series(reasons, dtype=pl.String).gather(images["folder"]).is_null())
    if not splits and len(tops) == 1 and all(len(parts) > 1 for parts in holding):
        raise DataError(f"All images of {root} lie in the folders of {tops[0]}: give {root / tops[0]}.")
    for (reason, _), n in left_out.items():
        found.skipped[reason] += n
    classes = {parts[level] for parts in found.folders if len(parts) > level and (not splits or parts[0] in splits)}
    return ImageTable(
        root,
        _frame(images, found.folders, splits, level),
        (),
        counted(found.skipped),
        found=tuple(sorted({normalize("NFC", name) for name in classes})),
        told=_layout_notes(splits, left_out, found.closed),
    )


def _reason_without_label(parts: tuple[str, ...], splits: dict[str, str], level: int) -> str | None:
    """Against the images that lie in a folder."""
    if splits and parts and parts[0] not in splits:
        return _OUTSIDE
    return None if len(parts) > level else _NO_CLASS


def _frame(images: pl.DataFrame, folders: Sequence[tuple[str, ...]], splits: dict[str, str], level: int) -> pl.DataFrame:
    above = pl.Series(["".join(f"{name}/" for name in parts) for parts in folders], dtype=pl.String)
    labels = pl.Series([normalize("NFC", parts[level]) if len(parts) > level else None for parts in folders], dtype=pl.String)
    given = pl.Series([splits.get(parts[0]) if parts else None for parts in folders], dtype=pl.String)
    frame = images.with_columns(path=above.gather(images["folder"]) + images["name"]).drop("name").sort("path")
    nothing = pl.lit(None, pl.String)
    return frame.with_columns(
        label=labels.gather(frame["folder"]), given=given.gather(frame["folder"]), group=nothing, reason=nothing
    ).select(*_SCHEMA)


def _own_splits(root: Path, tops: Sequence[str], learn: bool) -> dict[str, str]:
    """{folder: split} where the folders with images are the user's own split; else they are classes: {}."""
    splits = {top: SPLIT_NAMES[top.lower()] for top in tops if top.lower() in SPLIT_NAMES}
    parts = set(splits.values())
    if tops and len(splits) == len(tops) and not learn:
        return splits
    if tops and len(splits) == len(tops) and "train" not in parts:
        names = " and ".join(splits)
        raise DataError(f"{root} holds {names} but no train. To evaluate on {tops[0]} alone, give {root / tops[0]}.")
    is_own = "train" in parts and (len(splits) == len(tops) or len(parts) > 1)
    return splits if is_own else {}


def _layout_notes(splits: dict[str, str], left_out: Counter[tuple[str, str]], closed: list[str]) -> tuple[str, ...]:
    notes = [
        f"{top} holds {n:,} images without a class folder: they can only be predicted."
        for (reason, top), n in sorted(left_out.items())
        if reason == _NO_CLASS and top in splits
    ]
    outside = sorted(top for reason, top in left_out if reason == _OUTSIDE)
    if outside:
        notes.append(f"Beside {_names(sorted(splits))} there are other folders, left out: {_names(outside)}.")
    if closed:
        notes.append(f"Cannot be read, so left out: {_names(sorted(closed))}.")
    return tuple(notes)


def _nothing_found(root: Path, unlabelled: int, own_split: bool, seen: Sequence[tuple[str, ...]]) -> str:
    layout = f"{root.name}/train/CLASS/image" if own_split else f"{root.name}/CLASS/image"
    advice = f"put each class's images in a folder of its name, {layout}."
    folders = sum(len(names) == 1 for names in seen)
    if unlabelled:
        return f"{root} holds {unlabelled:,} images but no folder a class: {advice}"
    if not folders:
        return f"{root} holds no folders: {advice}"
    return f"No images were found in the {folders:,} folders of {root}; looked for {', '.join(sorted(SUFFIXES))}."


# ---- both ------------------------------------------------------------------------------------------------------------


def _as_one(table: ImageTable, learn: bool) -> ImageTable:
    """Without its parts where nothing is learned from it."""
    parts = [part for part in SPLITS if part in table.frame["given"]]
    if learn or not parts:
        return table
    told = (*table.told, f"Its parts, {' and '.join(parts)}, are taken together.") if len(parts) > 1 else table.told
    return replace(table, frame=table.frame.with_columns(given=pl.lit(None, pl.String)), told=told)


def _settle(table: ImageTable) -> ImageTable:
    """Checks the classes: what train lacks cannot be learned; what a part lacks, and empty classes, are told."""
    table = _forget_lone_train(_mark_unknown(table))
    classes = tuple(sorted(_labels(table)["label"].unique()))
    if len(classes) < table.least:
        what = f"only one class with usable images, {classes[0]}" if classes else "no usable image"
        needed = "; a classifier needs two or more classes, each in a folder of its name" if table.least > 1 else ""
        raise DataError(f"{table.root} holds {what}{needed}.{_worst(table)}")
    return replace(table, classes=classes, notes=(*table.told, *_class_notes(table, classes)))


def _worst(table: ImageTable) -> str:
    """What is most often against its images: a sentence that begins with a space."""
    reasons = table.frame["reason"].drop_nulls()
    if not len(reasons):
        return ""
    (reason, n), *others = Counter(reasons).most_common()
    return f" Of {len(table):,} images {len(reasons):,} cannot be used{f', {n:,} of them' if others else ''}: {reason}."


def _mark_unknown(table: ImageTable) -> ImageTable:
    """A class that the user's train lacks cannot be learned."""
    usable = _labels(table)
    learned = usable.filter(pl.col("given").is_null() | (pl.col("given") == "train"))["label"].unique()
    unknown = table.frame["reason"].is_null() & ~table.frame["label"].is_in(learned.to_list())
    if not unknown.any():
        return table
    reason = pl.when(unknown).then(pl.lit(_UNKNOWN_CLASS)).otherwise("reason")
    return replace(table, frame=table.frame.with_columns(reason=reason))


def _labels(table: ImageTable) -> pl.DataFrame:
    """`label` and `given` of the usable rows."""
    return table.frame.select("label", "given").filter(table.frame["reason"].is_null())


def _forget_lone_train(table: ImageTable) -> ImageTable:
    """Where only train has usable images, it is divided like any other folder."""
    given = table.frame["given"]
    if given.null_count() or not set(_labels(table)["given"].unique()) <= {"train"}:
        return table
    others = sorted(set(given.unique()) - {"train"})
    frame = table.frame.with_columns(given=pl.lit(None, pl.String))
    lacking = f"No usable labelled image in {' and '.join(others)}" if others else "Your split has a train part only"
    return replace(table, frame=frame, told=(*table.told, f"{lacking}: train is divided into train, val and test."))


def _class_notes(table: ImageTable, classes: Sequence[str]) -> list[str]:
    frame, usable, notes = table.frame, _labels(table), []
    unknown = set(frame["label"].filter(frame["reason"] == _UNKNOWN_CLASS))
    if unknown:
        notes.append(f"Not in train, so left out: {_names(sorted(unknown))}.")
    empty = sorted(set(table.found) - set(classes) - unknown)
    if empty:
        notes.append(f"No usable image, so left out: {_names(empty)}.")
    for part in sorted(set(frame["given"].drop_nulls().unique()) - {"train"}):
        missing = sorted(set(classes) - set(usable["label"].filter(usable["given"] == part).unique()))
        if missing:
            notes.append(f"{part} has no image of {_names(missing)}.")
    return notes


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
