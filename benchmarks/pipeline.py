"""Images a second from files to augmented batches: building the store, with it, without it, and a DataLoader beside them."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightline.data.augment import View
from sightline.data.batches import Order, TrainBatches, image_keys
from sightline.data.policy import POLICIES
from sightline.data.store import Limits, Pixels, open_pixels
from sightline.data.table import ImageTable, scan

BATCH = 64


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Images a second; the policy is `standard` and torchvision's transforms do the same."""
    threads = given.threads or 2
    torch.set_num_threads(threads)
    side = given.size or 128
    with tempfile.TemporaryDirectory() as cache:
        limits = Limits(64_000_000, None, threads, Path(cache))
        scanned = scan(given.folder)
        started = time.perf_counter()
        table, stored = open_pixels(scanned, side, limits)
        build = len(table) / (time.perf_counter() - started)
        _, decoded = open_pixels(scanned, side, Limits(64_000_000, 0, threads, Path(cache) / "none"))
        rates: dict[str, Callable[[], Iterable[torch.Tensor]]] = {
            "with the store": lambda: _ours(table, stored, side),
            "without the store": lambda: _ours(table, decoded, side),
            "ImageFolder + DataLoader, 0 workers": lambda: _loader(given.folder, side, 0),
            f"ImageFolder + DataLoader, {threads} workers": lambda: _loader(given.folder, side, threads),
        }
        rounds: dict[str, list[float]] = {name: [] for name in rates}
        for _ in range(3):  # in turn, so that a slow minute of the machine hits all of them
            for name, batches in rates.items():
                rounds[name].append(_rate(batches()))
    return {
        "side": side,
        "threads": threads,
        "build": round(build),
        "images_a_second": {k: round(float(np.median(v))) for k, v in rounds.items()},
    }


def _ours(table: ImageTable, pixels: Pixels, side: int) -> Iterable[torch.Tensor]:
    view = View(side, "squash", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    rows, keys = np.arange(len(table)), image_keys(table.frame["path"])
    order = Order(len(rows), BATCH, 0)
    batches = TrainBatches(pixels, rows, np.zeros(len(rows), np.int64), keys, view, POLICIES["standard"], order, 0, torch.device("cpu"))
    return (batch.inputs for batch in batches.epoch(0))


def _loader(folder: Path, side: int, workers: int) -> Iterable[torch.Tensor]:
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    policy = POLICIES["standard"]
    steps = [
        v2.RandomResizedCrop(side, scale=policy.crop_scale),
        v2.RandomHorizontalFlip(),
        v2.ColorJitter(policy.brightness, policy.contrast, policy.saturation, policy.hue),
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.5] * 3, [0.25] * 3),
    ]
    loader = DataLoader(ImageFolder(str(folder), v2.Compose(steps)), BATCH, shuffle=True, num_workers=workers)
    return (images for images, _ in loader)


def _rate(batches: Iterable[torch.Tensor], most: int = 3000) -> float:
    """Images a second over at most `most` images."""
    started, images = time.perf_counter(), 0
    for batch in batches:
        images += len(batch)
        if images >= most:
            break
    return images / (time.perf_counter() - started)
