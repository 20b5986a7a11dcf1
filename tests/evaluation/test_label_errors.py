"""Suspected labels: confident learning against cleanlab and against cases done by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.evaluation.label_errors import LabelErrors, class_thresholds, find_label_errors


def noisy(n: int, k: int, seed: int, share: float = 0.1, sharpness: float = 3.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities of a fair network, labels of which a share is wrong, and the true ones."""
    draws = np.random.default_rng(seed)
    true = draws.integers(0, k, n)
    logits = draws.normal(0, 1, (n, k))
    logits[np.arange(n), true] += sharpness
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wrong = draws.random(n) < share
    labels = np.where(wrong, (true + draws.integers(1, k, n)) % k, true)
    return probabilities, labels, true


def test_by_hand() -> None:
    # Thresholds: class 0 mean(0.9, 0.7, 0.2) = 0.6, class 1 mean(0.6, 0.8) = 0.7. Of row 2 class 1 has 0.8 and reaches its 0.7.
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6], [0.2, 0.8]])
    labels = np.array([0, 0, 0, 1, 1])
    np.testing.assert_allclose(class_thresholds(probabilities, labels), [0.6, 0.7])
    found = find_label_errors(probabilities, labels)
    assert found.flag.tolist() == [False, False, True, False, False]
    assert found.likely.tolist() == [0, 0, 1, 1, 1]
    np.testing.assert_allclose(found.severity, [0.1, 0.3, 0.8, 0.4, 0.2])


def test_a_class_that_the_network_is_shy_about_needs_less_to_be_the_likely_one() -> None:
    sure = np.tile([0.9, 0.1], (10, 1))
    shy = np.tile([0.45, 0.55], (10, 1))
    probabilities, labels = np.vstack([sure, shy]), np.array([0] * 9 + [1] + [1] * 9 + [0])
    assert np.flatnonzero(find_label_errors(probabilities, labels).flag).tolist() == [9, 19]


@pytest.mark.parametrize(("k", "share"), [(2, 0.1), (2, 0.4), (5, 0.05), (20, 0.2), (102, 0.1)])
@pytest.mark.parametrize("sharpness", [1.0, 3.0, 6.0])
def test_the_masks_are_those_of_cleanlab(k: int, share: float, sharpness: float) -> None:
    cleanlab = pytest.importorskip("cleanlab.filter", reason="cleanlab is not installed")
    probabilities, labels, _ = noisy(1500, k, seed=k, share=share, sharpness=sharpness)
    labels[:k] = np.arange(k)  # cleanlab wants every class
    theirs = cleanlab.find_label_issues(labels, probabilities, filter_by="low_self_confidence", n_jobs=1)
    beaten = probabilities.argmax(axis=1) != labels  # theirs may doubt a label that the network agrees with, where it is poor
    assert sharpness == 1.0 or beaten[theirs].all()
    np.testing.assert_array_equal(find_label_errors(probabilities, labels).flag, theirs & beaten)


def test_the_order_is_that_of_cleanlabs_self_confidence() -> None:
    rank = pytest.importorskip("cleanlab.rank", reason="cleanlab is not installed")
    probabilities, labels, _ = noisy(500, 6, seed=1)
    theirs = rank.get_self_confidence_for_each_label(labels, probabilities)
    np.testing.assert_allclose(find_label_errors(probabilities, labels).severity, 1 - theirs)


def test_planted_errors_are_found_and_told_right() -> None:
    probabilities, labels, true = noisy(4000, 10, seed=3, share=0.05, sharpness=6.0)
    found = find_label_errors(probabilities, labels)
    wrong = labels != true
    assert found.flag[wrong].mean() > 0.8
    assert wrong[found.ranked()[:100]].all()
    assert (found.likely[found.flag & wrong] == true[found.flag & wrong]).mean() > 0.95


def test_a_class_without_labels_has_no_measure_so_nothing_is_surely_of_it() -> None:
    probabilities = np.array([[0.1, 0.1, 0.8], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1]])
    labels = np.array([0, 0, 1, 1])
    assert np.isinf(class_thresholds(probabilities, labels)[2])
    assert not find_label_errors(probabilities, labels).flag.any()


def test_as_many_are_suspected_as_are_counted_and_those_with_the_least_probability_of_their_label() -> None:
    # Thresholds 0.4625 and 0.7: only the last row is surely of another class; but the third label has the least probability.
    probabilities = np.array([[0.9, 0.05, 0.05], [0.7, 0.2, 0.1], [0.05, 0.5, 0.45], [0.1, 0.7, 0.2], [0.2, 0.7, 0.1]])
    found = find_label_errors(probabilities, np.array([0, 0, 0, 1, 0]))
    assert np.flatnonzero(found.flag).tolist() == [2]
    assert found.likely[2] == 1


@pytest.mark.parametrize("k", [1, 2, 3])
def test_all_right_is_no_suspect(k: int) -> None:
    labels = np.arange(30) % k
    assert not find_label_errors(np.eye(k)[labels], labels).flag.any()
    assert not find_label_errors(np.full((30, k), 1 / k), labels).flag.any()


def test_all_wrong_alike_contradicts_nothing_and_one_right_label_among_them_does_not_break_it() -> None:
    labels = np.arange(30) % 3
    found = find_label_errors(np.eye(3)[(labels + 1) % 3], labels)
    assert found.flag.all()  # each class's threshold is 0, and what is seen differs from every label
    assert (found.likely == (labels + 1) % 3).all()
    assert (found.severity == 1).all()


def test_a_class_of_one_is_judged_by_its_one_image() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1]] * 5 + [[0.1, 0.8, 0.1]] * 5 + [[0.9, 0.05, 0.05]])
    found = find_label_errors(probabilities, np.array([0] * 5 + [1] * 5 + [2]))
    assert np.flatnonzero(found.flag).tolist() == [10]
    assert found.likely[10] == 0


def test_no_images_are_no_suspects() -> None:
    found = find_label_errors(np.zeros((0, 3)), np.zeros(0, dtype=np.int64))
    assert len(found.ranked()) == 0


def test_equal_suspects_stay_in_order_and_the_worst_come_first() -> None:
    found = LabelErrors(np.array([True, False, True, True]), np.zeros(4, dtype=np.int64), np.array([0.6, 0.9, 0.8, 0.6]))
    assert found.ranked().tolist() == [2, 0, 3]


def test_parts_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="lengths"):
        LabelErrors(np.array([True]), np.zeros(2, dtype=np.int64), np.zeros(1))


@given(st.integers(1, 8), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_laws(k: int, n: int, seed: int) -> None:
    draws = np.random.default_rng(seed)
    probabilities, labels = draws.dirichlet(np.full(k, 0.5), n), draws.integers(0, k, n)
    found = find_label_errors(probabilities, labels)
    assert ((found.severity >= 0) & (found.severity <= 1 + 1e-12)).all()
    assert (found.severity[found.flag] > 0.5 - 1e-12).all()
    assert ((found.likely != labels) == found.flag).all()
    order = draws.permutation(n)
    shuffled = find_label_errors(probabilities[order], labels[order])
    np.testing.assert_array_equal(shuffled.flag, found.flag[order])
