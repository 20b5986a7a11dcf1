"""The range test on losses that are known functions of the rate."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

from sightline.errors import TrainingError
from sightline.training import lr_range
from sightline.training.lr_range import Range, range_test


def sigmoid(steepest: float, noise: float = 0.0, seed: int = 0) -> Callable[[float], float]:
    """A loss that falls from 2.3 to 1.3, most steeply at a rate."""
    draws = np.random.default_rng(seed)
    return lambda rate: 1.3 + 1 / (1 + (rate / steepest) ** 1.5) + noise * draws.normal()


def test_the_rates_grow_by_one_factor_from_low_to_high() -> None:
    asked: list[float] = []
    found = range_test(lambda rate: asked.append(rate) or 1.0, low=1e-4, high=1.0, steps=9)  # type: ignore[func-returns-value]
    assert asked == pytest.approx([10 ** (k / 2 - 4) for k in range(9)])
    assert list(found.rates) == asked
    assert found.losses == (1.0,) * 9


@pytest.mark.parametrize("steps", [40, 100, 300])
@pytest.mark.parametrize("steepest", [1e-4, 3e-3, 5e-2])
def test_suggested_is_where_the_loss_falls_most_steeply(steepest: float, steps: int) -> None:
    found = range_test(sigmoid(steepest), steps=steps)
    assert found.suggestion == pytest.approx(steepest, rel=0.25)


@pytest.mark.parametrize("seed", range(10))
def test_noise_moves_the_suggestion_by_less_than_a_factor_of_three(seed: int) -> None:
    suggestion = range_test(sigmoid(1e-2, 0.1, seed)).suggestion
    assert suggestion is not None
    assert 1e-2 / 3 < suggestion < 3e-2


def test_a_recovery_from_a_leap_is_not_the_descent() -> None:
    """After the lowest point the loss leaps up and comes down again, faster than it ever fell before."""

    def step(rate: float) -> float:
        return sigmoid(1e-3)(rate) + (2.0 if 0.05 < rate < 0.2 else 0.0)

    found = range_test(step)
    assert found.suggestion == pytest.approx(1e-3, rel=0.3)


@pytest.mark.parametrize("loss", [1.0, 2.302585, 1e-9, 0.0])
def test_nothing_is_suggested_where_the_loss_stays(loss: float) -> None:
    assert range_test(lambda _: loss).suggestion is None


def test_nothing_is_suggested_where_the_loss_only_grows() -> None:
    assert range_test(lambda rate: 1 + rate).suggestion is None


def test_noise_alone_is_no_descent() -> None:
    draws = np.random.default_rng(0)
    suggested = [range_test(lambda _: 2.3 + 0.1 * draws.normal()).suggestion for _ in range(300)]
    assert sum(rate is not None for rate in suggested) <= 3


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_a_loss_that_explodes_ends_the_test_and_leaves_no_trace(bad: float) -> None:
    asked: list[float] = []

    def step(rate: float) -> float:
        asked.append(rate)
        return bad if rate > 0.1 else sigmoid(1e-3)(rate)

    found = range_test(step)
    plain = range_test(sigmoid(1e-3))
    assert len(asked) == len(found.rates) + 1
    assert max(found.rates) <= 0.1 < asked[-1]
    assert max(found.losses) < 2.4
    assert found.suggestion == pytest.approx(plain.suggestion, rel=0.2)  # the next step: both are as near to 1e-3


def test_a_loss_that_grows_slowly_ends_the_test_at_four_times_its_best() -> None:
    found = range_test(lambda rate: 1.0 if rate < 1e-3 else (rate / 1e-3) ** 0.5)
    assert found.smoothed[-1] <= 4.0 * min(found.smoothed)
    assert 4.0 < found.losses[-1] < 8.0


def test_the_smoothed_losses_are_a_gaussian_mean() -> None:
    draws = np.random.default_rng(1)
    found = range_test(lambda _: 2 + 0.1 * draws.normal(), low=1e-6, high=1.0, steps=100)
    theirs = gaussian_filter1d(found.losses, sigma=99 / 6 / 3, truncate=12)
    assert found.smoothed[30:70] == pytest.approx(theirs[30:70], abs=1e-6)  # at the ends theirs mirrors the losses


def test_it_smooths_without_a_lag() -> None:
    found = range_test(lambda rate: 1 + abs(math.log10(rate) + 3) / 10)
    assert found.rates[int(np.argmin(found.smoothed))] == pytest.approx(1e-3, rel=0.1)


def test_a_first_loss_that_is_no_number_is_told() -> None:
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(TrainingError, match="first step of the range test, at a rate of 1e-06"):
            range_test(lambda _, bad=bad: bad)  # type: ignore[misc]


@pytest.mark.parametrize("asked", [{"low": 0.0}, {"low": 1.0, "high": 0.1}, {"steps": 1}])
def test_impossible_ranges_are_refused(asked: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="range test needs"):
        range_test(lambda _: 1.0, **asked)  # type: ignore[arg-type]


def test_impossible_findings_are_refused() -> None:
    for parts in (((), (), (), None), ((1.0,), (1.0, 2.0), (1.0,), None), ((1.0,), (1.0,), (1.0,), 2.0)):
        with pytest.raises(ValueError, match=r"range test|suggestion"):
            Range(*parts)  # type: ignore[arg-type]


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40))
def test_any_losses_give_as_many_rates_and_a_suggestion_among_them(losses: list[float]) -> None:
    given_out = iter(losses)
    found = range_test(lambda _: next(given_out), steps=len(losses))
    assert found.losses == tuple(losses[: len(found.losses)])
    assert found.suggestion is None or found.suggestion in found.rates
    bounds = min(found.losses), max(found.losses)
    slack = 1e-9 * (abs(bounds[0]) + abs(bounds[1]))
    assert all(bounds[0] - slack <= value <= bounds[1] + slack for value in found.smoothed)


def test_on_a_quadratic_it_stays_below_the_rate_that_diverges() -> None:
    """Gradient descent on 5 x² + 1 diverges above a rate of 0.2; the suggestion is of the right size."""
    x = 1.0

    def step(rate: float) -> float:
        nonlocal x
        loss = 5 * x**2 + 1
        x -= rate * 10 * x
        return loss

    found = range_test(step, high=10.0)
    assert found.suggestion is not None
    assert 2e-3 < found.suggestion < 0.2
    assert max(found.rates) < 10
    assert lr_range.DIVERGED == 4
