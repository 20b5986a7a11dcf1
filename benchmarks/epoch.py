"""A training epoch on real images against the same steps on random tensors that are there already: the floor."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightline.config import Config
from sightline.data.augment import View
from sightline.data.batches import TrainBatches, image_keys
from sightline.data.policy import POLICIES
from sightline.data.store import Limits, open_pixels
from sightline.data.table import scan
from sightline.device import choose
from sightline.models.catalog import build
from sightline.training.checkpoint import Checkpoints
from sightline.training.loop import Plan, Row, Trainer
from sightline.training.losses import build_loss
from sightline.training.optim import build_optimizer
from sightline.training.schedule import build_schedule

ROUNDS = 5


class Silent:
    """A reporter that says nothing."""

    def batch(self, epoch: int, done: int, batches: int, images: int, loss: float) -> None:
        """Nothing."""

    def epoch(self, row: Row) -> None:
        """Nothing."""


class RandomTensors(TrainBatches):
    """The same batches, but made before the clock starts."""

    def epoch(self, epoch: int, start: int = 0) -> Any:
        """Images and labels that are there already."""
        if not hasattr(RandomTensors, "ready"):
            RandomTensors.ready = {n: torch.randn(n, 3, self.view.size, self.view.size) for n in {len(r) for r in self.order(0)}}
        for rows in self.order(0):
            yield RandomTensors.ready[len(rows)], torch.from_numpy(self.labels[rows])


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Images a second of both, in turn; the ratio of each pair; their median."""
    words = [f"model.name={given.model}", "model.weights=none", *([f"device.threads={given.threads}"] if given.threads else [])]
    config = Config.load(None, words)
    device = choose(config.device)
    with tempfile.TemporaryDirectory() as place:
        side = given.size or 128
        table, pixels = open_pixels(scan(given.folder), side, Limits(64_000_000, None, 2, Path(place) / "cache"))
        labels = table.frame["label"].rank("dense").to_numpy().astype(np.int64) - 1
        rows = np.arange(len(table))[:: max(1, len(table) // 3000)]
        view = View(side, "squash", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        network = build(config.model, len(table.classes), size=side).network.to(memory_format=device.memory_format)
        keys = image_keys(table.frame["path"])
        parts = (pixels, rows, labels, keys, view, POLICIES["standard"], config.train.batch_size, 0, torch.device("cpu"))
        trainers = []
        for kind in (TrainBatches, RandomTensors):
            batches = kind(*parts)
            optimizer = build_optimizer(network, config.train, 1e-3, fused=True)
            schedule = build_schedule(config.train, len(batches))
            keep = Checkpoints(Path(place))
            trainers.append(
                Trainer(network, batches, build_loss(config.train), optimizer, schedule, 1e-3, Plan.of(config.train), device, keep)
            )
        rates = [[_rate(trainer) for trainer in trainers] for _ in range(ROUNDS + 1)][1:]
    ratios = [ours / floor for ours, floor in rates]
    return {
        "model": given.model,
        "side": side,
        "device": [device.name, device.precision, device.threads],
        "images_a_second": [round(float(np.median(column))) for column in zip(*rates, strict=True)],
        "ratio_to_random_tensors": {
            "median": round(float(np.median(ratios)), 3),
            "min": round(min(ratios), 3),
            "max": round(max(ratios), 3),
        },
    }


def _rate(trainer: Trainer) -> float:
    started = time.perf_counter()
    trainer._run_epoch(Silent(), lambda: False)
    seconds, seen = time.perf_counter() - started, trainer.progress.seen
    trainer.progress.batch = trainer.progress.seen = 0
    trainer.sums.zero_()
    return seen / seconds
