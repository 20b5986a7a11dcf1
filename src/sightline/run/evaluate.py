"""Figures of a classifier on images with labels: `metrics.json`, predictions, a text report and the confusion matrix.

    metrics = evaluate("runs/flowers")                       the run's own test part
    metrics = evaluate("runs/flowers", split="val")
    metrics = evaluate("runs/flowers", "other-photos")       another folder, all of it

The probabilities are calibrated with the temperature that travels with the classifier; `ece_uncalibrated` says what it
would be without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline import files, processes
from sightline.classifier import Answers, Classifier
from sightline.data.batches import plain_batches
from sightline.data.images import pixel_digest
from sightline.data.table import ImageTable, scan
from sightline.errors import DataError, RunError
from sightline.evaluation.calibration import softmax
from sightline.evaluation.metrics import evaluate as measure
from sightline.evaluation.novelty import novelty_figures
from sightline.evaluation.predictions import Predictions
from sightline.evaluation.text import classification_report
from sightline.models.inference import EVAL_BATCH
from sightline.run.classify import check_views, classify, whole_answers
from sightline.run.folder import RunFolder, refuse_among_images
from sightline.run.prepare import Prepared
from sightline.run.reopen import reopen


def evaluate(
    run: str | Path, folder: str | Path | None = None, split: str = "test", out: str | Path | None = None, views: int = 1
) -> dict[str, Any]:
    """The content of `metrics.json`, which is also written.

    Args:
        run: a run folder, or a classifier folder where `folder` is given.
        folder: labelled images that are not the run's; None: a part of the run's own split.
        split: "test" or "val"; only without `folder`.
        out: where to write; by default RUN/evaluation/SPLIT, or RUN/evaluation/NAME for another folder; with test-time
            augmentation SPLIT-tta or NAME-tta.
        views: test-time augmentation: the mean of so many views of each image, up to 10; 1: off.

    Raises:
        RunError: there is no such run, or its images are gone or changed.
        DataError: the part has no images.
    """
    check_views(views)
    if folder is not None:
        return _evaluate_folder(Path(run), Path(folder), out, views)
    opened = RunFolder.open(run)
    if out is not None:
        refuse_among_images(Path(out), opened.started()["folder"])
    classifier = Classifier.load(opened.root)
    prepared = reopen(opened, opened.read_config())
    if split == "test":
        opened.note("evaluated", split=split, images=int((prepared.split.part == "test").sum()))
    place = Path(out) if out is not None else opened.evaluation(_named(split, views))
    return evaluate_part(classifier, prepared, split, place, views)


_OWN = ("test", "val", "folds", "test-tta", "val-tta")
"""Where the figures of the run's own images are."""


def _own_place(place: Path, source: Path) -> Path:
    """`place`, or NAME-2, ...: figures of the run itself, and of another folder of the same name, stay as they are."""
    tries = [*([] if place.name in _OWN else [place]), *(place.with_name(f"{place.name}-{i}") for i in range(2, 1000))]
    return next(p for p in tries if not (p / "source.txt").exists() or (p / "source.txt").read_text() == str(source.resolve()))


def _named(what: str, views: int) -> str:
    """Figures of test-time augmentation do not take the place of the plain ones."""
    return what if views == 1 else f"{what}-tta"


def evaluate_part(classifier: Classifier, prepared: Prepared, split: str, place: Path, views: int = 1) -> dict[str, Any]:
    """Figures of one part of a split, written to `place`; with `views` above 1, of test-time augmentation.

    Of several processes each computes the answers for its share of the images, and the main one writes.
    """
    rows = prepared.split.rows(split)
    if not len(rows):
        raise DataError(f"There is no {split} part to evaluate: the split gave it no image.")
    size = max(1, EVAL_BATCH // views)
    own = rows[processes.share().of(len(rows))]
    batches = plain_batches(prepared.pixels, own, classifier.preprocess.view, size, classifier.device.torch_device, views)
    logits, novelty = whole_answers(*classifier.scored(batches, views), len(rows))
    ids = tuple(prepared.table.usable["path"].gather(rows))
    twins = prepared.split.twins[rows]
    return processes.from_main(lambda: write_figures(classifier, ids, logits, novelty, prepared.labels[rows], twins, place, views))


def write_figures(
    classifier: Classifier,
    ids: tuple[str, ...],
    logits: npt.NDArray[np.float32],
    novelty: npt.NDArray[np.float64] | None,
    labels: npt.NDArray[np.int64],
    twins: npt.NDArray[np.bool_],
    place: Path,
    views: int = 1,
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Measures what the classifier said, and writes it with what `more` there is to say."""
    calibrated = Predictions(ids, classifier.probabilities(logits), classifier.classes, labels)
    raw = Predictions(ids, softmax(logits), classifier.classes, labels)
    metrics = measure(calibrated, uncalibrated=raw, twins=twins, sets=classifier.sets) | {"views": views} | (more or {})
    if classifier.novelty is not None and novelty is not None:
        metrics["novelty"] = novelty_figures(classifier.novelty, novelty)
    write_evaluation(place, calibrated, metrics)
    return metrics


def write_evaluation(place: Path, predictions: Predictions, metrics: dict[str, Any]) -> None:
    """`predictions.parquet`, `report.txt`, `confusion.png`, `reliability.png`, and `metrics.json` last."""
    from sightline.evaluation.figures import confusion_picture  # matplotlib: half a second, not before training
    from sightline.evaluation.reliability import reliability_picture

    with files.disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    files.write_atomic(place / "predictions.parquet", predictions.save)
    files.write_text(place / "report.txt", classification_report(metrics))
    confusion_picture(metrics, place / "confusion.png")
    reliability_picture(metrics, place / "reliability.png")
    files.write_json(place / "metrics.json", metrics)


# ---- another folder --------------------------------------------------------------------------------------------------


def _evaluate_folder(run: Path, folder: Path, out: str | Path | None, views: int) -> dict[str, Any]:
    classifier = Classifier.load(run)
    table = scan(folder, least=1, learn=False)
    if out is not None:
        refuse_among_images(Path(out), table.root)
    frame = table.usable.filter(pl.col("label").is_in(list(classifier.classes)))
    if frame.is_empty():
        raise DataError(f"{folder} has none of the classes that the classifier knows: {', '.join(classifier.classes[:8])}.")
    answers = classify(classifier, [table.root / path for path in frame["path"]], views)
    return processes.from_main(lambda: _write_folder(run, classifier, table, frame, answers, out, views))


def _write_folder(
    run: Path, classifier: Classifier, table: ImageTable, frame: pl.DataFrame, answers: Answers, out: str | Path | None, views: int
) -> dict[str, Any]:
    known = {name: i for i, name in enumerate(classifier.classes)}
    kept = frame[answers.readable.tolist()]
    if kept.is_empty():
        first = min(answers.unreadable)
        raise DataError(f"No image of {table.root} can be read, such as {answers.paths[first]}: {answers.unreadable[first]}.")
    labels = np.array([known[name] for name in kept["label"]], dtype=np.int64)
    place = Path(out) if out is not None else _own_place(run / "evaluation" / _named(table.root.name or "folder", views), table.root)
    with files.disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    files.write_text(place / "source.txt", str(table.root.resolve()))
    twins = _seen(run, classifier, table.root, kept)
    found = {"found": _account(table, classifier.classes, answers)}
    return write_figures(classifier, tuple(kept["path"]), answers.logits, answers.novelty, labels, twins, place, views, found)


def _account(table: ImageTable, known: Sequence[str], answers: Answers) -> dict[str, Any]:
    """What became of each file: those judged and those `left_out` are all `images`; what is `passed_over` is no image."""
    reasons = Counter([*table.frame["reason"].drop_nulls(), *answers.unreadable.values()])
    strangers = table.usable["label"].filter(~table.usable["label"].is_in(list(known)))
    for name in strangers:
        reasons[f"of a class that the classifier does not know: {name}"] += 1
    return {
        "images": len(table),
        "left_out": dict(reasons.most_common()),
        "passed_over": table.skipped,
        "notes": list(table.notes),
    }


def _seen(run: Path, classifier: Classifier, root: Path, frame: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Which images are exact twins of the run's train or val images; none are known where only a classifier is there."""
    try:
        images = RunFolder.open(run).read_images()
    except RunError:
        return np.zeros(len(frame), dtype=bool)
    seen = set(images.filter(pl.col("split").is_in(["train", "val"]))["pixel_digest"])
    from sightline.data.images import decode

    side = classifier.preprocess.store_size  # the run's digests are of pictures reduced for this side
    return np.array([pixel_digest(decode((root / path).read_bytes(), side=side).pixels).hex() in seen for path in frame["path"]])
