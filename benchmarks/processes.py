"""Each competitor in a process of its own: it prints JSON lines, and the clock is on this side of the pipe.

lines = run("benchmarks.peers.plain", ["--data", folder, "--epochs", "4"], threads=2)
lines[0].seconds, lines[0].told         0.0 is where the process was started
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Line:
    """What a process said, and how many seconds after its start."""

    seconds: float
    told: dict[str, Any]


class Failed(Exception):
    """The last line of what a process said about its end."""


def run(module: str, words: Sequence[str], threads: int, more: Mapping[str, str] | None = None) -> list[Line]:
    """The JSON lines of `python -m module words`, and one more at its end, {"event": "ended"}.

    Raises:
        ModuleNotFoundError: the peer is not installed.
        Failed: it ended otherwise.
    """
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    env |= {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", **(more or {})}
    command = [sys.executable, "-m", module, *words]
    with tempfile.TemporaryFile("w+") as errors:
        started = time.monotonic()
        with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            assert process.stdout is not None
            lines = [Line(time.monotonic() - started, json.loads(line)) for line in process.stdout if line.startswith('{"')]
        lines.append(Line(time.monotonic() - started, {"event": "ended"}))
        errors.seek(0)
        last = (errors.read().strip().splitlines() or [""])[-1]
    if last.startswith("ModuleNotFoundError") and process.returncode:
        raise ModuleNotFoundError(last, name=last.partition("'")[2].partition("'")[0])
    if process.returncode:
        raise Failed(f"{module} ended with {process.returncode}: {last}")
    return lines


def at(lines: Sequence[Line], event: str) -> float | None:
    """Seconds until an event was told."""
    return next((line.seconds for line in lines if line.told.get("event") == event), None)
