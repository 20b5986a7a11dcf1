"""Peak memory of scan and build, for a folder and for ten times as many images (links to the same files).

The peak is VmHWM of a process of its own (Linux). `ru_maxrss` would not do: a new process begins with its parent's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.folders import some_of

CODE = """
import sys
from pathlib import Path
import torch  # in the end pixels are tensors: an import, too
from sightline.data.store import Limits, open_pixels
from sightline.data.table import scan
def peak():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])
start = peak()
table, pixels = open_pixels(scan(sys.argv[1]), int(sys.argv[2]), Limits(64_000_000, None, 2, Path(sys.argv[3])))
print(len(table), start, peak())
"""


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Megabytes above what the imports alone need."""
    side = given.size or 128
    with tempfile.TemporaryDirectory() as place:
        ten, folder = Path(place) / "ten", some_of(given.folder, Path(place) / "some", given.images)
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            target = ten / path.parent.name
            target.mkdir(parents=True, exist_ok=True)
            for copy in range(10):
                os.symlink(path.resolve(), target / f"{copy}-{path.parent.parent.name}-{path.name}")
        return {"side": side, "table": [_peak(one, side, Path(place) / name) for name, one in (("a", folder), ("b", ten))]}


def _peak(folder: Path, side: int, cache: Path) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", CODE, str(folder), str(side), str(cache)], capture_output=True, text=True, check=True)
    images, start, peak = (int(word) for word in done.stdout.split())
    return {"images": images, "imports_mb": round(start / 1024, 1), "above_mb": round((peak - start) / 1024, 1)}
