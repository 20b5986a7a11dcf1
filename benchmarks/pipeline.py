"""Images a second from files to augmented batches, first and later epochs: ours, and a DataLoader with each other library.

    python -m benchmarks pipeline FOLDER --size 128 --threads 2

The first epoch has the preparing in it (listing the folder; for us also decoding all of it into an empty store), which is
shown apart too. Every image was read once before, so that nobody pays for the disk. DataLoaders have no workers, or as
many as there are threads. The views are those of `benchmarks/loaders.py`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.folders import read_all, some_of
from benchmarks.loaders import BATCH, MAKERS, MEAN, STD, Loader, Maker
from benchmarks.rounds import in_turn, spread
from sightline.data.augment import View
from sightline.data.batches import Order, TrainBatches, image_keys
from sightline.data.policy import POLICIES
from sightline.data.store import Limits, open_pixels
from sightline.data.table import scan


@dataclass(frozen=True)
class Epochs:
    """Seconds of preparing, and of two epochs over so many images."""

    prepare: float
    first: float
    later: float
    images: int


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """A row for each way."""
    threads, side = given.threads or 2, given.size or 128
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as place:
        folder = some_of(given.folder, Path(place) / "some", given.images)
        images = len(read_all(folder))
        tasks: dict[str, Callable[[], Epochs]] = {
            "sightline, with the store": partial(_ours, folder, side, threads, None),
            "sightline, without the store": partial(_ours, folder, side, threads, 0),
        }
        for name, make in MAKERS.items():
            for workers in (0, threads):
                tasks[f"ImageFolder + DataLoader, {name}, {workers} workers"] = partial(_theirs, make, folder, side, workers)
        chosen = {name: task for name, task in tasks.items() if not given.only or any(word in name for word in given.only)}
        found, missing = in_turn(chosen, given.rounds)
    return {"side": side, "threads": threads, "images": images, "table": [_row(*one) for one in found.items()], "missing": missing}


def _row(name: str, rounds: list[Epochs]) -> dict[str, Any]:
    return {
        "files to augmented batches": name,
        "preparing, s": spread([one.prepare for one in rounds]),
        "first epoch with preparing, images/s": spread([one.images / (one.prepare + one.first) for one in rounds]),
        "later epochs, images/s": spread([one.images / one.later for one in rounds]),
    }


def _ours(folder: Path, side: int, threads: int, gigabytes: float | None) -> Epochs:
    with tempfile.TemporaryDirectory() as cache:  # nothing is there already
        started = time.perf_counter()
        table, pixels = open_pixels(scan(folder), side, Limits(64_000_000, gigabytes, threads, Path(cache)))
        prepare = time.perf_counter() - started
        rows, keys = np.arange(len(table.usable)), image_keys(table.usable["path"])
        labels, order = np.zeros(len(rows), np.int64), Order(len(rows), BATCH, 0)
        view = View(side, "squash", MEAN, STD)
        batches = TrainBatches(pixels, rows, labels, keys, view, POLICIES["standard"], order, 0, torch.device("cpu"))
        seconds = [_seconds((batch.inputs for batch in batches.epoch(epoch)), len(rows)) for epoch in (0, 1)]
    return Epochs(prepare, *seconds, len(rows))


def _theirs(make: Callable[[int], Maker], folder: Path, side: int, workers: int) -> Epochs:
    maker = make(side)  # imports are nobody's epoch
    started = time.perf_counter()
    loader = Loader(maker, folder, workers)
    prepare = time.perf_counter() - started
    images = len(loader.batches.dataset)  # type: ignore[arg-type]
    first, later = (_seconds(loader.epoch(), images) for _ in range(2))
    return Epochs(prepare, first, later, images)


def _seconds(batches: Iterable[torch.Tensor], images: int) -> float:
    """Seconds of one pass, which must give every image."""
    started = time.perf_counter()
    seen = sum(len(batch) for batch in batches)
    seconds = time.perf_counter() - started
    if seen != images:
        raise ValueError(f"{seen} of {images} images came")
    return seconds
