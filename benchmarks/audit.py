"""Seconds of `sightline audit`, beside imagededup and cleanvision on the same folder, and what each finds.

    python -m benchmarks audit FOLDER --threads 2

Each runs in a process of its own (benchmarks/peers/*_audit.py) with as many threads or processes; imports are shown apart.
sightline's cache is empty each time, and its page with pictures is written too. What is called blurred or odd differs from
tool to tool, so that these numbers show only how much a person would be given to look at; how many planted twins each
finds is measured by `python -m benchmarks twins`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.folders import read_all, some_of
from benchmarks.processes import Line, at, run
from benchmarks.rounds import in_turn, spread

PEERS = {
    "sightline audit": ("ours_audit", None),
    "imagededup, PHash": ("imagededup_audit", "PHash"),
    "imagededup, DHash": ("imagededup_audit", "DHash"),
    "cleanvision": ("cleanvision_audit", None),
}


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """A row for each tool."""
    threads = given.threads or 2
    with tempfile.TemporaryDirectory() as place:
        folder = some_of(given.folder, Path(place) / "some", given.images)
        images = len(read_all(folder))
        tasks: dict[str, Callable[[], list[Line]]] = {
            name: partial(_run, module, method, folder.resolve(), threads) for name, (module, method) in PEERS.items()
        }
        found, missing = in_turn(tasks, given.rounds)
    return {"images": images, "threads": threads, "table": [_row(*one) for one in found.items()], "missing": missing}


def _run(module: str, method: str | None, folder: Path, threads: int) -> list[Line]:
    with tempfile.TemporaryDirectory() as work:
        words = ["--data", str(folder), "--out", work, "--threads", str(threads), *(["--network", method] if method else [])]
        return run(f"benchmarks.peers.{module}", words, threads, {"SIGHTLINE_CACHE": str(Path(work) / "cache")})


def _row(name: str, rounds: list[list[Line]]) -> dict[str, Any]:
    told = next(line.told for line in rounds[0] if line.told.get("event") == "found")
    return {
        "tool": name,
        "imports, s": spread([at(lines, "imported") or 0.0 for lines in rounds]),
        "audit, s": spread([(at(lines, "found") or 0.0) - (at(lines, "imported") or 0.0) for lines in rounds]),
        "images seen": told["images"],
        "flagged images": told["flagged"],
    }
