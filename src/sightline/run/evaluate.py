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

from sightline import files, processes
from sightline.classifier import Answers, Classifier
from sightline.config import Config
from sightline.data.batches import image_keys, plain_batches
from sightline.data.corrections import as_used
from sightline.data.images import pixel_digest
from sightline.data.split import Split
from sightline.data.store import PixelFiles, PixelStore, open_pixels
from sightline.data.table import ImageTable, scan
from sightline.errors import DataError, RunError, SettingsError
from sightline.evaluation.calibration import softmax
from sightline.evaluation.figures import confusion_picture
from sightline.evaluation.metrics import evaluate as measure
from sightline.evaluation.novelty import novelty_figures
from sightline.evaluation.predictions import Predictions
from sightline.evaluation.reliability import reliability_picture
from sightline.evaluation.text import classification_report
from sightline.run.folder import RunFolder, refuse_among_images
from sightline.run.prepare import Prepared, class_numbers, divide, found_labels, limits
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
            where their twins are, or else to train; one whose twin judges is left out, so that the judge stays as it was.

    Raises:
        RunError: images are gone, new or changed: which.
    """
    source = run.started()["folder"]
    side = config.data.store_size
    if side == "auto":
        raise RunError(f"{run.config} has no data.store_size: it was not written by a finished preparation.")
    table, pixels = open_pixels(scan(source), side, limits(config), screen.counter("decoding") if screen else None)
    if accept_changes:
        return _with_changes(run, divide(table, pixels, config.with_values({"data.corrections": None, "data.correct_test": False})))
    return as_recorded(run, table, pixels)


def as_recorded(run: RunFolder, table: ImageTable, pixels: PixelStore | PixelFiles) -> Prepared:
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


def _refuse_changes(run: RunFolder, table: ImageTable) -> None:
    changed = changed_images(run, table)
    if changed:
        shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise RunError(
            f"The images are not those that {run.root} was trained on; gone, new, changed or labelled or divided otherwise: {shown}. "
            f"Restore them, train anew on the folder as it is, or go on with these: `sightline train --resume {run.root} --accept-changes`."
        )


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


def whole_answers(
    logits: npt.NDArray[np.float32], novelty: npt.NDArray[np.float64] | None, count: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64] | None]:
    """The answers for all `count` images from each process's share of them."""
    return processes.rows(logits, count), None if novelty is None else processes.rows(novelty, count)


def classify(classifier: Classifier, paths: Sequence[Path], views: int) -> Answers:
    """What `Classifier.classify` says of all files; of several processes each looks at its share, and all get the whole."""
    own = processes.share().of(len(paths))
    answers = classifier.classify(paths[own], views)
    if processes.world() == 1:
        return answers
    unreadable = {own.start + i: reason for i, reason in answers.unreadable.items()}
    unreadable = {i: reason for part in processes.gathered(unreadable) for i, reason in part.items()}
    readable = np.array([i for i in range(len(paths)) if i not in unreadable], dtype=np.int64)
    # Shares of the readable ones may be of any size: they stand in rows of all, and those left empty are taken out.
    logits = np.zeros((own.stop - own.start, len(classifier.classes)), dtype=np.float32)
    logits[answers.readable] = answers.logits
    novelty = None
    if answers.novelty is not None:
        novelty = np.zeros(len(logits))
        novelty[answers.readable] = answers.novelty
    logits, novelty = whole_answers(logits, novelty, len(paths))
    return classifier.answers(tuple(paths), readable, logits[readable], unreadable, None if novelty is None else novelty[readable])


def write_figures(
    classifier: Classifier,
    ids: tuple[str, ...],
    logits: npt.NDArray[np.float32],
    novelty: npt.NDArray[np.float64] | None,
    labels: npt.NDArray[np.int64],
    twins: npt.NDArray[np.bool_],
    place: Path,
    views: int = 1,
) -> dict[str, Any]:
    """Measures what the classifier said, and writes it."""
    calibrated = Predictions(ids, classifier.probabilities(logits), classifier.classes, labels)
    raw = Predictions(ids, softmax(logits), classifier.classes, labels)
    metrics = measure(calibrated, uncalibrated=raw, twins=twins, sets=classifier.sets) | {"views": views}
    if classifier.novelty is not None and novelty is not None:
        metrics["novelty"] = novelty_figures(classifier.novelty, novelty)
    write_evaluation(place, calibrated, metrics)
    return metrics


def write_evaluation(place: Path, predictions: Predictions, metrics: dict[str, Any]) -> None:
    """`predictions.parquet`, `report.txt`, `confusion.png`, `reliability.png`, and `metrics.json` last."""
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
    table = scan(folder)
    if out is not None:
        refuse_among_images(Path(out), table.root)
    frame = table.usable
    known = {name: i for i, name in enumerate(classifier.classes)}
    unknown = sorted(set(frame["label"]) - set(known))
    screen = Screen()
    if unknown:
        screen.say(f"Classes that the classifier does not know are left out: {', '.join(unknown)}.")
        frame = frame.filter(pl.col("label").is_in(list(known)))
    if frame.is_empty():
        raise DataError(f"{folder} has none of the classes that the classifier knows: {', '.join(classifier.classes[:8])}.")
    answers = classify(classifier, [table.root / path for path in frame["path"]], views)
    return processes.from_main(lambda: _write_folder(run, classifier, table, frame, answers, out, screen, views))


def _write_folder(
    run: Path,
    classifier: Classifier,
    table: ImageTable,
    frame: pl.DataFrame,
    answers: Answers,
    out: str | Path | None,
    screen: Screen,
    views: int,
) -> dict[str, Any]:
    folder, known = table.root, {name: i for i, name in enumerate(classifier.classes)}
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
    return write_figures(
        classifier, tuple(kept["path"]), answers.logits, answers.novelty, labels, _seen(run, classifier, table.root, kept), place, views
    )


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
