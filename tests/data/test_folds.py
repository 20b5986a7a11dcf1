"""Folds, and the user's own split repaired."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sightline.data.split import Fold, Split, make_split
from sightline.errors import DataError

USUAL = (0.7, 0.15, 0.15)


def frame(labels: Sequence[str], given: Sequence[str | None] | None = None) -> pl.DataFrame:
    digests = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(len(labels))]
    columns = {"label": list(labels), "given": list(given or [None] * len(labels)), "digest": digests}
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


def folds_of(labels: Sequence[str], groups: Sequence[int], count: int, own: Sequence[str | None] | None = None) -> list[Split]:
    rows, numbers = frame(labels, own), np.array(groups, dtype=np.int64)
    return [make_split(rows, numbers, USUAL, 0, fold=Fold(k, count)) for k in range(1, count + 1)]


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[str], list[int], int]:
    n = draw(st.integers(6, 50))
    labels = draw(st.lists(st.sampled_from("abc"), min_size=n, max_size=n))
    numbers = draw(st.lists(st.integers(0, 40), min_size=n, max_size=n))
    groups = np.unique(numbers, return_inverse=True)[1]
    return labels, groups.tolist(), draw(st.integers(2, 6))


@given(cases())
def test_each_image_is_judged_at_most_once_and_by_a_network_that_has_not_seen_its_group(case: tuple[list[str], list[int], int]) -> None:
    labels, groups, count = case
    try:
        splits = folds_of(labels, groups, count)
    except DataError:
        assume(False)
    judged = np.sum([split.part == "test" for split in splits], axis=0)
    assert judged.max() <= 1
    for split in splits:
        assert not split.twins.any()
        parts = {(group, part) for group, part in zip(groups, split.part, strict=True)}
        assert len(parts) == len(set(groups))
        assert set(np.array(labels)[split.part == "train"]) == set(labels)


def test_every_image_of_a_class_with_two_groups_is_judged_once() -> None:
    labels = ["a"] * 20 + ["b"] * 7 + ["c"] * 2 + ["lone"]
    splits = folds_of(labels, range(30), 5)
    judged = np.sum([split.part == "test" for split in splits], axis=0)
    assert judged[:29].tolist() == [1] * 29
    assert judged[29] == 0
    assert "lone" in splits[0].notes[0]


def test_folds_are_stratified_and_even() -> None:
    labels = ["a"] * 50 + ["b"] * 25 + ["c"] * 10
    for split in folds_of(labels, range(85), 5):
        held = [int((np.array(labels)[split.part == "test"] == name).sum()) for name in "abc"]
        assert held == [10, 5, 2]


def test_the_users_own_test_part_is_in_no_fold() -> None:
    labels, own = ["a", "b"] * 20, ["train"] * 30 + ["test"] * 10
    for split in folds_of(labels, range(40), 3, own):
        assert set(split.part[30:]) == {""}
        assert "" not in set(split.part[:30])


def test_no_class_with_two_groups_cannot_be_folded() -> None:
    with pytest.raises(DataError, match="nothing to divide into folds"):
        folds_of(["a", "a", "b"], [0, 0, 1], 2)


OWN = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
LABELS = ["a", "b", "a", "b", "a", "b", "a", "b", "a", "b", "a", "b"]


def test_drop_leaves_out_what_the_judge_has_a_twin_of() -> None:
    groups = np.array([0, 1, 2, 3, 4, 5, 0, 6, 7, 1, 7, 8])  # train 0 = val 6, train 1 = test 9, val 8 = test 10
    split = make_split(frame(LABELS, OWN), groups, USUAL, 0, repair="drop")
    assert np.flatnonzero(split.part == "").tolist() == [0, 1, 8]
    assert (split.part[9:] == "test").all()
    assert not split.twins.any()
    assert "3 images were left out" in split.notes[-1]


def test_regroup_moves_a_group_to_where_most_of_it_is() -> None:
    groups = np.array([0, 1, 0, 3, 0, 5, 0, 6, 7, 1, 10, 11])  # three in train and one in val; one in train and one in test
    groups = np.unique(groups, return_inverse=True)[1]
    split = make_split(frame(LABELS, OWN), groups, USUAL, 0, repair="regroup")
    assert split.part[6] == "train"
    assert split.part[1] == "test"  # of equal numbers, test
    assert not split.twins.any()


@pytest.mark.parametrize("repair", ["drop", "regroup"])
def test_a_class_that_a_repair_would_take_from_train_is_told(repair: str) -> None:
    labels = ["a", "b", "a", "b", "a", "b"]
    own = ["train", "train", "val", "val", "test", "test"]
    groups = np.array([0, 1, 0, 2, 0, 3])
    with pytest.raises(DataError, match=r"no image in train of a"):
        make_split(frame(labels, own), groups, USUAL, 0, repair=repair)  # type: ignore[arg-type]
