"""What a classifier has to beat: the share of the most frequent class, by scikit-learn's dummy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier

from sightline.evaluation.baseline import baseline_sentence, most_frequent
from sightline.evaluation.metrics import evaluate
from sightline.evaluation.predictions import Predictions
from sightline.evaluation.text import classification_report, summary


def judged(labels: list[int], called: list[int], names: tuple[str, ...] = ("cat", "dog", "fox")) -> dict[str, Any]:
    rows = np.full((len(labels), len(names)), 0.1 / (len(names) - 1))
    rows[np.arange(len(labels)), called] = 0.9
    return evaluate(Predictions(tuple(map(str, range(len(labels)))), rows, names, np.array(labels)), resamples=20)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_scikit_learns_dummy_reaches(seed: int) -> None:
    labels = np.random.default_rng(seed).choice(3, 50, p=[0.2, 0.5, 0.3])
    dummy = DummyClassifier(strategy="most_frequent").fit(labels[:, None], labels)
    name, share = most_frequent(judged(labels.tolist(), labels.tolist()))
    assert share == pytest.approx(dummy.score(labels[:, None], labels))
    assert name == ("cat", "dog", "fox")[int(dummy.predict(labels[:1, None])[0])]


def test_a_network_that_guesses_is_told_and_one_that_has_learned_is_not() -> None:
    labels = [0] * 9 + [1] * 9 + [2] * 9
    told = baseline_sentence(judged(labels, [1] * 27))
    assert told == "To call every image cat would be right in 33.3 %: by accuracy this classifier is not shown to do better."
    assert told in summary(judged(labels, [1] * 27)).splitlines()
    assert baseline_sentence(judged(labels, labels)) is None
    assert "every image" not in summary(judged(labels, labels))


def test_of_one_class_alone_there_is_nothing_to_beat() -> None:
    assert baseline_sentence(judged([1] * 9, [1] * 9)) is None


def test_the_full_report_has_it_under_the_accuracy() -> None:
    lines = classification_report(judged([0] * 6 + [1] * 2, [0] * 6 + [1] * 2)).splitlines()
    at = next(k for k, line in enumerate(lines) if line.startswith("accuracy"))
    assert lines[at + 1].split() == ["to", "say", "always", "cat", "75.0", "%"]
