"""Which labels of a run's images look wrong: a ranked table, and a page on which a person decides.

    review = labels("runs/flowers")
    print(review.text())                RUN/labels/suspects.csv and RUN/labels/labels.html

Only images are judged that the network was not trained on. With `split.folds` those are all but the user's own test
part, which the run's own network judges; without, val and test alone, and what was not judged is told. Images that the
run's corrections have settled are not asked about again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline import files
from sightline.data.corrections import decided
from sightline.errors import RunError, SettingsError
from sightline.evaluation.label_errors import LabelErrors, find_label_errors
from sightline.evaluation.predictions import Predictions
from sightline.reporting.labels_page import Suspect, false_alarms, labels_page
from sightline.reporting.pictures import Pictures, from_folder, make_pictures
from sightline.run.folder import RunFolder, refuse_among_images
from sightline.run.progress import Screen

MOST = 300
"""Suspects on the page: about two hours of looking. The table has all."""

FEW = 5
"""Judged images of a class below which its own threshold is hardly one."""

TOP = 5  # classes shown with their probabilities
SIDE = 320  # pixels of a picture: enough to decide by
SAMPLES = 3  # pictures beside a suspect, a class


@dataclass(frozen=True)
class LabelReview:
    """What was found and where it lies.

    Attributes:
        place: the folder with `suspects.csv` and `labels.html`.
        suspects: a row a suspect, worst first: `path`, `split`, `label`, `likely`, `score`, `label_probability`,
            `likely_probability`.
        judged: images whose labels could be judged.
        images: images that the run uses.
        trust: a sentence on how many of the flags to expect to be false.
        notes: sentences on what was judged and what was not.
    """

    place: Path
    suspects: pl.DataFrame
    judged: int
    images: int
    trust: str
    notes: tuple[str, ...]

    @property
    def page(self) -> Path:
        """The page to review them on."""
        return self.place / "labels.html"

    def text(self) -> str:
        """The count, the ten worst, and what to make of them."""
        count = len(self.suspects)
        share = f" ({100 * count / self.judged:.1f} %)" if count else ""
        lines = [f"{count:,} of {self.judged:,} judged labels look wrong{share}.", *self.notes]
        if count:
            lines += [self.trust, "", *_table(self.suspects.head(10)), ""]
            if count > 10:
                lines += [f"and {count - 10:,} more in {self.place / 'suspects.csv'}"]
            lines += [f"Review  {self.page}", "Then    sightline train FOLDER data.corrections=corrections.csv"]
        return "\n".join(lines)

    def facts(self) -> dict[str, Any]:
        """For `--json`."""
        rows = self.suspects.to_dicts()
        return {"judged": self.judged, "images": self.images, "suspects": rows, "notes": list(self.notes), "page": str(self.page)}


def labels(run: str | Path, out: str | Path | None = None, most: int = MOST) -> LabelReview:
    """Ranks the labels that look wrong and writes the table and the page.

    Args:
        run: a run folder.
        out: where to write; by default RUN/labels.
        most: suspects on the page; the table has all.

    Raises:
        RunError: no such run, or it has no predictions for images that it was not trained on.
    """
    if most < 1:
        raise SettingsError(f"--most must be at least 1, not {most}.")
    opened = RunFolder.open(run)
    if out is not None:
        refuse_among_images(Path(out), opened.started()["folder"])
    images = opened.read_images().filter(pl.col("split").is_in(["train", "val", "test"]))
    judged, by_folds = _judged(opened)
    judged = _used(judged, images)
    assert judged.labels is not None
    found = find_label_errors(judged.probabilities, judged.labels)
    settled = decided(opened.corrections)
    rows = np.array([row for row in found.ranked() if judged.ids[row] not in settled], dtype=np.int64)
    suspects = _frame(judged, found, rows, images)
    notes = [*_scope(opened, images, judged, by_folds), *_doubts(judged), *_settled(settled, found, judged)]
    place = Path(out) if out is not None else opened.labels
    files.make_folder(place)
    review = LabelReview(place, suspects, len(judged), len(images), false_alarms(_agreement(judged)), tuple(notes))
    files.write_text(place / "suspects.csv", suspects.write_csv())
    files.write_text(review.page, _page(opened, review, images, judged, found, rows[:most]))
    return review


# ---- who was judged ------------------------------------------------------------------------------------------------------


def _judged(run: RunFolder) -> tuple[Predictions, bool]:
    """Predictions for images that their network was not trained on, each image once; and whether folds gave them."""
    by_folds = (run.evaluation("folds") / "predictions.parquet").exists()
    names = ("folds", "test") if by_folds else ("val", "test")
    places = [run.evaluation(name) / "predictions.parquet" for name in names]
    parts = [Predictions.load(place) for place in places if place.exists()]
    parts = [part for part in parts if part.labels is not None]
    if not parts:
        raise RunError(
            f"{run.root} has no predictions for val or test: run `sightline evaluate {files.quoted(run.root)} --split val` first."
        )
    if any(part.classes != parts[0].classes for part in parts):
        raise RunError(f"The predictions in {run.root / 'evaluation'} are of different classes: run `sightline evaluate` again.")
    return _joined(parts), by_folds


def _joined(parts: Sequence[Predictions]) -> Predictions:
    """One after the other; of an image that comes twice the first."""
    ids = np.array([name for part in parts for name in part.ids], dtype=object)
    first = np.sort(np.unique(ids.astype(str), return_index=True)[1])
    probabilities = np.concatenate([part.probabilities for part in parts])[first]
    labels = np.concatenate([part.labels for part in parts if part.labels is not None])[first]
    return Predictions(tuple(ids[first]), probabilities, parts[0].classes, labels)


def _used(judged: Predictions, images: pl.DataFrame) -> Predictions:
    """Those of images that the run uses: a fold judges what the run's corrections drop, as they never change its judge."""
    used = set(images["path"])
    rows = np.array([row for row, name in enumerate(judged.ids) if name in used], dtype=np.int64)
    labels = None if judged.labels is None else judged.labels[rows]
    return Predictions(tuple(judged.ids[row] for row in rows), judged.probabilities[rows], judged.classes, labels)


def _scope(run: RunFolder, images: pl.DataFrame, judged: Predictions, by_folds: bool) -> list[str]:
    """What could not be judged, and what would judge it."""
    left = images.filter(~pl.col("path").is_in(list(judged.ids)))
    if left.is_empty():
        return []
    if by_folds:
        return [f"{len(left):,} images were in no fold and are not judged, of {_names(left['label'].unique().to_list())}."]
    folder = run.started()["folder"]
    one = " train.seeds=1" if run.seeds_summary.exists() else ""
    command = f"sightline train {files.quoted(folder)} -c {files.quoted(run.config)}{one} split.folds=5"
    return [
        f"The {len(left):,} images of train are not judged: a network repeats the labels that it was trained on, right or wrong. "
        f"All are judged by `{command}`, then `sightline labels` on that run."
    ]


def _agreement(judged: Predictions) -> float:
    """Share of the judged labels that the network would give too."""
    return float(np.mean(judged.predicted() == judged.labels)) if len(judged) else 0.0


def _doubts(judged: Predictions) -> list[str]:
    """How far to trust the flags."""
    assert judged.labels is not None
    counts = np.bincount(judged.labels, minlength=len(judged.classes))
    few = [name for name, n in zip(judged.classes, counts, strict=True) if n < FEW]
    notes = [f"The network agrees with {100 * _agreement(judged):.1f} % of the judged labels."]
    if few:
        notes.append(f"Fewer than {FEW} judged images, so hardly to be judged: {_names(few)}.")
    return notes


def _settled(settled: frozenset[str], found: LabelErrors, judged: Predictions) -> list[str]:
    again = sum(judged.ids[row] in settled for row in found.ranked())
    return [f"{again:,} more were decided before, in the run's corrections."] if again else []


# ---- the table -----------------------------------------------------------------------------------------------------------


def _frame(judged: Predictions, found: LabelErrors, rows: npt.NDArray[np.int64], images: pl.DataFrame) -> pl.DataFrame:
    assert judged.labels is not None
    names, own, likely = pl.Series(judged.classes, dtype=pl.String), judged.labels[rows], found.likely[rows]
    table = pl.DataFrame(
        {
            "path": pl.Series([judged.ids[row] for row in rows], dtype=pl.String),
            "label": names.gather(own),
            "likely": names.gather(likely),
            "score": found.severity[rows],
            "label_probability": judged.probabilities[rows, own],
            "likely_probability": judged.probabilities[rows, likely],
        }
    )
    table = table.join(images.select("path", "split"), on="path", how="left", maintain_order="left")
    return table.select("path", "split", *table.columns[1:6])


def _table(suspects: pl.DataFrame) -> list[str]:
    """Lines of equal columns: score, label, likely label, split, path."""
    rows = [("score", "label", "looks like", "split", "image")]
    rows += [(f"{r['score']:.3f}", r["label"], r["likely"], r["split"] or "", r["path"]) for r in suspects.to_dicts()]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]) for row in rows]


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"


# ---- the page ------------------------------------------------------------------------------------------------------------


def _page(
    run: RunFolder, review: LabelReview, images: pl.DataFrame, judged: Predictions, found: LabelErrors, rows: npt.NDArray[np.int64]
) -> str:
    assert judged.labels is not None
    suspects = [_suspect(judged, found, row, split) for row, split in zip(rows, review.suspects["split"].head(len(rows)), strict=True)]
    wanted = {number for one in suspects for number in (one.label, one.likely)}
    samples = {number: _fitting(judged, found, number) for number in sorted(wanted)}
    paths = [one.path for one in suspects] + [path for chosen in samples.values() for path in chosen]
    source = Path(run.started()["folder"])
    root = source.parent if source.suffix.lower() in (".csv", ".parquet") and not source.is_dir() else source
    with Screen() as screen:
        pictures = _pictures(paths, root, images, screen)
    left = len(review.suspects) - len(rows)
    more = [f"The {left:,} least suspicious are in suspects.csv only."] if left else []
    return labels_page(source.name, _key(run), judged.classes, suspects, samples, pictures, review.trust, [*review.notes, *more])


def _suspect(judged: Predictions, found: LabelErrors, row: int, split: str | None) -> Suspect:
    assert judged.labels is not None
    chances = judged.probabilities[row]
    top = tuple((int(k), float(chances[k])) for k in np.argsort(-chances, kind="stable")[:TOP])
    return Suspect(judged.ids[row], split or "", int(judged.labels[row]), int(found.likely[row]), float(found.severity[row]), top)


def _fitting(judged: Predictions, found: LabelErrors, number: int) -> list[str]:
    """Images of a class that are told right: the surest one, and two that are not so sure, so that one sees its variety."""
    assert judged.labels is not None
    right = np.flatnonzero((judged.labels == number) & (judged.predicted() == number) & ~found.flag)
    order = right[np.argsort(-judged.probabilities[right, number], kind="stable")]
    places = dict.fromkeys(int(share * len(order)) for share in (0, 0.25, 0.5)) if len(order) >= SAMPLES else range(len(order))
    return [judged.ids[order[place]] for place in places]


def _pictures(paths: Sequence[str], root: Path, images: pl.DataFrame, screen: Screen) -> Pictures:
    digests = dict(images.select("path", "digest").drop_nulls().iter_rows())
    return make_pictures(paths, from_folder(root, digests, side=SIDE), done=screen.counter("pictures"), side=SIDE)


def _key(run: RunFolder) -> str:
    """Of this run alone: its place and the images that it began with."""
    told = f"{run.root.resolve()}\n{files.digest(run.images)}"
    return hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()[:16]
