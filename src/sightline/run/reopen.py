"""The data of a run as it was: the images, the split and the labels that it recorded, or a sentence on what has changed.

    prepared = reopen(run, run.read_config())

`images.parquet` says which image was in which part; the pixels come from the same store again. It gives up guessing:
where images are gone, new or changed, a run goes on only where the user accepts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from sightline import files
from sightline.config import Config
from sightline.data.batches import image_keys
from sightline.data.corrections import as_used
from sightline.data.split import Split
from sightline.data.store import Pixels, open_pixels
from sightline.data.table import ImageTable, scan
from sightline.errors import RunError
from sightline.run.decoding import limits
from sightline.run.folder import RunFolder
from sightline.run.prepare import Prepared, class_numbers, divide, found_labels
from sightline.run.progress import Screen


def reopen(run: RunFolder, config: Config, screen: Screen | None = None, accept_changes: bool = False) -> Prepared:
    """The data of a run as it was, from its store; the split is that of `images.parquet`.

    Args:
        accept_changes: take the images as they are now: those that were there keep their part of the split, new ones go
            where their twins are, or else to train; one whose twin judges is left out, so that the judge stays as it was.

    Raises:
        RunError: images are gone, new or changed: which; or their folder is gone.
    """
    source = run.started()["folder"]
    side = config.data.store_size
    if side == "auto":
        raise RunError(f"{run.config} has no data.store_size: it was not written by a finished preparation.")
    if not Path(source).exists():
        raise RunError(f"The images of {run.root} are not at {source} any more: put them back, or a link to them, and try again.")
    table, pixels = open_pixels(scan(source), side, limits(config), screen.counter("decoding") if screen else None)
    if accept_changes:
        return _with_changes(run, divide(table, pixels, config.with_values({"data.corrections": None, "data.correct_test": False})))
    return as_recorded(run, table, pixels)


def as_recorded(run: RunFolder, table: ImageTable, pixels: Pixels) -> Prepared:
    """A decoded table with the split, twins and labels of the run's `images.parquet`; raises RunError where images differ."""
    _refuse_changes(run, table)
    table = _as_it_was(table, run.read_images())
    known = table.usable.select("path").join(run.read_images(), on="path", how="left", maintain_order="left")
    part = known["split"].fill_null("").to_numpy().astype("<U5")
    split = Split(part, known["twin"].to_numpy().astype(bool), ())
    return Prepared(table, pixels, known["group_number"].to_numpy(), split, class_numbers(table), image_keys(known["path"]))


def _with_changes(run: RunFolder, prepared: Prepared) -> Prepared:
    """The images as they are now, in the parts that they or their twins had before."""
    before = run.read_images().filter(pl.col("group_number").is_not_null()).with_columns(pl.col("split").fill_null(""))
    table = _as_it_was(prepared.table, before)  # the corrections of the run are not made anew
    if tuple(sorted(set(found_labels(before)))) != tuple(sorted(prepared.classes)):
        raise RunError(f"The classes are not those that {run.root} was trained on; train anew on the folder as it is.")
    had = dict(zip(before["path"], before["split"], strict=True))
    rows = list(zip(prepared.table.usable["path"].to_list(), prepared.groups.tolist(), strict=True))
    twins: dict[int, set[str]] = {}
    for path, group in rows:
        twins.setdefault(group, set()).add(had.get(path, ""))
    parts = [had[path] if path in had else _part_of_new(twins[group]) for path, group in rows]
    if "train" not in parts or "val" not in parts:
        raise RunError(f"Of the images that {run.root} was trained on, no train or no val part is left; train anew.")
    split = replace(prepared.split, left_out="new, with a twin in test")
    return _divided(replace(prepared, table=table, labels=class_numbers(table), split=split), parts)


def _part_of_new(twins: set[str]) -> str:
    """The part of a new image, from those of its twins: none where one of them judges."""
    return "" if "test" in twins else "val" if "val" in twins else "train"


def _as_it_was(table: ImageTable, images: pl.DataFrame) -> ImageTable:
    """The table with the labels that the run used, and why it left readable images out."""
    left_out = images.filter(pl.col("group_number").is_not_null()).select("path", dropped="reason")
    table = as_used(table, images)
    return replace(table, frame=table.frame.join(left_out, on="path", how="left", maintain_order="left"))


def _divided(prepared: Prepared, parts: Sequence[str]) -> Prepared:
    """With these parts of the split, one for each usable row, and the twins that there are then."""
    order = ("train", "val", "test", "")  # what is left out has seen nothing and is seen by nothing
    ranks = np.array([order.index(part) for part in parts])
    first = np.full(int(prepared.groups.max(initial=-1)) + 1, 3)
    np.minimum.at(first, prepared.groups, ranks)
    split = replace(prepared.split, part=np.array(parts, dtype="<U5"), twins=(ranks > first[prepared.groups]) & (ranks < 3))
    return replace(prepared, split=split)


def changed_images(run: RunFolder, table: ImageTable) -> list[str]:
    """Paths of the images that are not as the run has seen them: gone, new, changed, or labelled or divided otherwise by the user."""
    before, now = run.read_images(), table.frame
    before = before.with_columns(label=found_labels(before), readable=pl.col("group_number").is_not_null())
    now = now.with_columns(label=found_labels(now), readable=pl.col("reason").is_null())
    joined = before.join(now, on="path", how="full", suffix="_now", coalesce=True)
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_now")) for name in ("digest", "label", "given", "readable"))
    return joined.filter(differs)["path"].sort().to_list()


def gone_judges(run: RunFolder, prepared: Prepared) -> list[str]:
    """Sentences on images of test and val that judged when the run began and are not there now."""
    before, told = run.read_images().select("path", "split"), []
    for part in ("test", "val"):
        judged = before.filter(pl.col("split") == part)["path"]
        gone = len(judged) - judged.is_in(prepared.table.usable["path"].gather(prepared.split.rows(part)).to_list()).sum()
        if gone:
            told.append(f"{gone:,} of {len(judged):,} images of {part} do not judge any more: figures do not compare with those before.")
    return told


def _refuse_changes(run: RunFolder, table: ImageTable) -> None:
    changed = changed_images(run, table)
    if changed:
        shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise RunError(
            f"The images are not those that {run.root} was trained on; gone, new, changed or labelled or divided otherwise: {shown}. "
            "Restore them, train anew on the folder as it is, or go on with these: "
            f"`sightline train --resume {files.quoted(run.root)} --accept-changes`."
        )
