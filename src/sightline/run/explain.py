"""Where the network looked: heat maps beside the pictures, for mistakes and for right answers.

    done = explain("runs/flowers", images=24)        RUN/explain/test/{001.webp, ..., explain.json, .png}

Half are mistakes, the surest first, where there are so many; the others are right answers, a class after the other. A
mistake has two maps: what spoke for the class that was named, and what there was for the true one.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from sightline import files
from sightline.classifier import Classifier
from sightline.data.augment import Stored, View, plain_views
from sightline.data.batches import plain_batches
from sightline.errors import DataError, ModelError, RunError, SettingsError
from sightline.evaluation.heat import Entry, Heat, Picture, heat_sheet_picture, overlay, side_by_side
from sightline.evaluation.predictions import Predictions
from sightline.models.explain import MapLayer, heat_maps, map_layer
from sightline.models.head import Network
from sightline.models.inference import EVAL_BATCH
from sightline.randomness import stream
from sightline.run.folder import PARTS, RunFolder
from sightline.run.prepare import Prepared
from sightline.run.progress import Screen
from sightline.run.reopen import reopen

SIDE = 192
"""Pixels of a panel's longer side."""

_BATCH = 8  # a map needs the memory of training


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """What was written: a row a picture as in `explain.json`, the folder, and the layer whose map is shown."""

    rows: list[dict[str, Any]]
    folder: Path
    layer: MapLayer

    @property
    def sheet(self) -> Path:
        """All of them in one picture."""
        return self.folder / "explain.png"

    def text(self) -> str:
        """For the terminal."""
        wrong = sum(row["label"] != row["predicted"] for row in self.rows)
        count = "1 heat map" if len(self.rows) == 1 else f"{len(self.rows)} heat maps"
        grid = f"Each has {self.layer.side} x {self.layer.side} places, as many as the network's last map of the picture"
        return f"{count}, {wrong} of mistakes. {grid} (its layer {self.layer.name}).\n\nSheet       {self.sheet}"


def explain(run: str | Path, split: str = "test", images: int = 24) -> Explained:
    """Writes RUN/explain/SPLIT: a WebP a picture, `explain.png` and, last, `explain.json`.

    Args:
        split: "test", "val" or "train".
        images: how many, at most.

    Raises:
        RunError: there is no such run, or its images are gone or changed.
        DataError: the part has no images.
        ModelError: the network has no layer that is a map of the picture.
        SettingsError: the split is unknown.
    """
    if split not in PARTS or images < 1:
        raise SettingsError(f"explain takes a split (test, val or train) and 1 image or more, not {split} and {images}.")
    opened = RunFolder.open(run)
    classifier = Classifier.load(opened.root)
    with Screen() as screen:
        prepared = reopen(opened, opened.read_config(), screen)
        rows = prepared.split.rows(split)
        if not len(rows):
            raise DataError(f"There is no {split} part to explain: the split gave it no image.{opened.other_parts()}")
        with screen.step(f"drawing heat maps of {split} images"):
            predictions = _predictions(opened, classifier, prepared, split, rows)
            chosen = choose_images(predictions, images)
            layer, strips, cold = _strips(classifier, prepared, rows[chosen], predictions, chosen)
    described = [_described(predictions, int(i), number, cold[number - 1]) for number, i in enumerate(chosen, 1)]
    folder = opened.explanation(split)
    _write(folder, described, strips, f"{opened.root.resolve().name}: where the network looked ({split})")
    return Explained(described, folder, layer)


def choose_images(predictions: Predictions, images: int) -> npt.NDArray[np.int64]:
    """(m,) numbers of mistakes, the surest first, then of right answers, of each class in turn; half and half where they last."""
    assert predictions.labels is not None
    wrong = predictions.predicted() != predictions.labels
    mistakes, rights = np.flatnonzero(wrong), np.flatnonzero(~wrong)
    mistakes = mistakes[np.argsort(-predictions.confidence()[mistakes], kind="stable")]
    rights = _in_turn(stream(0, "explain").permutation(rights), predictions.labels)
    half = max(images // 2, images - len(rights))
    mistakes = mistakes[:half]
    return np.concatenate([mistakes, rights[: images - len(mistakes)]])


def _in_turn(rows: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The first of each class, then the second of each, and so on."""
    seen = np.zeros(int(labels.max(initial=0)) + 1, dtype=np.int64)
    turn = np.zeros(len(rows), dtype=np.int64)
    for i, row in enumerate(rows):
        turn[i] = seen[labels[row]]
        seen[labels[row]] += 1
    return rows[np.lexsort((labels[rows], turn))]


def _predictions(run: RunFolder, classifier: Classifier, prepared: Prepared, split: str, rows: npt.NDArray[np.int64]) -> Predictions:
    """Those of `evaluate`, where they are of these images; else the network is asked."""
    ids = tuple(prepared.table.usable["path"].gather(rows))
    try:
        kept = Predictions.load(run.evaluation(split) / "predictions.parquet")
        if kept.ids == ids and kept.classes == classifier.classes and kept.labels is not None:
            return kept
    except RunError:
        pass
    view, place = classifier.preprocess.view, classifier.device.torch_device
    logits = classifier.logits(plain_batches(prepared.pixels, rows, view, EVAL_BATCH, place))
    return Predictions(ids, classifier.probabilities(logits), classifier.classes, prepared.labels[rows])


# ---- pictures --------------------------------------------------------------------------------------------------------


def _strips(
    classifier: Classifier, prepared: Prepared, rows: npt.NDArray[np.int64], predictions: Predictions, chosen: npt.NDArray[np.int64]
) -> tuple[MapLayer, list[Picture], list[list[bool]]]:
    """Each picture beside its heat maps, and whether a map has no heat at all."""
    network, view, device = classifier.answering, classifier.preprocess.view, classifier.device
    if not isinstance(network, Network):
        raise ModelError("Heat maps are defined for networks of trunk and head only.")
    assert predictions.labels is not None
    named, true = predictions.predicted()[chosen], predictions.labels[chosen]
    layer: MapLayer | None = None
    strips: list[Picture] = []
    cold: list[list[bool]] = []
    for start in range(0, len(rows), _BATCH):
        part = slice(start, start + _BATCH)
        images = next(iter(plain_batches(prepared.pixels, rows[part], view, _BATCH, device.torch_device)))
        layer = layer or map_layer(network, images[:2], device)
        heats = heat_maps(network, images, named[part], device, layer)
        others = heat_maps(network, images, true[part], device, layer)
        photos = _photos(prepared, rows[part], view)
        for photo, heat, other, wrong in zip(photos, heats, others, named[part] != true[part], strict=True):
            maps: list[Heat] = [heat, other] if wrong else [heat]
            strips.append(side_by_side([photo, *(overlay(photo, m) for m in maps)]))
            cold.append([not m.any() for m in maps])
    assert layer is not None
    return layer, strips, cold


def _photos(prepared: Prepared, rows: npt.NDArray[np.int64], view: View) -> list[Picture]:
    """What the network's view shows, upright and in its true proportions, as sharp as the store has it."""
    extents = prepared.pixels.extents[rows]
    stored = Stored(prepared.pixels.read(rows), extents, np.zeros(len(rows), dtype=np.uint64))
    shown = plain_views(stored, View(SIDE, view.fit, view.mean, view.std))
    scale, shift = (torch.tensor(values)[:, None, None] for values in (view.std, view.mean))
    pixels = ((shown * scale + shift) * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return [_unsquashed(picture, extent) if view.fit == "squash" else picture for picture, extent in zip(pixels, extents, strict=True)]


def _unsquashed(picture: Picture, extent: npt.NDArray[np.int32]) -> Picture:
    height, width = (max(16, round(SIDE * int(side) / int(extent.max()))) for side in extent)
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def _described(predictions: Predictions, i: int, number: int, cold: list[bool]) -> dict[str, Any]:
    """A row of `explain.json`; `panels` says what stands side by side in the picture, `cold` for which classes nothing spoke."""
    assert predictions.labels is not None
    label, predicted = predictions.classes[predictions.labels[i]], predictions.classes[predictions.predicted()[i]]
    classes = [predicted] if label == predicted else [predicted, label]
    return {
        "path": predictions.ids[i],
        "label": label,
        "predicted": predicted,
        "confidence": float(predictions.confidence()[i]),
        "chance": float(predictions.probabilities[i, predictions.labels[i]]),
        "picture": f"{number:03d}.webp",
        "panels": ["photo", *classes],
        "cold": [name for name, without in zip(classes, cold, strict=True) if without],
    }


def _write(folder: Path, described: list[dict[str, Any]], strips: list[Picture], title: str) -> None:
    """`explain.json` comes last: without it the folder counts as unfinished."""
    files.make_folder(folder)
    with files.disk_errors(folder):
        for old in (folder / "explain.json", *folder.glob("*.webp")):
            old.unlink(missing_ok=True)
    for row, strip in zip(described, strips, strict=True):
        files.write_bytes(folder / row["picture"], _webp(strip))
    entries = [_entry(row, strip) for row, strip in zip(described, strips, strict=True)]
    files.write_atomic(folder / "explain.png", lambda part: heat_sheet_picture(entries, part, title))
    files.write_json(folder / "explain.json", described)


def _webp(picture: Picture) -> bytes:
    data = BytesIO()
    Image.fromarray(picture).save(data, "WEBP", quality=82, method=4)
    return data.getvalue()


def _entry(row: dict[str, Any], strip: Picture) -> Entry:
    right = row["label"] == row["predicted"]
    percent = 100 * row["confidence"]
    sure = "> 99 %" if 99.5 <= percent < 100 else f"{percent:.0f} %"
    caption = f"{row['label']}, {sure}" if right else f"{row['label']} taken for {row['predicted']}, {sure}"
    panels = [f"{'nothing ' if name in row['cold'] else ''}for {name}" for name in row["panels"][1:]]
    if not right:
        panels[1] += " (true)"
    return Entry(strip, ("photo", *panels), caption, right)
