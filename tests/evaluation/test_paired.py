"""Paired tests and intervals against trusted ones."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from sightline.evaluation.paired import holm, mcnemar, paired_shares


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial_test(first: int, second: int) -> None:
    if first + second:
        assert mcnemar(first, second) == pytest.approx(scipy.stats.binomtest(first, first + second).pvalue)
    assert mcnemar(first, second) == mcnemar(second, first)
    assert mcnemar(0, 0) == 1


@pytest.mark.parametrize(("first", "second", "p"), [(3, 10, 0.09228515625), (0, 5, 0.0625), (100, 140, 0.01166409231767769)])
def test_mcnemar_is_that_of_statsmodels(first: int, second: int, p: float) -> None:
    """What statsmodels 0.15.0 says: stats.contingency_tables.mcnemar(..., exact=True)."""
    assert mcnemar(first, second) == pytest.approx(p, rel=1e-9)


def test_mcnemar_of_many_images() -> None:
    assert mcnemar(4_000, 4_300) == pytest.approx(scipy.stats.binomtest(4_000, 8_300).pvalue)
    assert mcnemar(10, 20_000) < 1e-300


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, 0.04, 0.03, 0.005, 0.2]) == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.2])  # as statsmodels 0.15.0
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.6, 0.6]) == [1, 1]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_step_down_procedure_rejects(p: list[float], alpha: float) -> None:
    """As the paper has it: go up the sorted values, and stop at the first above alpha / (those left)."""
    rejected: set[int] = set()
    for step, k in enumerate(np.argsort(p, kind="stable").tolist()):
        if p[k] * (len(p) - step) > alpha:
            break
        rejected.add(k)
    adjusted = holm(p)
    assert {k for k, value in enumerate(adjusted) if value <= alpha} == rejected
    assert all(a <= b for a, b in zip(p, adjusted, strict=True))


def test_paired_shares_are_the_papers() -> None:
    """Newcombe's own example, and bronchial tests of 21 children (Fagerland et al. 2014, table 5)."""
    ends = paired_shares(np.array([36, 1]), np.array([2, 7]), np.array([12, 1]), np.array([50, 21]))
    np.testing.assert_allclose(np.array(ends).T, [[0.0569, 0.3404], [-0.507, -0.026]], atol=6e-4)


def test_paired_shares_hold_the_true_difference() -> None:
    rng, covered = np.random.default_rng(0), []
    for p in ([0.8, 0.05, 0.1, 0.05], [0.9, 0.02, 0.02, 0.06], [0.4, 0.1, 0.3, 0.2]):
        both, first, second, _ = rng.multinomial(40, p, size=4000).T
        low, high = paired_shares(both, first, second, np.full(4000, 40))
        covered.append(np.mean((low <= p[2] - p[1]) & (p[2] - p[1] <= high)))
    assert min(covered) > 0.93


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_turning_the_pair_round_turns_its_interval_round(both: int, first: int, second: int, neither: int) -> None:
    n = both + first + second + neither
    low, high = paired_shares(*map(np.array, (both, first, second, n)))
    if not n:
        assert np.isnan(low)
        return
    back_low, back_high = paired_shares(*map(np.array, (both, second, first, n)))
    assert (float(low), float(high)) == pytest.approx((-float(back_high), -float(back_low)))
    assert -1 <= low <= (second - first) / n <= high <= 1
