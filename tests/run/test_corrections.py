"""A run with corrections: train and val change, the split and the judge do not, and the run goes on as it was."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from sightline.errors import DataError, SettingsError
from sightline.evaluation.predictions import Predictions
from sightline.run.evaluate import evaluate
from sightline.run.train import resume, train

TINY = ["model.name=sightline_tiny", "train.epochs=1", "train.batch_size=16", "device.threads=1", "train.tensorboard=false"]

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def plain(folder: Path, tmp_path: Path) -> pl.DataFrame:
    """The images of a run without corrections."""
    train(folder, TINY, run=tmp_path / "plain")
    return pl.read_parquet(tmp_path / "plain" / "images.parquet").filter(pl.col("reason").is_null())


def corrections(place: Path, rows: list[tuple[str, str, str]]) -> Path:
    pl.DataFrame(rows, schema=["path", "label", "action"], orient="row").write_csv(place / "corrections.csv")
    return place / "corrections.csv"


def test_corrections_change_train_and_leave_the_judge_alone(folder: Path, tmp_path: Path, plain: pl.DataFrame) -> None:
    first, second, third = plain.filter(pl.col("split") == "train").group_by("label", maintain_order=True).head(3)["path"].to_list()[:3]
    judge = plain.filter(pl.col("split") == "test").row(0, named=True)
    labels = dict(plain.select("path", "label").iter_rows())
    other = next(name for name in sorted(set(labels.values())) if name != labels[first])
    rows = [(first, other, "relabel"), (second, "", "drop"), (third, "", "keep"), (judge["path"], "", "drop")]
    result = train(folder, [*TINY, f"data.corrections={corrections(tmp_path, rows)}"], run=tmp_path / "run")
    images = pl.read_parquet(tmp_path / "run" / "images.parquet")
    by_path = {row["path"]: row for row in images.to_dicts()}
    assert by_path[first]["label"] == other
    assert by_path[first]["found_label"] == labels[first]
    assert by_path[second]["reason"] == "dropped by corrections"
    assert by_path[second]["split"] is None
    assert by_path[judge["path"]]["split"] == "test"
    same = plain.join(images, on="path", suffix="_now").filter(pl.col("path") != second)
    assert same["split"].to_list() == same["split_now"].to_list()
    assert any("1 relabelled, 1 dropped" in note for note in result.notes)
    assert any("1 test image is not applied" in note or "test image is" in note for note in result.notes)


def test_such_a_run_is_evaluated_and_goes_on_without_the_file(folder: Path, tmp_path: Path, plain: pl.DataFrame) -> None:
    path = plain.filter(pl.col("split") == "val")["path"][0]
    label = plain.filter(pl.col("path") == path)["label"][0]
    other = next(name for name in sorted(set(plain["label"])) if name != label)
    file = corrections(tmp_path, [(path, other, "relabel")])
    train(folder, [*TINY, f"data.corrections={file}"], run=tmp_path / "run")
    file.unlink()
    evaluate(tmp_path / "run", split="val")
    said = Predictions.load(tmp_path / "run" / "evaluation" / "val" / "predictions.parquet")
    assert said.labels is not None
    assert said.classes[said.labels[said.ids.index(path)]] == other
    resume(tmp_path / "run", ["train.epochs=2"])
    resume(tmp_path / "run", ["train.epochs=3"], accept_changes=True)
    assert pl.read_parquet(tmp_path / "run" / "images.parquet").filter(pl.col("path") == path)["label"][0] == other


def test_a_bad_file_and_a_setting_without_one_are_told_before_anything_is_done(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no image of"):
        train(folder, [*TINY, f"data.corrections={corrections(tmp_path, [('nowhere.png', '', 'drop')])}"], run=tmp_path / "run")
    with pytest.raises(SettingsError, match=r"data.correct_test=true has no effect|data.correct_test has no effect"):
        train(folder, [*TINY, "data.correct_test=true"], run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_accepting_changes_keeps_the_judge_and_the_reasons(folder: Path, tmp_path: Path, plain: pl.DataFrame) -> None:
    judge = plain.filter(pl.col("split") == "test")["path"][0]
    dropped, gone = plain.filter(pl.col("split") == "train")["path"].to_list()[:2]
    file = corrections(tmp_path, [(dropped, "", "drop")])
    train(folder, [*TINY, f"data.corrections={file}"], run=tmp_path / "run")
    (folder / gone).unlink()
    (folder / judge).with_name("copy-of-judge.png").write_bytes((folder / judge).read_bytes())
    (folder / dropped).with_name("copy-of-dropped.png").write_bytes((folder / dropped).read_bytes())
    resume(tmp_path / "run", ["train.epochs=2"], accept_changes=True)
    images = {Path(row["path"]).name: row for row in pl.read_parquet(tmp_path / "run" / "images.parquet").to_dicts()}
    assert images[Path(dropped).name]["reason"] == "dropped by corrections"
    assert images["copy-of-judge.png"]["split"] is None
    assert "with a twin in test" in images["copy-of-judge.png"]["reason"]
    assert images["copy-of-dropped.png"]["split"] == "train"
    before = set(plain.filter(pl.col("split") == "test")["path"])
    assert {row["path"] for row in images.values() if row["split"] == "test"} == before
