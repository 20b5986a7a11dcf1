"""Each recipe in recipes/ is one that runs: as it is for its settings, and in small for two epochs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from sightline.config import Config, phases_of
from sightline.config import gather as read
from sightline.models.catalog import native_size
from sightline.run.train import TrainResult, train

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
NAMES = [path.stem for path in RECIPES]

QUICK = ["data.size=32", "train.batch_size=16", "device.threads=1", "train.tensorboard=false", "train.judge=false"]
SMALLER = {"resnet152": "test_resnet", "resnet50": "test_resnet", "resnet18": "test_resnet"}  # with the same names of layers


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures cost most of such runs."""

    def draw(what: Any, path: Path, *more: Any) -> None:
        path.write_bytes(b"")

    for name in ("figures.confusion_picture", "curves.curves_picture"):
        monkeypatch.setattr(f"sightline.evaluation.{name}", draw)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def in_small(recipe: Path, epochs: int) -> tuple[dict[str, Any], list[str]]:
    """The recipe, its phases moved together, and what makes it quick."""
    given = read(recipe, [])
    words = [word for word in QUICK if given.get("train.log_weights") is None or "tensorboard" not in word]
    words += [f"train.epochs={epochs}"]
    if "model.weights" in given:
        words.append("model.weights=none")
    if given["model.name"] in SMALLER:
        words.append(f"model.name={SMALLER[given['model.name']]}")
    if "model.head" in given:
        words.append("model.head=[16,8]")
    if "train.views_per_class" in given:
        words.append("train.views_per_class=20")
    phases = tuple({**raw, "from": 2 + i} for i, raw in enumerate(given.get("phases", ())))
    return given | ({"phases": phases} if phases else {}), words


def run_in_small(recipe: Path, folder: Path, run: Path) -> TrainResult:
    given, words = in_small(recipe, max(2, 1 + len(read(recipe, []).get("phases", ()))))
    return train(folder, words, recipe=given, run=run)


# ---- as they are -----------------------------------------------------------------------------------------------------


def test_there_is_one_for_each_described_system() -> None:
    assert len(RECIPES) >= 10
    assert {name.partition("-")[0] for name in NAMES} == {"flowers", "simpsons", "skilltest", "springfield"}


@pytest.mark.parametrize("recipe", RECIPES, ids=NAMES)
def test_a_recipe_is_made_of_settings_and_says_where_it_comes_from(recipe: Path) -> None:
    config = Config.load(recipe)
    phases_of(read(recipe, []))
    native_size(config.model.name)  # there is such a network
    said = [line for line in recipe.read_text().splitlines() if line.startswith("#")]
    assert any("author" in line for line in said)
    assert any("Measured here" in line for line in said)


@pytest.mark.parametrize("recipe", RECIPES, ids=NAMES)
def test_a_recipe_leaves_nothing_that_decides_to_a_default(recipe: Path) -> None:
    given = set(read(recipe, []))
    assert {"model.name", "augment.policy", "imbalance", "train.epochs", "train.schedule"} <= given | {"train.schedule"}
    assert Config.load(recipe).model.name not in Config().model.name


# ---- in small --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES, ids=NAMES)
def test_a_recipe_runs_on_a_folder_of_three_classes(folder: Path, tmp_path: Path, recipe: Path) -> None:
    result = run_in_small(recipe, folder, tmp_path / "run")
    given = read(recipe, [])
    history = pl.read_csv(tmp_path / "run" / "history.csv")
    assert history["phase"].max() == 1 + len(given.get("phases", ()))
    assert history["val_loss"].is_finite().all()
    assert result.classifier.predict([folder / "red" / "red-000.png"])[0] in ("blue", "green", "red")
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    for path, value in given.items():  # what it asks for is what was done
        room, _, name = path.partition(".")
        if room in ("augment", "train") and name not in ("epochs", "batch_size", "views_per_class"):
            assert saved[room][name] == (list(value) if isinstance(value, tuple) else value), path
    assert saved["imbalance"] == given["imbalance"]
    assert saved["model"].get("freeze", "none") == given.get("model.freeze", "none")


def test_the_same_recipe_serves_folders_of_two_and_of_five_classes(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    recipe = next(path for path in RECIPES if path.stem == "springfield-first")  # its author's folder had 42
    for count in (2, 5):
        folder = make_folder(f"classes-{count}", {f"class-{i}": 6 for i in range(count)})
        result = run_in_small(recipe, folder, tmp_path / f"run-{count}")
        assert result.metrics["val"]["classes"] == [f"class-{i}" for i in range(count)]
