"""Drawings put numbers where they belong."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.reporting.charts import HEIGHT, WIDTH, interval, nice_ticks, reliability, training_curves


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e6), st.integers(2, 12))
def test_ticks_are_even_enclose_the_range_and_are_few(low: float, span: float, most: int) -> None:
    ticks = nice_ticks(low, low + span, most)
    step = ticks[1] - ticks[0]
    assert ticks[0] <= low + 1e-6 * step
    assert ticks[-1] >= low + span - 1e-6 * step
    assert len(ticks) <= most + 3
    assert all(math.isclose(b - a, step, rel_tol=1e-6, abs_tol=1e-9) for a, b in pairwise(ticks))


def test_an_interval_is_a_band_in_percent_and_nothing_without_a_value() -> None:
    assert "--value:74.1;--low:70.6;--high:77.3" in interval({"value": 0.741, "low": 0.706, "high": 0.773})
    assert "--value:100.0;--low:100.0;--high:100.0" in interval({"value": 1.0, "low": None, "high": None})
    assert interval({"value": None, "low": None, "high": None}) == ""


def _history(n: int) -> list[dict[str, str]]:
    return [{"epoch": str(e), "train_loss": str(3.0 / e), "val_loss": "" if e == 3 else str(4.0 / e), "lr": "0.1"} for e in range(1, n + 1)]


def test_a_curve_has_a_point_an_epoch_and_a_gap_where_there_is_no_number() -> None:
    drawn = training_curves(_history(6), [], 2)
    lines = re.findall(r'points="(.*?)" class="curve s-(\w+)"', drawn)
    assert [(len(points.split()), colour) for points, colour in lines] == [(6, "right"), (2, "wrong"), (3, "wrong"), (6, "ink")]
    loss = [tuple(map(float, point.split(","))) for point in lines[0][0].split()]
    assert [x for x, _ in loss] == sorted(x for x, _ in loss)
    assert [y for _, y in loss] == sorted(y for _, y in loss)  # it falls, and y points down
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in loss)


def test_phases_and_the_best_epoch_are_marked_in_every_drawing() -> None:
    drawn = training_curves(_history(6), [(4, "lr=1"), (9, "never began")], 5)
    assert drawn.count('class="axis phase"') == 2
    assert drawn.count('class="axis best"') == 2
    assert drawn.count('class="phase-number">2<') == 2
    assert "epoch 3: train 1</title>" in drawn
    assert "epoch 4: train 0.75, validation 1</title>" in drawn


def test_one_epoch_is_a_dot() -> None:
    drawn = training_curves(_history(1), [], 1)
    assert "<circle" in drawn
    assert "<polyline" not in drawn


def test_nothing_is_drawn_of_a_column_without_numbers() -> None:
    drawn = training_curves(
        [{"epoch": "1", "train_loss": "1", "grad_norm": ""}, {"epoch": "2", "train_loss": "nan", "grad_norm": ""}], [], None
    )
    assert drawn.count("<svg") == 1


def test_a_reliability_diagram_leaves_empty_bins_out_and_tells_the_others() -> None:
    bins = [
        {"low": 0.0, "high": 0.5, "n": 0, "confidence": None, "accuracy": None},
        {"low": 0.5, "high": 1.0, "n": 40, "confidence": 0.8, "accuracy": 0.6},
    ]
    drawn = reliability(bins, "after")
    assert "60.0 % right where 80.0 % sure, 40 images" in drawn
    assert drawn.count("<rect") == 1
    box = re.findall(r'<rect class="f-right" opacity="0.28" x="(.*?)" width="(.*?)" y="(.*?)" height="(.*?)"', drawn)
    x, width, y, height = map(float, box[0])
    assert x + width / 2 == pytest.approx(40 + 0.75 * 252, abs=0.2)
    assert y + height == pytest.approx(260, abs=0.2)
    assert height == pytest.approx(0.6 * 252, abs=0.2)
