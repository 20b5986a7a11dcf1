from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.data.groups import group_rows


def joined(columns: list[list[Any]]) -> list[int]:
    """By hand: rows take the smallest number of all that share a value with them, until nothing changes."""
    numbers = list(range(len(columns[0])))
    while True:
        before = list(numbers)
        for column in columns:
            for value in {v for v in column if v is not None}:
                rows = [i for i, v in enumerate(column) if v == value]
                for i in rows:
                    numbers[i] = min(numbers[j] for j in rows)
        if numbers == before:
            return [sorted(set(numbers)).index(number) for number in numbers]


values = st.none() | st.sampled_from("abcdef")
tables = st.integers(1, 12).flatmap(lambda n: st.lists(st.lists(values, min_size=n, max_size=n), min_size=1, max_size=3))


@settings(deadline=None)
@given(tables)
def test_groups_are_those_found_by_hand(columns: list[list[str | None]]) -> None:
    found = group_rows([pl.Series(column, dtype=pl.String) for column in columns])
    assert found.dtype == np.int64
    assert found.tolist() == joined(columns)


def test_joins_carry_on_from_column_to_column() -> None:
    pixels = pl.Series(["p", "p", "q", "r", "s"])
    users = pl.Series([None, "u", "u", None, None], dtype=pl.String)
    assert group_rows([pixels, users]).tolist() == [0, 0, 0, 1, 2]


def test_a_long_chain_is_one_group() -> None:
    n = 20_000
    left, right = pl.Series([i // 2 for i in range(n)]), pl.Series([(i + 1) // 2 for i in range(n)])
    assert group_rows([left, right]).max() == 0


def test_equal_values_of_different_columns_join_nothing() -> None:
    assert group_rows([pl.Series(["a", "b"]), pl.Series(["b", "a"])]).tolist() == [0, 1]


@pytest.mark.parametrize(
    "column",
    [
        pl.Series([None, None, None], dtype=pl.String),
        pl.Series([None, None, None]),
        pl.Series(["", "é", "e\u0301"]),
        pl.Series([1, 2, 3]),
        pl.Series([b"a", b"b", b"\xff"]),
        pl.Series(["a", "b", "c"], dtype=pl.Categorical),
        pl.Series([datetime.date(2026, 1, day) for day in (1, 2, 3)]),
    ],
)
def test_different_and_missing_values_of_any_type_stay_apart(column: pl.Series) -> None:
    assert group_rows([column]).tolist() == [0, 1, 2]


def test_no_rows_have_no_groups() -> None:
    assert group_rows([pl.Series([], dtype=pl.String), pl.Series([], dtype=pl.String)]).tolist() == []
