"""A frozen network with a new head: sightline with its kept prefix and without, and the plain loop that a tutorial would write.

    python -m benchmarks transfer FOLDER --model resnet50 --freeze trunk --size 128 --epochs 1 5 20 --set model.weights=FILE

The plain loop is that of the "Flowers" system: torchvision transforms, a DataLoader, the whole network run forward each
epoch in float32, the frozen part without gradients. All have the same split, weights, head, optimizer and epochs; time
is the whole of it, with decoding, building and validation (sightline's with its audit and report, too). The rate is
constant, so the plain loop runs once for the longest number of epochs, and the shorter ones are its beginning; after each
it judges the best epoch so far. The paired difference of the answers on the same test images, after the most epochs, is
given with its 95 % interval.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.folders import read_all, some_of
from benchmarks.rounds import spread
from sightline.config import Config
from sightline.models.catalog import build
from sightline.models.freeze import freeze
from sightline.run.train import train


@dataclass(frozen=True)
class Judged:
    """Seconds, and whether the answer to each test image is right, (N,) 0 or 1, in the order of their paths."""

    seconds: float
    right: np.ndarray


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """A row for each way and number of epochs."""
    lengths = sorted(given.epochs or [1, 5, 20])
    found: dict[tuple[str, int], list[Judged]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = some_of(given.folder, Path(place) / "some", given.images)
        read_all(folder)
        for _ in range(given.rounds):
            for length in lengths:
                for prefix in ("on", "off"):
                    with tempfile.TemporaryDirectory() as work:
                        judged, images, classes, words = ours(folder, given, length, prefix, Path(work))
                    found.setdefault((f"sightline, train.prefix={prefix}", length), []).append(judged)
            config = Config.load(None, words)
            for length, judged in plain(folder, images, classes, config, lengths).items():
                found.setdefault(("plain loop", length), []).append(judged)
    return {
        "model": given.model,
        "freeze": given.freeze,
        "side": given.size or 128,
        "images": len(images),
        "table": [_row(name, length, own, found["plain loop", length]) for (name, length), own in found.items()],
        "paired_difference_to_plain_loop": paired(found["sightline, train.prefix=on", lengths[-1]], found["plain loop", lengths[-1]]),
    }


def _row(name: str, epochs: int, own: list[Judged], plainly: list[Judged]) -> dict[str, Any]:
    return {
        "epochs": epochs,
        "way": name,
        "seconds": spread([one.seconds for one in own]),
        "times as fast as the plain loop": spread([b.seconds / a.seconds for a, b in zip(own, plainly, strict=True)]),
        "test accuracy, %": spread([100 * float(one.right.mean()) for one in own]),
    }


def paired(ours: list[Judged], theirs: list[Judged]) -> dict[str, Any]:
    """Accuracy of the first round, ours less theirs, on the same images, with its 95 % bootstrap interval."""
    difference = ours[0].right - theirs[0].right
    draws = np.random.default_rng(0).integers(0, len(difference), (10_000, len(difference)))
    low, high = np.percentile(difference[draws].mean(1), [2.5, 97.5])
    return {"value": round(float(difference.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4), "n": len(difference)}


def ours(
    folder: Path, given: argparse.Namespace, epochs: int, prefix: str, work: Path
) -> tuple[Judged, pl.DataFrame, list[str], list[str]]:
    """A run from nothing; and its split, its classes and its settings, which the plain loop takes."""
    words = [f"model.name={given.model}", f"model.freeze={given.freeze}", f"data.size={given.size or 128}", f"train.epochs={epochs}"]
    words += ["augment.policy=flip", "augment.shear=10", "augment.scale=[0.8,1.2]", "augment.fill=constant", "train.batch_size=32"]
    words += ["train.optimizer=adam", "train.lr=1e-3", "train.weight_decay=0", "train.schedule=constant", "train.label_smoothing=0"]
    words += ["imbalance=none", "train.monitor=accuracy", "train.tensorboard=false", f"train.prefix={prefix}"]
    if given.freeze == "trunk":
        words += ["model.head=[1600,1024]", "model.head_dropout=0.1"]
    words += [*([f"device.threads={given.threads}"] if given.threads else []), *(given.set or [])]
    os.environ["SIGHTLINE_CACHE"] = str(work / "cache")  # nothing is there already
    started = time.perf_counter()
    result = train(folder, words, run=work / "run")
    seconds = time.perf_counter() - started
    images = pl.read_parquet(work / "run" / "images.parquet")
    right = _right(pl.read_parquet(work / "run" / "evaluation" / "test" / "predictions.parquet"))
    return Judged(seconds, right), images, result.metrics["test"]["classes"], words


def _right(table: pl.DataFrame) -> np.ndarray:
    """Whether each image's answer is right, in the order of the images' names."""
    table = table.sort(table.columns[0])
    return (table["predicted"] == table["label"]).to_numpy().astype(float)


class _Photos(Dataset[Any]):
    def __init__(self, root: Path, paths: list[str], labels: list[int], transform: Any) -> None:
        self.root, self.paths, self.labels, self.transform = root, paths, labels, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.open(self.root / self.paths[i]).convert("RGB")), self.labels[i]


def plain(folder: Path, images: pl.DataFrame, classes: list[str], config: Config, lengths: list[int]) -> dict[int, Judged]:
    """The tutorial's loop; after each number of epochs the best one on val so far is judged on test."""
    started, judging = time.perf_counter(), 0.0
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build(config.model, len(classes), size=config.data.size).network.to(device)  # type: ignore[arg-type]
    frozen = freeze(network, config.model.freeze)
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    loaders = _loaders(folder, images, classes, config)
    best, state, found = -1.0, {}, {}
    for epoch in range(1, lengths[-1] + 1):
        network.train()
        frozen.hold(network)
        for batch, labels in loaders["train"]:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(batch.to(device)), labels.to(device)).backward()
            optimizer.step()
        accuracy = float(_answers(network, loaders["val"]).mean())
        if accuracy > best:
            best, state = accuracy, {name: value.clone() for name, value in network.state_dict().items()}
        if epoch in lengths:
            begins, now = time.perf_counter(), {name: value.clone() for name, value in network.state_dict().items()}
            network.load_state_dict(state)
            right = _answers(network, loaders["test"])
            network.load_state_dict(now)
            taken = time.perf_counter() - begins
            found[epoch] = Judged(begins - started - judging + taken, right)
            judging += taken  # what a shorter run would have judged is no time of a longer one
    return found


def _loaders(folder: Path, images: pl.DataFrame, classes: list[str], config: Config) -> dict[str, Any]:
    normal = [v2.Resize((config.data.size,) * 2), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
    normal.append(v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    views = [v2.RandomAffine(0, shear=10, scale=(0.8, 1.2)), v2.RandomHorizontalFlip(), *normal]
    loaders = {}
    for part, steps in (("train", views), ("val", normal), ("test", normal)):
        own = images.filter(pl.col("split") == part).sort("path")
        labels = [classes.index(name) for name in own["label"]]
        data = _Photos(folder, own["path"].to_list(), labels, v2.Compose(steps))
        loaders[part] = DataLoader(data, 32, shuffle=part == "train", num_workers=2)
    return loaders


def _answers(network: nn.Module, loader: Any) -> np.ndarray:
    network.eval()
    device = next(network.parameters()).device
    with torch.no_grad():
        return np.concatenate([(network(batch.to(device)).argmax(1).cpu() == labels).numpy() for batch, labels in loader]).astype(float)
