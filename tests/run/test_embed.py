"""A tiny run: its images in the plane, and heat maps beside them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sightline.classifier import Classifier
from sightline.errors import DataError, RunError, SettingsError
from sightline.evaluation.predictions import Predictions
from sightline.run.embed import embed, embed_rows, sampled
from sightline.run.explain import choose_images, explain
from sightline.run.folder import RunFolder
from sightline.run.reopen import reopen
from sightline.run.report import report
from sightline.run.train import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]) -> Iterator[Path]:
    """A run on three colours; one network of ours, trained for a moment."""
    place = tmp_path_factory.mktemp("seeing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIGHTLINE_CACHE", str(place / "cache"))
        patch.setattr("sightline.device.available_cores", lambda: 1)  # for what reads the classifier, too
        folder = write_images(place / "photos", {"blue": 24, "green": 24, "red": 24})
        words = ["model.name=sightline_tiny", "train.epochs=2", "train.batch_size=8", "device.threads=1", "train.tensorboard=false"]
        train(folder, words, run=place / "run")
        yield place / "run"


@pytest.fixture(autouse=True)
def _cache_of_the_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_CACHE", str(run.parent / "cache"))


# ---- embed -----------------------------------------------------------------------------------------------------------


def test_a_run_is_drawn_as_table_picture_and_page(run: Path) -> None:
    done = embed(run)
    kept = Predictions.load(run / "evaluation" / "test" / "predictions.parquet")
    table = pl.read_parquet(done.table)
    assert table.columns == ["path", "label", "predicted", "confidence", "x", "y"]
    assert tuple(table["path"]) == kept.ids
    assert table["predicted"].to_list() == [kept.classes[k] for k in kept.predicted()]
    np.testing.assert_allclose(table["confidence"], kept.confidence(), atol=1e-6)
    with Image.open(done.picture) as picture:
        assert min(picture.size) > 800
    about = json.loads((done.folder / "embedding.json").read_text())
    assert (about["split"], about["images"], about["of"]) == ("test", len(kept), len(kept))
    assert f"t-SNE of {len(kept)} images" in done.text()
    page = done.page.read_text()
    data = json.loads(re.search(r'id="page-data">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    assert len(data["embedding"]["path"]) == len(kept)
    assert all(isinstance(number, int) for number in data["embedding"]["picture"])


def test_the_same_seed_draws_the_same_places(run: Path) -> None:
    first = pl.read_parquet(embed(run, split="train").table)
    assert first.equals(pl.read_parquet(embed(run, split="train").table))


def test_of_many_images_a_sample_is_drawn_and_told(run: Path) -> None:
    opened = RunFolder.open(run)
    found = embed_rows(Classifier.load(run), reopen(opened, opened.read_config()), "train", limit=7)
    assert len(found.paths) == 7 < found.of
    done = embed(run, split="train", limit=7)
    assert done.embedding.paths == found.paths
    assert f"7 images, a sample of {found.of}" in done.text()
    assert "a sample of" in done.page.read_text()


def test_a_sample_comes_from_the_seed_and_keeps_the_order() -> None:
    rows = np.arange(100, 200)
    chosen = sampled(rows, 10, 0)
    assert len(set(chosen.tolist())) == 10
    assert (np.diff(chosen) > 0).all()
    assert set(chosen.tolist()) <= set(rows.tolist())
    assert (chosen == sampled(rows, 10, 0)).all()
    assert (chosen != sampled(rows, 10, 1)).any()
    assert (sampled(rows, 100, 0) == rows).all()


def test_what_cannot_be_drawn_is_refused_in_a_sentence(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="test, val or train, not all"):
        embed(run, split="all")
    with pytest.raises(SettingsError, match="--limit must be 1 or more"):
        embed(run, limit=0)
    with pytest.raises(RunError, match="not a run folder"):
        embed(tmp_path)


# ---- explain ---------------------------------------------------------------------------------------------------------


def test_heat_maps_stand_beside_mistakes_and_right_answers(run: Path) -> None:
    done = explain(run, split="train", images=6)
    rows = json.loads((done.folder / "explain.json").read_text())
    assert rows == done.rows
    assert len(rows) == 6
    for row in rows:
        assert {"path", "label", "predicted", "confidence", "picture"} <= set(row)
        panels = 2 if row["label"] == row["predicted"] else 3
        assert len(row["panels"]) == panels
        with Image.open(done.folder / row["picture"]) as picture:
            assert picture.format == "WEBP"
            assert picture.size == (panels * 192 + (panels - 1) * 4, 192)
    with Image.open(done.sheet) as sheet:
        assert sheet.size[0] == 1284
    assert f"{done.layer.side} x {done.layer.side} places" in done.text()


def test_each_part_has_its_own_place_and_the_report_says_which(run: Path) -> None:
    places = {split: embed(run, split=split).folder for split in ("test", "train")}
    maps = {split: explain(run, split=split, images=2).folder for split in ("test", "train")}
    assert len({*places.values(), *maps.values()}) == 4
    assert json.loads((places["test"] / "embedding.json").read_text())["split"] == "test"
    said = report(run).read_text()
    assert "The test images as the network sees them" in said
    assert "embedding/train/embedding.html" in said
    assert "Of the test images" in said
    assert "Of the training images" in said
    for split, place in maps.items():
        parts = RunFolder.open(run).read_images().filter(pl.col("split") == split)["path"]
        assert {row["path"] for row in json.loads((place / "explain.json").read_text())} <= set(parts)


def test_pictures_of_an_earlier_call_do_not_stay(run: Path) -> None:
    explain(run, images=5)
    done = explain(run, images=2)
    assert sorted(path.name for path in done.folder.iterdir()) == ["001.webp", "002.webp", "explain.json", "explain.png"]


def predictions(right: int, wrong: int) -> Predictions:
    """Class 0 and 1 in turn; the later a mistake the surer."""
    n = right + wrong
    sure = np.concatenate([np.full(right, 0.9), np.linspace(0.6, 0.8, wrong)])
    labels = np.arange(n) % 2
    named = np.where(np.arange(n) < right, labels, 1 - labels)
    probabilities = np.where(np.arange(2)[None] == named[:, None], sure[:, None], 1 - sure[:, None])
    return Predictions(tuple(map(str, range(n))), probabilities, ("a", "b"), labels)


@pytest.mark.parametrize(("right", "wrong", "expected"), [(20, 20, 4), (20, 1, 1), (2, 20, 6), (0, 20, 8), (20, 0, 0)])
def test_half_are_mistakes_where_there_are_so_many_the_surest_first(right: int, wrong: int, expected: int) -> None:
    chosen = choose_images(predictions(right, wrong), 8)
    assert len(chosen) == 8
    mistakes = chosen[:expected]
    assert (mistakes >= right).all()
    assert (np.diff(mistakes) < 0).all()
    assert (chosen[expected:] < right).all()


def test_right_answers_come_from_each_class_in_turn() -> None:
    chosen = choose_images(predictions(20, 0), 6)
    assert [int(i) % 2 for i in chosen] == [0, 1] * 3


def test_the_part_must_be_known_and_hold_images(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="test, val or train"):
        explain(run, split="all")
    monkeypatch.setattr("sightline.data.split.Split.rows", lambda split, part: np.zeros(0, dtype=np.int64))
    with pytest.raises(DataError, match="no test part"):
        explain(run)
    with pytest.raises(DataError, match="no test part"):
        embed(run)
    (run / "folds" / "1").mkdir(parents=True)
    (run / "folds" / "1" / "ledger.jsonl").touch()
    for look in (embed, explain):
        with pytest.raises(DataError, match=r"Look at another part \(`--split val`\), or at what a fold judged: RUN = .*folds/1\."):
            look(run)
    shutil.rmtree(run / "folds")
