"""Measures sightline: `python -m benchmarks NAME FOLDER [--json FILE]`; results are kept in benchmarks/RESULTS.md.

    pipeline FOLDER    images a second from files to augmented batches, with the store and without
    epoch FOLDER       a training epoch against the same network on random tensors (the floor)
    memory FOLDER      peak memory of scan and build, for the folder and for ten times as many images
    imbalance FOLDER   every remedy against imbalance on a long-tailed folder, several seeds (see benchmarks/imbalance.py)
    transfer FOLDER    a frozen network with a new head, against the plain loop of a tutorial
    longtail FOLDER    makes a long-tailed folder of links from a balanced one
    twins FOLDER       recall on planted near twins at 1 % false ones, beside other tools (see benchmarks/twins.py)
    startup            seconds of `sightline --help` and of `import sightline`

Each prints one JSON object. Machines are noisy: what counts is a ratio of two things measured in turn in the same run.
"""

from __future__ import annotations

import argparse
import json
import platform
from importlib import metadata
from pathlib import Path

from benchmarks import epoch, imbalance, memory, pipeline, startup, transfer, twins

MEASURES = {"pipeline": pipeline.measure, "epoch": epoch.measure, "memory": memory.measure, "startup": startup.measure}
MEASURES |= {"transfer": transfer.measure, "imbalance": imbalance.measure, "longtail": imbalance.make_longtail, "twins": twins.measure}


def main() -> None:
    """Runs one measure and prints what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=MEASURES)
    parser.add_argument("folder", nargs="?", type=Path, help="labelled images")
    parser.add_argument("--model", default="sightline_small")
    parser.add_argument("--size", type=int, default=None, help="input side; default: what sightline chooses")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--epochs", type=int, default=16, help="of each run of imbalance")
    parser.add_argument("--freeze", default="trunk", help="model.freeze of transfer")
    parser.add_argument("--seeds", type=int, default=5, help="runs of imbalance for each remedy")
    parser.add_argument("--only", nargs="*", help="remedies, or kinds of twins; default: all")
    parser.add_argument("--half", default="judge", choices=twins.HALVES, help="of the images of twins")
    parser.add_argument("--images", type=int, default=None, help="at most so many for twins")
    parser.add_argument("--peers", default=None, help="an interpreter that has the other tools of twins")
    parser.add_argument("--known", default=None, help="a CSV of the twins that were there before")
    parser.add_argument("--set", nargs="*", help="further KEY=VALUE settings of each run of imbalance")
    parser.add_argument("--out", type=str, default=None, help="the file of runs, or the folder that longtail makes")
    given = parser.parse_args()
    if given.folder is None and given.name != "startup":
        parser.error(f"{given.name} needs a FOLDER")
    found = MEASURES[given.name](given)
    versions = {name: metadata.version(name) for name in ("torch", "numpy", "pillow", "polars")}
    print(json.dumps({"measure": given.name, "python": platform.python_version(), **versions, **found}, indent=1))


if __name__ == "__main__":
    main()
