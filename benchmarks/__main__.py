"""Measures sightline, beside others where there are others: `uv run --group bench python -m benchmarks NAME FOLDER`.

    pipeline FOLDER    images a second from files to augmented batches, beside torchvision, Albumentations and Kornia
    build FOLDER       scan and build against bare decoding
    epoch FOLDER       a training epoch against the same network on random tensors (the floor)
    accuracy FOLDER    seconds to a validation accuracy, beside plain loops, fastai, Ultralytics and Lightning
    transfer FOLDER    a frozen network with a new head, with its prefix and without, beside the plain loop of a tutorial
    tune FOLDER        a study from scratch and one with a frozen trunk, beside a plain Optuna loop with the same trials
    predict FOLDER     images a second from files, beside a plain loop and ONNX Runtime
    audit FOLDER       seconds and findings, beside imagededup and cleanvision
    twins FOLDER       recall on planted near twins at 1 % false ones, beside other tools (see benchmarks/twins.py)
    memory FOLDER      peak memory of scan and build, for the folder and for ten times as many images
    imbalance FOLDER   every remedy against imbalance on a long-tailed folder, several seeds (see benchmarks/imbalance.py)
    longtail FOLDER    makes a long-tailed folder of links from a balanced one
    scale [FOLDER]     what an image costs from 10^3 to 10^6 made-up ones, written below FOLDER (see benchmarks/scale.py)
    kernels            which of oneDNN's kernels a training step runs: whether AMX is in use (see benchmarks/kernels.py)
    startup            seconds of `sightline --help` and of `import sightline`

Each prints one JSON object, with the machine and all versions; --json and --markdown keep it. Results that count are in
benchmarks/RESULTS.md. Machines are noisy: what counts is a ratio of two things measured in turn in the same run, and
nothing else should run meanwhile. A peer that is not installed is left out and named.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from importlib import import_module
from pathlib import Path

from benchmarks.machine import facts, versions
from benchmarks.rounds import ROUNDS
from benchmarks.table import as_markdown

MEASURES = {name: (name, "measure") for name in ("pipeline", "build", "epoch", "accuracy", "transfer", "predict", "audit")}
MEASURES |= {name: (name, "measure") for name in ("twins", "memory", "scale", "imbalance", "startup", "tune", "kernels")}
MEASURES |= {"longtail": ("imbalance", "make_longtail")}
WITHOUT_FOLDER = ("startup", "scale", "kernels")


def arguments() -> argparse.ArgumentParser:
    """What can be asked; a measure reads what it has a use for."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=MEASURES)
    parser.add_argument("folder", nargs="?", type=Path, help="labelled images")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each is measured, in turn; medians are told")
    parser.add_argument("--images", type=int, default=None, help="at most so many of the folder")
    parser.add_argument("--scales", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="numbers of images for scale")
    parser.add_argument("--model", default="sightline_small", help="of epoch and transfer; of predict also a finished run")
    parser.add_argument("--size", type=int, default=None, help="input side; default: 128, or what sightline chooses")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--epochs", type=int, nargs="+", default=None, help="of each run; of accuracy and transfer several lengths")
    parser.add_argument("--only", nargs="*", help="competitors, remedies, or kinds of twins; default: all")
    parser.add_argument("--target", type=float, nargs="+", default=[50, 60, 70], help="accuracies in %% for accuracy")
    parser.add_argument("--seconds", type=float, nargs="+", default=[60, 120, 240], help="after which accuracy tells how far each is")
    parser.add_argument("--trials", type=int, default=12, help="of tune")
    parser.add_argument("--freeze", default="trunk", help="model.freeze of transfer")
    parser.add_argument("--seeds", type=int, default=5, help="runs of imbalance for each remedy")
    parser.add_argument("--half", default="judge", choices=("choose", "judge"), help="of the images of twins")
    parser.add_argument("--peers", default=None, help="an interpreter that has the other tools of twins")
    parser.add_argument("--known", default=None, help="a CSV of the twins that were there before")
    parser.add_argument("--set", nargs="*", help="further KEY=VALUE settings of sightline's runs")
    parser.add_argument("--out", type=str, default=None, help="the file of runs, which are not repeated; or the folder that longtail makes")
    parser.add_argument("--json", type=Path, default=None, help="keep what is printed")
    parser.add_argument("--markdown", type=Path, default=None, help="keep it as a table")
    return parser


def main() -> None:
    """Runs one measure and prints what it found."""
    parser = arguments()
    given = parser.parse_args()
    if given.folder is None and given.name not in WITHOUT_FOLDER:
        parser.error(f"{given.name} needs a FOLDER")
    about = {"measure": given.name, "command": _command(given), "machine": facts()}
    module, function = MEASURES[given.name]
    found = about | getattr(import_module(f"benchmarks.{module}"), function)(given) | {"versions": versions()}
    text = json.dumps(found, indent=1)
    if given.json is not None:
        given.json.write_text(text + "\n")
    if given.markdown is not None:
        given.markdown.write_text(as_markdown(found))
    print(text)


def _command(given: argparse.Namespace) -> str:
    """What repeats it: without the places of this machine."""
    places = {str(given.folder): given.folder.name if given.folder else "", str(given.model): Path(given.model).name}
    words = list(sys.argv[1:])
    for option in ("--json", "--markdown", "--out", "--peers"):
        if option in words:
            del words[words.index(option) : words.index(option) + 2]
    return shlex.join(["python", "-m", "benchmarks", *(places.get(word, word) for word in words)])


if __name__ == "__main__":
    main()
