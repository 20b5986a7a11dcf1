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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline import files, processes
from sightline.classifier import Answers, Classifier
from sightline.data.batches import plain_batches
from sightline.data.table import ImageTable, scan
from sightline.errors import DataError, RunError, SettingsError
from sightline.evaluation.calibration import softmax
from sightline.evaluation.metrics import evaluate as measure
from sightline.evaluation.novelty import novelty_figures
from sightline.evaluation.predictions import Predictions
from sightline.evaluation.text import classification_report
from sightline.models.inference import EVAL_BATCH
from sightline.run.classify import check_views, classify, whole_answers
from sightline.run.folder import PARTS, RunFolder, refuse_among_images
from sightline.run.prepare import Prepared
from sightline.run.progress import Screen
from sightline.run.reopen import reopen
from sightline.run.seen import seen_before


def evaluate(
    run: str | Path, folder: str | Path | None = None, split: str = "test", out: str | Path | None = None, views: int = 1
) -> dict[str, Any]:
    """The content of `metrics.json`, which is also written.

    Args:
        run: a run folder, or a classifier folder where `folder` is given.
        folder: labelled images that are not the run's; None: a part of the run's own split.
        split: "test" or "val"; only without `folder`.
        out: where to write; by default RUN/evaluation/SPLIT, or RUN/evaluation/NAME for another folder (PARENT-NAME where
            it is called like a part); with test-time augmentation SPLIT-tta or NAME-tta.
        views: test-time augmentation: the mean of so many views of each image, up to 10; 1: off.

    Raises:
        SettingsError: `split` is neither test nor val, or there cannot be so many views.
        RunError: there is no such run, its images are gone or changed, or `out` is the place of other figures.
        DataError: the part has no images.
    """
    if split not in ("test", "val"):
        raise SettingsError(f"--split must be test or val, not {split}.")
    check_views(views)
    if folder is not None:
        return _evaluate_folder(Path(run), Path(folder), out, views)
    opened = RunFolder.open(run)
    place = opened.evaluation(_named(split, views))
    if out is not None:
        refuse_among_images(Path(out), opened.started()["folder"])
        _refuse_taken(Path(out), place)
        place = Path(out)
    classifier = Classifier.load(opened.root)
    prepared = reopen(opened, opened.read_config())
    if split == "test":
        opened.note("evaluated", split=split, images=int((prepared.split.part == "test").sum()))
    return evaluate_part(classifier, prepared, split, place, views)


_OWN = {f"{part}{end}" for part in (*PARTS, "folds") for end in ("", "-tta")}
"""Where the figures of the run's own images are."""


def _place_of_folder(run: Path, source: Path, views: int) -> Path:
    """RUN/evaluation/NAME, or NAME-2, ...: figures of the run itself, and of another folder of the same name, stay as they are."""
    name = (source.stem if source.is_file() else source.name) or "folder"
    if name in _OWN:
        name = f"{source.parent.name or 'folder'}-{name}"
    tries = (run / "evaluation" / _named(tried, views) for tried in (name, *(f"{name}-{i}" for i in range(2, 1000))))
    return next(p for p in tries if not (p / "source.txt").exists() or (p / "source.txt").read_text() == str(source))


def _refuse_taken(place: Path, own: Path | None) -> None:
    """Raises RunError where figures would lie in a run as if they were of a part; those of a part have one place there, `own`."""
    there = place.expanduser().resolve()
    of_run = there.parent.name == "evaluation" and (there.parent.parent / "ledger.jsonl").exists()
    if of_run and (there.name in _OWN if own is None else there != own.resolve()):
        raise RunError(f"{place} is where a run looks for other figures of its own: choose another place with --out, or leave it out.")


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
    del raw  # of a million images these are a large part of all that is held
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
        _refuse_taken(Path(out), None)
    source = folder.expanduser().resolve()
    place = Path(out) if out is not None else _place_of_folder(run, source, views)
    frame = table.usable.filter(pl.col("label").is_in(list(classifier.classes)))
    if frame.is_empty():
        raise DataError(f"{folder} has none of the classes that the classifier knows: {', '.join(classifier.classes[:8])}.")
    answers = classify(classifier, [table.root / path for path in frame["path"]], views)
    return processes.from_main(lambda: _write_folder(run, classifier, table, frame, answers, place, source, views))


def _write_folder(
    run: Path,
    classifier: Classifier,
    table: ImageTable,
    frame: pl.DataFrame,
    answers: Answers,
    place: Path,
    source: Path,
    views: int,
) -> dict[str, Any]:
    known = {name: i for i, name in enumerate(classifier.classes)}
    kept = frame[answers.readable.tolist()]
    if kept.is_empty():
        first = min(answers.unreadable)
        raise DataError(f"No image of {table.root} can be read, such as {answers.paths[first]}: {answers.unreadable[first]}.")
    labels = np.array([known[name] for name in kept["label"]], dtype=np.int64)
    with files.disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    files.write_text(place / "source.txt", str(source))
    with Screen() as screen:
        seen, twins = seen_before(run, replace(table, frame=frame), classifier.preprocess.store_size, screen)
    more = {"found": _account(table, classifier.classes, answers), "twins": twins}
    seen = seen[answers.readable]
    return write_figures(classifier, tuple(kept["path"]), answers.logits, answers.novelty, labels, seen, place, views, more)


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
