"""What a report is made of: all that a run folder told, as plain values. What it does not hold is None or empty.

    facts = RunFacts(name="flowers", ...)          made by run/report.py, read by the sections

`chosen` says which judged images are shown at all: mistakes of every cell of the confusion matrix in turn, then right
answers, so that what is cut where there are too many is the tenth picture of a cell, and never a whole cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.evaluation.embedding import Embedding
from sightline.evaluation.predictions import Predictions

MOST_WRONG = 48  # images of a cell off the diagonal
MOST_RIGHT = 8  # of one on it
MOST_SHOWN = 6000  # images in all: the page must stay small and quick


@dataclass(frozen=True, slots=True)
class Judged:
    """A part that judged the classifier.

    Attributes:
        name: "test", "val", or the name of an evaluation folder.
        metrics: the content of its `metrics.json`.
        predictions: of its images; None where the file is gone.
        source: the folder its images lie in; None: the run's own.
    """

    name: str
    metrics: Mapping[str, Any]
    predictions: Predictions | None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting: its dotted name, its value as text, what it means, and whether the user gave it."""

    name: str
    value: str
    meaning: str
    given: bool


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A picture in which is marked what a prediction rests on; `code` is the base64 of its WebP file.

    Attributes:
        panels: what stands side by side in it.
    """

    path: str
    label: str
    predicted: str
    confidence: float
    code: str
    panels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunFacts:
    """All that a run folder told.

    Attributes:
        name: of the run; `place` its folder, `source` the folder of images.
        judged: what the report is about: the test part, or val where no test was read; None: not evaluated yet.
        others: the other evaluations.
        images: `images.parquet`.
        history: rows of `history.csv`; `phases` (first epoch, what changes) after the first; `best` epoch.
        settings: resolved; empty where the run stopped before.
        events: the ledger.
        environment, card: `environment.json` and `classifier/model.json`.
        audit: `audit.json`.
        embeddings, heat_maps: {part: what `embed` and `explain` drew of it}; the part that the report is about first.
        seeds: `seeds.json`. folds: the metrics of the out-of-fold predictions.
        suspects: {path: label} of images whose label is doubted; None: nobody looked.
        passed_over: {reason: count} of what lies in the folder and is no image.
    """

    name: str
    place: str
    source: str
    judged: Judged | None
    others: Sequence[Judged] = ()
    images: pl.DataFrame | None = None
    history: Sequence[Mapping[str, str]] = ()
    phases: Sequence[tuple[int, str]] = ()
    best: int | None = None
    settings: Sequence[SettingRow] = ()
    events: Sequence[Mapping[str, Any]] = ()
    environment: Mapping[str, Any] | None = None
    card: Mapping[str, Any] | None = None
    audit: Mapping[str, Any] | None = None
    embeddings: Mapping[str, Embedding] = field(default_factory=dict)
    heat_maps: Mapping[str, Sequence[HeatMap]] = field(default_factory=dict)
    seeds: Mapping[str, Any] | None = None
    folds: Mapping[str, Any] | None = None
    suspects: Mapping[str, str] | None = None
    passed_over: Mapping[str, int] = field(default_factory=dict)

    def train_counts(self) -> dict[str, int]:
        """{class: images that it was learned from}; empty where that is not known."""
        if self.images is None:
            return {}
        counted = self.images.filter(pl.col("split") == "train").group_by("label").len()
        return dict(counted.iter_rows())

    def twins(self) -> npt.NDArray[np.bool_] | None:
        """(N,) whether a judged image has a twin among those learned or chosen from; None where that is not known."""
        if self.images is None or self.judged is None or self.judged.predictions is None or self.judged.source is not None:
            return None
        if "twin" not in self.images.columns:
            return None
        marked = set(self.images.filter(pl.col("twin"))["path"])
        return np.array([path in marked for path in self.judged.predictions.ids], dtype=bool)


def chosen(predictions: Predictions) -> npt.NDArray[np.int64]:
    """Rows of the images to show, the most important first: the surest mistakes and the least sure right answers of each cell."""
    if predictions.labels is None or not len(predictions):
        return np.zeros(0, dtype=np.int64)
    labels, predicted, k = predictions.labels, predictions.predicted(), len(predictions.classes)
    wrong, confidence = labels != predicted, predictions.confidence()
    urgency = np.where(wrong, confidence, 1 - confidence)
    cell = labels * k + predicted
    order = np.lexsort((np.arange(len(cell)), -urgency, cell))
    starts = np.flatnonzero(np.diff(cell[order], prepend=-1))
    rank = np.arange(len(cell)) - np.repeat(starts, np.diff(np.append(starts, len(cell))))
    kept = rank < np.where(wrong[order], MOST_WRONG, MOST_RIGHT)
    rows, rank = order[kept], rank[kept]
    # Mistakes of a rank come before right answers of it, which wait three ranks.
    turn = np.where(wrong[rows], rank, 3 + 2 * rank)
    found: npt.NDArray[np.int64] = rows[np.lexsort((-urgency[rows], ~wrong[rows], turn))][:MOST_SHOWN]
    return found
