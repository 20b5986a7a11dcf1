"""What a classifier said about N images: the one table that metrics, reports and figures read.

    predictions = Predictions(ids, probabilities, classes, labels)
    predictions.save(path)                    # a Parquet file that any tool can open
    predictions = Predictions.load(path)      # the same, bit for bit

A row holds probabilities for every class, so a file grows with N times K; what the network saw (pixels, features) is
not kept. Writing is plain: a caller that wants it durable gives a temporary path and renames it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from sightline.errors import RunError

PREFIX = "p:"  # before a class name in the table, so that a class named "label" or "id" is no trouble
SUM_TOLERANCE = 1e-6
# What single and half precision leave after a softmax; such rows are brought to 1, anything further off is a mistake.
ROUNDING_TOLERANCE = 1e-2
_BLOCK_ENTRIES = 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Probabilities of K classes for N images, with the true labels where they are known.

    Args:
        ids: N image ids (paths relative to the folder, with `/`).
        probabilities: (N, K), each in 0..1, each row with sum 1 (within 1e-6). Kept as float64; an array of lower
            precision is converted and its rows are brought to the sum 1.
        classes: K different names; column k of `probabilities` belongs to name k.
        labels: (N,) integers in 0..K-1, or None where the truth is not known.

    Raises:
        ValueError: the parts do not fit together, or the rows are not probabilities.
    """

    ids: tuple[str, ...]
    probabilities: np.ndarray
    classes: tuple[str, ...]
    labels: np.ndarray | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(self.ids))
        object.__setattr__(self, "classes", tuple(self.classes))
        _check_classes(self.classes)
        shape = (len(self.ids), len(self.classes))
        object.__setattr__(self, "probabilities", _read_only(_checked_probabilities(self.probabilities, shape)))
        if self.labels is not None:
            object.__setattr__(self, "labels", _read_only(_checked_labels(self.labels, shape)))

    def __len__(self) -> int:
        return len(self.ids)

    def predicted(self) -> np.ndarray:
        """(N,) int64: the class with the highest probability; of equal ones the first."""
        winners = np.empty(len(self), dtype=np.int64)
        for rows in row_blocks(*self.probabilities.shape):  # numpy copies a read-only array before it seeks the highest
            winners[rows] = self.probabilities[rows].argmax(axis=1)
        return winners

    def confidence(self) -> np.ndarray:
        """(N,) float64: the highest probability of each image."""
        highest: np.ndarray = self.probabilities.max(axis=1)
        return highest

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a Parquet table: id, label (null where unknown), predicted, confidence, and p:<class> for every class.

        Raises:
            OSError: the file cannot be written.
        """
        names = pl.Series("names", self.classes, dtype=pl.String)
        labels = [None] * len(self) if self.labels is None else names.gather(self.labels)
        columns = {
            "id": pl.Series(self.ids, dtype=pl.String),
            "label": pl.Series(labels, dtype=pl.String),
            "predicted": names.gather(self.predicted()),
            "confidence": pl.Series(self.confidence()),
        }
        columns |= {PREFIX + name: pl.Series(self.probabilities[:, k]) for k, name in enumerate(self.classes)}
        pl.DataFrame(columns).write_parquet(Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Predictions:
        """Read what `save` wrote; `predicted` and `confidence` follow from the probabilities and are not read.

        A table without rows comes back without labels.

        Raises:
            RunError: the file is missing, damaged, or not such a table.
        """
        try:
            return cls._from_table(pl.read_parquet(Path(path)))
        except (OSError, ValueError, pl.exceptions.PolarsError) as error:
            reason = str(error).splitlines()[0]
            raise RunError(f"{os.fspath(path)} is not a readable table of predictions: {reason}.") from error

    @classmethod
    def _from_table(cls, table: pl.DataFrame) -> Predictions:
        columns = [name for name in table.columns if name.startswith(PREFIX)]
        if not columns:
            raise ValueError(f"it has no column that begins with {PREFIX!r}")
        classes = tuple(name.removeprefix(PREFIX) for name in columns)
        ids = tuple(table["id"].cast(pl.String).to_list())
        probabilities = np.ascontiguousarray(table.select(columns).to_numpy())
        return cls(ids, probabilities, classes, _labels(table["label"], classes))


def row_blocks(n: int, k: int) -> Iterator[slice]:
    """Slices that cover the rows of an (n, k) array, so that what is computed from each block stays below 8 MB."""
    rows = max(1, _BLOCK_ENTRIES // k)
    return (slice(start, start + rows) for start in range(0, n, rows))


def _labels(column: pl.Series, classes: Sequence[str]) -> np.ndarray | None:
    if column.null_count() == len(column):
        return None
    if column.has_nulls():
        raise ValueError(f"{column.null_count()} of {len(column)} images have no label")
    numbers = {name: k for k, name in enumerate(classes)}
    strangers = sorted(set(column.unique()) - set(classes))
    if strangers:
        raise ValueError(f"the label {strangers[0]!r} has no column of probabilities")
    return np.array([numbers[name] for name in column], dtype=np.int64)


def _check_classes(classes: Sequence[str]) -> None:
    if not classes:
        raise ValueError("predictions need at least one class")
    if len(set(classes)) < len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise ValueError(f"the class name {twice!r} appears twice")


def _checked_probabilities(given: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    given = np.asarray(given)
    if given.shape != shape:
        raise ValueError(f"probabilities have the shape {given.shape}, but {shape[0]} ids and {shape[1]} classes came")
    probabilities = given.astype(np.float64, copy=False)
    if not shape[0]:
        return probabilities
    sums = probabilities.sum(axis=1)  # NaN or infinity in a row shows in its sum
    if given.dtype != np.float64 and np.all(np.abs(sums - 1) <= ROUNDING_TOLERANCE):
        probabilities = probabilities / sums[:, None]
        sums = probabilities.sum(axis=1)
    wrong = ~(np.abs(sums - 1) <= SUM_TOLERANCE)
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(f"{wrong.sum()} rows of probabilities do not sum to 1 (row {first}: {sums[first]:.9g})")
    if probabilities.min() < 0:
        raise ValueError(f"a probability is below 0 ({probabilities.min():.9g})")
    return probabilities


def _checked_labels(given: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    given = np.asarray(given)
    if given.shape != shape[:1] or (given.size and given.dtype.kind not in "iu"):
        raise ValueError(f"labels must be {shape[0]} whole numbers, not {given.dtype} of shape {given.shape}")
    if given.size and (given.min() < 0 or given.max() >= shape[1]):
        raise ValueError(f"labels must be in 0..{shape[1] - 1}, not {given.min()}..{given.max()}")
    return given.astype(np.int64, copy=False)


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view
