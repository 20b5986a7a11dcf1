"""Images a second from files to answers: `Classifier.classify`, a plain loop, and ONNX Runtime, with the same weights.

    python -m benchmarks predict FOLDER --model resnet18 --size 128 --threads 2
    python -m benchmarks predict FOLDER --model RUN                         the classifier of a finished run

The plain loop is a DataLoader that opens, squeezes and normalises, and the network in float32; ONNX Runtime has the same
DataLoader (both with as many workers as threads, and with none). Loading the classifier, exporting it and opening the
session are shown apart. `agrees` is the share of files with sightline's answer: the others shrink a picture in one step
where sightline takes two, and compute in float32. Without a finished run the weights are random, and it says little.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.folders import read_all, some_of
from benchmarks.rounds import in_turn, spread
from sightline.classifier import Classifier
from sightline.config import Config
from sightline.data.augment import View
from sightline.data.table import scan
from sightline.device import choose
from sightline.models.catalog import build, rebuild
from sightline.models.preprocess import Preprocess

BATCH = 64


@dataclass(frozen=True)
class Answered:
    """Seconds until the first file could be asked about, seconds for all files, and the class of each."""

    load: float
    work: float
    classes: np.ndarray


class Photos(Dataset[torch.Tensor]):
    """A file to a normalised (3, S, S) float32 tensor."""

    def __init__(self, paths: list[Path], view: View) -> None:
        from torchvision.transforms import v2

        self.paths = paths
        steps = [
            v2.Resize((view.size, view.size)),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(view.mean, view.std),
        ]
        self.steps = v2.Compose(steps)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> torch.Tensor:
        found: torch.Tensor = self.steps(Image.open(self.paths[i]).convert("RGB"))
        return found


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """A row for each way."""
    with tempfile.TemporaryDirectory() as place:
        folder = some_of(given.folder, Path(place) / "some", given.images)
        paths = read_all(folder)
        saved = _classifier(given, len(scan(folder).classes), Path(place) / "classifier")
        threads = Classifier.load(saved).device.threads if given.threads is None else given.threads
        tasks: dict[str, Callable[[], Answered]] = {"sightline": partial(ours, saved, paths, threads)}
        for workers in (0, threads):
            tasks[f"plain loop, {workers} workers"] = partial(plain, saved, paths, threads, workers)
            tasks[f"ONNX Runtime, {workers} workers"] = partial(onnx, saved, paths, threads, workers, Path(place))
        found, missing = in_turn(tasks, given.rounds)
    answers = found["sightline"][0].classes
    return {
        "model": Path(given.model).name,
        "threads": threads,
        "images": len(paths),
        "table": [_row(name, own, len(paths), answers) for name, own in found.items()],
        "missing": missing,
    }


def _row(name: str, own: list[Answered], images: int, answers: np.ndarray) -> dict[str, Any]:
    return {
        "from files to answers": name,
        "load, export or compile, s": spread([one.load for one in own]),
        "images/s": spread([images / one.work for one in own]),
        "agrees": round(float((own[0].classes == answers).mean()), 4),
    }


def _classifier(given: argparse.Namespace, classes: int, place: Path) -> Path:
    """The folder of a finished run, or of a new classifier with random weights."""
    if Path(given.model).is_dir():
        return Path(given.model)
    config = Config.load(None, [f"model.name={given.model}", "model.weights=none"])
    side = given.size or 128
    built = build(config.model, classes, size=side)
    preprocess = Preprocess(View(side, "squash", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)), side, 64_000_000)
    names = tuple(f"class {i}" for i in range(classes))
    Classifier(built.network.eval(), built.spec, preprocess, names, 1.0, choose(config.device), {}).save(place)
    return place


def ours(saved: Path, paths: list[Path], threads: int) -> Answered:
    """`sightline.load(...).classify(paths)`."""
    started = time.perf_counter()
    classifier = Classifier.load(saved, choose(Config.load(None, [f"device.threads={threads}"]).device))
    loaded = time.perf_counter()
    answers = classifier.classify(paths)
    ended = time.perf_counter()
    if answers.unreadable:
        raise ValueError(f"{len(answers.unreadable)} files cannot be read")
    return Answered(loaded - started, ended - loaded, answers.probabilities.argmax(1))


def plain(saved: Path, paths: list[Path], threads: int, workers: int) -> Answered:
    """The loop of most tutorials, in float32."""
    torch.set_num_threads(threads)
    started = time.perf_counter()
    network, view = _network(saved)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)
    loaded = time.perf_counter()
    with torch.inference_mode():
        found = [network(batch.to(device)).argmax(1).cpu().numpy() for batch in _batches(paths, view, workers)]
    return Answered(loaded - started, time.perf_counter() - loaded, np.concatenate(found))


def onnx(saved: Path, paths: list[Path], threads: int, workers: int, place: Path) -> Answered:
    """torch.onnx.export, and a session with as many threads."""
    import onnxruntime
    import onnxscript  # noqa: F401  (what torch exports with)

    started = time.perf_counter()
    network, view = _network(saved)
    example, dynamic = torch.zeros(2, 3, view.size, view.size), ({0: torch.export.Dim.DYNAMIC},)
    torch.onnx.export(network, (example,), place / "network.onnx", dynamic_shapes=dynamic, external_data=False, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(place / "network.onnx", options)
    name = session.get_inputs()[0].name
    loaded = time.perf_counter()
    found = [session.run(None, {name: batch.numpy()})[0].argmax(1) for batch in _batches(paths, view, workers)]
    return Answered(loaded - started, time.perf_counter() - loaded, np.concatenate(found))


def _network(saved: Path) -> tuple[torch.nn.Module, View]:
    """The network of a classifier, on the processor, and its view."""
    kept = Classifier.load(saved, choose(Config.load(None, ["device.name=cpu"]).device))
    network = rebuild(kept.spec)
    network.load_state_dict(kept.network.state_dict())
    return network.eval(), kept.preprocess.view


def _batches(paths: list[Path], view: View, workers: int) -> Iterator[torch.Tensor]:
    yield from DataLoader(Photos(paths, view), BATCH, num_workers=workers)
