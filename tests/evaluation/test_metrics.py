from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.errors import DataError
from sightline.evaluation.calibration import expected_calibration_error, softmax
from sightline.evaluation.conformal import PredictionSets, set_figures
from sightline.evaluation.counts import accuracy, balanced_accuracy, confusion, macro_f1
from sightline.evaluation.intervals import wilson
from sightline.evaluation.metrics import evaluate
from sightline.evaluation.predictions import Predictions
from sightline.evaluation.text import classification_report, summary

FIGURES = (
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "weighted_f1",
    "top5_accuracy",
)
FIGURES += ("log_loss", "brier", "ece", "ece_equal_mass")
FIGURES += ("log_loss_uncalibrated", "brier_uncalibrated", "ece_uncalibrated", "ece_equal_mass_uncalibrated")


def some(n: int, k: int, seed: int = 0, absent: tuple[int, ...] = (), gain: float = 2.0) -> Predictions:
    """Random predictions, better than chance; classes in `absent` have no images but are predicted."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([c for c in range(k) if c not in absent], size=n)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), labels] += gain
    return Predictions(tuple(f"{i:05d}.jpg" for i in range(n)), softmax(logits), tuple(f"c{c}" for c in range(k)), labels)


def sure(labels: list[int], predicted: list[int], k: int) -> Predictions:
    """Predictions with probability 0.9 on the predicted class."""
    rows = np.full((len(labels), k), 0.1 / (k - 1))
    rows[np.arange(len(labels)), predicted] = 0.9
    return Predictions(tuple(map(str, range(len(labels)))), rows, tuple(f"c{c}" for c in range(k)), np.array(labels))


def share_ends(successes: int, n: int) -> tuple[float, float]:
    low, high = wilson(successes, n)
    return float(low), float(high)


def ends(figure: dict[str, float]) -> tuple[float, float]:
    return figure["low"], figure["high"]


@pytest.fixture(scope="module")
def predictions() -> Predictions:
    return some(400, 12, absent=(3, 7))


@pytest.fixture(scope="module")
def result(predictions: Predictions) -> dict[str, Any]:
    return evaluate(predictions, resamples=300)


def test_every_figure_agrees_with_scikit_learn(predictions: Predictions, result: dict[str, Any]) -> None:
    y, p = predictions.labels, predictions.probabilities
    called, present = p.argmax(axis=1), np.unique(y)
    averages = {
        kind: sklearn.metrics.precision_recall_fscore_support(y, called, labels=present, average=kind, zero_division=0)
        for kind in ("macro", "weighted")
    }
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(y, called),
        "balanced_accuracy": averages["macro"][1],
        "macro_precision": averages["macro"][0],
        "macro_recall": averages["macro"][1],
        "macro_f1": averages["macro"][2],
        "weighted_f1": averages["weighted"][2],
        "top5_accuracy": sklearn.metrics.top_k_accuracy_score(y, p, k=5, labels=range(12)),
        "log_loss": sklearn.metrics.log_loss(y, p, labels=range(12)),
        "brier": sklearn.metrics.brier_score_loss(y, p, labels=range(12), scale_by_half=False),
        "ece": expected_calibration_error(p, y),
        "ece_equal_mass": expected_calibration_error(p, y, equal_mass=True),
    }
    with pytest.warns(UserWarning, match="not in y_true"):
        assert result["balanced_accuracy"]["value"] == pytest.approx(sklearn.metrics.balanced_accuracy_score(y, called))
    for name, value in expected.items():
        assert result[name]["value"] == pytest.approx(value, abs=1e-12), name
    for name in ("log_loss", "brier", "ece", "ece_equal_mass"):
        assert result[f"{name}_uncalibrated"] == result[name]


def test_every_class_agrees_with_scikit_learn(predictions: Predictions, result: dict[str, Any]) -> None:
    y, called = predictions.labels, predictions.predicted()
    parts = sklearn.metrics.precision_recall_fscore_support(y, called, labels=range(12), zero_division=np.nan)
    assert np.array_equal(result["confusion"], sklearn.metrics.confusion_matrix(y, called, labels=range(12)))
    for row, precision, recall, f1, support in zip(result["per_class"], *parts, strict=True):
        assert (row["name"], row["support"]) == (f"c{result['per_class'].index(row)}", support)
        for name, value in (("precision", precision), ("recall", recall), ("f1", f1)):
            if support or name == "precision":
                assert row[name]["value"] == pytest.approx(value, nan_ok=True)
    table = np.array(result["confusion"])
    right = table.diagonal()
    for k, row in enumerate(result["per_class"]):
        assert ends(row["precision"]) == pytest.approx(share_ends(right[k], table[:, k].sum()), nan_ok=True)
        if k not in (3, 7):
            assert ends(row["recall"]) == pytest.approx(share_ends(right[k], table[k].sum()))


def test_a_class_without_images_is_not_evaluated(result: dict[str, Any]) -> None:
    assert result["not_evaluated"] == ["c3", "c7"]
    assert result["evaluated_classes"] == 10
    for k in (3, 7):
        row = result["per_class"][k]
        assert row["support"] == 0
        assert row["recall"] == row["f1"] == {"value": None, "low": None, "high": None}
        assert row["precision"]["value"] == 0  # it was predicted, wrongly each time


def test_a_class_never_predicted_has_no_precision_and_an_f1_of_0() -> None:
    result = evaluate(sure([0] * 20 + [1] * 20, [0] * 40, k=2), resamples=50)
    row = result["per_class"][1]
    assert row["precision"] == {"value": None, "low": None, "high": None}
    assert (row["recall"]["value"], row["f1"]["value"]) == (0, 0)
    assert result["macro_precision"]["value"] == 0.25
    assert result["macro_precision"]["high"] > 0.6  # its precision may be anything


def test_the_result_is_json_with_every_interval_around_its_value(result: dict[str, Any]) -> None:
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    figures = [result[name] for name in FIGURES]
    figures += [row[name] for row in result["per_class"] for name in ("precision", "recall", "f1") if row["support"]]
    for figure in figures:
        assert 0 <= figure["low"] < figure["high"]
        assert figure["low"] <= figure["value"] <= figure["high"]


def test_top5_needs_more_than_five_classes() -> None:
    assert "top5_accuracy" not in evaluate(some(30, 5), resamples=20)
    assert evaluate(sure([0, 5], [0, 1], k=6), resamples=20)["top5_accuracy"]["value"] == 0.5  # of equals the first count


def test_a_certain_mistake_has_a_finite_log_loss() -> None:
    rows = np.array([[1.0, 0.0], [0.0, 1.0]])
    predictions = Predictions(("a", "b"), rows, ("x", "y"), np.array([1, 1]))
    expected = sklearn.metrics.log_loss([1, 1], rows, labels=[0, 1])
    assert evaluate(predictions, resamples=20)["log_loss"]["value"] == pytest.approx(expected)


def test_the_same_seed_gives_the_same_ends(predictions: Predictions, result: dict[str, Any]) -> None:
    assert evaluate(predictions, resamples=300) == result
    other = evaluate(predictions, resamples=300, seed=1)
    assert ends(other["log_loss"]) != ends(result["log_loss"])
    assert ends(other["log_loss"]) == pytest.approx(ends(result["log_loss"]), rel=0.05)


def test_the_order_of_images_does_not_matter(predictions: Predictions, result: dict[str, Any]) -> None:
    order = np.random.default_rng(5).permutation(400)
    shuffled = Predictions(
        tuple(predictions.ids[i] for i in order),
        predictions.probabilities[order],
        predictions.classes,
        predictions.labels[order],  # type: ignore[index]
    )
    assert evaluate(shuffled, resamples=300) == result


def test_uncalibrated_predictions_give_their_own_error(predictions: Predictions) -> None:
    sharp = softmax(np.log(predictions.probabilities), 0.3)
    raw = Predictions(predictions.ids, sharp, predictions.classes, predictions.labels)
    result = evaluate(predictions, uncalibrated=raw, resamples=20)
    assert result["ece_uncalibrated"]["value"] == pytest.approx(expected_calibration_error(sharp, raw.labels))
    assert result["ece_equal_mass_uncalibrated"]["value"] == pytest.approx(expected_calibration_error(sharp, raw.labels, equal_mass=True))
    assert result["log_loss_uncalibrated"]["value"] == pytest.approx(sklearn.metrics.log_loss(raw.labels, sharp, labels=range(12)))
    brier = sklearn.metrics.brier_score_loss(raw.labels, sharp, labels=range(12), scale_by_half=False)
    assert result["brier_uncalibrated"]["value"] == pytest.approx(brier)
    plain = evaluate(predictions, resamples=20)
    assert [result[name] for name in ("ece", "log_loss")] == [plain[name] for name in ("ece", "log_loss")]
    assert result["reliability"]["calibrated"] == plain["reliability"]["calibrated"] == plain["reliability"]["uncalibrated"]
    right = sharp.argmax(axis=1) == raw.labels
    assert sum(one["n"] * one["accuracy"] for one in result["reliability"]["uncalibrated"]) == pytest.approx(right.sum())
    with pytest.raises(ValueError, match="same images"):
        evaluate(predictions, uncalibrated=some(400, 11), resamples=20)


def at_temperature(given: Predictions, temperature: float) -> Predictions:
    return Predictions(given.ids, softmax(np.log(given.probabilities), temperature), given.classes, given.labels)


def test_a_temperature_that_does_harm_is_told(predictions: Predictions) -> None:
    flat = at_temperature(predictions, 2)
    harmed = evaluate(flat, uncalibrated=predictions, resamples=100)
    after, before = harmed["log_loss"]["value"], harmed["log_loss_uncalibrated"]["value"]
    assert after > before
    assert f"does harm here: the log loss is {after:.3f}, without it {before:.3f}" in harmed["calibration_note"]
    assert evaluate(predictions, uncalibrated=flat, resamples=100)["calibration_note"] is None
    assert evaluate(predictions, resamples=100)["calibration_note"] is None


def test_harm_that_may_be_chance_is_not_told() -> None:
    predictions = some(25, 3, seed=1)
    result = evaluate(at_temperature(predictions, 0.2), uncalibrated=predictions, resamples=200)
    assert result["log_loss"]["value"] > result["log_loss_uncalibrated"]["value"] + 0.04
    assert result["calibration_note"] is None


def test_prediction_sets_stand_beside_with_and_without_twins(predictions: Predictions) -> None:
    sets = PredictionSets(0.9, tuple(np.linspace(0.5, 0.9, 12)), (True,) * 6 + (False,) * 6, 300)
    twins = np.random.default_rng(1).random(400) < 0.3
    result = evaluate(predictions, twins=twins, sets=sets, resamples=50)
    labels = predictions.labels
    assert labels is not None
    assert result["prediction_sets"] == set_figures(sets, predictions.probabilities, labels, predictions.classes, 50)
    alone = set_figures(sets, predictions.probabilities[~twins], labels[~twins], predictions.classes, 50)
    assert result["leak_free"]["prediction_sets"] == alone
    assert "prediction_sets" not in evaluate(predictions, resamples=5)
    everywhere = evaluate(predictions, twins=np.ones(400, dtype=bool), sets=sets, resamples=5)
    assert "prediction_sets" not in everywhere["leak_free"]


def test_every_figure_has_its_interval(predictions: Predictions) -> None:
    """Whatever is a measured number, wherever it lies, has its ends; counts, edges, thresholds and notes are no figures."""
    sets = PredictionSets(0.9, (0.7,) * 12, (False,) * 12, 300)
    sharp = Predictions(predictions.ids, softmax(np.log(predictions.probabilities), 0.5), predictions.classes, predictions.labels)
    result = evaluate(predictions, uncalibrated=sharp, twins=np.arange(400) % 3 == 0, sets=sets, resamples=30)
    plain = {"n", "evaluated_classes", "support", "confusion", "level", "empty", "low", "high", "value"}
    plain |= {"confidence", "accuracy_low", "accuracy_high"}  # of a bin: where it lies, and the ends of its accuracy

    def lacking(value: Any, path: tuple[str, ...]) -> list[tuple[str, ...]]:
        if isinstance(value, dict):
            bare = path[:1] == ("reliability",) and {"accuracy", "accuracy_low", "accuracy_high"} <= set(value)
            return [p for key, inner in value.items() if not (bare and key == "accuracy") for p in lacking(inner, (*path, key))]
        if isinstance(value, list):
            return [p for inner in value for p in lacking(inner, path)]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return [path] if number and path[-1] not in plain else []

    assert lacking(result, ()) == []


def test_leak_free_is_the_evaluation_of_the_images_without_twins(predictions: Predictions) -> None:
    twins = np.random.default_rng(1).random(400) < 0.3
    rest = Predictions(
        tuple(name for name, twin in zip(predictions.ids, twins, strict=True) if not twin),
        predictions.probabilities[~twins],
        predictions.classes,
        predictions.labels[~twins],  # type: ignore[index]
    )
    expected = evaluate(rest, resamples=50)
    for name in ("classes", "per_class", "confusion", "reliability"):
        del expected[name]
    assert evaluate(predictions, twins=twins, resamples=50)["leak_free"] == expected


def test_leak_free_is_there_only_where_there_are_twins(predictions: Predictions) -> None:
    assert "leak_free" not in evaluate(predictions, twins=np.zeros(400, dtype=bool), resamples=20)
    leak_free = evaluate(predictions, twins=np.ones(400, dtype=bool), resamples=20)["leak_free"]
    assert leak_free == {"n": 0, "note": "every image has a twin in train, so nothing is left to judge on"}
    with pytest.raises(ValueError, match="400 booleans"):
        evaluate(predictions, twins=np.zeros(399, dtype=bool))
    with pytest.raises(ValueError, match="400 booleans"):
        evaluate(predictions, twins=np.zeros(400, dtype=int))


def test_nothing_to_judge_is_an_error_a_user_understands(predictions: Predictions) -> None:
    with pytest.raises(DataError, match="no images to evaluate"):
        evaluate(Predictions((), np.zeros((0, 2)), ("a", "b"), np.zeros(0, dtype=int)))
    with pytest.raises(DataError, match="no labels"):
        evaluate(Predictions(predictions.ids, predictions.probabilities, predictions.classes, None))


def test_one_image_says_little_and_does_not_pretend_to_more() -> None:
    result = evaluate(sure([1], [1], k=3), resamples=20)
    assert result["accuracy"]["value"] == result["macro_f1"]["value"] == 1
    assert result["accuracy"]["low"] < 0.25
    assert result["macro_f1"]["low"] < 0.4
    assert result["brier"]["value"] == pytest.approx(0.1**2 + 2 * 0.05**2)
    for name in ("log_loss", "brier", "ece", "ece_equal_mass"):
        assert ends(result[name]) == (None, None)
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize(("n", "known"), [(2, False), (4, False), (5, True)])
def test_equal_losses_of_a_few_images_are_no_certainty(n: int, known: bool) -> None:
    result = evaluate(sure([1] * n, [1] * n, k=3), resamples=20)
    for name in ("log_loss", "brier", "log_loss_uncalibrated", "ece", "ece_equal_mass_uncalibrated"):
        assert (ends(result[name]) != (None, None)) == known, name
    assert result["accuracy"]["low"] is not None
    assert "nan" not in classification_report(result) + summary(result)


def test_all_right_is_not_certainty() -> None:
    """Resamples of images that are all right are all right: only the classes' own intervals tell how few they are."""
    labels = [0] * 50 + [1] * 3
    result = evaluate(sure(labels, labels, k=2), resamples=100)
    for name in ("accuracy", "balanced_accuracy", "macro_precision", "macro_f1", "weighted_f1"):
        assert result[name]["value"] == result[name]["high"] == 1, name
        assert 0.6 < result[name]["low"] < 0.96, name
    assert result["macro_recall"]["low"] == pytest.approx(1 - np.hypot(*(1 - wilson([50, 3], [50, 3])[0])) / 2)


def test_a_classes_f1_is_covered() -> None:
    """F1 of one class among three whose errors go both ways, 40 images, against the F1 of the population."""
    shares = np.array([[0.2, 0.04, 0.02], [0.05, 0.3, 0.03], [0.03, 0.03, 0.3]])
    truth = 2 * shares[0, 0] / (shares[0].sum() + shares[:, 0].sum())
    rng, covered = np.random.default_rng(0), 0
    for _ in range(400):
        cells = rng.choice(9, p=shares.ravel(), size=40)
        row = evaluate(sure(list(cells // 3), list(cells % 3), k=3), resamples=2)["per_class"][0]
        covered += row["support"] == 0 or row["f1"]["low"] <= truth <= row["f1"]["high"]
    assert 0.93 <= covered / 400 <= 0.985


def test_macro_recall_is_covered_with_rare_classes() -> None:
    """Classes of about 3 to 100 images, each right 95 times in 100; the bootstrap alone covers 79 in 100."""
    rng, covered = np.random.default_rng(0), 0
    priors = np.geomspace(1, 100, 10) / np.geomspace(1, 100, 10).sum()
    for _ in range(150):
        labels = rng.choice(10, p=priors, size=300)
        predicted = np.where(rng.random(300) < 0.95, labels, (labels + rng.integers(1, 10, 300)) % 10)
        low, high = ends(evaluate(sure(list(labels), list(predicted), k=10), resamples=100)["macro_recall"])
        covered += low <= 0.95 <= high
    assert covered / 150 >= 0.94


@pytest.mark.parametrize("excess", [0.0, 0.15])
def test_the_calibration_error_is_covered(excess: float) -> None:
    """Two classes, 300 images, confidence uniform in 0.5..1, too high by a factor; percentiles would never hold 0."""
    rng, covered = np.random.default_rng(1), {"ece": 0, "ece_equal_mass": 0}
    truth = excess * 0.75
    for _ in range(150):
        confidence = rng.uniform(0.5, 1, 300)
        wrong = rng.random(300) >= confidence * (1 - excess)
        rows = np.column_stack([confidence, 1 - confidence])
        result = evaluate(Predictions(tuple(map(str, range(300))), rows, ("a", "b"), wrong.astype(int)), resamples=200)
        for name in covered:
            covered[name] += result[name]["low"] <= truth <= result[name]["high"]
    assert min(covered.values()) / 150 >= 0.9


def test_memory_does_not_grow_with_resamples() -> None:
    predictions = some(5_000, 4)
    peaks = []
    for resamples in (100, 1000):
        tracemalloc.start()
        evaluate(predictions, resamples=resamples)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] < 20e6


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.data())
def test_the_figures_of_training_are_those_of_the_evaluation(k: int, data: st.DataObject) -> None:
    pairs = data.draw(st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=30))
    labels, predicted = np.array(pairs).T
    present = np.unique(labels)
    f1 = sklearn.metrics.f1_score(labels, predicted, labels=present, average="macro", zero_division=0)
    recall = sklearn.metrics.recall_score(labels, predicted, labels=present, average="macro", zero_division=0)
    assert macro_f1(labels, predicted, k) == pytest.approx(f1)
    assert balanced_accuracy(labels, predicted, k) == pytest.approx(recall)
    assert accuracy(labels, predicted) == pytest.approx(sklearn.metrics.accuracy_score(labels, predicted))
    table = [[pairs.count((row, column)) for column in range(k)] for row in range(k)]
    assert confusion(labels, predicted, k).tolist() == table
    if k > 1:
        result = evaluate(sure(list(labels), list(predicted), k), resamples=2)
        assert result["macro_f1"]["value"] == macro_f1(labels, predicted, k)
        assert result["balanced_accuracy"]["value"] == balanced_accuracy(labels, predicted, k)
        assert result["accuracy"]["value"] == accuracy(labels, predicted)
