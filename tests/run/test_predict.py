"""Predicting, evaluating and loading a trained classifier; what was trained is what is used."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

import sightline
from sightline.classifier import Classifier
from sightline.data.batches import plain_batches
from sightline.device import choose
from sightline.errors import DataError, RunError, SettingsError, UnreadableImage
from sightline.evaluation.conformal import PredictionSets
from sightline.evaluation.novelty import Novelty
from sightline.evaluation.predictions import Predictions
from sightline.models.features import features_of, listening
from sightline.models.inference import EVAL_BATCH
from sightline.run.evaluate import evaluate
from sightline.run.predict import check_places, find_inputs, predict
from sightline.run.reopen import reopen
from sightline.run.stages import plain_logits
from sightline.run.task import Task
from sightline.run.thresholds import choose_thresholds
from sightline.run.train import train
from sightline.settings import DeviceSettings


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]) -> tuple[Path, Path]:
    """A folder and a run on it."""
    place = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIGHTLINE_CACHE", str(place / "cache"))
        folder = write_images(place / "photos", {"blue": 24, "green": 24, "red": 24})
        words = ["model.name=sightline_tiny", "train.epochs=6", "train.batch_size=8", "device.threads=1", "train.tensorboard=false"]
        train(folder, words, run=place / "run")
    return folder, place / "run"


def test_it_learned_the_colours(trained: tuple[Path, Path]) -> None:
    _, run = trained
    metrics = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
    assert metrics["macro_f1"]["value"] > 0.9


def test_predicting_from_files_gives_what_evaluation_from_the_store_gave(trained: tuple[Path, Path]) -> None:
    folder, run = trained
    kept = Predictions.load(run / "evaluation" / "test" / "predictions.parquet")
    found = Classifier.load(run).predict_proba([folder / path for path in kept.ids])
    np.testing.assert_allclose(found, kept.probabilities, atol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_one_folded_network_chooses_judges_and_is_loaded(
    tmp_path: Path, write_images: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """Bit for bit: the thresholds' logits, the figures of training, and those of the classifier in its folder."""
    asked: list[Any] = []

    def heard(task: Task, shift: Any) -> Any:
        asked.append((task.network, plain_logits(task)))
        return choose_thresholds(task, shift)

    monkeypatch.setattr("sightline.run.fit.choose_thresholds", heard)
    folder = write_images(tmp_path / "photos", {"blue": 20, "green": 20})
    words = ["model.name=simpsons_residual", "train.epochs=1", f"device.precision={precision}", "device.threads=1"]
    run = train(folder, [*words, "train.tensorboard=false"], run=tmp_path / "run").run
    kept = Predictions.load(run.evaluation("val") / "predictions.parquet")
    loaded = Classifier.load(run.root, choose(DeviceSettings(precision=precision, threads=1)))
    ((network, logits),) = asked
    for one in (network, loaded.answering):
        assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in one.modules())
    prepared = reopen(run, run.read_config())
    batches = plain_batches(prepared.pixels, prepared.split.rows("val"), loaded.preprocess.view, EVAL_BATCH, torch.device("cpu"))
    found = loaded.logits(batches)
    assert np.array_equal(found, logits)
    assert np.array_equal(loaded.probabilities(found), kept.probabilities)


def test_the_files_hold_the_weights_as_they_were_trained(trained: tuple[Path, Path], tmp_path: Path) -> None:
    _, run = trained
    before = (run / "classifier" / "model.safetensors").read_bytes()
    classifier = Classifier.load(run)
    assert len(classifier.answering.state_dict()) < len(classifier.network.state_dict())
    classifier.save(tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == before


def test_the_classifier_folder_alone_will_do_wherever_it_is(trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder, run = trained
    shutil.copytree(run / "classifier", tmp_path / "elsewhere")
    picture = folder / "blue" / "blue-000.png"
    assert sightline.load(tmp_path / "elsewhere").predict([picture]) == ["blue"]
    assert Classifier.load(run).score([picture], ["blue"]) == 1.0


def test_the_file_name_says_nothing(trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder, run = trained
    shutil.copy(folder / "red" / "red-001.png", tmp_path / "red.jpg")
    assert Classifier.load(run).predict([tmp_path / "red.jpg"]) == ["red"]


def test_unreadable_inputs_have_a_row_with_the_reason(trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder, run = trained
    (tmp_path / "bad.png").write_bytes(b"rubbish")
    report = predict(run, [folder / "red" / "red-000.png", tmp_path / "bad.png", folder / "blue" / "blue-000.png"], top=2)
    rows = report.rows()
    assert [bool(r["predictions"]) for r in rows] == [True, False, True]
    assert rows[1]["reason"]
    assert rows[0]["predictions"][0]["class"] == "red"
    assert rows[2]["predictions"][0]["class"] == "blue"
    assert len(rows[0]["predictions"]) == 2
    with pytest.raises(UnreadableImage, match=r"bad\.png"):
        Classifier.load(run).predict([tmp_path / "bad.png"])


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_answers_are_written_in_each_format(trained: tuple[Path, Path], tmp_path: Path, suffix: str) -> None:
    folder, run = trained
    out = tmp_path / f"answers{suffix}"
    report = predict(run, [folder / "red"], top=2)
    report.write(out)
    if suffix == ".json":
        written = json.loads(out.read_text())
        assert written == report.to_json()
        assert [r["predictions"][0]["class"] for r in written["predictions"]] == ["red"] * 24
        return
    frame = pl.read_csv(out) if suffix == ".csv" else pl.read_parquet(out)
    assert frame.columns == [
        "path",
        "predicted",
        "confidence",
        "predicted_2",
        "confidence_2",
        "reason",
        "set",
        "abstain",
        "novelty",
        "novelty_threshold",
    ]
    assert frame["predicted"].to_list() == ["red"] * 24
    assert (frame["confidence"] >= frame["confidence_2"]).all()


# ---- prediction sets, novelty, abstaining ----------------------------------------------------------------------------


WIDE = PredictionSets(0.9, (1.0, 1.0, 1.0), (False,) * 3, 40)  # whatever the image, all three
NARROW = PredictionSets(0.9, (0.0, 0.0, 0.0), (False,) * 3, 40)  # the likeliest alone


def with_thresholds(run: Path, place: Path, sets: PredictionSets | None, threshold: float | None) -> Path:
    """A copy of the classifier with these; novelty measures the energy alone, as every direction is as far."""
    classifier = replace(Classifier.load(run), sets=sets, novelty=None)
    width = features_of(classifier.answering, [torch.zeros(1, 3, 16, 16)], classifier.device).shape[1]  # type: ignore[arg-type]
    if threshold is not None:
        novelty = Novelty(threshold, 0.95, 40, (0.0, 1.0), (5.0, 6.0), np.ones((3, width), dtype=np.int16))
        classifier = replace(classifier, novelty=novelty)
    classifier.save(place)
    return place


def test_an_image_that_could_be_several_abstains_and_names_them_likeliest_first(trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder, run = trained
    (tmp_path / "bad.png").write_bytes(b"rubbish")
    place = with_thresholds(run, tmp_path / "wide", WIDE, threshold=1e9)
    report = predict(place, [tmp_path / "bad.png", folder / "red" / "red-000.png"], top=3)
    bad, row = report.rows()
    assert (bad["set"], bad["abstain"], bad["novelty"]) == (None, None, None)
    names = [answer["class"] for answer in row["predictions"]]
    assert names[0] == "red"
    assert row["set"] == names
    assert row["abstain"] == f"could be red, {names[1]} or {names[2]}"
    assert f"abstains: {row['abstain']}" in report.text()
    frame = report.frame()
    assert frame["set"].to_list() == [None, "|".join(names)]
    assert frame["abstain"].to_list() == [None, row["abstain"]]
    assert frame["novelty"].to_list() == [None, row["novelty"]]
    for suffix in (".csv", ".parquet", ".json"):
        report.write(tmp_path / f"answers{suffix}")
    assert json.loads((tmp_path / "answers.json").read_text())["predictions"] == [bad, row]
    assert pl.read_csv(tmp_path / "answers.csv")["set"].to_list() == frame["set"].to_list()
    assert pl.read_parquet(tmp_path / "answers.parquet").equals(frame)
    assert report.abstained() == report.to_json()["abstained"] == {"could be several classes": 1}
    assert report.summary() == "2 images, 1 of them cannot be read, 1 abstains (1 could be several classes)"
    assert report.to_json()["novelty"] == {"middle": 0.0, "threshold": 1e9}
    assert frame["novelty_threshold"].to_list() == [1e9, 1e9]
    report.plot(tmp_path / "plots")


def test_a_strange_image_abstains_whatever_its_set(trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder, run = trained
    picture = folder / "red" / "red-000.png"
    plain = predict(with_thresholds(run, tmp_path / "a", NARROW, threshold=1e9), [picture]).rows()[0]
    assert (plain["set"], plain["abstain"]) == (["red"], None)
    logits = Classifier.load(run).classify([picture]).logits
    assert plain["novelty"] == pytest.approx(-np.log(np.exp(logits.astype(float)).sum()))
    for sets in (NARROW, WIDE, None):
        row = predict(with_thresholds(run, tmp_path / f"b{id(sets)}", sets, plain["novelty"] - 1e-6), [picture]).rows()[0]
        assert row["abstain"] == "unlike the training images"
        assert row["predictions"] == plain["predictions"]
    assert row["set"] is None
    row = predict(with_thresholds(run, tmp_path / "c", NARROW, plain["novelty"]), [picture]).rows()[0]
    assert row["abstain"] is None  # at the threshold, not above it


def test_without_thresholds_nothing_abstains(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """As with a classifier of an older version, whose card has no such entries."""
    folder, run = trained
    place = with_thresholds(run, tmp_path / "old", None, None)
    card = json.loads((place / "model.json").read_text())
    del card["sets"], card["novelty"]
    (place / "model.json").write_text(json.dumps(card))
    row = predict(place, [folder / "red" / "red-000.png"]).rows()[0]
    assert (row["set"], row["abstain"], row["novelty"]) == (None, None, None)
    assert row["predictions"][0]["class"] == "red"


def test_of_many_classes_the_reason_names_three(trained: tuple[Path, Path]) -> None:
    classifier = Classifier.load(trained[1])
    assert classifier._either(["a", "b"]) == "a or b"
    assert classifier._either(["a", "b", "c", "d"]) == "a, b, c or d"
    assert classifier._either(["a", "b", "c", "d", "e"]) == "a, b, c or one of 2 more"


def test_thresholds_are_saved_and_come_back(trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder, run = trained
    place = with_thresholds(run, tmp_path / "x", NARROW, threshold=0.5)
    back = Classifier.load(place)
    assert back.sets == NARROW
    assert back.novelty is not None
    assert back.novelty.threshold == 0.5
    back.save(tmp_path / "y")
    assert (tmp_path / "y" / "model.json").read_bytes() == (place / "model.json").read_bytes()
    before, after = (Classifier.load(one).predict_proba([folder / "red" / "red-000.png"]) for one in (run, place))
    assert np.array_equal(before, after)


@pytest.mark.parametrize(
    "change",
    [
        {"sets": {"method": "aps", "level": 0.9, "thresholds": [0.5], "own": [False], "images": 40}},
        {"sets": {"method": "aps", "level": 0.9, "thresholds": [0.5, 0.5, 2], "own": [False] * 3, "images": 40}},
        {"sets": []},
        {"sets": {"method": "aps"}},
        {"novelty": {"method": "none"}},
        {"novelty": 3},
        {"novelty": {"directions": ["1 2", "2 1"]}},
    ],
)
def test_damaged_thresholds_are_refused(trained: tuple[Path, Path], tmp_path: Path, change: dict[str, Any]) -> None:
    place = with_thresholds(trained[1], tmp_path / "x", NARROW, threshold=0.5)
    card = json.loads((place / "model.json").read_text())
    if isinstance(change.get("novelty"), dict):
        change = {"novelty": card["novelty"] | change["novelty"]}
    (place / "model.json").write_text(json.dumps(card | change))
    with pytest.raises(RunError, match="does not describe its weights"):
        Classifier.load(place)


def test_views_of_one_image_have_one_novelty(trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder, run = trained
    pictures = sorted((folder / "red").glob("*.png"))[:5]
    classifier = Classifier.load(with_thresholds(run, tmp_path / "x", NARROW, threshold=1e9))
    found = classifier.classify(pictures, views=4)
    assert found.novelty is not None
    assert found.novelty == pytest.approx(-np.log(np.exp(found.logits.astype(float)).sum(axis=1)), rel=1e-5)


def test_batches_are_scored_each_with_its_own_features(trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The distance, in batches of three and with unreadable files between, is that of all features at once."""
    folder, run = trained
    pictures = sorted(folder.rglob("*.png"))[::9]
    plain = replace(Classifier.load(run), sets=None, novelty=None)
    with listening(plain.answering) as heard:  # type: ignore[arg-type]
        logits = plain.classify(pictures).logits
    directions = np.random.default_rng(0).integers(-99, 99, (3, heard.width)).astype(np.int16)
    novelty = Novelty(0.0, 0.95, 40, (0.0, 1e9), (0.0, 1.0), directions)
    monkeypatch.setattr("sightline.classifier._BATCH", 3)
    answers = replace(plain, novelty=novelty).classify([pictures[0], folder, *pictures[1:]])
    assert list(answers.unreadable) == [1]
    assert answers.novelty == pytest.approx(novelty.scores(logits, novelty.distances(heard.features())), abs=1e-5)
    none = replace(plain, novelty=novelty, sets=NARROW).classify([])
    assert (len(none.novelty), len(none.sets), none.abstain) == (0, 0, ())  # type: ignore[arg-type]


def test_another_format_is_refused(trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder, run = trained
    with pytest.raises(SettingsError, match=r"\.csv, \.json or \.parquet"):
        predict(run, [folder / "red"]).write(tmp_path / "answers.xlsx")


def test_pictures_are_drawn_one_an_image_even_where_names_repeat(trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder, run = trained
    (tmp_path / "other").mkdir()
    shutil.copy(folder / "red" / "red-000.png", tmp_path / "other" / "red-000.png")
    report = predict(run, [folder / "red" / "red-000.png", tmp_path / "other" / "red-000.png"])
    drawn = report.plot(tmp_path / "plots")
    assert [p.name for p in drawn] == ["red-000.png", "red-000-2.png"]
    with Image.open(drawn[1]) as picture:
        assert picture.size[0] > 300


def test_a_submission_file_keeps_its_columns_and_rows_and_matches_names_without_suffix(trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder, run = trained
    template = tmp_path / "sample.csv"
    template.write_text("Id,Expected,note\nred-003.png,?,a\nblue-001,?,b\nred-000.jpg,?,c\n")
    report = predict(run, [folder / "red", folder / "blue"])
    assert report.fill(template) == "Id,Expected,note\nred-003.png,red,a\nblue-001,blue,b\nred-000.jpg,red,c\n"


def test_a_submission_file_with_unknown_or_ambiguous_names_is_refused(trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder, run = trained
    template = tmp_path / "sample.csv"
    template.write_text("Id,Expected\nnobody.png,?\n")
    report = predict(run, [folder / "red"])
    with pytest.raises(DataError, match=r"1 files that were not given to predict, such as nobody\.png"):
        report.fill(template)
    template.write_text("Id\nred-000.png\n")
    with pytest.raises(DataError, match="one column"):
        report.fill(template)
    (tmp_path / "more").mkdir()
    shutil.copy(folder / "red" / "red-000.png", tmp_path / "more" / "red-000.png")
    template.write_text("Id,Expected\nred-000.png,?\n")
    with pytest.raises(DataError, match="fits several files"):
        predict(run, [folder / "red", tmp_path / "more"]).fill(template)


def test_inputs_are_files_folders_and_patterns(trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = trained
    (tmp_path / "text.txt").write_text("x")
    found, left_out = find_inputs(
        [folder / "red" / "red-001.png", folder / "blue", str(folder / "green" / "green-00[12].png"), tmp_path / "text.txt"]
    )
    assert len(found) == 1 + 24 + 2 + 1
    assert left_out == {}
    assert find_inputs([tmp_path / "text.txt"])[0] == [tmp_path / "text.txt"]
    for wrong, sentence in (("nowhere.png", "no file or folder"), ("*.nothing", "No file fits")):
        with pytest.raises(DataError, match=sentence):
            find_inputs([wrong])
    with pytest.raises(DataError, match=r"nowhere\.png \(1 more are not there either\)"):
        find_inputs(["nowhere.png", "nor-here.png"])
    with pytest.raises(DataError, match="No image was given"):
        find_inputs([])


def test_one_mistyped_path_has_its_row_and_stops_nothing(trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder, run = trained
    report = predict(run, [folder / "red" / "red-000.png", tmp_path / "mistyped.png", str(tmp_path / "*.jpg")], top=1)
    there, mistyped, pattern = report.rows()
    assert there["predictions"][0]["class"] == "red"
    assert mistyped["reason"] == pattern["reason"] == "cannot be opened: No such file or directory"
    assert report.to_json()["unreadable"] == 2


def test_nothing_is_written_among_the_images_that_it_was_trained_on(trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder, run = trained
    before = sorted(folder.rglob("*"))
    report = predict(run, [folder / "red" / "red-000.png"])
    with pytest.raises(RunError, match="never written to: choose another place with --out"):
        report.write(folder / "red" / "answers.csv")
    with pytest.raises(RunError, match="never written to: choose another place with --plot"):
        report.plot(folder / "plots")
    for out, plot in ((str(folder / "a.csv"), None), (None, str(folder / "plots"))):
        with pytest.raises(RunError, match="never written to"):
            check_places(run, out, plot, None)
    with pytest.raises(SettingsError, match="must end in"):
        check_places(run, "answers.xlsx", None, None)
    check_places(run, "answers", None, "template.csv")
    check_places(run / "classifier", str(folder / "a.csv"), None, None)  # nobody knows where its images are
    assert sorted(folder.rglob("*")) == before


def test_evaluating_the_run_again_gives_the_same_figures_and_is_noted(trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    _, run = trained
    monkeypatch.setenv("SIGHTLINE_CACHE", str(run.parent / "cache"))
    before = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
    assert evaluate(run) == before
    assert (run / "ledger.jsonl").read_text().count('"evaluated"') == 2


def test_another_folder_is_evaluated_by_names_and_its_twins_are_known(
    trained: tuple[Path, Path], tmp_path: Path, write_images: Callable[..., Path]
) -> None:
    folder, run = trained
    other = write_images(tmp_path / "other", {"red": 6, "blue": 5, "yellow": 3}, seed=5)
    images = pl.read_parquet(run / "images.parquet").filter((pl.col("split") == "train") & (pl.col("label") == "red"))
    shutil.copy(folder / images["path"][0], other / "red" / "twin.png")
    (other / "red" / "broken.png").write_bytes(b"x")
    (other / "red" / "notes.txt").touch()
    metrics = evaluate(run, other)
    assert metrics["n"] == 12
    assert metrics["found"]["left_out"] == {
        "of a class that the classifier does not know: yellow": 3,
        "not an image of a supported format (JPEG, PNG, WEBP, BMP, GIF, TIFF, AVIF)": 1,
    }
    report = (run / "evaluation" / "other" / "report.txt").read_text()
    assert "16 images found: 12 judged, 4 left out.\n  left out: 3 of a class" in report
    assert "Passed over: 1 not an image." in report
    assert metrics["leak_free"]["n"] == 11
    assert metrics["accuracy"]["value"] > 0.8
    assert metrics["not_evaluated"] == ["green"]
    assert (run / "evaluation" / "other" / "report.txt").exists()
    with pytest.raises(DataError, match="none of the classes"):
        evaluate(run, write_images(tmp_path / "strange", {"cat": 2, "dog": 2}))


def test_of_a_folder_with_parts_of_its_own_all_images_are_judged(
    trained: tuple[Path, Path], tmp_path: Path, write_images: Callable[..., Path]
) -> None:
    write_images(tmp_path / "other" / "train", {"red": 2}, seed=5)
    write_images(tmp_path / "other" / "test", {"red": 2, "blue": 5}, seed=6)
    metrics = evaluate(trained[1], tmp_path / "other", out=tmp_path / "figures")
    assert (metrics["n"], metrics["not_evaluated"], metrics["found"]["left_out"]) == (9, ["green"], {})
    assert "Its parts, train and test, are taken together." in (tmp_path / "figures" / "report.txt").read_text()
    alone = evaluate(trained[1], tmp_path / "other" / "train", out=tmp_path / "figures")
    assert (alone["n"], alone["evaluated_classes"]) == (2, 1)


def test_damaged_classifiers_are_refused_whole(trained: tuple[Path, Path], tmp_path: Path) -> None:
    _, run = trained
    copy = tmp_path / "copy"

    def fresh() -> Path:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run / "classifier", copy)
        return copy

    weights = fresh() / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 4
    weights.write_bytes(data)
    with pytest.raises(RunError, match="digest differs"):
        Classifier.load(copy)
    (fresh() / "model.safetensors").unlink()
    with pytest.raises(RunError, match=r"model\.safetensors is missing"):
        Classifier.load(copy)
    card = json.loads((fresh() / "model.json").read_text())
    for change in ({"format": 99}, {"classes": ["a"]}, {"spec": {"name": "nonsense"}}, {"preprocess": {}}):
        (copy / "model.json").write_text(json.dumps({**card, **change}))
        with pytest.raises(RunError):
            Classifier.load(copy)
    (copy / "model.json").write_text("not json")
    with pytest.raises(RunError, match="cannot be read"):
        Classifier.load(copy)
    with pytest.raises(RunError, match="holds no classifier"):
        Classifier.load(tmp_path)


def test_exif_and_alpha_reach_the_network_upright_and_over_grey(trained: tuple[Path, Path], tmp_path: Path) -> None:
    _, run = trained
    buffer = io.BytesIO()
    picture = Image.new("RGB", (16, 8), (210, 40, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(buffer, "JPEG", exif=exif, quality=95)
    (tmp_path / "turned.jpg").write_bytes(buffer.getvalue())
    Image.new("RGBA", (16, 16), (255, 0, 0, 0)).save(tmp_path / "hidden-red.png")
    Image.new("RGBA", (16, 16), (0, 0, 255, 0)).save(tmp_path / "hidden-blue.png")
    probabilities = Classifier.load(run).predict_proba([tmp_path / f"hidden-{c}.png" for c in ("red", "blue")])
    assert np.array_equal(probabilities[0], probabilities[1])
    assert Classifier.load(run).predict([tmp_path / "turned.jpg"]) == ["red"]
