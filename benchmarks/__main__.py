"""Measures sightline: `python -m benchmarks NAME FOLDER [--json FILE]`; results are kept in benchmarks/RESULTS.md.

    pipeline FOLDER    images a second from files to augmented batches, with the store and without
    epoch FOLDER       a training epoch against the same network on random tensors (the floor)
    memory FOLDER      peak memory of scan and build, for the folder and for ten times as many images
    startup            seconds of `sightline --help` and of `import sightline`

Each prints one JSON object. Machines are noisy: what counts is a ratio of two things measured in turn in the same run.
"""

from __future__ import annotations

import argparse
import json
import platform
from importlib import metadata
from pathlib import Path

from benchmarks import epoch, memory, pipeline, startup

MEASURES = {"pipeline": pipeline.measure, "epoch": epoch.measure, "memory": memory.measure, "startup": startup.measure}


def main() -> None:
    """Runs one measure and prints what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=MEASURES)
    parser.add_argument("folder", nargs="?", type=Path, help="labelled images")
    parser.add_argument("--model", default="sightline_small")
    parser.add_argument("--size", type=int, default=None, help="input side; default: what sightline chooses")
    parser.add_argument("--threads", type=int, default=None)
    given = parser.parse_args()
    if given.folder is None and given.name != "startup":
        parser.error(f"{given.name} needs a FOLDER")
    found = MEASURES[given.name](given)
    versions = {name: metadata.version(name) for name in ("torch", "numpy", "pillow", "polars")}
    print(json.dumps({"measure": given.name, "python": platform.python_version(), **versions, **found}, indent=1))


if __name__ == "__main__":
    main()
