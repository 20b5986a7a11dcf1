"""`report` of real run folders: finished or not, with pictures or without, and never in the way of a run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import RunError
from sightline.evaluation.predictions import Predictions
from sightline.run.evaluate import evaluate
from sightline.run.report import report
from sightline.run.train import train

SMALL = ["model.name=sightline_tiny", "train.epochs=3", "train.batch_size=8", "device.threads=1", "train.tensorboard=false"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]) -> tuple[Path, Path]:
    """A folder and a run on it that has a phase."""
    place = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIGHTLINE_CACHE", str(place / "cache"))
        folder = write_images(place / "photos", {"blue": 20, "green": 16, "red": 9})
        (folder / "red" / "broken.png").write_bytes(b"no picture")
        phases = [{"from": 3, "augment.policy": "light"}]
        settings = dict(word.split("=") for word in SMALL[:1]) | {"train.epochs": 3, "train.batch_size": 8, "device.threads": 1}
        train(folder, settings | {"train.tensorboard": False, "phases": phases}, run=place / "run")
    return folder, place / "run"


@pytest.fixture
def run(trained: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the run, to be spoiled."""
    return Path(shutil.copytree(trained[1], tmp_path / "run"))


def text_of(path: Path) -> str:
    body = re.sub(r"<(style|script|title).*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<.*?>", " ", body, flags=re.DOTALL)).split())


def data_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(re.findall(r'id="page-data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)[0])
    return found


def test_it_tells_what_the_run_folder_holds(run: Path) -> None:
    path = report(run)
    assert path == run / "report.html"
    said = text_of(path)
    metrics = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
    assert f"On {metrics['n']} test images" in said
    assert "46 found = 45 used + 1 quarantined." in said
    assert "sightline_tiny at 16 pixels" in said
    assert "from epoch 3: augment.policy=light" in said
    assert json.loads((run / "classifier" / "model.json").read_text())["digest"] in said
    given, _, rest = said.partition("All other settings")
    assert "train.epochs" in given.partition("Settings and ledger")[2]
    assert "train.weight_decay" in rest


def test_each_judged_image_that_is_shown_has_its_picture_from_the_files(run: Path, trained: tuple[Path, Path]) -> None:
    data = data_of(report(run))
    kept = Predictions.load(run / "evaluation" / "test" / "predictions.parquet")
    assert set(data["images"]["path"]) == set(kept.ids)
    assert all(isinstance(number, int) for number in data["images"]["picture"])


def test_pictures_come_from_the_store_where_the_files_are_gone(
    run: Path, trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, _ = trained
    hidden = folder.with_name("hidden")
    folder.rename(hidden)
    try:
        monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "empty"))
        path = report(run)
        assert set(data_of(path)["images"]["picture"]) == {"picture no longer there"}
        assert "picture no longer there" in text_of(path)
        assert not (tmp_path / "empty" / "stores").exists()
        monkeypatch.setenv("SIGHTLINE_CACHE", str(folder.parent / "cache"))
        assert all(isinstance(number, int) for number in data_of(report(run))["images"]["picture"])
    finally:
        hidden.rename(folder)


def test_a_picture_that_has_changed_since_is_not_shown_in_its_place(run: Path, trained: tuple[Path, Path]) -> None:
    folder, _ = trained
    victim = data_of(report(run))["images"]["path"][0]
    was = (folder / victim).read_bytes()
    other = next(p for p in folder.rglob("*.png") if p.read_bytes() != was and p.name != "broken.png")
    try:
        (folder / victim).write_bytes(other.read_bytes())
        images = data_of(report(run))["images"]
        assert images["picture"][images["path"].index(victim)] == "picture has changed since"
    finally:
        (folder / victim).write_bytes(was)


def test_without_test_figures_those_on_val_are_shown_and_said_to_flatter(run: Path) -> None:
    shutil.rmtree(run / "evaluation" / "test")
    said = text_of(report(run))
    assert "validation images" in said
    assert "the figures flatter" in said


def test_a_run_that_was_stopped_says_so(run: Path) -> None:
    shutil.rmtree(run / "evaluation")
    shutil.rmtree(run / "classifier")
    assert "This run has not finished: 3 epochs are done" in text_of(report(run))
    for path in run.iterdir():
        if path.name != "ledger.jsonl":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert "This run has not finished: 0 epochs are done" in text_of(report(run))


def test_what_was_judged_elsewhere_stands_beside(run: Path, make_folder: Callable[..., Path]) -> None:
    evaluate(run, make_folder("elsewhere", {"blue": 5, "red": 5}, seed=9))
    said = text_of(report(run))
    assert "Other evaluations" in said
    assert "elsewhere" in said


def test_a_damaged_file_is_named(run: Path) -> None:
    (run / "history.csv").write_bytes(b"epoch\xff")
    with pytest.raises(RunError, match=r"history.csv is damaged"):
        report(run)
    (run / "history.csv").unlink()
    (run / "audit.json").write_text("{}")
    with pytest.raises(RunError, match=r"audit.json is damaged: it lacks findings\."):
        report(run)
    (run / "audit.json").unlink()
    (run / "evaluation" / "test" / "metrics.json").write_text("{")
    with pytest.raises(RunError, match=r"test/metrics\.json is damaged"):
        report(run)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run folder"):
        report(tmp_path)


def test_the_same_run_gives_the_same_page(run: Path) -> None:
    first = report(run).read_bytes()
    assert report(run, workers=3).read_bytes() == first
