from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.data.groups import MOST_OF_A_CLASS, SMALL, group_rows, join_twins, twin_counts, twins_sentence
from sightline.data.twins import SURE, Twins


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


# ---- near twins ------------------------------------------------------------------------------------------------------


def pairs(*links: tuple[int, int, float]) -> Twins:
    ordered = sorted(links)
    first, second = (np.array([link[i] for link in ordered], dtype=np.int64) for i in (0, 1))
    return Twins(first, second, np.array([link[2] for link in ordered], dtype=np.float32))


def alone(count: int) -> np.ndarray:
    return np.arange(count)


def chain(count: int, similarity: float) -> Twins:
    return pairs(*((i, i + 1, similarity) for i in range(count - 1)))


def test_near_twins_join_groups() -> None:
    joined_groups = join_twins(np.array([0, 1, 0, 2, 3]), pairs((1, 2, 0.8)), pl.Series("label", list("aabbb")))
    assert joined_groups.numbers.tolist() == [0, 0, 0, 1, 2]
    assert joined_groups.notes == ()


def test_without_near_twins_groups_stay_as_they_are() -> None:
    for groups in (np.array([0, 1, 0, 2]), np.array([], dtype=np.int64)):
        assert join_twins(groups, pairs(), pl.Series("label", ["a"] * len(groups), dtype=pl.String)).numbers.tolist() == groups.tolist()


def test_a_small_class_may_be_one_group() -> None:
    found = join_twins(alone(SMALL), chain(SMALL, 0.75), pl.Series("label", ["a"] * SMALL))
    assert found.numbers.max() == 0
    assert found.notes == ()


def test_a_chain_that_would_swallow_a_class_is_cut_at_its_weakest_links_and_told() -> None:
    similarity = np.full(89, 0.85)
    similarity[[29, 59]] = 0.72
    links = pairs(*((i, i + 1, float(similarity[i])) for i in range(89)))
    found = join_twins(alone(92), links, pl.Series("label", ["rose"] * 90 + ["tulip"] * 2))
    assert found.numbers.tolist() == [0] * 30 + [1] * 30 + [2] * 30 + [3, 4]
    assert found.notes == (
        "A chain of near twins would have joined 90 images, 100% of class rose among them: it was cut "
        "through 2 of its weaker links, so that some near twins may lie on both sides of the split.",
    )


def test_the_same_shot_is_never_cut() -> None:
    found = join_twins(alone(90), chain(90, SURE), pl.Series("label", ["a"] * 90))
    assert found.numbers.max() == 0
    assert found.notes == ()


def test_a_group_of_the_users_is_never_cut() -> None:
    found = join_twins(np.repeat([0, 1], 45), pairs((0, 89, 0.8)), pl.Series("label", ["a"] * 90))
    assert found.numbers.tolist() == [0] * 45 + [1] * 45
    assert len(found.notes) == 1


def test_a_chain_across_classes_is_cut_where_it_swallows_the_small_one() -> None:
    labels = pl.Series("label", ["large"] * 300 + ["small"] * 30)
    found = join_twins(alone(330), chain(330, 0.8), labels)
    assert max(np.bincount(found.numbers[300:])) <= SMALL
    assert max(np.bincount(found.numbers[:300])) <= 100
    assert "100% of class large" in found.notes[0]


links_of_twelve = st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39), st.sampled_from([0.7, 0.8, 0.85, 0.95])), max_size=120)


@settings(deadline=None)
@given(links_of_twelve, st.integers(1, 3))
def test_no_group_swallows_a_class_by_weak_links_and_no_link_is_lost_without_need(
    links: list[tuple[int, int, float]], classes: int
) -> None:
    unique = {(min(a, b), max(a, b)): s for a, b, s in links if a != b}
    twins = pairs(*((a, b, s) for (a, b), s in unique.items()))
    labels = pl.Series("label", [str(i % classes) for i in range(40)])
    numbers = join_twins(alone(40), twins, labels).numbers
    sure = group_rows([pl.Series(joined_by(twins, SURE))])
    whole = group_rows([pl.Series(joined_by(twins, 0.0))])
    for name in labels.unique():
        own = (labels == name).to_numpy()
        limit = max(SMALL, own.sum() * MOST_OF_A_CLASS)
        for group in np.unique(numbers):
            held = (own & (numbers == group)).sum()
            assert held <= limit or len(np.unique(sure[numbers == group])) == 1 or held <= max(np.bincount(sure[own]))
        if all((own & (whole == group)).sum() <= limit for group in np.unique(whole)) and classes == 1:
            assert numbers.tolist() == whole.tolist()
    assert all(numbers[a] == numbers[b] for (a, b), s in unique.items() if s >= SURE)
    assert all(whole[numbers == group].min() == whole[numbers == group].max() for group in np.unique(numbers))


def joined_by(twins: Twins, at_least: float) -> list[int]:
    """By hand, as above."""
    numbers = list(range(40))
    links = [(a, b) for a, b, s in zip(twins.first, twins.second, twins.similarity, strict=True) if s >= at_least]
    for _ in range(40):
        for a, b in links:
            numbers[a] = numbers[b] = min(numbers[a], numbers[b])
    return numbers


def test_twins_are_counted_as_images_that_are_not_alone_and_as_groups() -> None:
    assert twin_counts(np.array([0, 1, 1, 2, 3, 3, 3])) == (5, 2)
    assert twin_counts(np.zeros(0, dtype=np.int64)) == (0, 0)
    assert twins_sentence(5, 2) == "5 images have a twin or share a group, in 2 groups"
    assert twins_sentence(2, 1).endswith("in 1 group")
