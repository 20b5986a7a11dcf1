"""A frozen network with a new head: sightline with its kept prefix, and the plain loop that a tutorial would write.

    python -m benchmarks transfer FOLDER --model resnet50 --freeze trunk --size 128 --epochs 20 --set model.weights=FILE

The plain loop is that of the "Flowers" system: torchvision transforms, a DataLoader, the whole network run forward each
epoch in float32, the frozen part without gradients. Both have the same split, weights, head, optimizer and epochs; time
is the whole of it, with decoding, building and validation. The paired difference of their answers on the same test
images is given with its 95 % interval.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from sightline.config import Config
from sightline.models.catalog import build
from sightline.models.freeze import freeze
from sightline.run.train import train

HEADS = {"trunk": "[1600,1024]", "layer": "[]"}


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Seconds and accuracies of both."""
    words = [f"model.name={given.model}", f"model.freeze={given.freeze}", f"data.size={given.size}", f"train.epochs={given.epochs}"]
    words += ["augment.policy=flip", "augment.shear=10", "augment.scale=[0.8,1.2]", "augment.fill=constant", "train.batch_size=32"]
    words += ["train.optimizer=adam", "train.lr=1e-3", "train.weight_decay=0", "train.schedule=constant", "train.label_smoothing=0"]
    words += ["imbalance=none", "train.monitor=accuracy", "train.tensorboard=false"]
    if given.freeze == "trunk":
        words += [f"model.head={HEADS['trunk']}", "model.head_dropout=0.1"]
    words += [*([f"device.threads={given.threads}"] if given.threads else []), *(given.set or [])]
    with tempfile.TemporaryDirectory() as place:
        os.environ["SIGHTLINE_CACHE"] = str(Path(place) / "cache")  # nothing is there already
        started = time.perf_counter()
        result = train(given.folder, words, run=Path(place) / "run")
        ours = time.perf_counter() - started
        images = pl.read_parquet(Path(place) / "run" / "images.parquet")
        table = pl.read_parquet(Path(place) / "run" / "evaluation" / "test" / "predictions.parquet")
        classes = result.metrics["test"]["classes"]
        right_ours = _right(table)
        config = Config.load(None, words)
        started = time.perf_counter()
        accuracy, right_plain = plain(given.folder, images, classes, config)
        theirs = time.perf_counter() - started
    difference = right_ours - right_plain
    draws = np.random.default_rng(0).integers(0, len(difference), (10_000, len(difference)))
    low, high = np.percentile(difference[draws].mean(1), [2.5, 97.5])
    return {
        "model": given.model,
        "freeze": given.freeze,
        "epochs": given.epochs,
        "seconds": {"sightline": round(ours, 1), "plain loop": round(theirs, 1), "ratio": round(theirs / ours, 2)},
        "test_accuracy": {"sightline": result.metrics["test"]["accuracy"], "plain loop": accuracy},
        "paired_difference": {"value": float(difference.mean()), "low": float(low), "high": float(high), "n": len(difference)},
    }


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


def plain(folder: Path, images: pl.DataFrame, classes: list[str], config: Config) -> tuple[float, np.ndarray]:
    """The tutorial's loop; the best epoch on val is judged on test."""
    torch.manual_seed(0)
    network = build(config.model, len(classes), size=config.data.size).network  # type: ignore[arg-type]
    frozen = freeze(network, config.model.freeze)
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    normal = [v2.Resize((config.data.size,) * 2), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
    normal.append(v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    views = [v2.RandomAffine(0, shear=10, scale=(0.8, 1.2)), v2.RandomHorizontalFlip(), *normal]
    loaders = {}
    for part, steps in (("train", views), ("val", normal), ("test", normal)):
        own = images.filter(pl.col("split") == part).sort("path")
        labels = [classes.index(name) for name in own["label"]]
        data = _Photos(folder, own["path"].to_list(), labels, v2.Compose(steps))
        loaders[part] = DataLoader(data, 32, shuffle=part == "train", num_workers=2)
    best, state = -1.0, {}
    for _ in range(config.train.epochs):
        network.train()
        frozen.hold(network)
        for batch, labels in loaders["train"]:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(batch), labels).backward()
            optimizer.step()
        accuracy = float(_answers(network, loaders["val"]).mean())
        if accuracy > best:
            best, state = accuracy, {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(state)
    right = _answers(network, loaders["test"])
    return float(right.mean()), right


def _answers(network: nn.Module, loader: Any) -> np.ndarray:
    network.eval()
    with torch.no_grad():
        return np.concatenate([(network(batch).argmax(1) == labels).numpy() for batch, labels in loader]).astype(float)
