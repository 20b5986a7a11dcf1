"""A training epoch on real images against the same steps on random tensors that are there already: the floor.

    python -m benchmarks epoch FOLDER --size 128 --rounds 5 [--images 3000] [--model resnet18]

One round of both comes first and does not count.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.rounds import spread
from sightline.config import Config
from sightline.data.augment import View
from sightline.data.batches import Batch, Order, TrainBatches, image_keys
from sightline.data.policy import POLICIES
from sightline.data.store import Limits, open_pixels
from sightline.data.table import scan
from sightline.device import choose
from sightline.models.catalog import build
from sightline.models.freeze import freeze
from sightline.models.small_maps import speed_up
from sightline.training.checkpoint import Checkpoints
from sightline.training.imbalance import settle
from sightline.training.loop import Trainer
from sightline.training.losses import build_loss
from sightline.training.optim import automatic_optimizer, build_optimizer, parameter_names
from sightline.training.schedule import build_schedule
from sightline.training.stage import Phase, Plan, Row, Stage

MOST = 3000


class Silent:
    """A reporter that says nothing."""

    def batch(self, epoch: int, done: int, batches: int, images: int, loss: Callable[[], float]) -> None:
        """Nothing."""

    def epoch(self, row: Row) -> None:
        """Nothing."""


class RandomTensors:
    """Batches of the same sizes, made before the clock starts, as the network wants them."""

    def __init__(self, like: TrainBatches, memory_format: torch.memory_format) -> None:
        self.like, side = like, like.view.size
        sizes = {len(positions) for positions, _ in like.order.epoch(0)}
        self.ready = {n: torch.randn(n, 3, side, side).to(like.device, like.precision, memory_format=memory_format) for n in sizes}

    def __len__(self) -> int:
        return len(self.like)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Images and labels that are there already."""
        for positions, _ in self.like.order.epoch(epoch):
            labels = torch.from_numpy(self.like.labels[self.like.rows[positions]])
            yield Batch(self.ready[len(positions)], labels.to(self.like.device))


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Images a second of both, in turn; the ratio of each pair; their median."""
    words = [f"model.name={given.model}", "model.weights=none", *([f"device.threads={given.threads}"] if given.threads else [])]
    config = Config.load(None, words)
    device = choose(config.device)
    with tempfile.TemporaryDirectory() as place:
        side = given.size or 128
        table, pixels = open_pixels(scan(given.folder), side, Limits(64_000_000, None, 2, Path(place) / "cache"))
        labels = table.usable["label"].rank("dense").to_numpy().astype(np.int64) - 1
        rows = np.arange(len(labels))[:: max(1, len(labels) // (given.images or MOST))]
        view = View(side, "squash", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        network = build(config.model, len(table.classes), size=side).network.to(device.torch_device).to(memory_format=device.memory_format)
        speed_up(network)
        keys, order = image_keys(table.usable["path"]), Order(len(rows), config.train.batch_size, 0)
        precision = getattr(torch, device.precision)
        real = TrainBatches(pixels, rows, labels, keys, view, POLICIES["standard"], order, 0, device.torch_device, precision)
        counts = np.bincount(labels[rows]).tolist()
        train = config.with_values({"train.optimizer": automatic_optimizer(config.model)} | settle(config, counts)).train
        trainers = []
        for batches in (real, RandomTensors(real, device.memory_format)):
            optimizer = build_optimizer(network, train, 1e-3, fused=True)
            stage = Stage(
                batches=batches,
                forward=network,
                loss=build_loss(train, counts),
                optimizer=optimizer,
                names=parameter_names(network, optimizer),
                lr=1e-3,
                schedule=build_schedule(train, len(order)),
                first_step=0,
                frozen=freeze(network, "none"),
                accumulate=1,
                clip_norm=None,
                validate=lambda: {},
            )
            trainer = Trainer(network, [Phase(0, lambda begins, stage=stage: stage)], Plan.of(train), device, Checkpoints(Path(place)))
            trainers.append((trainer, stage))
        rates = [[_rate(trainer, stage) for trainer, stage in trainers] for _ in range(given.rounds + 1)][1:]
    ours, floor = zip(*rates, strict=True)
    return {
        "model": given.model,
        "side": side,
        "images": len(rows),
        "device": [device.name, device.precision, device.threads],
        "table": [
            {"an epoch of": "images of the store, augmented", "images/s": spread(ours)},
            {"an epoch of": "random tensors that are there", "images/s": spread(floor)},
        ],
        "ratio_to_random_tensors": spread([a / b for a, b in rates]),
    }


def _rate(trainer: Trainer, stage: Stage) -> float:
    started = time.perf_counter()
    trainer._run_epoch(stage, Silent(), lambda: False)
    if trainer.device.torch_device.type == "cuda":
        torch.cuda.synchronize()
    seconds, seen = time.perf_counter() - started, trainer.progress.seen
    trainer.progress.batch = trainer.progress.seen = 0
    trainer.sums.zero_()
    return seen / seconds
