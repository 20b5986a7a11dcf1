"""Peak memory of scan and build, for a folder and for ten times as many images (links to the same files)."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CODE = """
import resource, sys
from pathlib import Path
from sightline.data.store import Limits, open_pixels
from sightline.data.table import scan
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
table, pixels = open_pixels(scan(sys.argv[1]), int(sys.argv[2]), Limits(64_000_000, None, 2, Path(sys.argv[3])))
print(len(table), start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Megabytes above what the imports alone need."""
    side = given.size or 128
    with tempfile.TemporaryDirectory() as place:
        ten = Path(place) / "ten"
        for path in sorted(p for p in given.folder.rglob("*") if p.is_file()):
            target = ten / path.parent.name
            target.mkdir(parents=True, exist_ok=True)
            for copy in range(10):
                os.symlink(path.resolve(), target / f"{copy}-{path.parent.parent.name}-{path.name}")
        return {"side": side, "runs": [_peak(folder, side, Path(place) / name) for name, folder in (("a", given.folder), ("b", ten))]}


def _peak(folder: Path, side: int, cache: Path) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", CODE, str(folder), str(side), str(cache)], capture_output=True, text=True, check=True)
    images, start, peak = (int(word) for word in done.stdout.split())
    return {"images": images, "imports_mb": round(start / 1024, 1), "above_mb": round((peak - start) / 1024, 1)}
