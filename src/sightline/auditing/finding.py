"""What one check found: how bad each image is, which ones are flagged, and a sentence with what to do about it.

    finding = check(material)
    finding.count, finding.worst(200), finding.sentence, finding.advice

`severity` says how far an image goes in the sense of the check; `level` says what it means for the person: an error makes
figures wrong or leaves images unused, a warning needs a person's eye, an info is dealt with already or may well be as it
should.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

Level = Literal["info", "warning", "error"]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """The answer of one check; row i of `severity` and `flag` is row i of `frame`.

    Attributes:
        name: a word for files and commands, such as "near-twins".
        title: the same for people.
        level: what it means where anything is flagged.
        frame: the rows that were looked at, with `path` and `label`; for most checks the usable ones.
        severity: (N,) from 0 (nothing) to 1.
        flag: (N,) bool.
        sentence: what was found.
        advice: what to do; empty where there is nothing to do.
        why: what there is to say about one flagged row.
        partner: (N,) the row that belongs beside each one (its twin), itself where there is none; None: no row has any.
        groups: rows that belong together.
    """

    name: str
    title: str
    level: Level
    frame: pl.DataFrame
    severity: npt.NDArray[np.float64]
    flag: npt.NDArray[np.bool_]
    sentence: str
    advice: str
    why: Callable[[int], str]
    partner: Rows | None = None
    groups: tuple[Rows, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.severity) == len(self.flag) == len(self.frame):
            raise ValueError(f"{self.name}: {len(self.frame)} rows, {len(self.severity)} severities, {len(self.flag)} flags")
        if not ((self.severity >= 0) & (self.severity <= 1)).all():
            raise ValueError(f"{self.name}: a severity lies outside of 0 to 1")
        if (self.flag & (self.severity == 0)).any():
            raise ValueError(f"{self.name}: an image is flagged with severity 0")

    @property
    def count(self) -> int:
        """Images flagged."""
        return int(self.flag.sum())

    def worst(self, limit: int) -> Rows:
        """The flagged rows, the most severe first, then in the order of their paths; at most `limit`."""
        rows = np.flatnonzero(self.flag)
        return rows[np.argsort(-self.severity[rows], kind="stable")][:limit]


def count_of(n: int, noun: str, several: str = "") -> str:
    """1 image, 2 images, 1,234 images; `several` where it is more than an s."""
    return f"{n:,} {noun if n == 1 else several or noun + 's'}"


def said_of(n: int, one: str, several: str) -> str:
    """1 image is, 2 images are: the subject of a sentence and its verb."""
    return f"{count_of(n, 'image')} {one if n == 1 else several}"


def percent(share: float) -> str:
    """18.2 %"""
    return f"{100 * share:.1f} %"


def listing(names: list[str], limit: int = 6) -> str:
    """The names with commas; of many the first few, and how many more."""
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest:,} more" if rest > 0 else "")
