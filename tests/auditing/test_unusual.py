from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sightline.auditing.unusual import stands_out

SEVERITIES = arrays(np.float64, st.integers(0, 40), elements=st.floats(0, 1))


@given(SEVERITIES)
def test_whoever_is_as_severe_as_a_flagged_one_is_flagged(severity: np.ndarray) -> None:
    flag = stands_out(severity, soft=0.5, hard=0.9)
    if flag.any():
        assert flag[severity >= severity[flag].min()].all()


@given(SEVERITIES)
def test_nothing_below_soft_is_flagged_and_everything_from_hard_on_is(severity: np.ndarray) -> None:
    flag = stands_out(severity, soft=0.5, hard=0.9)
    assert not flag[severity < 0.5].any()
    assert flag[severity >= 0.9].all()


def test_one_among_many_stands_out_and_a_fifth_of_them_does_not() -> None:
    one, many = np.full(100, 0.1), np.full(100, 0.1)
    one[0], many[:20] = 0.7, 0.7
    assert stands_out(one, soft=0.5, hard=0.9).tolist() == [True] + [False] * 99
    assert not stands_out(many, soft=0.5, hard=0.9).any()
