"""A run's images as its network sees them, in the plane: table, picture and page.

    done = embed("runs/flowers")                     RUN/embedding/test/embedding.{parquet,png,html}
    embedding = embed_rows(classifier, prepared, "test", limit=2000)      the numbers alone, for a report

Only the network is asked; nothing is trained, and labels have no part in where an image lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sightline import files
from sightline.classifier import Classifier
from sightline.data.batches import plain_batches
from sightline.data.store import Pixels
from sightline.errors import DataError, ModelError, SettingsError
from sightline.evaluation.embedding import Embedding, lay_out
from sightline.evaluation.embedding_picture import embedding_picture
from sightline.models.features import listening
from sightline.models.head import Network
from sightline.models.inference import EVAL_BATCH
from sightline.randomness import stream
from sightline.reporting.embedding_page import embedding_page
from sightline.reporting.pictures import Read, make_pictures
from sightline.run.folder import PARTS, RunFolder
from sightline.run.prepare import Prepared
from sightline.run.progress import Screen
from sightline.run.reopen import reopen

MOST = 5_000
"""Images that are drawn unless more are asked for: t-SNE of 5,000 takes about 20 s, and more points hide each other."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """What was written, and the numbers."""

    embedding: Embedding
    folder: Path

    @property
    def table(self) -> Path:
        """A row an image: path, label, predicted, confidence, x, y."""
        return self.folder / "embedding.parquet"

    @property
    def picture(self) -> Path:
        """With the legend."""
        return self.folder / "embedding.png"

    @property
    def page(self) -> Path:
        """To look around in; one file."""
        return self.folder / "embedding.html"

    def text(self) -> str:
        """For the terminal."""
        found = self.embedding
        drawn = f"{len(found.paths):,} images" + (f", a sample of {found.of:,}" if found.of > len(found.paths) else "")
        lines = [f"{found.method} of {drawn}", *found.notes, "", f"Picture     {self.picture}", f"Page        {self.page}"]
        return "\n".join([*lines, f"Table       {self.table}"])


def embed(run: str | Path, split: str = "test", method: str = "tsne", seed: int = 0, limit: int = MOST) -> Embedded:
    """Writes RUN/embedding/SPLIT: `embedding.parquet`, `embedding.png`, `embedding.html` and, last, `embedding.json`.

    Args:
        split: "test", "val" or "train".
        method: "tsne" or "umap" (sightline[umap]).
        seed: of the sample and of the method's random draws.
        limit: images to draw at most; of more a sample.

    Raises:
        RunError: there is no such run, or its images are gone or changed.
        DataError: the part has no images.
        SettingsError: the split or method is unknown, or the method is not installed.
    """
    check_part(split)
    opened = RunFolder.open(run)
    classifier = Classifier.load(opened.root)
    with Screen() as screen:
        prepared = reopen(opened, opened.read_config(), screen)
        if not len(prepared.split.rows(split)):
            raise DataError(f"There is no {split} part to draw: the split gave it no image.{opened.other_parts()}")
        with screen.step(f"laying out {split} images in the plane"):
            found = embed_rows(classifier, prepared, split, limit, method, seed)
    done = Embedded(found, opened.embedding(split))
    files.make_folder(done.folder)
    title = f"{opened.root.resolve().name}: {split} images as the network sees them"
    files.write_atomic(done.table, found.frame().write_parquet)
    files.write_atomic(done.picture, lambda part: embedding_picture(found, part, title))
    pictures = make_pictures(found.paths, _reader(prepared), workers=classifier.device.threads)
    files.write_text(done.page, embedding_page(found, pictures, title))
    about = {"split": split, "method": found.method, "seed": seed, "images": len(found.paths), "of": found.of, "notes": found.notes}
    files.write_json(done.folder / "embedding.json", about)
    return done


def check_part(split: str) -> None:
    """Raises SettingsError where there is no such part of a split."""
    if split not in PARTS:
        raise SettingsError(f"--split must be test, val or train, not {split}.")


def embed_rows(classifier: Classifier, prepared: Prepared, split: str, limit: int = 2000, method: str = "tsne", seed: int = 0) -> Embedding:
    """Where at most `limit` images of a part lie; of more, a sample drawn from the seed, in the order of the table.

    Args:
        split: a part that has images.

    Raises:
        SettingsError: the split or method is unknown, or the method is not installed.
    """
    check_part(split)
    rows = prepared.split.rows(split)
    chosen = sampled(rows, limit, seed)
    features, probabilities = _asked(classifier, prepared.pixels, chosen)
    layout = lay_out(features, method, seed)
    return Embedding(
        paths=tuple(prepared.table.usable["path"].gather(chosen)),
        classes=classifier.classes,
        labels=prepared.labels[chosen],
        predicted=probabilities.argmax(1),
        confidence=probabilities.max(1),
        places=layout.places,
        method=layout.method,
        notes=layout.notes,
        of=len(rows),
    )


def sampled(rows: npt.NDArray[np.int64], limit: int, seed: int) -> npt.NDArray[np.int64]:
    """All rows, or `limit` of them: each as likely as any other, in their order."""
    if limit < 1:
        raise SettingsError(f"--limit must be 1 or more, not {limit}.")
    if len(rows) <= limit:
        return rows
    chosen = stream(seed, "embedding", "sample").choice(len(rows), limit, replace=False)
    return rows[np.sort(chosen)]


def _asked(classifier: Classifier, pixels: Pixels, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Features (n, D) and calibrated probabilities (n, K), of one pass."""
    network = classifier.answering
    if not isinstance(network, Network):
        raise ModelError("Only networks of trunk and head have features that can be drawn.")
    with listening(network) as heard:
        logits = classifier.logits(plain_batches(pixels, rows, classifier.preprocess.view, EVAL_BATCH, classifier.device.torch_device))
    return heard.features(), classifier.probabilities(logits)


def _reader(prepared: Prepared) -> Read:
    """Thumbnails come from the stored pixels: no file is opened again."""
    places = {path: row for row, path in enumerate(prepared.table.usable["path"])}

    def read(path: str) -> npt.NDArray[np.uint8]:
        row = places[path]
        height, width = prepared.pixels.extents[row]
        stored: npt.NDArray[np.uint8] = prepared.pixels.read(np.array([row]))[0, :height, :width].numpy()
        return stored

    return read
