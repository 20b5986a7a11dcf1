"""Labels of a run that look wrong: who is judged, what is told, and what is written. The runs here were never trained."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sightline.errors import RunError, SettingsError
from sightline.evaluation.predictions import Predictions
from sightline.run.folder import RunFolder
from sightline.run.labels import labels

CLASSES = ("blue", "green", "red")


def answers(frame: pl.DataFrame, wrong: Mapping[str, str]) -> Predictions:
    """Of a network that is right, 0.8 to 0.88 sure, and takes the images in `wrong` for another class, 0.9 to 0.98 sure."""
    own = np.array([CLASSES.index(name) for name in frame["label"]])
    seen = np.array([CLASSES.index(wrong.get(path, label)) for path, label in frame.select("path", "label").iter_rows()])
    sure = np.where(own == seen, 0.8, 0.9) + 0.08 * np.arange(len(frame)) / max(len(frame), 1)
    probabilities = np.full((len(frame), 3), 0.0) + ((1 - sure) / 2)[:, None]
    probabilities[np.arange(len(frame)), seen] = sure
    return Predictions(tuple(frame["path"]), probabilities, CLASSES, own)


@pytest.fixture
def make_run(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """`make_run({"val": {}, "test": {}})`: a run whose evaluations took some images for another class."""

    def make(parts: Mapping[str, Mapping[str, str]], **started: Any) -> Path:
        run = RunFolder.create(tmp_path / "run", folder)
        run.note("started", **{"folder": str(folder), **started})
        paths = sorted(p.relative_to(folder).as_posix() for p in folder.glob("*/*.png"))
        split = [{"0": "test", "1": "val"}.get(path[-5], "train") for path in paths]
        digests = [hashlib.sha256((folder / path).read_bytes()).hexdigest() for path in paths]
        labelled = [path.partition("/")[0] for path in paths]
        images = pl.DataFrame({"path": paths, "label": labelled, "split": split, "digest": digests})
        images.write_parquet(run.images)
        run.config.write_text("data: {size: 16}\n")
        for name, wrong in parts.items():
            run.evaluation(name).mkdir(parents=True)
            own = images if name == "folds" else images.filter(pl.col("split") == name)
            answers(own, wrong).save(run.evaluation(name) / "predictions.parquet")
        return run.root

    return make


def test_out_of_fold_answers_judge_every_image(make_run: Callable[..., Path]) -> None:
    run = make_run({"folds": {"blue/blue-004.png": "red", "red/red-005.png": "green"}, "val": {}, "test": {}})
    review = labels(run)
    assert (review.judged, review.images) == (42, 42)
    table = pl.read_csv(run / "labels" / "suspects.csv")
    assert table.columns == ["path", "split", "label", "likely", "score", "label_probability", "likely_probability"]
    assert set(table.select("path", "split", "label", "likely").rows()) == {
        ("blue/blue-004.png", "train", "blue", "red"),
        ("red/red-005.png", "train", "red", "green"),
    }
    assert table["score"].is_sorted(descending=True)
    assert not any("not judged" in note for note in review.notes)


def test_without_folds_train_is_not_judged_and_the_command_that_would_is_told(make_run: Callable[..., Path], folder: Path) -> None:
    run = make_run({"val": {"blue/blue-001.png": "red"}, "test": {"green/green-010.png": "red"}})
    review = labels(run)
    assert review.judged == 10
    assert review.images == 42
    assert review.notes[0].startswith("The 32 images of train are not judged")
    assert f"sightline train {folder} -c {run / 'config.yaml'} split.folds=5" in review.notes[0]
    assert set(review.suspects.select("path", "split").rows()) == {("blue/blue-001.png", "val"), ("green/green-010.png", "test")}


def test_the_users_own_test_part_joins_the_folds(make_run: Callable[..., Path]) -> None:
    run = make_run({"folds": {"blue/blue-004.png": "red"}, "test": {"blue/blue-010.png": "red"}})
    folds = run / "evaluation" / "folds" / "predictions.parquet"
    kept = pl.read_parquet(folds)
    kept.filter(~pl.col("id").str.ends_with("0.png")).write_parquet(folds)
    review = labels(run)
    assert review.judged == 42
    assert set(review.suspects["path"]) == {"blue/blue-004.png", "blue/blue-010.png"}


def test_an_image_in_folds_and_in_test_is_judged_once_by_its_fold(make_run: Callable[..., Path]) -> None:
    run = make_run({"folds": {}, "test": {"blue/blue-010.png": "red"}})
    review = labels(run)
    assert review.judged == 42
    assert review.suspects.is_empty()


def test_images_that_are_in_no_fold_are_told(make_run: Callable[..., Path]) -> None:
    run = make_run({"folds": {}})
    folds = run / "evaluation" / "folds" / "predictions.parquet"
    pl.read_parquet(folds).filter(pl.col("label") != "red").write_parquet(folds)
    review = labels(run)
    assert any(note == "8 images were in no fold and are not judged, of red." for note in review.notes)
    assert any("hardly to be judged: red." in note for note in review.notes)


def test_the_text_names_the_worst_and_says_that_half_are_false_alarms(make_run: Callable[..., Path]) -> None:
    wrong = {f"blue/blue-{i:03d}.png": "red" for i in range(2, 14)}
    text = labels(make_run({"folds": wrong})).text()
    assert text.startswith("12 of 42 judged labels look wrong (28.6 %).")
    assert "About half of such flags are false alarms" in text
    assert len(re.findall(r"^0\.9\d\d  blue +red +", text, re.MULTILINE)) == 10
    assert "and 2 more in" in text
    assert "labels.html" in text
    assert "data.corrections=corrections.csv" in text


def test_no_suspect_is_a_short_text_and_a_page_that_says_so(make_run: Callable[..., Path]) -> None:
    review = labels(make_run({"folds": {}}))
    assert review.text().startswith("0 of 42 judged labels look wrong.")
    assert "false alarms" not in review.text().partition("\n")[0]
    assert "No label looks wrong" in review.page.read_text()
    assert review.facts()["suspects"] == []
    json.dumps(review.facts(), allow_nan=False)


def test_what_was_decided_before_is_not_asked_again(make_run: Callable[..., Path]) -> None:
    run = make_run({"folds": {"blue/blue-004.png": "red", "red/red-005.png": "green"}})
    (run / "corrections.csv").write_text("path,label,action\nblue/blue-004.png,blue,keep\n")
    review = labels(run)
    assert review.suspects["path"].to_list() == ["red/red-005.png"]
    assert "1 more were decided before, in the run's corrections." in review.notes


def test_the_page_has_the_worst_of_them_and_the_table_all(make_run: Callable[..., Path], tmp_path: Path) -> None:
    wrong = {f"blue/blue-{i:03d}.png": "red" for i in range(2, 8)}
    review = labels(make_run({"folds": wrong}), out=tmp_path / "elsewhere", most=2)
    assert review.place == tmp_path / "elsewhere"
    assert len(pl.read_csv(review.place / "suspects.csv")) == 6
    shown = page_data(review.page)["labels"]["suspects"]
    assert [one["path"] for one in shown] == review.suspects["path"].head(2).to_list()
    assert "4 least suspicious" in review.page.read_text()


def test_samples_beside_a_suspect_are_of_its_class_told_right_and_no_suspects(make_run: Callable[..., Path]) -> None:
    review = labels(make_run({"folds": {"blue/blue-004.png": "red"}}))
    data = page_data(review.page)
    samples = data["labels"]["samples"]
    assert {CLASSES[int(number)] for number in samples} == {"blue", "red"}
    for number, found in samples.items():
        assert len({one["path"] for one in found}) == 3
        assert all(one["path"].startswith(CLASSES[int(number)]) and one["path"] != "blue/blue-004.png" for one in found)
        assert all(isinstance(one["picture"], int) for one in found)


def test_pictures_that_are_gone_or_changed_say_so(make_run: Callable[..., Path], folder: Path) -> None:
    run = make_run({"folds": {"blue/blue-004.png": "red", "red/red-005.png": "green"}})
    (folder / "blue" / "blue-004.png").unlink()
    (folder / "red" / "red-005.png").write_bytes((folder / "red" / "red-006.png").read_bytes())
    told = {one["path"]: one["picture"] for one in page_data(labels(run).page)["labels"]["suspects"]}
    assert told == {"blue/blue-004.png": "picture no longer there", "red/red-005.png": "picture has changed since"}


def test_a_table_that_was_the_source_is_looked_for_beside_its_pictures(make_run: Callable[..., Path], folder: Path) -> None:
    run = make_run({"folds": {"blue/blue-004.png": "red"}}, folder=str(folder / "table.csv"))
    assert isinstance(page_data(labels(run).page)["labels"]["suspects"][0]["picture"], int)


def test_a_run_without_answers_and_a_silly_number_are_refused(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run({})
    with pytest.raises(RunError, match="sightline evaluate"):
        labels(run)
    with pytest.raises(SettingsError, match="--most"):
        labels(run, most=0)
    with pytest.raises(RunError, match="not a run folder"):
        labels(tmp_path / "nothing")


def test_a_network_that_is_often_wrong_is_told(make_run: Callable[..., Path]) -> None:
    wrong = {f"blue/blue-{i:03d}.png": "red" for i in range(2, 16)}
    review = labels(make_run({"folds": wrong}))
    for said in (review.text(), review.page.read_text()):
        assert "Expect most flags to be false alarms: the network agrees with only 66.7 % of the labels" in said
        assert "About half" not in said


def test_a_network_that_is_mostly_right_is_not_doubted(make_run: Callable[..., Path]) -> None:
    review = labels(make_run({"folds": {"blue/blue-004.png": "red"}}))
    for said in (review.text(), review.page.read_text()):
        assert "About half of such flags are false alarms" in said
        assert "Expect most" not in said


def test_what_corrections_dropped_is_not_judged_although_a_fold_judged_it(make_run: Callable[..., Path]) -> None:
    run = make_run({"folds": {"blue/blue-004.png": "red"}})
    images = pl.read_parquet(run / "images.parquet")
    gone = pl.when(pl.col("path") != "blue/blue-004.png").then("split")
    images.with_columns(split=gone).write_parquet(run / "images.parquet")
    review = labels(run)
    assert (review.judged, review.images, len(review.suspects)) == (41, 41, 0)


def page_data(page: Path) -> Any:
    """The JSON inside a page."""
    found = re.search(r'id="page-data"[^>]*>(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])
