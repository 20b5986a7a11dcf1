"""Seconds to a validation accuracy, and accuracy after so many seconds: sightline and what a user would take instead.

    python -m benchmarks accuracy FOLDER --size 128 --epochs 4 12 --target 50 60 70 --seconds 60 120 --out flowers.jsonl

Each competitor is one file in benchmarks/peers/ and runs in a process of its own, in turn, once a round, each with the
round's number as seed. All see the same links to the same images, divided once (near twins together, as sightline divides
them), the same input side, the same number of threads and of DataLoader workers. The clock starts with the process, so a
tool pays for its imports, for decoding and for looking through the folder; imports and what else comes before training are
shown apart. Accuracy is that of all val images after an epoch, as the tool itself judges (sightline and Ultralytics may
judge averaged weights). Every tool is asked for each number of epochs; seconds to an accuracy are those of the number that
gets there soonest in the median over rounds, which is told; a round that never gets there counts as never.

With sightline's runs come its audit and report, which the others have not; they are in its seconds. What is made once a machine
is there before: everybody's bytecode, and the library that sightline compiles ("compiling, s" says how long that takes).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.folders import read_all, split_folders
from benchmarks.processes import Failed, Line, at, run
from benchmarks.rounds import shorter, spread


@dataclass(frozen=True)
class Peer:
    """One competitor: its file in benchmarks/peers/ and the network that it is asked for (None: its own choice)."""

    module: str
    network: str | None
    shown: str


PEERS = {
    "sightline": Peer("ours", None, "its default"),
    "sightline, ResNet18": Peer("ours", "resnet18", "ResNet18"),
    "plain loop, ResNet18": Peer("plain", "torchvision:resnet18", "ResNet18"),
    "Lightning, ResNet18": Peer("lightning_fit", "torchvision:resnet18", "ResNet18"),
    "fastai, ResNet18": Peer("fastai_learner", "torchvision:resnet18", "ResNet18, fastai's head"),
    "Ultralytics, yolo11n-cls": Peer("ultralytics_yolo", "yolo11n-cls.yaml", "yolo11n-cls"),
    "Ultralytics, ResNet18": Peer("ultralytics_yolo", "torchvision:resnet18", "ResNet18, Ultralytics' head"),
    "plain loop, timm ResNet10-T": Peer("plain", "timm:resnet10t", "resnet10t"),
    "plain loop, timm MobileNetV3": Peer("plain", "timm:mobilenetv3_small_100", "mobilenetv3_small_100"),
}


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """A row a competitor; runs that the file of `--out` has are not repeated."""
    threads, side, epochs = given.threads or 2, given.size or 128, given.epochs or [4, 12]
    chosen = [name for name in PEERS if not given.only or any(word in name for word in given.only)]
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        os.environ["SIGHTLINE_CACHE"] = str(place / "dividing")
        data = split_folders(given.folder, place / "data", side, most=given.images)
        compiling = _compile(place / "made")
        images = {part: len(read_all(data / part)) for part in ("train", "val")}
        shutil.rmtree(place / "dividing")
        out = Path(given.out).resolve() if given.out else place / "runs.jsonl"
        setting = [given.folder.name, images, side, threads]
        done = [one for one in _read(out) if one["setting"] == setting and "failed" not in one]
        for seed in range(given.rounds):
            for length in epochs:
                for name in chosen:
                    own = {"setting": setting, "name": name, "epochs": length, "seed": seed}
                    if not any(own.items() <= one.items() for one in done):
                        done.append(own | _one(PEERS[name], data, own, given.set or [], place))
                        _add(out, done[-1])
    wanted = [one for one in done if one["name"] in chosen and one["epochs"] in epochs and one["seed"] < given.rounds]
    return {
        "side": side,
        "threads": threads,
        "images": images,
        "compiling, s": compiling,
        "table": [_row(name, own, given.target, given.seconds) for name in chosen if (own := _of(wanted, name))],
        "missing": sorted({f"{one['name']}: {one['failed']}" for one in wanted if "failed" in one}),
    }


def _compile(cache: Path) -> float:
    """Seconds in which sightline's C is compiled into a cache: once a machine."""
    code = (
        "import time; from sightline.data.upright import kernel; began = time.perf_counter(); kernel(); print(time.perf_counter() - began)"
    )
    environment = {**os.environ, "SIGHTLINE_CACHE": str(cache)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return round(float(done.stdout), 2)


def _one(peer: Peer, data: Path, own: dict[str, Any], settings: list[str], place: Path) -> dict[str, Any]:
    """One run: when it had imported, when it was ready, and [seconds, accuracy] of each epoch."""
    work = place / "work"
    shutil.rmtree(work, ignore_errors=True)
    if (place / "made").exists():
        shutil.copytree(place / "made", work / "cache")
    for made in data.glob("*.cache"):  # Ultralytics keeps what it found in a folder beside the images
        made.unlink()
    (work / "out").mkdir(parents=True)
    side, threads = own["setting"][2:]
    words = ["--data", str(data), "--out", str(work / "out"), "--size", str(side), "--threads", str(threads)]
    words += ["--epochs", str(own["epochs"]), "--seed", str(own["seed"])]
    words += ["--network", peer.network] if peer.network else []
    words += ["--set", *settings] if settings and peer.module == "ours" else []
    try:
        lines = run(f"benchmarks.peers.{peer.module}", words, threads, {"SIGHTLINE_CACHE": str(work / "cache")})
    except ModuleNotFoundError as error:
        return {"failed": f"{error.name} is not installed (uv run --group bench ...)"}
    except Failed as error:
        return {"failed": str(error)}
    return {"imported": at(lines, "imported"), "ready": at(lines, "ready"), "ended": at(lines, "ended"), "curve": list(_curve(lines))}


def _curve(lines: Iterable[Line]) -> Iterable[tuple[float, float]]:
    return ((round(line.seconds, 2), line.told["accuracy"]) for line in lines if "epoch" in line.told)


def _of(runs: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [one for one in runs if one["name"] == name and one.get("curve")]


def _row(name: str, runs: list[dict[str, Any]], targets: list[float], moments: list[float]) -> dict[str, Any]:
    row: dict[str, Any] = {"tool": name, "network": PEERS[name].shown}
    row["imports, s"] = spread([one["imported"] for one in runs])
    row["to training, s"] = spread([one["ready"] - one["imported"] for one in runs])
    lengths = sorted({one["epochs"] for one in runs})
    by_length = {length: [one for one in runs if one["epochs"] == length] for length in lengths}
    for target in targets:
        medians = {length: statistics.median(_seconds_to(one, target / 100) for one in own) for length, own in by_length.items()}
        soonest = min(medians, key=lambda length: medians[length])
        row[f"s to {target:g} %"] = None if math.isinf(medians[soonest]) else f"{shorter(medians[soonest])} ({soonest} epochs)"
    for moment in moments:
        best = max(statistics.median(_accuracy_at(one, moment) for one in own) for own in by_length.values())
        row[f"% after {moment:g} s"] = round(100 * best, 1)
    for length, own in by_length.items():
        row[f"{length} epochs: % at the end"] = spread([100 * one["curve"][-1][1] for one in own])
        row[f"{length} epochs: all of it, s"] = spread([one["ended"] for one in own])
    return row


def _seconds_to(one: dict[str, Any], accuracy: float) -> float:
    return min((seconds for seconds, value in one["curve"] if value >= accuracy), default=math.inf)


def _accuracy_at(one: dict[str, Any], seconds: float) -> float:
    """The best that the tool had shown by then: it would keep that epoch."""
    return max((value for moment, value in one["curve"] if moment <= seconds), default=0.0)


def _read(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def _add(out: Path, one: dict[str, Any]) -> None:
    with out.open("a") as file:
        file.write(json.dumps(one) + "\n")
