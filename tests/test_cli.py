"""The command line: it parses, calls and echoes; what a user can mend is a sentence and exit status 2."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from sightline.cli import app

ROOT = Path(__file__).parents[1]
SMALL = ["model.name=sightline_tiny", "train.epochs=1", "train.batch_size=8", "device.threads=1", "train.tensorboard=false"]


def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "sightline", *words], capture_output=True, text=True, input=stdin)


def commands() -> list[str]:
    return sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", commands())
def test_every_command_has_help_and_is_in_the_readme(name: str) -> None:
    shown = run(name, "--help")
    assert shown.returncode == 0
    assert "Usage" in shown.stdout
    assert f"sightline {name}" in (ROOT / "README.md").read_text()


def test_train_evaluate_and_predict_speak_json_on_stdout_and_everything_else_on_stderr(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "run"
    trained = run("train", str(folder), *SMALL, "--run", str(place), "--json")
    assert trained.returncode == 0, trained.stderr
    metrics = json.loads(trained.stdout)["metrics"]["test"]
    assert "42 images in 3 classes" in trained.stderr
    evaluated = run("evaluate", str(place), "--json")
    assert json.loads(evaluated.stdout)["metrics"] == metrics
    (tmp_path / "bad.png").write_bytes(b"x")
    listed = f"{folder / 'red' / 'red-000.png'}\n{tmp_path / 'bad.png'}\n"
    predicted = run("predict", str(place), "-", "--json", "--top", "2", stdin=listed)
    assert predicted.returncode == 2
    assert [bool(row["predictions"]) for row in json.loads(predicted.stdout)["predictions"]] == [True, False]
    assert "1 of 2 images could not be read" in predicted.stderr
    plain = run("predict", str(place), str(folder / "red" / "red-000.png"), "--out", str(tmp_path / "a.csv"))
    assert (plain.returncode, plain.stdout) == (0, "")
    assert (tmp_path / "a.csv").read_text().startswith("path,predicted,confidence")
    said = run("evaluate", str(place), "--split", "val")
    assert "macro F1" in said.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train"], "Name the folder"),
        (["train", "nowhere"], "There is no folder nowhere"),
        (["train", "README.md"], "README.md is a file"),
        (["train", ".", "train.lrr=1"], "Did you mean train.lr?"),
        (["train", ".", "train.lr=-1"], "train.lr must be a number above 0"),
        (["train", ".", "-c", "nothing.yaml"], "recipe nothing.yaml cannot be read"),
        (["train", "--resume", "nowhere"], "nowhere is not a run folder"),
        (["train", "somewhere", "--resume", "nowhere"], "--resume takes settings only"),
        (["evaluate", "nowhere"], "nowhere is not a run folder"),
        (["evaluate", "nowhere", "--split", "train"], "--split must be test or val"),
        (["predict", "nowhere", "README.md"], "nowhere holds no classifier"),
        (["predict", "nowhere", "x.png"], "no file or folder x.png"),
        (["models", "nonsense"], "No network has 'nonsense'"),
        (["settings", "nonsense"], "No setting has 'nonsense'"),
    ],
)
def test_what_a_user_can_mend_is_a_sentence(words: list[str], sentence: str) -> None:
    done = subprocess.run([sys.executable, "-m", "sightline", *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert sentence in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_models_and_settings_are_listed() -> None:
    found = json.loads(run("models", "springfield", "--json").stdout)["models"]
    assert [m["name"] for m in found] == ["springfield_first", "springfield_best"]
    assert "train.lr" in run("settings", "train").stdout


def test_doctor_says_what_it_has_and_what_it_will_do() -> None:
    said = run("doctor")
    assert said.returncode == 0
    for word in ("device", "precision", "threads", "views", "pixel store", "pretrained", "versions"):
        assert re.search(rf"^{word}", said.stdout, re.MULTILINE)


def test_the_settings_page_is_up_to_date() -> None:
    made = subprocess.run([sys.executable, "-m", "sightline.config"], capture_output=True, text=True, check=True).stdout
    assert (ROOT / "docs" / "settings.md").read_text() == made, "run: python -m sightline.config > docs/settings.md"


ENDED = """
import os, signal, sys, time
from pathlib import Path
from sightline import cli
def work():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    finally:
        Path(sys.argv[1]).touch()
cli.app = work
cli.main()
"""


def test_sigterm_puts_away_what_was_begun_and_says_so(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", ENDED, tmp_path / "put away"], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (143, "sightline: ended by SIGTERM.\n")
    assert (tmp_path / "put away").exists()


def test_a_full_or_closed_standard_output_is_no_traceback() -> None:
    full = subprocess.run("sightline settings > /dev/full", shell=True, capture_output=True, text=True)
    assert (full.returncode, full.stderr) == (2, "sightline: standard output cannot be written: its disk is full.\n")
    closed = subprocess.run("sightline settings | true", shell=True, capture_output=True, text=True)
    assert closed.stderr == ""
