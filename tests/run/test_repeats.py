"""Folds and seeds: repeats of a run in its own folder, and their sum."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from sightline.data.store import open_pixels
from sightline.errors import DataError, Interrupted, SettingsError
from sightline.evaluation.predictions import Predictions
from sightline.run import train as verbs
from sightline.run.fit import Fit
from sightline.run.train import resume, train

TINY = ["model.name=sightline_tiny", "train.epochs=1", "train.batch_size=16", "device.threads=1", "train.tensorboard=false"]

pytestmark = pytest.mark.usefixtures("no_pictures")


def test_folds_judge_every_image_once_by_a_network_that_has_not_seen_it(folder: Path, tmp_path: Path) -> None:
    result = train(folder, [*TINY, "split.folds=3"], run=tmp_path / "run")
    images = pl.read_parquet(tmp_path / "run" / "images.parquet").filter(pl.col("reason").is_null())
    assert set(images["split"]) == {"train", "val"}  # the folds judge, so nothing is set aside
    together = Predictions.load(tmp_path / "run" / "evaluation" / "folds" / "predictions.parquet")
    assert sorted(together.ids) == sorted(images["path"])
    for k in (1, 2, 3):
        own = pl.read_parquet(tmp_path / "run" / "folds" / str(k) / "images.parquet")
        assert set(own["split"].drop_nulls()) == {"train", "val", "test"}
        judged = set(own.filter(pl.col("split") == "test")["path"])
        assert judged == set(Predictions.load(tmp_path / "run" / "folds" / str(k) / "evaluation" / "test" / "predictions.parquet").ids)
    written = json.loads((tmp_path / "run" / "evaluation" / "folds" / "metrics.json").read_text())
    assert written == result.metrics["folds"]
    assert written["n"] == len(images)
    assert "ece_uncalibrated" not in written


def test_seeds_are_reported_as_mean_and_spread(folder: Path, tmp_path: Path) -> None:
    result = train(folder, [*TINY, "train.seeds=2", "train.seed=5"], run=tmp_path / "run")
    other = json.loads((tmp_path / "run" / "seeds" / "1" / "evaluation" / "test" / "metrics.json").read_text())
    own = result.metrics["test"]["accuracy"]["value"]
    found = json.loads((tmp_path / "run" / "seeds.json").read_text())
    assert found == result.metrics["seeds"]
    assert found["seeds"] == [5, 6]
    assert found["figures"]["accuracy"]["mean"] == pytest.approx((own + other["accuracy"]["value"]) / 2)
    assert found["figures"]["accuracy"]["n"] == 2
    same = [pl.read_parquet(place / "images.parquet")["split"].to_list() for place in (tmp_path / "run", tmp_path / "run" / "seeds" / "1")]
    assert same[0] == same[1]


def test_a_run_stopped_in_a_fold_goes_on_there(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[str] = []
    go = Fit.go

    def stop_in_the_second(self: Fit) -> object:
        began.append(self.folder.root.name)
        if began == ["run", "1", "2"]:
            raise Interrupted("Stopped in epoch 1; everything is saved.", "sightline train --resume run/folds/2")
        return go(self)

    monkeypatch.setattr(Fit, "go", stop_in_the_second)
    with pytest.raises(Interrupted, match=r"fold 2 of 3.*--resume .*run$"):
        train(folder, [*TINY, "split.folds=3"], run=tmp_path / "run")
    result = resume(tmp_path / "run")
    assert began == ["run", "1", "2", "run", "2", "3"]
    assert set(result.metrics) == {"val", "folds"}


def test_changes_are_refused_where_there_are_repeats(folder: Path, tmp_path: Path) -> None:
    train(folder, [*TINY, "train.seeds=2"], run=tmp_path / "run")
    with pytest.raises(SettingsError, match="go on as they began"):
        resume(tmp_path / "run", ["train.epochs=2"])


def test_one_fold_alone_can_be_trained(folder: Path, tmp_path: Path) -> None:
    result = train(folder, [*TINY, "split.folds=3", "split.fold=2"], run=tmp_path / "run")
    assert set(result.metrics) == {"val", "test"}
    assert not (tmp_path / "run" / "folds").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["split.folds=3", "train.seeds=2"], "two questions"),
        (["split.fold=2"], "split.fold=2 must be one of"),
        (["split.folds=3", "split.fold=4"], "split.fold=4 must be one of"),
        (["split.repair=drop"], "split.repair has no effect with images that are not divided already"),
    ],
)
def test_what_cannot_be_is_refused(folder: Path, tmp_path: Path, words: list[str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        train(folder, [*TINY, *words], run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_repeats_share_the_stored_pixels(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = []

    def watched(*given: object, **named: object) -> object:
        found = open_pixels(*given, **named)  # type: ignore[arg-type]
        stores.append(found[1].folder)  # type: ignore[union-attr]
        return found

    monkeypatch.setattr(verbs, "open_pixels", watched)
    train(folder, [*TINY, "train.seeds=2"], run=tmp_path / "run")
    assert len(stores) == 2
    assert len(set(stores)) == 1


def test_too_many_folds_are_told_before_anything_is_trained(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    few = make_folder("few", {"red": 5, "blue": 5})
    with pytest.raises(DataError, match=r"split.folds=20 are too many"):
        train(few, [*TINY, "split.folds=20"], run=tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_folds_of_a_split_that_is_repaired(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    make_folder("own/train", {"red": 12, "blue": 12})
    own = make_folder("own/test", {"red": 4, "blue": 4}, seed=1).parent
    (own / "test" / "red" / "twin.png").write_bytes(next((own / "train" / "red").iterdir()).read_bytes())
    result = train(own, [*TINY, "split.folds=2", "split.repair=drop"], run=tmp_path / "run")
    assert result.metrics["folds"]["n"] == 24
    assert "leak_free" not in result.metrics["test"]


def test_repeats_use_the_runs_own_copy_of_the_corrections(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = sorted(str(p.relative_to(folder)) for p in (folder / "blue").iterdir())[:2]
    file = tmp_path / "corrections.csv"
    file.write_text(f"path,label,action\n{first},,drop\n")
    go = Fit.go

    def edited(self: Fit) -> object:
        file.write_text(f"path,label,action\n{second},,drop\n")
        return go(self)

    monkeypatch.setattr(Fit, "go", edited)
    train(folder, [*TINY, "train.seeds=2", f"data.corrections={file}"], run=tmp_path / "run")
    for place in (tmp_path / "run", tmp_path / "run" / "seeds" / "1"):
        images = pl.read_parquet(place / "images.parquet")
        assert images.filter(pl.col("reason").is_not_null())["path"].to_list() in ([first], [])
        assert (place / "corrections.csv").read_text().count(first) == 1


def test_changed_images_are_not_accepted_where_there_are_repeats(folder: Path, tmp_path: Path) -> None:
    train(folder, [*TINY, "train.seeds=2"], run=tmp_path / "run")
    with pytest.raises(SettingsError, match="images that it began with"):
        resume(tmp_path / "run", accept_changes=True)
