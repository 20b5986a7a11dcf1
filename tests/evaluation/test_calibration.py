from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from sightline.evaluation.calibration import (
    HIGHEST,
    LOWEST,
    Temperature,
    bin_numbers,
    confidence_gaps,
    equal_masses,
    equal_widths,
    expected_calibration_error,
    fit_temperature,
    reliability,
    softmax,
)
from sightline.evaluation.intervals import wilson


def drawn(n: int, k: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose labels were drawn at a temperature, so that it is the best one up to chance."""
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(n, k))
    cumulated = softmax(logits, temperature).cumsum(axis=1)
    return logits, (rng.random((n, 1)) > cumulated[:, :-1]).sum(axis=1)


def slow_ece(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """As the paper writes it, bin by bin."""
    total = 0.0
    for b in range(bins):
        confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
        here = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if here.any():
            total += here.mean() * abs(right[here].mean() - confidence[here].mean())
    return total


def test_softmax_agrees_with_scipy_and_survives_large_logits() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 7)).astype(np.float32) * 50
    assert np.allclose(softmax(logits, 0.7), scipy.special.softmax(logits.astype(float) / 0.7, axis=1), atol=1e-15)
    assert softmax(np.array([[1e30, 0.0], [-1e30, 0.0]])).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_the_temperature_is_the_one_that_scipy_finds(temperature: float, precision: type) -> None:
    logits, labels = drawn(3000, 12, temperature)
    logits = logits.astype(precision)
    found = fit_temperature(logits, labels)

    def loss(log_t: float) -> float:
        return float(log_loss(labels, softmax(logits, np.exp(log_t)), labels=range(12)))

    best = scipy.optimize.minimize_scalar(loss, bounds=np.log([LOWEST, HIGHEST]), method="bounded", options={"xatol": 1e-10})
    assert found.note is None
    assert found.value == pytest.approx(np.exp(best.x), rel=1e-5)
    assert found.value == pytest.approx(temperature, rel=0.1)
    assert loss(np.log(found.value)) <= best.fun + 1e-12


@given(st.integers(0, 10**6), st.floats(0.2, 5))
def test_logits_times_a_factor_have_the_temperature_times_the_factor(seed: int, factor: float) -> None:
    logits, labels = drawn(60, 3, 1.0, seed)
    plain, scaled = fit_temperature(logits, labels), fit_temperature(factor * logits, labels)
    if plain.note is None and scaled.note is None:
        assert scaled.value == pytest.approx(factor * plain.value, rel=1e-6)


def test_a_shift_of_a_row_changes_nothing() -> None:
    logits, labels = drawn(200, 5, 2.0)
    shifted = logits + 1e7 * np.random.default_rng(1).normal(size=(200, 1))
    assert fit_temperature(shifted, labels).value == pytest.approx(fit_temperature(logits, labels).value, rel=1e-6)


def test_blocks_of_rows_give_the_same_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = drawn(200, 5, 2.0)
    whole = fit_temperature(logits, labels).value
    monkeypatch.setattr("sightline.evaluation.predictions._BLOCK_ENTRIES", 5 * 7)
    assert fit_temperature(logits, labels).value == pytest.approx(whole, rel=1e-12)


def test_images_that_cannot_tell_leave_it_at_1_and_say_why() -> None:
    logits, labels = drawn(100, 4, 1.0)
    cases = {
        "29 images are too few": (logits[:29], labels[:29]),
        "one class": (logits, np.zeros(100, dtype=int)),
        "all 100 images are classified right": (logits, logits.argmax(axis=1)),
    }
    for reason, arguments in cases.items():
        temperature = fit_temperature(*arguments)
        assert temperature.value == 1
        assert reason in str(temperature.note)


def test_an_end_of_the_range_is_told() -> None:
    logits, labels = drawn(400, 4, 1.0)
    for factor, end in ((1e-3, LOWEST), (1e4, HIGHEST)):
        temperature = fit_temperature(factor * logits, labels)
        assert temperature.value == pytest.approx(end, rel=1e-12)
        assert "temperature that is tried" in str(temperature.note)


def test_what_is_no_logits_is_refused() -> None:
    logits, labels = drawn(40, 3, 1.0)
    logits[3, 1] = np.nan
    with pytest.raises(ValueError, match="finite"):
        fit_temperature(logits, labels)
    with pytest.raises(ValueError, match="labels"):
        fit_temperature(logits[:, :2], labels[:39])
    with pytest.raises(ValueError, match="above 0"):
        Temperature(0.0)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_calibration_error_is_the_papers(bins: int) -> None:
    logits, labels = drawn(500, 6, 2.0)
    probabilities = softmax(logits)
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(slow_ece(probabilities, labels, bins))


def test_a_confidence_on_an_edge_is_in_the_bin_below() -> None:
    edges = np.linspace(0, 1, 16)
    gaps = confidence_gaps(edges, np.zeros(16), equal_widths())
    assert [int(np.flatnonzero(row)[0]) for row in gaps[1:]] == list(range(15))


def test_the_right_temperature_mends_calibration() -> None:
    logits, labels = drawn(5000, 6, 3.0)
    before = expected_calibration_error(softmax(logits), labels)
    after = expected_calibration_error(softmax(logits, fit_temperature(logits, labels).value), labels)
    assert before > 0.2
    assert after < 0.02


@given(st.integers(1, 400), st.integers(1, 20), st.integers(0, 10**6))
def test_bins_of_equal_mass_hold_equally_many_images(n: int, bins: int, seed: int) -> None:
    confidence = np.random.default_rng(seed).random(n)
    counts = np.bincount(bin_numbers(confidence, equal_masses(confidence, bins)), minlength=bins)
    assert len(counts) == bins
    assert counts.max() - counts.min() <= 1


def test_images_of_equal_confidence_are_never_parted() -> None:
    confidence = np.repeat([0.3, 0.6, 0.6, 0.9], [2, 5, 6, 3])
    numbers = bin_numbers(confidence, equal_masses(confidence, 5))
    assert all(len(set(numbers[confidence == value])) == 1 for value in (0.3, 0.6, 0.9))


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_error_with_equal_masses_is_that_of_sorted_images_cut_into_equal_parts(bins: int) -> None:
    logits, labels = drawn(500 // bins * bins, 6, 2.0)
    probabilities = softmax(logits)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    parts = np.argsort(confidence).reshape(bins, -1)
    expected = np.mean([abs(right[part].mean() - confidence[part].mean()) for part in parts])
    assert expected_calibration_error(probabilities, labels, bins, equal_mass=True) == pytest.approx(expected)


def test_a_reliability_diagram_adds_up() -> None:
    logits, labels = drawn(800, 5, 2.0)
    probabilities = softmax(logits)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = reliability(confidence, right)
    assert sum(one["n"] for one in bins) == 800
    assert all(one["n"] for one in bins)
    for one in bins:
        here = (confidence > one["low"]) & (confidence <= one["high"])
        assert one["n"] == here.sum()
        assert one["confidence"] == pytest.approx(confidence[here].mean())
        assert one["accuracy"] == pytest.approx(right[here].mean())
        assert (one["accuracy_low"], one["accuracy_high"]) == pytest.approx(tuple(map(float, wilson(right[here].sum(), here.sum()))))
    error = sum(one["n"] * abs(one["accuracy"] - one["confidence"]) for one in bins) / 800
    assert error == pytest.approx(expected_calibration_error(probabilities, labels))


def test_certain_answers_are_in_the_last_bin() -> None:
    assert [(one["high"], one["n"]) for one in reliability(np.array([1.0, 1.0 + 1e-12]), np.array([True, False]))] == [(1.0, 2)]


@pytest.mark.parametrize("bins", [10, 15])
def test_the_error_is_that_of_torchmetrics(bins: int) -> None:
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, labels = drawn(2000, 12, 2.0)
    probabilities = softmax(logits)
    found = multiclass_calibration_error(torch.from_numpy(probabilities), torch.from_numpy(labels), 12, n_bins=bins, norm="l1")
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(float(found), abs=1e-6)  # it adds up in float32


@pytest.mark.parametrize(
    ("logits_of", "fixed", "equal_mass", "temperature"),
    [
        ((3000, 12, 2.0, 0), 0.23258710478007935, 0.23258710478007932, 2.0019548628241406),
        ((500, 6, 0.5, 1), 0.12736327242148482, 0.12015034874663404, 0.5086651966116132),
        ((1500, 3, 1.0, 2), 0.027247569428441615, 0.02829114206604979, 1.0322856888112704),
    ],
)
def test_errors_and_temperatures_are_those_of_netcal(
    logits_of: tuple[int, int, float, int], fixed: float, equal_mass: float, temperature: float
) -> None:
    """What netcal 1.4.0 says of the same logits in float64: ECE(bins=15) with and without equal_intervals, TemperatureScaling."""
    logits, labels = drawn(*logits_of)
    assert expected_calibration_error(softmax(logits), labels) == pytest.approx(fixed, abs=1e-12)
    assert expected_calibration_error(softmax(logits), labels, equal_mass=True) == pytest.approx(equal_mass, abs=1e-12)
    assert fit_temperature(logits, labels).value == pytest.approx(temperature, rel=1e-5)
