"""What validation decides: one pass, three thresholds, and sentences where it is too small for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sightline.classifier import Classifier
from sightline.evaluation.calibration import fit_temperature, softmax
from sightline.evaluation.conformal import fit_sets
from sightline.evaluation.novelty import fit_novelty
from sightline.run.folder import RunFolder
from sightline.run.reopen import reopen
from sightline.run.task import Task
from sightline.run.thresholds import choose_thresholds, thresholds_from
from sightline.run.train import train


def drawn(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, features and labels of three classes that overlap."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 3
    features = np.eye(3)[labels] + 0.5 * rng.normal(size=(n, 3))
    return (3 * features).astype(np.float32), features.astype(np.float32), labels


def test_each_threshold_is_that_of_its_own_file() -> None:
    logits, features, labels = drawn(200)
    found = thresholds_from(logits, features, labels)
    assert found.temperature == fit_temperature(logits, labels)
    assert found.sets == fit_sets(softmax(logits, found.temperature.value), labels)
    expected = fit_novelty(logits, features, labels)
    assert found.novelty is not None
    assert expected is not None
    assert found.novelty.to_json() == expected.to_json()
    assert found.notes == ()


def test_validation_too_small_is_told_thing_by_thing() -> None:
    logits, features, labels = drawn(8)
    found = thresholds_from(logits, features, labels)
    assert (found.temperature.value, found.sets, found.novelty) == (1, None, None)
    assert [note.split(":")[0] for note in found.notes] == ["Calibration", "Prediction sets", "Novelty"]
    assert "8 images are too few to fit a temperature (30 are needed); the temperature stays 1" in found.notes[0]
    assert "8 validation images are too few for them (9 are needed)" in found.notes[1]
    logits, features, labels = drawn(24)
    found = thresholds_from(logits, features, labels)
    assert found.sets is not None
    assert [note.split(":")[0] for note in found.notes] == ["Calibration", "Novelty"]
    (calibration, *_) = thresholds_from(logits[:1], features[:1], labels[:1]).notes
    assert "1 image is too few" in calibration


def test_one_pass_over_val_gives_what_the_classifier_says_of_these_images(
    tmp_path: Path, write_images: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the stored pixels, with a shift, and again from the files: scores, sets and the share that is called strange."""
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    folder = write_images(tmp_path / "photos", {"blue": 80, "green": 80, "red": 80})
    words = ["model.name=sightline_tiny", "train.epochs=1", "device.threads=1", "train.tensorboard=false", "train.judge=false"]
    run = train(folder, words, run=tmp_path / "run").run
    classifier, prepared = Classifier.load(run.root), reopen(RunFolder.open(run.root), run.read_config())
    task = Task(classifier.network, False, prepared, classifier.preprocess.view, classifier.device, print)  # type: ignore[arg-type]
    shift = np.array([0.5, 0.0, -0.5], dtype=np.float32)
    found = choose_thresholds(task, shift)
    assert found.sets is not None
    assert found.novelty is not None
    judge = replace(classifier, temperature=found.temperature.value, shift=tuple(shift.tolist()), sets=found.sets, novelty=found.novelty)
    rows = prepared.split.rows("val")
    answers = judge.classify([folder / path for path in prepared.table.usable["path"].gather(rows)])
    assert answers.sets is not None
    assert answers.novelty is not None
    labels = prepared.labels[rows]
    again = fit_sets(answers.probabilities, labels)
    assert again is not None
    assert found.sets.thresholds == pytest.approx(again.thresholds, abs=1e-6)
    assert answers.sets[np.arange(len(rows)), labels].mean() >= 0.9
    strange = (answers.novelty > found.novelty.threshold).mean()
    assert strange <= 0.06  # each image is in its own class's mean here, so at most what the threshold was set for
    said = np.array([reason == "unlike the training images" for reason in answers.abstain])
    assert np.array_equal(said, answers.novelty > found.novelty.threshold)
