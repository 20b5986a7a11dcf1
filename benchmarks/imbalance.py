"""Every remedy against imbalance on a long-tailed folder with a balanced test: balanced accuracy, head, middle, tail.

    python -m benchmarks imbalance FOLDER --size 28 --epochs 16 --seeds 5 --out runs.jsonl
    python -m benchmarks longtail FOLDER --out LONGTAIL          makes such a folder of links from a balanced one

Val chooses the epoch (macro F1), test judges; the seed is of the split, the weights and the order. Head, middle and tail
are classes with more than 100, 20 to 100, and fewer than 20 train images (Liu et al. 2019).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any, get_args

import polars as pl

from sightline.config import Remedy
from sightline.run.train import train

REMEDIES = [name for name in get_args(Remedy) if name != "auto"]
PARTS = {"head": (101, math.inf), "middle": (20, 100), "tail": (1, 19)}


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Mean and standard deviation over the seeds, of runs that are kept in a file and not repeated."""
    out = Path(given.out or "imbalance.jsonl")
    done = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    for seed in range(given.seeds):
        for remedy in given.only or REMEDIES:
            if not any(one["remedy"] == remedy and one["seed"] == seed for one in done):
                done.append(_one(given, remedy, seed))
                with out.open("a") as file:
                    file.write(json.dumps(done[-1]) + "\n")
    return {"runs": len(done), "table": {remedy: _spread([one for one in done if one["remedy"] == remedy]) for remedy in REMEDIES}}


def _one(given: argparse.Namespace, remedy: str, seed: int) -> dict[str, Any]:
    words = [f"imbalance={remedy}", f"train.seed={seed}", f"split.seed={seed}", f"train.epochs={(given.epochs or [16])[0]}"]
    words += ["train.tensorboard=false", f"data.size={given.size}", *([f"device.threads={given.threads}"] if given.threads else [])]
    words += given.set or []
    with tempfile.TemporaryDirectory() as place:
        result = train(given.folder, words, run=Path(place) / "run")
        images = pl.read_parquet(Path(place) / "run" / "images.parquet")
    counts = dict(images.filter(pl.col("split") == "train")["label"].value_counts().iter_rows())
    recalls = {row["name"]: row["recall"]["value"] for row in result.metrics["test"]["per_class"]}
    found = {"remedy": remedy, "seed": seed, "balanced_accuracy": 100 * result.metrics["test"]["balanced_accuracy"]["value"]}
    found["macro_f1"] = 100 * result.metrics["test"]["macro_f1"]["value"]
    for part, (low, high) in PARTS.items():
        own = [100 * recalls[name] for name, n in counts.items() if low <= n <= high]
        found[part] = statistics.mean(own) if own else None
    return found


def _spread(runs: list[dict[str, Any]]) -> dict[str, Any]:
    if not runs:
        return {}
    columns = {name: [one[name] for one in runs if one[name] is not None] for name in ("balanced_accuracy", *PARTS, "macro_f1")}
    return {"n": len(runs)} | {
        name: [round(statistics.mean(values), 1), round(statistics.stdev(values), 1) if len(values) > 1 else None]
        for name, values in columns.items()
        if values
    }


def make_longtail(given: argparse.Namespace) -> dict[str, Any]:
    """Links to the images of a folder: 100 of each class to judge, and a train part that falls by 100 from class to class."""
    classes = sorted(p for p in given.folder.iterdir() if p.is_dir())
    counts = {}
    for i, folder in enumerate(classes):
        images = sorted(folder.iterdir())
        counts[folder.name] = round(600 * 100 ** (-i / (len(classes) - 1)))
        for part, chosen in (("test", images[:100]), ("train", images[100 : 100 + counts[folder.name]])):
            place = Path(given.out) / part / folder.name
            place.mkdir(parents=True)
            for image in chosen:
                os.symlink(image.resolve(), place / image.name)
    return {"train": counts}
