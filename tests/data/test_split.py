from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sightline.data.split import Fractions, Split, make_split
from sightline.errors import DataError

USUAL: Fractions = (0.7, 0.15, 0.15)


def digest(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def frame(labels: Sequence[str], given: Sequence[str | None] | None = None, names: Sequence[object] | None = None) -> pl.DataFrame:
    """Rows of different images; `names` stand for their content."""
    digests = [digest(name) for name in (names if names is not None else range(len(labels)))]
    columns = {"label": list(labels), "given": list(given or [None] * len(labels)), "digest": digests}
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


def split(
    labels: Sequence[str],
    groups: Sequence[int] | None = None,
    fractions: Fractions = USUAL,
    seed: int = 0,
    **columns: Any,
) -> Split:
    numbers = np.arange(len(labels)) if groups is None else np.array(groups, dtype=np.int64)
    return make_split(frame(labels, **columns), numbers, fractions, seed)


def renumbered(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """By first appearance, as `group_rows` does."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


# ---- laws ------------------------------------------------------------------------------------------------------------


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[str], npt.NDArray[np.int64], Fractions, int]:
    """Labels, groups (of any size, some across classes), fractions and seed."""
    n = draw(st.integers(1, 40))
    labels = draw(st.lists(st.sampled_from("abc"), min_size=n, max_size=n))
    groups = draw(st.lists(st.integers(0, draw(st.integers(1, 40))), min_size=n, max_size=n))
    test = draw(st.sampled_from([0.0, 0.05, 0.15, 0.3, 0.45]))
    val = draw(st.sampled_from([0.05, 0.15, 0.3, 0.45]))
    return labels, renumbered(np.array(groups)), (1 - val - test, val, test), draw(st.integers(0, 2**63 - 1))


def attempt(labels: list[str], groups: npt.NDArray[np.int64], fractions: Fractions, seed: int, **columns: Any) -> Split:
    try:
        return make_split(frame(labels, **columns), groups, fractions, seed)
    except DataError:
        assume(False)
        raise


@settings(deadline=None)
@given(cases())
def test_every_image_is_in_one_part_and_groups_are_whole(case: Any) -> None:
    labels, groups, fractions, seed = case
    found = attempt(labels, groups, fractions, seed)
    assert sorted(np.concatenate([found.rows(part) for part in ("train", "val", "test")])) == list(range(len(labels)))
    assert len({(g, p) for g, p in zip(groups, found.part, strict=True)}) == groups.max() + 1
    assert not found.twins.any()
    assert set(np.array(labels)[found.rows("train")]) == set(labels)
    assert fractions[2] > 0 or len(found.rows("test")) == 0


@settings(deadline=None)
@given(cases(), st.data())
def test_the_order_of_the_rows_does_not_matter(case: Any, data: st.DataObject) -> None:
    labels, groups, fractions, seed = case
    found = attempt(labels, groups, fractions, seed)
    order = data.draw(st.permutations(range(len(labels))))
    again = attempt([labels[i] for i in order], renumbered(groups[order]), fractions, seed, names=order)
    assert again.part.tolist() == found.part[order].tolist()


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5)), min_size=7, max_size=20), st.integers(0, 9))
def test_three_groups_of_any_class_are_enough_to_choose_with(sizes: list[tuple[str, int]], seed: int) -> None:
    labels = [label for label, size in sizes for _ in range(size)]
    groups = [group for group, (_, size) in enumerate(sizes) for _ in range(size)]
    assert {"train", "val", "test"} == set(split(labels, groups, seed=seed).part)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(60, 900),
    st.sampled_from([USUAL, (0.8, 0.1, 0.1), (0.5, 0.2, 0.3), (0.85, 0.15, 0.0)]),
    st.integers(0, 9),
)
def test_shares_of_single_images_are_met_exactly(n: int, fractions: Fractions, seed: int) -> None:
    found = split(["a"] * n + ["b"] * 60, fractions=fractions, seed=seed)
    for name, share in zip(("val", "test"), fractions[1:], strict=True):
        assert (found.part[:n] == name).sum() == round(n * share)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=80, max_size=150), st.integers(0, 9))
def test_shares_of_groups_are_met_within_half_of_a_group(sizes: list[int], seed: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    found = split(["a"] * len(groups), groups.tolist(), seed=seed)
    for name in ("val", "test"):
        assert abs((found.part == name).sum() - 0.15 * len(groups)) <= 6.5


# ---- rare classes ----------------------------------------------------------------------------------------------------


TABLE = [
    (1, 1, 0, 0),
    (2, 1, 0, 1),
    (3, 1, 1, 1),
    (4, 2, 1, 1),
    (5, 3, 1, 1),
    (6, 4, 1, 1),
    (10, 6, 2, 2),
    (20, 14, 3, 3),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("count", "train", "val", "test"), TABLE)
def test_rare_classes_are_divided_as_the_table_says(count: int, train: int, val: int, test: int, seed: int) -> None:
    part = split(["rare"] * count + ["common"] * 50, seed=seed).part[:count]
    assert Counter(part.tolist()) == Counter(train=train, val=val, test=test)


@pytest.mark.parametrize(("count", "train", "val", "test"), TABLE[:4])
def test_twins_do_not_make_a_class_less_rare(count: int, train: int, val: int, test: int) -> None:
    groups = [*np.repeat(np.arange(count), 2).tolist(), *range(count, count + 50)]
    part = split(["rare"] * (2 * count) + ["common"] * 50, groups).part[: 2 * count]
    assert Counter(part.tolist()) == Counter(train=2 * train, val=2 * val, test=2 * test)


@pytest.mark.parametrize("sizes", [[100, 1, 1], [1, 100, 1], [5, 5, 5], [100, 100, 100], [1000, 2, 1], [3, 90, 90, 1]])
@pytest.mark.parametrize("fractions", [USUAL, (0.1, 0.45, 0.45), (0.9, 0.05, 0.05), (0.98, 0.01, 0.01)])
@pytest.mark.parametrize("seed", range(4))
def test_three_groups_of_any_size_reach_all_three_parts(sizes: list[int], fractions: Fractions, seed: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    part = split(["a"] * len(groups), groups.tolist(), fractions, seed).part
    assert set(part) == {"train", "val", "test"}


def test_a_huge_group_stays_in_train_where_smaller_ones_can_judge() -> None:
    groups = np.concatenate([np.zeros(1000, dtype=int), np.arange(1, 31)])
    for seed in range(5):
        part = split(["a"] * 1030, groups.tolist(), seed=seed).part
        assert part[0] == "train"
        assert {"val", "test"} <= set(part)


def test_two_groups_of_any_size_train_and_test() -> None:
    labels = ["a"] * 11 + ["b"] * 30
    for seed in range(5):
        part = split(labels, [0] * 10 + list(range(1, 32)), seed=seed).part
        assert part[0] == "train"
        assert part[10] == "test"


def test_without_a_share_for_test_nothing_is_tested() -> None:
    found = split(["a"] * 2 + ["b"] * 3 + ["c"] * 20, fractions=(0.85, 0.15, 0.0))
    assert Counter(found.part[:2].tolist()) == {"train": 2}
    assert Counter(found.part[2:5].tolist()) == {"train": 2, "val": 1}
    assert found.notes == ("Too few images for val (no voice in choosing the epoch): a.",)


def test_rare_classes_are_told() -> None:
    found = split(["one"] + ["two"] * 2 + ["many"] * 20)
    assert found.notes == (
        "Too few images for test (not evaluated): one.",
        "Too few images for val (no voice in choosing the epoch): one, two.",
    )
    found = split([f"c{i:02d}" for i in range(11)] + ["many"] * 20)
    assert found.notes[0] == "Too few images for test (not evaluated): c00, c01, c02, c03, c04, c05, c06, c07 and 3 more."


def test_classes_too_rare_to_choose_with_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        split(["a", "a", "b", "b"])
    assert str(caught.value) == (
        "No image is left to choose the best epoch with: every class has fewer than 3 different images or groups. "
        "Add images, or bring a split."
    )


# ---- groups across classes -------------------------------------------------------------------------------------------


def test_a_group_across_classes_counts_to_the_class_that_has_most_of_it() -> None:
    labels = ["a", "a", "b"] * 30 + ["b"] * 2
    groups = [*np.repeat(np.arange(30), 3).tolist(), 30, 31]
    part = split(labels, groups).part
    assert Counter(part[:90].tolist()) == {"train": 60, "val": 15, "test": 15}
    assert Counter(part[90:].tolist()) == {"train": 1, "test": 1}  # b has two groups of its own


@pytest.mark.parametrize("seed", range(30))
def test_a_class_that_only_shares_groups_with_another_has_one_in_train(seed: int) -> None:
    labels = ["a"] * 40 + ["b", "b"]  # each b is a twin of two images of a
    groups = [*range(40), 0, 1]
    labels, groups = [*labels, "a", "a"], [*groups, 0, 1]
    found = split(labels, groups, seed=seed)
    assert "b" in np.array(labels)[found.rows("train")]
    assert not found.twins.any()


# ---- seeds and new images --------------------------------------------------------------------------------------------


def test_another_seed_is_another_split() -> None:
    parts = {tuple(split(["a"] * 30 + ["b"] * 30, seed=seed).part) for seed in range(20)}
    assert len(parts) == 20


def test_the_split_is_the_same_on_every_machine() -> None:
    part = split(["a"] * 12 + ["b"] * 8, seed=3).part
    assert "".join(name[1] for name in part) == "rrarreerrarrraerrrrr"  # r: train, a: val, e: test


@pytest.mark.parametrize("seed", range(10))
def test_one_new_image_moves_few_others(seed: int) -> None:
    before = split(["a"] * 500 + ["b"] * 100, seed=seed).part
    after = split(["a"] * 500 + ["b"] * 100 + ["a"], seed=seed).part
    assert (before != after[:-1]).sum() <= 3


# ---- the user's own split --------------------------------------------------------------------------------------------


def test_a_complete_split_is_kept_and_its_twins_are_marked() -> None:
    given = ["train", "train", "val", "val", "test", "test", "test"]
    found = split(["a", "b", "a", "b", "a", "b", "b"], [0, 1, 0, 2, 0, 2, 3], given=given)
    assert found.part.tolist() == given
    assert found.twins.tolist() == [False, False, True, False, True, True, False]
    assert found.notes == ()


def test_where_there_is_no_test_val_judges_and_train_gives_a_new_val() -> None:
    given = ["train"] * 100 + ["val"] * 20
    found = split(["a", "b"] * 60, given=given)
    assert set(found.part[100:]) == {"test"}
    assert Counter(found.part[:100].tolist()) == {"train": 82, "val": 18}  # 0.15 of 0.85
    assert found.notes == ("There are train and val but no test: val judges, and a part of train is set aside to choose with.",)


def test_where_there_is_no_val_train_gives_one() -> None:
    given = ["train"] * 100 + ["test"] * 20
    found = split(["a", "b"] * 60, given=given)
    assert set(found.part[100:]) == {"test"}
    assert Counter(found.part[:100].tolist()) == {"train": 82, "val": 18}
    assert found.notes == ("There is no val: a part of train is set aside to choose with.",)


def test_a_val_made_from_train_keeps_groups_whole_and_tells_rare_classes() -> None:
    labels = ["a"] * 60 + ["rare"] * 2 + ["a", "rare"]
    groups = [i // 3 for i in range(60)] + [20, 21, 0, 20]
    found = split(labels, groups, given=["train"] * 62 + ["test"] * 2)
    parts_of_groups = {(g, p) for g, p in zip(groups[:62], found.part[:62], strict=True)}
    assert len(parts_of_groups) == 22
    assert found.part[60:62].tolist() == ["train", "train"]
    assert found.twins.tolist() == [False] * 62 + [True, True]
    assert found.notes[1:] == ("Too few images for val (no voice in choosing the epoch): rare.",)


def test_a_split_of_train_alone_is_no_split() -> None:
    labels = ["a"] * 30 + ["b"] * 30
    assert split(labels, given=["train"] * 60).part.tolist() == split(labels).part.tolist()


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["train", "val", "test"]), st.integers(0, 6)), min_size=1, max_size=30))
def test_twins_are_images_that_training_or_choosing_has_seen(rows: list[tuple[str, int]]) -> None:
    rows = [("train", 90), ("val", 91), ("test", 92), *rows]
    part = [name for name, _ in rows]
    groups = renumbered(np.array([group for _, group in rows]))
    found = split(["a"] * len(rows), groups.tolist(), given=part)
    held = {name: {g for p, g in zip(part, groups, strict=True) if p == name} for name in ("train", "val")}
    assert found.twins.tolist() == [
        name != "train" and (group in held["train"] or (name == "test" and group in held["val"]))
        for name, group in zip(part, groups, strict=True)
    ]
