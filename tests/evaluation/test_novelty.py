"""Novelty: the energy and the nearest class against their formulas, and strangers of either kind."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import scipy.special
import sklearn.metrics.pairwise
from hypothesis import given
from hypothesis import strategies as st

from sightline.evaluation.novelty import Novelty, energies, fit_novelty, novelty_figures

CENTRES = np.random.default_rng(7).normal(size=(4, 12))


def drawn(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features around the direction of their class, of any length; logits that grow with what they have of it."""
    labels = rng.integers(0, 4, n)
    features = CENTRES[labels] + 0.7 * rng.normal(size=(n, 12))
    return (features @ CENTRES.T).astype(np.float32), features.astype(np.float32), labels


@pytest.fixture(scope="module")
def novelty() -> Novelty:
    found = fit_novelty(*drawn(np.random.default_rng(0), 400))
    assert found is not None
    return found


def flagged(novelty: Novelty, logits: np.ndarray, features: np.ndarray) -> float:
    return float(np.mean(novelty.scores(logits, novelty.distances(features)) > novelty.threshold))


def test_the_energy_is_the_papers_and_survives_large_logits() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 7)).astype(np.float32) * 30
    assert energies(logits) == pytest.approx(-scipy.special.logsumexp(logits.astype(float), axis=1))
    assert energies(np.array([[1e30, 0.0]])).tolist() == [-1e30]


def test_the_distance_is_to_the_nearest_class_mean(novelty: Novelty) -> None:
    _, features, labels = drawn(np.random.default_rng(0), 400)
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    means = np.stack([units[labels == k].mean(axis=0) for k in range(4)])
    new = drawn(np.random.default_rng(1), 50)[1]
    expected = sklearn.metrics.pairwise.cosine_distances(new, means).min(axis=1)
    assert novelty.distances(new) == pytest.approx(expected, abs=2e-5)


@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_the_length_of_features_says_nothing(seed: int, factor: float) -> None:
    logits, features, labels = drawn(np.random.default_rng(seed), 60)
    novelty = fit_novelty(logits, features, labels)
    if novelty is not None:
        assert novelty.distances(factor * features) == pytest.approx(novelty.distances(features), abs=1e-6)


def test_ordinary_images_are_called_strange_one_time_in_twenty() -> None:
    """New images, over 60 draws of 100 validation images; an image in its own class's mean would make it more."""
    rng, shares = np.random.default_rng(0), []
    for _ in range(60):
        found = fit_novelty(*drawn(rng, 100))
        assert found is not None
        logits, features, _ = drawn(rng, 500)
        shares.append(flagged(found, logits, features))
    assert 0.035 <= np.mean(shares) <= 0.055


def test_each_doubt_sees_its_own_strangers(novelty: Novelty) -> None:
    rng = np.random.default_rng(2)
    logits, features, _ = drawn(rng, 200)
    elsewhere = rng.normal(size=(200, 12)).astype(np.float32)
    assert flagged(novelty, logits, elsewhere) > 0.85  # as sure as ever, but in no class's direction
    assert flagged(novelty, np.zeros_like(logits), features) > 0.9  # in a class's direction, but without evidence
    assert flagged(novelty, logits, features) < 0.1


def test_an_image_is_left_out_of_the_mean_of_its_class() -> None:
    """Pairs in high dimensions have nothing in common but that each makes up half of the mean."""
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(60, 200)), np.repeat(np.arange(30), 2)
    found = fit_novelty(rng.normal(size=(60, 30)), features, labels)
    assert found is not None
    own = 1 - np.sort(features @ features.T / np.outer(*[np.linalg.norm(features, axis=1)] * 2), axis=1)[:, -2]
    assert found.distance[0] > 0.75  # with itself in the mean it would be 1 - sqrt(1/2) = 0.29
    assert found.distance[0] < np.median(own) + 0.15


def test_validation_too_small_has_no_threshold() -> None:
    logits, features, labels = drawn(np.random.default_rng(0), 40)
    assert fit_novelty(logits[:29], features[:29], labels[:29]) is None
    assert fit_novelty(logits[:30], features[:30], labels[:30]) is not None
    rng = np.random.default_rng(0)
    assert fit_novelty(rng.normal(size=(40, 40)), features, np.arange(40)) is not None  # each is held against the other classes
    assert fit_novelty(logits[:30], features[:30], np.zeros(30, dtype=int)) is not None
    with pytest.raises(ValueError, match="labels"):
        fit_novelty(logits, features[:39], labels)


def test_a_class_of_one_image_and_one_without_any() -> None:
    logits, features, labels = drawn(np.random.default_rng(0), 100)
    labels[labels == 2] = 1
    labels[0] = 2
    found = fit_novelty(logits, features, labels)
    assert found is not None
    assert found.directions.shape == (4, 12) if 3 in labels else (3, 12)
    assert np.isfinite(found.scores(logits, found.distances(features))).all()


def test_validation_images_that_are_all_alike_make_anything_else_strange() -> None:
    logits, features = np.tile([[3.0, 0, 0]], (40, 1)), np.tile([[1.0, 2, 3]], (40, 1))
    found = fit_novelty(logits, features, np.zeros(40, dtype=int))
    assert found is not None
    assert flagged(found, logits, features) == 0
    assert flagged(found, logits, np.tile([[3.0, 2, 1]], (40, 1))) == 1
    assert flagged(found, logits / 2, features) == 1
    assert np.isfinite(found.distances(np.zeros((2, 3)))).all()  # dead features have no direction, and are far from every class


def test_the_figures_say_how_many_are_flagged(novelty: Novelty) -> None:
    scores = np.array([novelty.threshold, novelty.threshold + 1, novelty.threshold - 1, novelty.threshold + 0.1])
    figures = novelty_figures(novelty, scores)
    assert figures["flagged"]["value"] == 0.5
    assert 0.1 < figures["flagged"]["low"] < 0.2
    assert json.loads(json.dumps(figures)) == figures


def test_it_travels_as_plain_numbers_and_nothing_else_is_taken_for_it(novelty: Novelty) -> None:
    card = json.loads(json.dumps(novelty.to_json(), allow_nan=False))
    back = Novelty.from_json(card)
    assert back.to_json() == novelty.to_json()
    logits, features, _ = drawn(np.random.default_rng(3), 20)
    assert np.array_equal(back.scores(logits, back.distances(features)), novelty.scores(logits, novelty.distances(features)))
    changes: list[dict[str, Any]] = [
        {"method": "magic"},
        {"threshold": float("nan")},
        {"share": 1.0},
        {"images": 0},
        {"energy": [1.0, 1.0]},
        {"energy": [1.0]},
        {"distance": [0.0, float("inf")]},
        {"directions": []},
        {"directions": ["1 2", "3"]},
        {"directions": ["0 0", "1 2"]},
        {"directions": ["1 70000", "1 2"]},
        {"directions": ["1 x", "1 2"]},
        {"directions": [[1, 2]]},
        {"directions": None},
    ]
    for change in changes:
        with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
            Novelty.from_json(card | change)
    with pytest.raises(ValueError, match="width 3"):
        novelty.distances(np.ones((2, 3)))
