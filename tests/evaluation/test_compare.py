"""Comparing classifiers: tests and intervals against trusted ones, and sentences that do not claim too much."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from sightline.errors import DataError
from sightline.evaluation.compare import compare
from sightline.evaluation.metrics import evaluate
from sightline.evaluation.paired import holm, mcnemar
from sightline.evaluation.predictions import Predictions
from sightline.evaluation.repeats import summarise_repeats


def said(labels: Any, predicted: Any, k: int, ids: Any = None, sure: float = 0.9) -> Predictions:
    """Predictions with the same probability on each predicted class."""
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    rows = np.full((len(labels), k), (1 - sure) / (k - 1))
    rows[np.arange(len(labels)), predicted] = sure
    names = tuple(f"{i:05d}.jpg" for i in range(len(labels))) if ids is None else tuple(ids)
    return Predictions(names, rows, tuple(f"c{c}" for c in range(k)), labels)


def answers(rng: np.random.Generator, labels: np.ndarray, k: int, right: float) -> np.ndarray:
    """Classes that are the label with this probability, else another."""
    return np.where(rng.random(len(labels)) < right, labels, (labels + rng.integers(1, k, len(labels))) % k)


@pytest.fixture(scope="module")
def pair() -> tuple[Predictions, Predictions]:
    """600 images of 4 classes; the second mends a third of the first's mistakes and makes few of its own."""
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 600, p=[0.5, 0.3, 0.15, 0.05])
    first = answers(rng, labels, 4, 0.8)
    second = np.where((first != labels) & (rng.random(600) < 0.35), labels, first)
    spoiled = rng.random(600) < 0.02
    return said(labels, first, 4), said(labels, np.where(spoiled, (labels + 1) % 4, second), 4, sure=0.8)


def test_every_difference_is_that_of_the_figures(pair: tuple[Predictions, Predictions]) -> None:
    first, second = pair
    found = compare({"A": first, "B": second}, resamples=400)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    (one,) = found["pairs"]
    y, a, b = first.labels, first.predicted(), second.predicted()
    expected = {
        "accuracy": np.mean(b == y) - np.mean(a == y),
        "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(y, b) - sklearn.metrics.balanced_accuracy_score(y, a),
        "macro_f1": sklearn.metrics.f1_score(y, b, average="macro") - sklearn.metrics.f1_score(y, a, average="macro"),
        "log_loss": sklearn.metrics.log_loss(y, second.probabilities) - sklearn.metrics.log_loss(y, first.probabilities),
    }
    for name, value in expected.items():
        figure = one["differences"][name]
        assert figure["value"] == pytest.approx(value), name
        assert figure["low"] < value < figure["high"]
        assert found["runs"][1][name] == evaluate(second, resamples=400)[name]
    assert (one["only_first"], one["only_second"]) == (np.sum((a == y) & (b != y)), np.sum((a != y) & (b == y)))
    assert one["p"] == mcnemar(one["only_first"], one["only_second"])
    for k, row in enumerate(one["per_class"]):
        here = y == k
        assert row["support"] == here.sum()
        assert row["recall"]["value"] == pytest.approx(np.mean(b[here] == k) - np.mean(a[here] == k))
        assert row["p"] == mcnemar(row["only_first"], row["only_second"])
    assert [row["p_holm"] for row in one["per_class"]] == holm([row["p"] for row in one["per_class"]])


def test_the_interval_is_that_of_a_plain_paired_bootstrap(pair: tuple[Predictions, Predictions]) -> None:
    """Drawn image by image; macro F1 and log loss, which no closed interval widens."""
    first, second = pair
    y, a, b = first.labels, first.predicted(), second.predicted()
    rng, plain = np.random.default_rng(9), []
    for _ in range(250):
        rows = rng.integers(0, 600, 600)
        f1 = [sklearn.metrics.f1_score(y[rows], answer[rows], average="macro") for answer in (b, a)]
        loss = [np.mean(-np.log(one.probabilities[rows, y[rows]])) for one in (second, first)]
        plain.append([f1[0] - f1[1], loss[0] - loss[1]])
    found = compare({"A": first, "B": second}, resamples=2000)["pairs"][0]["differences"]
    for name, column in zip(("macro_f1", "log_loss"), np.array(plain).T, strict=True):
        low, high = np.quantile(column, [0.025, 0.975])
        assert [found[name]["low"], found[name]["high"]] == pytest.approx([low, high], abs=0.3 * (high - low))


def test_the_sentence_says_which_is_better_and_by_how_much(pair: tuple[Predictions, Predictions]) -> None:
    first, second = pair
    found = compare({"A": first, "B": second})
    figure = found["pairs"][0]["differences"]["accuracy"]
    value, low, high = (100 * figure[name] for name in ("value", "low", "high"))
    assert low > 0
    assert found["pairs"][0]["sentence"] == f"B is better than A by {value:.1f} points of accuracy ({low:.1f} to {high:.1f})."
    assert found["best"].endswith("and is more accurate than the other.")
    turned = compare({"B": second, "A": first})
    assert turned["pairs"][0]["sentence"] == found["pairs"][0]["sentence"]
    assert turned["pairs"][0]["differences"]["accuracy"]["value"] == -figure["value"]


def test_too_few_images_say_so() -> None:
    labels = np.arange(30) % 3
    first, second = labels.copy(), labels.copy()
    first[:4], second[4:6] = (labels[:4] + 1) % 3, (labels[4:6] + 1) % 3
    found = compare({"A": said(labels, first, 3), "B": said(labels, second, 3)})
    assert found["pairs"][0]["sentence"].startswith(
        "Too few images to say whether A or B is better: on 30 images they differ by 6.7 points"
    )
    assert "too few images to say whether it is more accurate than A" in found["best"]
    assert found["pairs"][0]["p"] > 0.5


def test_where_rare_classes_see_it_otherwise_the_sentence_says_so() -> None:
    """The second gives up 40 of 600 common images to know 20 rare ones."""
    labels = np.repeat([0, 1], [600, 20])
    first, second = np.zeros(620, dtype=int), labels.copy()
    second[:40] = 1
    for called, better, worse in (((first, second), "A", "B"), ((second, first), "B", "A")):
        found = compare({name: said(labels, answer, 2) for name, answer in zip("AB", called, strict=True)}, resamples=300)
        accuracy, f1 = (found["pairs"][0]["differences"][name] for name in ("accuracy", "macro_f1"))
        sign = 1 if better == "B" else -1
        assert sign * accuracy["value"] == pytest.approx(20 / 620)
        assert sign * f1["value"] < 0
        start = f"{better} is better than {worse} by 3.2 points of accuracy ("
        assert found["pairs"][0]["sentence"].startswith(start)
        ends = sorted(abs(100 * f1[name]) for name in ("low", "high"))
        words = f", but worse by {abs(100 * f1['value']):.1f} points of macro F1 ({ends[0]:.1f} to {ends[1]:.1f}), in which rare classes"
        assert words in found["pairs"][0]["sentence"].replace("-", "")
        assert found["best"].endswith(
            f"{worse} has the highest macro F1, {100 * max(row['macro_f1']['value'] for row in found['runs']):.1f} %."
        )


def test_macro_f1_alone_may_be_able_to_say() -> None:
    labels = np.repeat([0, 1], [600, 20])
    first, second = np.zeros(620, dtype=int), labels.copy()
    second[:18] = 1
    sentence = compare({"A": said(labels, first, 2), "B": said(labels, second, 2)}, resamples=300)["pairs"][0]["sentence"]
    assert sentence.startswith("Too few images to say whether A or B is better: on 620 images they differ by 0.3 points of accuracy (")
    assert "; but B is better by " in sentence
    assert sentence.endswith(").")


def test_a_rare_class_that_both_know_leaves_doubt() -> None:
    """Two images of a class, right both times: no resample shows a difference, but there may be one."""
    labels = [0] * 60 + [1] * 2
    one = said(labels, labels, 2)
    found = compare({"A": one, "B": said(labels, labels, 2, sure=0.8)})["pairs"][0]
    assert found["sentence"] == "A and B give the same answer for every image."
    assert found["differences"]["balanced_accuracy"]["low"] < -0.2
    assert found["differences"]["accuracy"]["low"] < -0.01
    assert found["per_class"][1]["recall"]["low"] < -0.4


def test_the_same_probabilities_differ_in_nothing_and_have_no_range() -> None:
    labels = [0] * 60 + [1] * 2
    one = said(labels, labels, 2)
    found = compare({"A": one, "B": one})["pairs"][0]
    assert found["sentence"] == "A and B give the same answer with the same probabilities for every image."
    assert all(figure == {"value": 0, "low": None, "high": None} for figure in found["differences"].values())


def test_the_same_answers_leave_macro_f1_without_a_range_that_no_resample_could_give() -> None:
    labels = [0] * 60 + [1] * 2
    found = compare({"A": said(labels, labels, 2), "B": said(labels, labels, 2, sure=0.8)})["pairs"][0]
    assert found["differences"]["macro_f1"] == {"value": 0, "low": None, "high": None}
    assert found["differences"]["log_loss"]["low"] is not None


def test_claims_are_rare_where_nothing_differs() -> None:
    """Two classifiers that are right equally often, 120 times: by accuracy or by macro F1, few are called different."""
    rng, claims = np.random.default_rng(0), 0
    for _ in range(120):
        labels = rng.integers(0, 3, 120)
        both = [said(labels, answers(rng, labels, 3, 0.85), 3) for _ in range(2)]
        sentence = compare({"A": both[0], "B": both[1]}, resamples=60)["pairs"][0]["sentence"]
        claims += "better than" in sentence or "is better by" in sentence
    assert claims <= 13  # 3 standard deviations above 5 in 100


def test_a_small_true_difference_is_found_by_pairing() -> None:
    """2 points on 3,000 images: the two intervals of the accuracies overlap, that of the difference is clear of 0."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 3000)
    first = answers(rng, labels, 5, 0.8)
    second = np.where((first != labels) & (rng.random(3000) < 0.1), labels, first)
    found = compare({"A": said(labels, first, 5), "B": said(labels, second, 5)}, resamples=500)
    assert found["runs"][0]["accuracy"]["high"] > found["runs"][1]["accuracy"]["low"]
    assert found["pairs"][0]["sentence"].startswith("B is better than A by ")


def test_several_are_compared_with_the_first_and_the_best_is_named() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 800)
    given = {name: said(labels, answers(rng, labels, 4, right), 4) for name, right in (("A", 0.6), ("B", 0.9), ("C", 0.9), ("D", 0.7))}
    found = compare(given, resamples=200)
    assert found["confidence"] == pytest.approx(1 - 0.05 / 6)
    assert [(one["first"], one["second"]) for one in found["pairs"]] == [("A", "B"), ("A", "C"), ("A", "D")]
    best = max(("B", "C"), key=lambda name: next(row for row in found["runs"] if row["name"] == name)["accuracy"]["value"])
    other = {"B": "C", "C": "B"}[best]
    assert found["best"].startswith(f"{best} has the highest accuracy, ")
    assert found["best"].endswith(f"too few images to say whether it is more accurate than {other}.")
    alone = compare({"A": given["A"], "B": given["B"]}, resamples=200)["pairs"][0]["differences"]["accuracy"]
    among = found["pairs"][0]["differences"]["accuracy"]
    assert among["high"] - among["low"] > alone["high"] - alone["low"]


def test_only_images_that_all_have_judged_count_and_their_order_does_not_matter(pair: tuple[Predictions, Predictions]) -> None:
    first, second = pair
    expected = compare({"A": first, "B": second}, resamples=50)
    order = np.random.default_rng(1).permutation(600)
    columns = [2, 0, 3, 1]
    extra = said([0, 1, 2], [0, 1, 2], 4, ids=("x", "y", "z"))
    turned = Predictions(
        (*extra.ids, *(second.ids[i] for i in order)),
        np.vstack([extra.probabilities, second.probabilities[order]])[:, columns],
        tuple(second.classes[c] for c in columns),
        np.argsort(columns)[np.concatenate([extra.labels, second.labels[order]])],  # type: ignore[arg-type, index]
    )
    found = compare({"A": first, "B": turned}, resamples=50)
    assert found["runs"][1].pop("left_out") == 3
    assert expected["runs"][1].pop("left_out") == 0
    assert found == expected


def test_what_cannot_be_compared_is_refused_in_words() -> None:
    labels = [0, 1, 2]
    one = said(labels, labels, 3)
    cases = {
        "no image in common": said(labels, labels, 3, ids=("p", "q", "r")),
        r"do not agree on the labels of 1 images: 00002\.jpg is c2 to the one and c0 to the other": said([0, 1, 0], labels, 3),
        r"\(c3 only B\)": said(labels, labels, 4),
        r"\(c2 only A\)": said([0, 1, 1], [0, 1, 1], 2),
        "names an image twice": said(labels, labels, 3, ids=("p", "p", "r")),
        "no labelled images": Predictions(one.ids, one.probabilities, one.classes, None),
    }
    for sentence, other in cases.items():
        with pytest.raises(DataError, match=sentence):
            compare({"A": one, "B": other}, resamples=10)
    with pytest.raises(ValueError, match="two classifiers"):
        compare({"A": one}, resamples=10)


def test_one_image_has_no_interval_and_no_verdict() -> None:
    found = compare({"A": said([0], [0], 2), "B": said([0], [1], 2)}, resamples=20)["pairs"][0]
    assert found["sentence"].startswith("Too few images to say whether A or B is better: on 1 image ")
    assert found["differences"]["accuracy"] == {"value": -1, "low": None, "high": None}
    json.dumps(found, allow_nan=False)


def test_repeats_are_summed_up_with_students_interval() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, 100)
    metrics = [evaluate(said(labels, answers(rng, labels, 6, 0.8), 6), resamples=5) for _ in range(5)]
    found = summarise_repeats(metrics)
    assert {"accuracy", "macro_f1", "top5_accuracy", "log_loss", "ece", "ece_equal_mass"} <= set(found)
    for name in ("accuracy", "log_loss"):
        values = [one[name]["value"] for one in metrics]
        low, high = scipy.stats.t.interval(0.95, 4, np.mean(values), scipy.stats.sem(values))
        assert found[name] == pytest.approx({"mean": np.mean(values), "sd": np.std(values, ddof=1), "n": 5, "low": low, "high": high})
    assert summarise_repeats(metrics[:1])["accuracy"] == {
        "mean": metrics[0]["accuracy"]["value"],
        "sd": None,
        "n": 1,
        "low": None,
        "high": None,
    }
    two = summarise_repeats(metrics[:2])["accuracy"]
    assert (two["low"], two["high"], two["n"]) == (None, None, 2)  # 12.7 standard errors to either side would say nothing
    assert two["sd"] is not None
    with pytest.raises(ValueError, match="no repeats"):
        summarise_repeats([])


def test_repeats_keep_shares_in_range_and_leave_out_what_one_of_them_lacks() -> None:
    def some(accuracy: float, loss: float) -> dict[str, Any]:
        figures = {"accuracy": accuracy, "log_loss": loss}
        return {"n": 3, "note": None} | {name: {"value": value, "low": 0.0, "high": 1.0} for name, value in figures.items()}

    found = summarise_repeats([some(0.95, 1.5), some(0.99, 0.1), some(1.0, 0.1)])
    assert found["accuracy"]["high"] == 1
    assert found["log_loss"]["low"] == 0
    assert found["log_loss"]["high"] is not None
    assert found["log_loss"]["high"] > 2
    missing = some(0.9, 0.3)
    missing["log_loss"]["value"] = None
    assert list(summarise_repeats([some(0.9, 0.2), missing])) == ["accuracy"]
    ends = [summarise_repeats([some(0.8, 1), some(0.8 + step, 1)])["accuracy"]["sd"] for step in (0.0, 0.05, 0.1)]
    assert all(a is not None and b is not None and a < b for a, b in pairwise(ends))
