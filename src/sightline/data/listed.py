"""Images that a CSV or Parquet table lists: columns path,label[,split][,group], paths relative to the file.

    frame, skipped, notes = read_listed(Path("photos.csv"))     rows by path; {why: count} of rows that are none; sentences

Names of columns and splits may be in capitals; blank cells are null, and so are pandas' NaN for them. Other columns are
not used, and told: who misspells `group` would have the frames of one film on both sides of the split.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from difflib import get_close_matches
from pathlib import Path

import polars as pl
from polars import selectors as cs

from sightline.data.walk import NOT_A_FILE, last_change, status_of
from sightline.errors import DataError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""What people call the parts of a split."""

_MEANT = {
    **dict.fromkeys(("split", "fold", "part", "partition", "set", "subset"), "split"),
    **dict.fromkeys(("group", "film", "patient", "scene", "series", "session", "subject", "video"), "group"),
}
"""What people call the columns that may be missing."""

_COLUMNS = ("path", "label", "split", "group")
_PLACE = {"path": pl.String, "bytes": pl.Int64, "changed": pl.Int64, "reason": pl.String}


def read_listed(path: Path, learn: bool = True) -> tuple[pl.DataFrame, Counter[str], tuple[str, ...]]:
    """The images, one a row, ordered by path: path, label, given (the split), group, bytes, changed, reason.

    Args:
        learn: whether some rows must be of the split train, where there is one.

    Raises:
        DataError: it is no such table, names an image twice, or none of its files is there.
    """
    read = _read_table(path)
    frame = _texts(path, read)
    skipped = Counter({"row without a path": frame["path"].null_count()})
    frame = frame.filter(pl.col("path").is_not_null())
    skipped["row without a label"] = frame["label"].null_count()
    frame = frame.filter(pl.col("label").is_not_null())
    if frame.is_empty():
        raise DataError(f"{path} holds no labelled images.")
    places = pl.DataFrame([_locate(path.parent, name) for name in frame["path"]], schema=_PLACE, orient="row")
    if places["changed"].max() == 0:
        example = path.parent / frame["path"][0]
        raise DataError(
            f"None of the {len(frame):,} files that {path} names is there, such as {example}: paths are relative to the table's own folder."
        )
    frame = frame.with_columns(places).with_columns(_given(path, frame["split"], learn)).sort("path")
    _refuse_twice(path, frame)
    return frame, skipped, _unused(read.columns)


def _locate(folder: Path, name: str) -> tuple[str, int, int, str | None]:
    """Path, size, time of change and what is against the file; Windows' backslashes are turned where that finds it."""
    for spelt in dict.fromkeys((name, name.replace("\\", "/"))):
        status = status_of(os.path.join(folder, spelt))
        if status is not None:
            reason = None if stat.S_ISREG(status.st_mode) else NOT_A_FILE
            return spelt, status.st_size, last_change(status), reason
    return name, 0, 0, None


def _read_table(path: Path) -> pl.DataFrame:
    try:
        if path.suffix.lower() == ".parquet":
            return pl.read_parquet(path)
        return pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        why = " ".join(str(error).partition("\n\n")[0].split())[:200].rstrip(".")  # what follows is advice about polars
        raise DataError(f"{path} cannot be read as a table: {why}.") from None


def _texts(path: Path, frame: pl.DataFrame) -> pl.DataFrame:
    """The columns path, label, split and group as texts; blank ones are null, and so is a whole column not there."""
    names = {name: re.sub(r"_duplicated_\d+$", "", name.strip().lower()) for name in frame.columns}  # so polars spells a second one
    for column in _COLUMNS:
        count = list(names.values()).count(column)
        if count > 1 or (not count and column in ("path", "label")):
            spelt = ", ".join(re.sub(r"_duplicated_\d+$", "", name) for name in frame.columns)
            raise DataError(
                f"{path} needs one column '{column}' and has {spelt}. The columns are path,label[,split][,group], with commas between them."
            )
    wanted = {old: new for old, new in names.items() if new in _COLUMNS}
    frame = frame.select(list(wanted)).with_columns(cs.float().fill_nan(None))
    whole = [name for name in frame.select(cs.float()).columns if (frame[name] == frame[name].round()).all()]
    frame = frame.with_columns(pl.col(whole).cast(pl.Int64, strict=False))  # pandas turns whole numbers with a blank among them into 1.0
    try:
        if any(kind.is_nested() for kind in frame.dtypes):  # polars would spell a list or struct as a text
            raise pl.exceptions.InvalidOperationError
        frame = frame.select(pl.col(old).cast(pl.String).alias(new) for old, new in wanted.items())
    except pl.exceptions.PolarsError:
        raise DataError(f"{path}: the columns {', '.join(wanted.values())} must hold texts or numbers.") from None
    missing = [pl.lit(None, pl.String).alias(c) for c in ("split", "group") if c not in frame.columns]
    frame = frame.with_columns(pl.exclude("path").str.strip_chars().str.normalize("NFC"), *missing)
    return frame.with_columns(pl.when(pl.all() == "").then(None).otherwise(pl.all()).name.keep())


def _unused(columns: list[str]) -> tuple[str, ...]:
    """A sentence on the columns that are not used, and what those near to `split` and `group` may have been meant for."""
    names = [name.strip() for name in columns]
    there = {name.lower() for name in names}
    unused = [name for name in names if name and name.lower() not in _COLUMNS and not name.startswith("__")]  # __: pandas' own
    if not unused:
        return ()
    near = {name: get_close_matches(name.lower().removesuffix("id").strip("_- "), _MEANT, 1, 0.85) for name in unused}
    meant = {name: _MEANT[found[0]] for name, found in near.items() if found and _MEANT[found[0]] not in there}
    asked = " and ".join(f"'{column}' by '{name}'" for name, column in meant.items())
    advice = f" Did you mean {asked}? Rename it then, for images are divided as if it were not there." if asked else ""
    return (f"Columns that are not used: {', '.join(unused)}.{advice}",)


def _refuse_twice(path: Path, frame: pl.DataFrame) -> None:
    twice = frame.filter(pl.col("path").is_duplicated())["path"]
    if len(twice):
        more = twice.n_unique() - 1
        others = f" and {more:,} others" if more else ""
        raise DataError(f"{path} names {twice[0]}{others} more than once: keep one row an image.")


def _given(path: Path, split: pl.Series, learn: bool) -> pl.Series:
    if split.null_count() == len(split):
        return split.alias("given")
    if split.null_count():
        raise DataError(
            f"{path}: {split.null_count():,} of {len(split):,} rows have no split. Give every row one, or leave the column out."
        )
    unknown = sorted(set(split.str.to_lowercase().unique()) - set(SPLIT_NAMES))
    if unknown:
        raise DataError(f"{path}: '{unknown[0]}' is no split; use train, val and test.")
    given = split.str.to_lowercase().replace_strict(SPLIT_NAMES, return_dtype=pl.String)
    if learn and "train" not in given:
        raise DataError(f"{path}: no row has the split train.")
    return given.alias("given")
