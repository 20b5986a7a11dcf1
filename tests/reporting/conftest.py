"""Runs made up for reports: their pages need no network and no training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sightline.evaluation.metrics import evaluate
from sightline.evaluation.predictions import Predictions
from sightline.reporting.facts import Judged, RunFacts, SettingRow

NASTY = (
    "<script>alert(1)</script>",
    "\"quoted' & <b>bold</b>",
    "\u202eright-to-left \u05e9\u05dc\u05d5\u05dd",
    "\U0001f408\u200d\u2b1b cat",
    "a-very-long-name-" * 12,
    "</td></table><img src=x onerror=alert(2)>",
)


def _predictions(classes: tuple[str, ...], n: int, right: float = 0.7, seed: int = 0) -> Predictions:
    """`n` images of `classes` in turn, about the share `right` of them right."""
    draws = np.random.default_rng(seed)
    k = len(classes)
    labels = np.arange(n) % k
    logits = draws.normal(0, 1.0, (n, k))
    logits[np.arange(n), np.where(draws.random(n) < right, labels, (labels + 1 + draws.integers(0, 2, n)) % k)] += 5
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    ids = tuple(f"{classes[label]}/{i:05d} {classes[label]}.jpg" for i, label in enumerate(labels))
    return Predictions(ids, probabilities, classes, labels)


def _facts(classes: tuple[str, ...], n: int = 60, **changes: Any) -> RunFacts:
    predictions = _predictions(classes, n, **{key: changes.pop(key) for key in ("right", "seed") if key in changes})
    metrics = evaluate(predictions, resamples=40)
    images = pl.DataFrame(
        {
            "path": [*predictions.ids, *(f"train/{i}.jpg" for i in range(2 * n)), "broken.jpg"],
            "label": [*(classes[label] for label in predictions.labels), *(classes[i % len(classes)] for i in range(2 * n)), classes[0]],
            "split": ["test"] * n + ["train"] * (2 * n - n // 2) + ["val"] * (n // 2) + [None],
            "group_number": [*range(3 * n), None],
            "twin": [False] * (3 * n) + [None],
            "reason": [None] * (3 * n) + ["truncated: the file ends before the picture does"],
            "digest": [None] * (3 * n + 1),
        },
        schema_overrides={"digest": pl.String, "group_number": pl.Int64},
    )
    values: dict[str, Any] = {
        "name": "made up",
        "place": "/runs/made-up",
        "source": "/photos",
        "judged": Judged("test", metrics, predictions),
        "images": images,
        "history": [
            {
                "epoch": str(e),
                "train_loss": f"{2 / e}",
                "val_loss": f"{2.2 / e}",
                "val_accuracy": f"{1 - 0.5 / e}",
                "lr": "0.01",
                "seconds": "2",
            }
            for e in range(1, 7)
        ],
        "phases": [(4, "augment.policy=light")],
        "best": 5,
        "settings": [SettingRow("train.epochs", "6", "passes over the train part", True), SettingRow("train.seed", "0", "draws", False)],
        "events": [{"time": "2026-11-22T04:04:31+0000", "event": "started", "folder": "/photos", "given": {"train.epochs": 6}}],
        "environment": {"command": ["sightline", "train", "/photos"], "packages": {"torch": "2.15.0"}, "python": "3.11.7"},
        "card": {"temperature": 0.9, "digest": "ab" * 32, "about": {}},
    }
    return RunFacts(**(values | changes))


@pytest.fixture(scope="session")
def make_facts() -> Callable[..., RunFacts]:
    """`make_facts(("cat", "dog"), n=60, right=0.7, **fields)` makes up a run."""
    return _facts


@pytest.fixture(scope="session")
def nasty_names() -> tuple[str, ...]:
    """Names of classes that a page must show as they are, and not obey."""
    return NASTY


def _colour(path: str) -> tuple[int, int, int]:
    number = crc32(path.encode("utf-8", "replace"))
    return number % 256, number // 256 % 256, number // 65536 % 256


@pytest.fixture(scope="session")
def read_colour() -> Callable[[str], np.ndarray]:
    """Reads a picture of one colour, its own for each path."""
    return lambda path: np.full((20, 30, 3), _colour(path), dtype=np.uint8)


@pytest.fixture
def picture_folder(tmp_path: Path) -> Path:
    """Four files: two pictures with the same content, one that is no picture, one other picture."""
    for name, colour in (("a.png", (200, 0, 0)), ("same.png", (200, 0, 0)), ("b.png", (0, 0, 200))):
        Image.new("RGB", (40, 20), colour).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return tmp_path
