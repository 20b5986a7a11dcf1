"""What an image costs, from a thousand images to a million: seconds and memory of each step, from made-up small files.

    python -m benchmarks scale --scales 1000 10000 100000 --out scale.png

Files are 32 x 32 JPEG of smooth random colours, no two alike, in 100 classes; they are made first and not counted. For
each number of images the steps to data that is ready are taken in one process, and in another `train` does all of it, from
files to the report, each with an empty cache. Memory is what the process has for itself (RssAnon), the most that was seen:
pages of the mapped store come and go with the machine's free memory and are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

SIDE, CLASSES = 32, 100


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Seconds and megabytes of each step for each number of images; a picture of both where `--out` says so."""
    runs = []
    for images in given.scales:
        with tempfile.TemporaryDirectory(dir=given.folder) as place:
            make_images(Path(place) / "images", images)
            ready, trained = (_in_a_process(what, place, given.set or []) for what in ("ready", "trained"))
            runs.append({"images": images, **ready, **trained, "steps": ready["steps"] | trained["steps"]})
            print(json.dumps(runs[-1]), file=sys.stderr)
    if given.out:
        draw(runs, Path(given.out))
    return {"side": SIDE, "runs": runs}


def _in_a_process(what: str, place: str, settings: list[str]) -> dict[str, Any]:
    environment = os.environ | {"SIGHTLINE_CACHE": f"{place}/cache-{what}"}
    command = [sys.executable, "-m", "benchmarks.scale", what, place, *settings]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def make_images(folder: Path, count: int) -> None:
    """`count` files CLASS/NUMBER.jpg, each a smooth random picture with a little noise."""
    from PIL import Image

    draws = np.random.default_rng(0)
    for number in range(CLASSES):
        (folder / f"{number:02d}").mkdir(parents=True)
    for number in range(count):
        coarse = Image.fromarray(draws.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        coarse.save(folder / f"{number % CLASSES:02d}" / f"{number:07d}.jpg", quality=90)


class Steps:
    """Seconds of each step, by the clock and of processors, and the most memory of its own that the process had until its end."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}
        self.peak = 0.0
        self.before = own_megabytes()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, own_megabytes())
            time.sleep(0.02)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self.peak, started, before = 0.0, time.perf_counter(), processor_seconds()
        yield
        seconds, busy = time.perf_counter() - started, processor_seconds() - before
        megabytes = max(self.peak, own_megabytes()) - self.before
        self.found[name] = {"seconds": round(seconds, 3), "processor": round(busy, 3), "mb": round(megabytes, 1)}


def processor_seconds() -> float:
    """Of this process, and of the helpers that it has waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def own_megabytes() -> float:
    """Memory that is this process's alone."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def ready(place: Path) -> dict[str, Any]:
    """Every step from the folder to the views of an epoch."""
    import polars as pl
    import torch

    from sightline.config import Config
    from sightline.data.augment import View
    from sightline.data.batches import Order, TrainBatches
    from sightline.data.policy import POLICIES
    from sightline.data.split import make_split
    from sightline.data.store import open_pixels
    from sightline.data.table import scan
    from sightline.run.decoding import limits
    from sightline.run.prepare import divide

    config, images, seen = Config.load(None, [f"data.size={SIDE}"]), place / "images", Steps()
    with seen.step("scan"):
        table = scan(images)
    with seen.step("build"):
        table, pixels = open_pixels(table, SIDE, limits(config))
    with seen.step("open again"):
        table, pixels = open_pixels(scan(images), SIDE, limits(config))
    with seen.step("twins and split"):
        prepared = divide(table, pixels, config)
    with seen.step("split alone"):
        make_split(table.usable, prepared.groups, (0.7, 0.15, 0.15), 0)
    with seen.step("table"):
        prepared.images().write_parquet(place / "images.parquet")
        pl.read_parquet(place / "images.parquet")
    rows = prepared.split.rows("train")
    view, order = View(SIDE, "squash", (0.5,) * 3, (0.25,) * 3), Order(len(rows), 256, 0)
    batches = TrainBatches(
        pixels, rows, prepared.labels, prepared.keys, view, POLICIES["standard"], order, 0, torch.device("cpu"), torch.bfloat16
    )
    with seen.step("views"):
        sum(len(batch.labels) for batch in batches.epoch(0))
    return {"train_images": len(rows), "steps": seen.found}


def trained(place: Path, settings: list[str]) -> dict[str, Any]:
    """One `train` from the folder to the report, an epoch of the smallest network."""
    from sightline.run.train import train

    seen = Steps()
    with seen.step("train"):
        words = [f"data.size={SIDE}", "model.name=sightline_tiny", "train.epochs=1", "train.batch_size=256", *settings]
        result = train(place / "images", words, run=place / "run")
    epoch = float((result.run.root / "history.csv").read_text().splitlines()[1].split(",")[-2])
    sizes = {name: (result.run.root / name).stat().st_size for name in ("images.parquet", "audit.json", "report.html")}
    return {"epoch_seconds": epoch, "steps": seen.found, "bytes": sizes}


def draw(runs: list[dict[str, Any]], out: Path) -> None:
    """Microseconds of a processor and megabytes by the number of images, each step a line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    cost, memory = figure.subplots(1, 2)
    counts = [run["images"] for run in runs]
    for name in runs[0]["steps"]:
        cost.plot(counts, [1e6 * run["steps"][name]["processor"] / run["images"] for run in runs], "o-", label=name)
        memory.plot(counts, [max(run["steps"][name]["mb"], 0.1) for run in runs], "o-", label=name)
    for axes, title in ((cost, "microseconds of a processor an image"), (memory, "megabytes of own memory at most")):
        axes.set(xscale="log", yscale="log", xlabel="images", title=title)
        axes.grid(True, alpha=0.3)
    figure.legend(*cost.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    print(json.dumps(ready(folder) if sys.argv[1] == "ready" else trained(folder, sys.argv[3:])))
