"""Figures of a classifier on images with labels: `metrics.json`, predictions, a text report and the confusion matrix.

    metrics = evaluate("runs/flowers")                       the run's own test part
    metrics = evaluate("runs/flowers", split="val")
    metrics = evaluate("runs/flowers", "other-photos")       another folder, all of it

The probabilities are calibrated with the temperature that travels with the classifier; `ece_uncalibrated` says what it
would be without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline import files
from sightline.classifier import Classifier
from sightline.config import Config
from sightline.data.batches import plain_batches
from sightline.data.images import pixel_digest
from sightline.data.table import scan
from sightline.errors import DataError, RunError, SettingsError
from sightline.evaluation.calibration import softmax
from sightline.evaluation.figures import confusion_picture
from sightline.evaluation.metrics import evaluate as measure
from sightline.evaluation.predictions import Predictions
from sightline.evaluation.text import classification_report
from sightline.run.folder import RunFolder
from sightline.run.prepare import Prepared, prepare_table
from sightline.run.progress import Screen

EVAL_BATCH = 64
"""On a processor larger ones leave its cache: ResNet50 at 128 px, bfloat16, 79, 109, 71 and 68 images/s at 16, 32, 64 and 256."""


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
    classifier = Classifier.load(opened.root)
    prepared = reopen(opened, opened.read_config())
    if split == "test":
        opened.note("evaluated", split=split, images=int((prepared.split.part == "test").sum()))
    place = Path(out) if out is not None else opened.evaluation(_named(split, views))
    return evaluate_part(classifier, prepared, split, place, views)


def _own_place(place: Path, source: Path) -> Path:
    """`place`, or NAME-2, ...: figures of another folder of the same name stay as they are."""
    tries = [place, *(place.with_name(f"{place.name}-{i}") for i in range(2, 1000))]
    return next(p for p in tries if not (p / "source.txt").exists() or (p / "source.txt").read_text() == str(source.resolve()))


def check_views(views: int) -> None:
    """Raises SettingsError where test-time augmentation has no such number of views."""
    if not 1 <= views <= 10:
        raise SettingsError(f"--tta takes 1 to 10 views, not {views}.")


def _named(what: str, views: int) -> str:
    """Figures of test-time augmentation do not take the place of the plain ones."""
    return what if views == 1 else f"{what}-tta"


def reopen(run: RunFolder, config: Config, screen: Screen | None = None, accept_changes: bool = False) -> Prepared:
    """The data of a run as it was, from its store; the split is that of `images.parquet`.

    Args:
        accept_changes: take the images as they are now: those that were there keep their part of the split, new ones go
            where their twins are, or else to train.

    Raises:
        RunError: images are gone, new or changed: which.
    """
    source = run.started()["folder"]
    side = config.data.store_size
    if side == "auto":
        raise RunError(f"{run.config} has no data.store_size: it was not written by a finished preparation.")
    prepared = prepare_table(scan(source), config, side, screen.counter("decoding") if screen else None)
    if accept_changes:
        return _with_changes(run, prepared)
    _refuse_changes(run, prepared)
    had = dict(run.read_images().select("path", "split").iter_rows())
    return _divided(prepared, [had[path] for path in prepared.table.usable["path"]])


def _with_changes(run: RunFolder, prepared: Prepared) -> Prepared:
    """The images as they are now, in the parts that they or their twins had before."""
    before = run.read_images().drop_nulls("split")
    if tuple(sorted(set(before["label"]))) != tuple(sorted(prepared.classes)):
        raise RunError(f"The classes are not those that {run.root} was trained on; train anew on the folder as it is.")
    had = dict(zip(before["path"], before["split"], strict=True))
    paths = prepared.table.usable["path"].to_list()
    known = {int(group): had[path] for path, group in zip(paths, prepared.groups, strict=True) if path in had}
    parts = [had.get(path) or known.get(int(group), "train") for path, group in zip(paths, prepared.groups, strict=True)]
    if "train" not in parts or "val" not in parts:
        raise RunError(f"Of the images that {run.root} was trained on, no train or no val part is left; train anew.")
    return _divided(prepared, parts)


def _divided(prepared: Prepared, parts: Sequence[str]) -> Prepared:
    """With these parts of the split, one for each usable row, and the twins that there are then."""
    ranks = np.array([("train", "val", "test").index(part) for part in parts])
    first = np.full(int(prepared.groups.max(initial=-1)) + 1, 3)
    np.minimum.at(first, prepared.groups, ranks)
    split = replace(prepared.split, part=np.array(parts), twins=ranks > first[prepared.groups])
    return replace(prepared, split=split)


def changed_images(run: RunFolder, prepared: Prepared) -> list[str]:
    """Paths of the images that are not as the run has seen them: gone, new, changed, or labelled or divided otherwise by the user."""
    before, now = (images.with_columns(used=pl.col("split").is_not_null()) for images in (run.read_images(), prepared.images()))
    joined = before.join(now, on="path", how="full", suffix="_now", coalesce=True)
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_now")) for name in ("digest", "label", "given", "used"))
    return joined.filter(differs)["path"].sort().to_list()


def _refuse_changes(run: RunFolder, prepared: Prepared) -> None:
    changed = changed_images(run, prepared)
    if changed:
        shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise RunError(
            f"The images are not those that {run.root} was trained on; gone, new, changed or labelled or divided otherwise: {shown}. "
            "Restore them, train anew on the folder as it is, or go on with these: `sightline train --resume {run.root} --accept-changes`."
        )


def evaluate_part(classifier: Classifier, prepared: Prepared, split: str, place: Path, views: int = 1) -> dict[str, Any]:
    """Figures of one part of a split, written to `place`; with `views` above 1, of test-time augmentation."""
    rows = prepared.split.rows(split)
    if not len(rows):
        raise DataError(f"There is no {split} part to evaluate: the split gave it no image.")
    size = max(1, EVAL_BATCH // views)
    batches = plain_batches(prepared.pixels, rows, classifier.preprocess.view, size, classifier.device.torch_device, views)
    logits = classifier.logits(batches)
    ids = tuple(prepared.table.usable["path"].gather(rows))
    return write_figures(classifier, ids, logits, prepared.labels[rows], prepared.split.twins[rows], place, views)


def write_figures(
    classifier: Classifier,
    ids: tuple[str, ...],
    logits: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    twins: npt.NDArray[np.bool_],
    place: Path,
    views: int = 1,
) -> dict[str, Any]:
    """`metrics.json`, `predictions.parquet`, `report.txt` and `confusion.png`."""
    calibrated = Predictions(ids, classifier.probabilities(logits), classifier.classes, labels)
    raw = Predictions(ids, softmax(logits), classifier.classes, labels)
    metrics = measure(calibrated, uncalibrated=raw, twins=twins) | {"views": views}
    with files.disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    files.write_atomic(place / "predictions.parquet", calibrated.save)
    files.write_text(place / "report.txt", classification_report(metrics))
    confusion_picture(metrics, place / "confusion.png")
    files.write_json(place / "metrics.json", metrics)
    return metrics


# ---- another folder --------------------------------------------------------------------------------------------------


def _evaluate_folder(run: Path, folder: Path, out: str | Path | None, views: int) -> dict[str, Any]:
    classifier = Classifier.load(run)
    table = scan(folder)
    frame = table.usable
    known = {name: i for i, name in enumerate(classifier.classes)}
    unknown = sorted(set(frame["label"]) - set(known))
    screen = Screen()
    if unknown:
        screen.say(f"Classes that the classifier does not know are left out: {', '.join(unknown)}.")
        frame = frame.filter(pl.col("label").is_in(list(known)))
    if frame.is_empty():
        raise DataError(f"{folder} has none of the classes that the classifier knows: {', '.join(classifier.classes[:8])}.")
    answers = classifier.classify([table.root / path for path in frame["path"]], views)
    if answers.unreadable:
        first = answers.paths[min(answers.unreadable)]
        screen.say(f"{len(answers.unreadable)} images cannot be read and are left out, such as {first}.")
    kept = frame[answers.readable.tolist()]
    if kept.is_empty():
        raise DataError(f"No image of {folder} can be read.")
    labels = np.array([known[name] for name in kept["label"]], dtype=np.int64)
    place = Path(out) if out is not None else _own_place(run / "evaluation" / _named(table.root.name or "folder", views), table.root)
    with files.disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    files.write_text(place / "source.txt", str(table.root.resolve()))
    return write_figures(classifier, tuple(kept["path"]), answers.logits, labels, _seen(run, table.root, kept), place, views)


def _seen(run: Path, root: Path, frame: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Which images are exact twins of the run's train or val images; none are known where only a classifier is there."""
    try:
        images = RunFolder.open(run).read_images()
    except RunError:
        return np.zeros(len(frame), dtype=bool)
    seen = set(images.filter(pl.col("split").is_in(["train", "val"]))["pixel_digest"])
    from sightline.data.images import decode

    return np.array([pixel_digest(decode((root / path).read_bytes()).pixels).hex() in seen for path in frame["path"]])
