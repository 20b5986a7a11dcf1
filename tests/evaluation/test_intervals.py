from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from sightline.evaluation import intervals
from sightline.evaluation.intervals import bootstrap, mean_interval, percentile, resample_weights, wilson


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_wilson_agrees_with_scipy(confidence: float) -> None:
    for n in (1, 2, 7, 100, 5000):
        for k in {0, 1, n // 3, n}:
            expected = scipy.stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
            assert wilson(k, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.integers(1, 10**7), st.floats(0, 1))
def test_wilson_holds_the_share_and_stays_within_0_and_1(n: int, share: float) -> None:
    k = round(share * n)
    low, high = wilson(k, n)
    assert 0 <= low <= k / n <= high <= 1
    assert low < high
    assert (low == 0) == (k == 0)
    assert (high == 1) == (k == n)


def test_wilson_of_nothing_is_unknown() -> None:
    low, high = wilson([0, 3], [0, 4])
    assert np.isnan([low[0], high[0]]).all()
    assert not np.isnan([low[1], high[1]]).any()


def test_wilson_refuses_more_successes_than_trials() -> None:
    with pytest.raises(ValueError, match="0 <= successes <= n"):
        wilson(3, 2)
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, 95)


def test_wilson_covers_the_true_share() -> None:
    k = np.random.default_rng(0).binomial(60, 0.93, size=4000)
    low, high = wilson(k, 60)
    assert 0.93 <= np.mean((low <= 0.93) & (high >= 0.93)) <= 0.98


def test_each_resample_draws_n_images_of_n() -> None:
    weights = np.concatenate(list(resample_weights(50, 4000, seed=1)))
    assert weights.shape == (4000, 50)
    assert (weights.sum(axis=1) == 50).all()
    assert np.abs(weights.mean(axis=0) - 1).max() < 0.08
    assert weights.var() == pytest.approx(1 - 1 / 50, abs=0.02)  # multinomial


def test_draws_do_not_depend_on_the_size_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(resample_weights(33, 101, seed=5)))
    monkeypatch.setattr(intervals, "BLOCK_ENTRIES", 1)
    blocks = list(resample_weights(33, 101, seed=5))
    assert len(blocks) == 13
    assert np.array_equal(np.concatenate(blocks), whole)
    assert not np.array_equal(np.concatenate(list(resample_weights(33, 101, seed=6))), whole)


def test_blocks_stay_small_whatever_n_is() -> None:
    for n in (1, 10_000, 1_000_000):
        assert next(resample_weights(n, 10**6, seed=0)).nbytes <= max(2**20, 8 * 8 * n)


def test_the_bootstrap_agrees_with_scipy() -> None:
    values = np.random.default_rng(3).exponential(size=80)
    resampled = bootstrap(lambda weights: weights @ values / 80, 80, 20_000, seed=0)
    expected = scipy.stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1)
    low, high = expected.confidence_interval
    assert percentile(resampled) == pytest.approx((low, high), abs=0.1 * expected.standard_error)
    assert resampled.std() == pytest.approx(expected.standard_error, rel=0.03)


def test_the_bootstrap_covers_the_true_mean() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(300):
        right = (rng.random(200) < 0.85).astype(float)
        low, high = percentile(bootstrap(lambda weights, right=right: weights @ right / 200, 200, 300, seed))
        covered += low <= 0.85 <= high
    assert 0.92 <= covered / 300 <= 0.98


def test_the_interval_of_a_mean_of_one_is_its_own() -> None:
    one = mean_interval(np.array([0.5, 0.9]), np.array([0.2, 0.0]), np.array([0.6, 1.0]), np.array([1.0, 0.0]))
    assert one == pytest.approx((0.2, 0.6))


def test_the_interval_of_a_mean_of_normals_is_the_normal_one() -> None:
    """Three means with known standard errors: the weighted mean has the root of the weighted squares."""
    values, errors, weights = np.array([1.0, 2.0, 4.0]), np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.3, 0.2])
    low, high = mean_interval(values, values - 1.96 * errors, values + 1.96 * errors, weights)
    spread = 1.96 * np.sqrt(np.sum((weights * errors) ** 2))
    assert (low, high) == pytest.approx((weights @ values - spread, weights @ values + spread))
