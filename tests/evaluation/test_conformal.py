"""Prediction sets: hand-computed thresholds, the laws of conformal prediction, and coverage over many draws."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.evaluation.calibration import fit_temperature, softmax
from sightline.evaluation.conformal import (
    CLASS_IMAGES,
    PredictionSets,
    conformal_quantile,
    fewest_images,
    fit_sets,
    mass_ahead,
    set_figures,
    true_scores,
)


def drawn(rng: np.random.Generator, n: int, k: int, sharpness: float = 2.0, prior: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Logits that say something of the label, and more than they know: labels are drawn by a flatter softmax."""
    labels = rng.choice(k, size=n, p=prior)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), labels] += 1.5
    return sharpness * logits, labels


def test_the_mass_ahead_of_a_class_is_that_of_the_likelier_ones() -> None:
    rows = np.array([[0.5, 0.2, 0.3], [0.25, 0.25, 0.5], [1.0, 0.0, 0.0]])
    assert mass_ahead(rows).tolist() == [[0, 0.8, 0.5], [0.5, 0.75, 0], [0, 1, 1]]


@given(st.integers(1, 8), st.integers(0, 10**6))
def test_the_mass_ahead_is_what_a_loop_over_the_classes_adds_up(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = softmax(np.round(rng.normal(size=(4, k)), 1))  # rounded, so that some are equal
    for row, found in zip(rows, mass_ahead(rows), strict=True):
        for c in range(k):
            ahead = sum(row[j] for j in range(k) if row[j] > row[c] or (row[j] == row[c] and j < c))
            assert found[c] == pytest.approx(ahead, abs=1e-12)
        assert (found == 0).sum() >= 1
        assert found[row.argmax()] == 0


def test_the_threshold_is_the_quantile_with_one_image_more() -> None:
    scores = np.arange(1, 20) / 20  # 0.05 ... 0.95
    assert conformal_quantile(scores, 0.9) == 0.9  # the 18th of 19, as 20 * 0.9 = 18
    assert conformal_quantile(scores[:9], 0.9) == 0.45  # the 9th of 9
    assert conformal_quantile(scores[:8], 0.9) == 1  # the 9th of 8: no finite threshold promises it
    assert conformal_quantile(scores, 0.95) == 0.95
    assert conformal_quantile(scores, 0.5) == 0.5
    assert [fewest_images(level) for level in (0.5, 0.8, 0.9, 0.95, 0.99)] == [1, 4, 9, 19, 99]


@given(st.integers(1, 300), st.sampled_from([0.5, 0.75, 0.8, 0.9, 0.95, 0.99]))
def test_the_threshold_leaves_the_promised_share_of_the_scores_below(n: int, level: float) -> None:
    scores = np.random.default_rng(n).random(n)
    threshold = conformal_quantile(scores, level)
    if n >= fewest_images(level):
        rank = int((scores <= threshold).sum())
        assert rank >= level * (n + 1) - 1e-6 > rank - 1
    else:
        assert threshold == 1


def test_thresholds_by_hand_of_a_large_class_and_two_rare_ones() -> None:
    """Two classes whose images have their scores written into the probabilities; four images of a third."""
    scores = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    first = np.stack([1 - scores, scores, 0 * scores], axis=1)  # of class 0: class 1 is ahead from 0.5 on
    labels = np.zeros(10, dtype=int)
    assert true_scores(first, labels).tolist() == pytest.approx([0, 0, 0, 0, 0, 0, 0.6, 0.7, 0.8, 0.9])
    second = np.tile([0.3, 0.7, 0.0], (4, 1))
    probabilities, all_labels = np.vstack([first, second]), np.concatenate([labels, [1, 1, 1, 2]])
    sets = fit_sets(probabilities, all_labels, level=0.8, class_images=10)
    assert sets is not None
    assert sets.own == (True, False, False)
    # Its own: the 9th of 10, as 11 * 0.8 = 8.8. Shared: the 4th of the four 0, 0, 0, 1.
    assert sets.thresholds == pytest.approx((0.8, 1.0, 1.0))
    sets = fit_sets(probabilities, all_labels, level=0.85, class_images=10)
    assert sets is not None
    # Four are too few for 0.85, so the quantile of all 14: the 13th of 0 (9 times), .6 .7 .8 .9 1.
    assert sets.thresholds == pytest.approx((0.9, 0.9, 0.9))


def test_the_classes_that_share_a_threshold_are_told() -> None:
    sets = PredictionSets(0.9, (0.5, 0.6, 0.6), (True, False, False), 80)
    assert f"2 of 3 classes (fox, owl): fewer than {CLASS_IMAGES} validation images" in str(sets.note(("cat", "fox", "owl")))
    assert PredictionSets(0.9, (0.5,), (True,), 80).note(("cat",)) is None
    assert "every class:" in str(PredictionSets(0.9, (0.5, 0.5), (False, False), 80).note(("a", "b")))
    many = PredictionSets(0.9, (0.5,) * 20, (False,) * 19 + (True,), 80)
    assert "c0, c1, c2, c3, c4, c5 and 13 more" in str(many.note([f"c{k}" for k in range(20)]))


def test_validation_too_small_gives_no_sets() -> None:
    logits, labels = drawn(np.random.default_rng(0), 9, 3)
    assert fit_sets(softmax(logits[:8]), labels[:8]) is None
    assert fit_sets(softmax(logits), labels) is not None
    assert fit_sets(softmax(logits), labels, level=0.95) is None
    with pytest.raises(ValueError, match="labels of shape"):
        fit_sets(softmax(logits), labels[:8])


@given(st.integers(1, 6), st.integers(0, 10**6), st.floats(0.5, 0.95))
def test_every_set_holds_the_likeliest_class_and_is_a_run_of_ranks(k: int, seed: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = drawn(rng, 40, k)
    sets = fit_sets(softmax(logits), labels, level, class_images=41)  # one threshold for all
    assert sets is not None
    rows = softmax(drawn(rng, 30, k)[0])
    found = sets.sets(rows)
    assert found[np.arange(30), rows.argmax(axis=1)].all()
    ranked = np.take_along_axis(found, np.argsort(-rows, axis=1, kind="stable"), axis=1)
    assert (ranked[:, :-1] >= ranked[:, 1:]).all()


@given(st.integers(0, 10**6))
def test_a_higher_level_gives_sets_that_hold_those_of_a_lower(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = drawn(rng, 150, 4)
    rows = softmax(drawn(rng, 30, 4)[0])
    fitted = [fit_sets(softmax(logits), labels, level, class_images=20) for level in (0.6, 0.8, 0.95)]
    small, middle, large = (one.sets(rows) for one in fitted if one is not None)
    assert (small <= middle).all()
    assert (middle <= large).all()


@pytest.mark.parametrize("n", [9, 60, 300])
def test_exchangeable_images_are_covered_as_often_as_promised(n: int) -> None:
    """One image each after 800 draws of n validation images: a binomial count; 4 standard deviations are allowed below."""
    rng, hits, draws = np.random.default_rng(n), 0, 800
    for _ in range(draws):
        logits, labels = drawn(rng, n + 1, 5)
        sets = fit_sets(softmax(logits[:n]), labels[:n])
        assert sets is not None
        hits += sets.sets(softmax(logits[n:]))[0, labels[n]]
    sd = (draws * 0.9 * 0.1) ** 0.5
    assert draws * 0.9 - 4 * sd <= hits
    assert hits <= draws * (0.9 + 1 / (n + 1)) + 4 * sd  # these scores are rarely equal: fewer than 9 in 10 are right at once


def test_each_large_class_is_covered_and_the_rare_ones_together() -> None:
    """The hard class 0 falls far below under one threshold for all; the small classes 3 and 4 share one."""
    rng, prior = np.random.default_rng(0), np.array([0.3, 0.3, 0.3, 0.06, 0.04])
    hits, seen = {True: np.zeros(5), False: np.zeros(5)}, np.zeros(5)
    for _ in range(150):
        logits, labels = drawn(rng, 700, 5, prior=prior)
        logits[labels == 0, 0] -= 2  # these images are hard
        rows, new, true = softmax(logits[:400]), softmax(logits[400:]), labels[400:]
        seen += np.bincount(true, minlength=5)
        for own in (True, False):
            sets = fit_sets(rows, labels[:400], class_images=50 if own else 10**6)
            assert sets is not None
            assert sets.own == ((True,) * 3 + (False,) * 2 if own else (False,) * 5)
            hits[own] += np.bincount(true, weights=sets.sets(new)[np.arange(300), true], minlength=5)
    assert (hits[True][:3] / seen[:3] > 0.89).all()
    assert hits[True][3:].sum() / seen[3:].sum() > 0.88
    assert hits[False][0] / seen[0] < 0.85
    assert hits[False].sum() / seen.sum() > 0.89


def test_a_temperature_from_the_same_images_costs_no_coverage() -> None:
    """One number chosen from 100 images cannot fit their noise: both ways within a point of each other and of the promise."""
    rng, hits = np.random.default_rng(1), np.zeros(2)
    for _ in range(300):
        logits, labels = drawn(rng, 400, 5, sharpness=3)
        other = drawn(rng, 100, 5, sharpness=3)
        for k, temperature in enumerate((fit_temperature(logits[:100], labels[:100]), fit_temperature(*other))):
            sets = fit_sets(softmax(logits[:100], temperature.value), labels[:100])
            assert sets is not None
            hits[k] += sets.sets(softmax(logits[100:], temperature.value))[np.arange(300), labels[100:]].mean()
    assert (hits / 300 > 0.895).all()
    assert abs(hits[0] - hits[1]) / 300 < 0.004


def test_the_figures_are_those_of_the_sets() -> None:
    rng = np.random.default_rng(3)
    logits, labels = drawn(rng, 400, 4)
    sets = fit_sets(softmax(logits[:200]), labels[:200], class_images=40)
    assert sets is not None
    rows, true = softmax(logits[200:]), labels[200:].copy()
    true[true == 3] = 2
    figures = set_figures(sets, rows, true, ("a", "b", "c", "d"))
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    found = sets.sets(rows)
    covered = found[np.arange(200), true]
    alone = found.sum(axis=1) == 1
    assert figures["coverage"]["value"] == pytest.approx(covered.mean())
    assert figures["mean_size"]["value"] == pytest.approx(found.sum(axis=1).mean())
    assert figures["single"]["value"] == pytest.approx(alone.mean())
    assert figures["single_accuracy"]["value"] == pytest.approx((rows.argmax(axis=1) == true)[alone].mean())
    assert [row and row["value"] for row in figures["per_class"]] == [*(covered[true == c].mean() for c in range(3)), None]
    assert figures["empty"] == 0
    for figure in (figures["coverage"], figures["mean_size"], figures["single"], figures["single_accuracy"], figures["per_class"][0]):
        assert figure["low"] < figure["value"] < figure["high"]


def test_the_interval_of_the_mean_size_is_that_of_images_drawn_again() -> None:
    rng = np.random.default_rng(5)
    logits, labels = drawn(rng, 300, 6)
    sets = fit_sets(softmax(logits[:100]), labels[:100])
    assert sets is not None
    sizes = sets.sets(softmax(logits[100:])).sum(axis=1)
    again = [rng.choice(sizes, 200).mean() for _ in range(4000)]
    figure = set_figures(sets, softmax(logits[100:]), labels[100:], [f"c{k}" for k in range(6)])["mean_size"]
    assert [figure["low"], figure["high"]] == pytest.approx(np.quantile(again, [0.025, 0.975]), abs=0.02)


@pytest.mark.parametrize("n", [1, 4])
def test_a_few_images_have_a_size_without_an_interval(n: int) -> None:
    sets = PredictionSets(0.9, (0.0, 0.0), (False, False), 20)
    figures = set_figures(sets, np.array([[0.4, 0.6]] * n), np.array([1] * n), ("a", "b"))
    assert figures["mean_size"] == {"value": 1, "low": None, "high": None}
    assert figures["coverage"]["low"] < 0.52


def test_they_travel_as_plain_numbers_and_nothing_else_is_taken_for_them() -> None:
    sets = PredictionSets(0.9, (0.25, 1.0), (True, False), 80)
    card = json.loads(json.dumps(sets.to_json()))
    assert PredictionSets.from_json(card) == sets
    changes: list[dict[str, Any]] = [
        {"method": "raps"},
        {"level": 1.0},
        {"thresholds": [0.25]},
        {"thresholds": [0.25, float("nan")]},
        {"thresholds": [0.25, 1.5]},
        {"thresholds": []},
        {"own": [1, 0]},
        {"images": 0},
        {"thresholds": None},
        {"level": "high"},
    ]
    for change in changes:
        with pytest.raises((KeyError, TypeError, ValueError)):
            PredictionSets.from_json(card | change)
    with pytest.raises(KeyError):
        PredictionSets.from_json({"level": 0.9})
    with pytest.raises(ValueError, match="3 classes"):
        sets.sets(np.ones((1, 3)) / 3)


def test_blocks_of_rows_give_the_same_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = drawn(np.random.default_rng(0), 100, 5)
    rows = softmax(logits)
    whole = fit_sets(rows, labels)
    assert whole is not None
    before = whole.sets(rows)
    monkeypatch.setattr("sightline.evaluation.predictions._BLOCK_ENTRIES", 5 * 7)
    assert fit_sets(rows, labels) == whole
    assert (whole.sets(rows) == before).all()
