"""corrections.csv: decisions of a person about labels, laid over the table of images, never over the files.

    corrections = read_corrections("corrections.csv", table)      columns path,label,action[,old_label]
    table, split = correct(table, split, corrections)             split.notes tells what was done
    table = as_used(scan(folder), images)                         the same labels again, from images.parquet

`relabel` gives an image another class of the folder, `drop` leaves it out, `keep` only says that somebody has looked.
The page that `sightline labels RUN` writes saves such a file.

The test part is never corrected silently. The split is made from the labels as they were found, so it is the same with
corrections and without; they then change train and val. Those of test images wait for `data.correct_test=true`, and are
counted and told either way. Two runs, with and without, are thus judged on the same images and the same labels.

It gives up new classes: a label must be one that the folder has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from unicodedata import normalize

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.data.split import Split
from sightline.data.table import ImageTable
from sightline.errors import DataError

ACTIONS = ("keep", "relabel", "drop")
DROPPED = "dropped by corrections"
"""The reason that a dropped image is left out for."""

COLUMNS = ("path", "label", "action", "old_label")


@dataclass(frozen=True)
class Corrections:
    """The decisions of one file, checked against the table.

    Attributes:
        name: of the file, for sentences.
        frame: a row an image: `path`, `action`, `label` (a class; for keep and drop as it was found).
    """

    name: str
    frame: pl.DataFrame


def read_corrections(path: str | Path, table: ImageTable) -> Corrections:
    """The decisions in a CSV file with the columns path, action and label; old_label, where there, is checked.

    Raises:
        DataError: no such file, no such table; an unknown path, action or class; two rows for one image; an image whose
            label is not what it was when it was reviewed.
    """
    source = Path(path).expanduser()
    frame = _texts(source, _read(source))
    _refuse(source, frame.filter(pl.col("path").is_null() | pl.col("action").is_null()), "has no path or no action", "Complete it.")
    unknown = frame.filter(~pl.col("action").is_in(ACTIONS))
    _refuse(source, unknown, f"has an unknown action, '{next(iter(unknown['action']), '')}'", "Use keep, relabel or drop.")
    _refuse(source, frame.filter(pl.col("path").is_duplicated()), "is there more than once", "Keep one row an image.")
    found = table.frame.select("path", pl.col("label").alias("found"))
    frame = frame.join(found, on="path", how="left", maintain_order="left")
    strangers = frame.filter(pl.col("found").is_null())
    _refuse(source, strangers, f"is no image of {table.root}", "Correct its path, as the folder spells it, or remove its row.")
    _refuse_classes(source, frame, table)
    _refuse_changed(source, frame)
    relabelled = pl.when(pl.col("action") == "relabel").then("label").otherwise("found")
    return Corrections(source.name, frame.select("path", "action", relabelled.alias("label")))


def correct(table: ImageTable, split: Split, corrections: Corrections, test: bool = False) -> tuple[ImageTable, Split]:
    """The table and its split with the corrections of train and val; with `test`, of the test part too.

    Args:
        split: of the usable rows, made from the labels as they were found.
        test: whether the test part may be corrected (`data.correct_test`).

    Returns:
        The table, its rows and classes the same ones, with the columns `found_label` (as it was found) and `dropped`
        (`DROPPED`, or null); and the split, in which a dropped image has no part and `notes` tells the counts.

    Raises:
        DataError: a class would be left without an image to train on.
    """
    asked = _asked(table, split, corrections, test)
    dropped = asked.filter("applies", pl.col("action") == "drop")["path"]
    fresh = asked.filter("applies", pl.col("action") == "relabel").select("path", "new")
    gone = pl.when(pl.col("path").is_in(dropped.implode())).then(pl.lit(DROPPED))
    done = replace(table, frame=_relabelled(table.frame.with_columns(found_label="label", dropped=gone), fresh))
    part = np.where(done.usable["dropped"].is_null().to_numpy(), split.part, "")
    _refuse_emptied(corrections.name, done, split.part, part)
    return done, replace(split, part=part, notes=(*split.notes, *_notes(corrections, asked, test)))


def as_used(table: ImageTable, images: pl.DataFrame) -> ImageTable:
    """A table as it was scanned, with the labels that a run has corrected.

    Args:
        images: the run's `images.parquet`: `path`, `label` and `found_label`; where an image was not corrected, or the run
            is of before there were corrections, its label is the table's.
    """
    if "found_label" not in images.columns:
        return table
    fresh = images.filter(pl.col("label") != pl.col("found_label")).select("path", pl.col("label").alias("new"))
    return replace(table, frame=_relabelled(table.frame.with_columns(found_label="label"), fresh))


def _relabelled(frame: pl.DataFrame, fresh: pl.DataFrame) -> pl.DataFrame:
    """The rows with the labels that `fresh` (`path`, `new`) has for some of them."""
    joined = frame.join(fresh, on="path", how="left", maintain_order="left")
    return joined.with_columns(label=pl.coalesce("new", "label")).drop("new")


def _asked(table: ImageTable, split: Split, corrections: Corrections, test: bool) -> pl.DataFrame:
    """The usable rows with what is asked of them: `action` and `new`; whether that changes anything, the judge, and is done."""
    usable = table.usable.select("path", "label").with_columns(part=pl.Series(split.part, dtype=pl.String))
    asked = usable.join(corrections.frame.rename({"label": "new"}), on="path", how="left", maintain_order="left")
    other = (pl.col("action") == "relabel") & (pl.col("new") != pl.col("label"))
    asked = asked.with_columns(changes=(other | (pl.col("action") == "drop")).fill_null(False), judge=pl.col("part") == "test")
    return asked.with_columns(applies=pl.col("changes") & (~pl.col("judge") | test))


def _refuse_emptied(name: str, table: ImageTable, before: npt.NDArray[np.str_], after: npt.NDArray[np.str_]) -> None:
    """Raises DataError where a class that could be trained on cannot be any more."""
    had = set(table.usable["found_label"].filter(pl.Series(before == "train")))
    lost = sorted(had - set(table.usable["label"].filter(pl.Series(after == "train"))))
    if lost:
        raise DataError(
            f"{name} would leave no image of '{lost[0]}' to train on. Keep one of them, or take the class out of the folder if it is none."
        )


# ---- what is told ----------------------------------------------------------------------------------------------------


def _notes(corrections: Corrections, asked: pl.DataFrame, test: bool) -> tuple[str, ...]:
    """Counts that add up to the rows of the file."""
    done = asked.filter("applies")
    relabelled, dropped = (done.filter(pl.col("action") == action).height for action in ("relabel", "drop"))
    kept = asked.filter(pl.col("action") == "keep").height
    moot = asked.filter((pl.col("action") == "relabel") & ~pl.col("changes")).height
    refused = corrections.frame.height - asked.filter(pl.col("action").is_not_null()).height
    counts = [f"{relabelled:,} relabelled", f"{dropped:,} dropped"]
    counts += [f"{kept:,} looked at and kept"] if kept else []
    counts += [f"{moot:,} with that label already"] if moot else []
    counts += [f"{refused:,} quarantined anyway"] if refused else []
    notes = [f"By {corrections.name}: {', '.join(counts)}."]
    judging = asked.filter("changes", "judge").height
    if judging and test:
        notes.append(
            f"{judging:,} of these correct the test part (data.correct_test=true): the judge has changed, "
            "and figures of other runs compare only where they have it too."
        )
    elif judging:
        images = "1 test image is" if judging == 1 else f"{judging:,} test images are"
        notes.append(f"{images} not corrected, as that would change the judge; data.correct_test=true corrects them too.")
    return tuple(notes)


# ---- reading ---------------------------------------------------------------------------------------------------------


def _read(source: Path) -> pl.DataFrame:
    if not source.is_file():
        raise DataError(f"There is no file {source}: data.corrections names a CSV file with the columns path,label,action.")
    try:
        return pl.read_csv(source, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        why = " ".join(str(error).partition("\n\n")[0].split())[:200].rstrip(".")
        raise DataError(f"{source} cannot be read as a table: {why}.") from None


def _texts(source: Path, frame: pl.DataFrame) -> pl.DataFrame:
    """The columns of `COLUMNS` as texts, blank ones null; old_label may be missing."""
    names = {name: re.sub(r"_duplicated_\d+$", "", name).strip().lower() for name in frame.columns}  # polars tells repeats apart so
    found = list(names.values())
    for column in COLUMNS:
        if found.count(column) > 1 or (column != "old_label" and column not in found):
            raise DataError(
                f"{source} needs one column '{column}' and has {', '.join(found)}. "
                "The columns are path,label,action[,old_label], with commas between them."
            )
    if frame.is_empty():
        raise DataError(f"{source} holds no decision: save some on the page of `sightline labels`, or leave data.corrections out.")
    frame = frame.select(pl.col(old).alias(new) for old, new in names.items() if new in COLUMNS)
    if "old_label" not in frame.columns:
        frame = frame.with_columns(old_label=pl.lit(None, pl.String))
    frame = frame.with_columns(pl.exclude("path").str.strip_chars()).with_columns(pl.col("action").str.to_lowercase())
    frame = frame.with_columns(pl.when(pl.all() == "").then(None).otherwise(pl.all()).name.keep())
    return frame.with_columns(_composed("label"), _composed("old_label"))


def _composed(column: str) -> pl.Expr:
    """As the table spells names of classes."""
    return pl.col(column).map_elements(lambda name: normalize("NFC", name), return_dtype=pl.String)


def _refuse(source: Path, wrong: pl.DataFrame, what: str, advice: str) -> None:
    """Raises DataError about the first of the wrong rows."""
    if wrong.is_empty():
        return
    row = wrong.row(0, named=True)
    who = f"'{row['path']}'" if row["path"] else "a row"
    more = f" (and {len(wrong) - 1:,} more)" if len(wrong) > 1 else ""
    raise DataError(f"{source}: {who} {what}{more}. {advice}")


def _refuse_classes(source: Path, frame: pl.DataFrame, table: ImageTable) -> None:
    wrong = frame.filter((pl.col("action") == "relabel") & ~pl.col("label").is_in(table.classes).fill_null(False))
    if wrong.is_empty():
        return
    row = wrong.row(0, named=True)
    given = f"the label '{row['label']}', which is no class of {table.root}" if row["label"] else "no label"
    known = ", ".join(table.classes[:8]) + (f" and {len(table.classes) - 8} more" if len(table.classes) > 8 else "")
    raise DataError(f"{source}: '{row['path']}' is to be relabelled and has {given}. The classes are {known}.")


def _refuse_changed(source: Path, frame: pl.DataFrame) -> None:
    """An image whose label has changed since the review, other than to what was decided."""
    stale = (pl.col("old_label") != pl.col("found")) & ~((pl.col("action") == "relabel") & (pl.col("label") == pl.col("found")))
    wrong = frame.filter(stale.fill_null(False))
    if wrong.is_empty():
        return
    row = wrong.row(0, named=True)
    more = f" (and {len(wrong) - 1:,} more)" if len(wrong) > 1 else ""
    raise DataError(
        f"{source}: '{row['path']}'{more} was '{row['old_label']}' when it was reviewed and is '{row['found']}' now. "
        "Review it again, or remove its row."
    )


def decided(path: Path) -> frozenset[str]:
    """Paths that a file of corrections has a row for; none where there is no such file, or it cannot be read."""
    try:
        return frozenset(pl.read_csv(path, infer_schema=False, columns=["path"])["path"].drop_nulls())
    except (OSError, pl.exceptions.PolarsError):
        return frozenset()
