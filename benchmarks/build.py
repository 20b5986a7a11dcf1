"""Scan and build, from files to a store, against bare decoding of the same files with Pillow in as many threads.

    python -m benchmarks build FOLDER --size 128 --threads 2

Bare decoding opens each file and makes RGB of it, nothing else; with `thumbnail` it also shrinks it, in Pillow's cheapest
way (JPEG decoded at a lower size where it can be). Building also hashes each file, tells odd ones apart, and writes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.folders import read_all, some_of
from benchmarks.rounds import in_turn, spread
from sightline.data.store import Limits, open_pixels
from sightline.data.table import scan


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each, and how many times those of bare decoding."""
    threads, side = given.threads or 2, given.size or 128
    with tempfile.TemporaryDirectory() as place:
        folder = some_of(given.folder, Path(place) / "some", given.images)
        paths = read_all(folder)
        built = Path(place) / "built"
        _build(folder, side, threads, built)
        tasks: dict[str, Callable[[], float]] = {
            "bare decoding": partial(_decode, paths, threads, None),
            "bare decoding, thumbnail": partial(_decode, paths, threads, side),
            "scan": partial(_seconds, lambda: scan(folder)),
            "scan and build": partial(_build_anew, folder, side, threads),
            "scan and open what is built": partial(_build, folder, side, threads, built),
        }
        found, missing = in_turn(tasks, given.rounds)
    rows = [{"what": name, "seconds": spread(own), "images/s": spread([len(paths) / one for one in own])} for name, own in found.items()]
    ratios = [ours / bare for ours, bare in zip(found["scan and build"], found["bare decoding"], strict=True)]
    return {
        "side": side,
        "threads": threads,
        "images": len(paths),
        "table": rows,
        "build_to_bare_decoding": spread(ratios),
        "missing": missing,
    }


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _decode(paths: list[Path], threads: int, side: int | None) -> float:
    def one(path: Path) -> None:
        with Image.open(path) as image:
            if side is not None:
                image.thumbnail((side, side))
            image.convert("RGB")

    with ThreadPoolExecutor(threads) as pool:
        return _seconds(lambda: list(pool.map(one, paths)))


def _build(folder: Path, side: int, threads: int, cache: Path) -> float:
    return _seconds(lambda: open_pixels(scan(folder), side, Limits(64_000_000, None, threads, cache)))


def _build_anew(folder: Path, side: int, threads: int) -> float:
    with tempfile.TemporaryDirectory() as cache:
        return _build(folder, side, threads, Path(cache))
