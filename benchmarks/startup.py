"""How soon a command answers: whole processes, the median of nine after one that warms the caches."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from typing import Any


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Median seconds of each command, and of a Python that does nothing (the floor)."""
    commands = {
        "python": ["-c", "pass"],
        "sightline --help": ["-m", "sightline", "--help"],
        "import sightline": ["-c", "import sightline"],
    }
    return {"seconds": {name: round(_median(words), 3) for name, words in commands.items()}}


def _median(words: list[str]) -> float:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    times = []
    for _ in range(10):
        started = time.perf_counter()
        subprocess.run([sys.executable, *words], env=env, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])
