"""An epoch shows what was asked for: exactly, or in the long run."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sightline.data.batches import Order
from sightline.errors import SettingsError
from sightline.settings import TrainSettings
from sightline.training.sampling import Sampling, build_sampling

LABELS = np.repeat([0, 2, 3], [2, 8, 50])[np.random.default_rng(0).permutation(60)]  # no image of class 1
SIZES = np.bincount(LABELS)


def sampling(sampler: str = "shuffle", views: int | None = None, seed: int = 0, labels: np.ndarray = LABELS) -> Sampling:
    built = build_sampling(TrainSettings(sampler=sampler, views_per_class=views), labels, seed)
    assert built is not None
    return built


def frequencies(way: Sampling, epochs: int = 400) -> np.ndarray:
    """Mean showings of each image in an epoch."""
    shown = sum(np.bincount(way.epoch(e)[0], minlength=len(LABELS)) for e in range(epochs))
    return np.asarray(shown) / epochs


def test_a_shuffled_epoch_needs_no_sampling() -> None:
    assert build_sampling(TrainSettings(sampler="shuffle", views_per_class=None), LABELS, 0) is None


@pytest.mark.parametrize("sampler", ["balanced", "sqrt"])
def test_a_sampler_and_views_a_class_contradict_each_other(sampler: str) -> None:
    with pytest.raises(SettingsError, match=f"train.sampler={sampler} and train.views_per_class=5"):
        build_sampling(TrainSettings(sampler=sampler, views_per_class=5), LABELS, 0)


# ---- a part of them an epoch -------------------------------------------------------------------------------------------


@given(st.integers(1, 150), st.integers(0, 5))
def test_no_image_comes_again_before_all_have_come(images: int, seed: int) -> None:
    way = build_sampling(TrainSettings(sampler="shuffle", views_per_class=None, images_per_epoch=images), LABELS, seed)
    assert way is not None
    assert len(way) == images
    epochs = [way.epoch(e)[0] for e in range(7)]
    assert all(len(epoch) == images for epoch in epochs)
    shown = np.concatenate(epochs)
    for first in range(0, len(shown), len(LABELS)):
        part = shown[first : first + len(LABELS)]
        assert len(set(part.tolist())) == len(part)


def test_an_epoch_of_all_images_is_the_ordinary_one() -> None:
    way = build_sampling(TrainSettings(sampler="shuffle", views_per_class=None, images_per_epoch=60), LABELS, 3)
    assert way is not None
    np.testing.assert_array_equal(way.epoch(4)[0], np.concatenate([rows for rows, _ in Order(60, 16, 3).epoch(4)]))


def test_a_second_showing_in_an_epoch_is_another_view() -> None:
    positions, repeats = Sampling(LABELS, "shuffle", 0, 90).epoch(1)
    assert Counter(repeats.tolist()) == {0: 60, 1: 30}
    assert len(set(positions[repeats == 1].tolist())) == 30


@pytest.mark.parametrize(("images", "each"), [(1000, 8), (24, 8), (20, 6), (3, 1), (1, 1)])
def test_views_of_a_class_are_as_many_as_an_epoch_has_room_for(images: int, each: int) -> None:
    way = build_sampling(TrainSettings(sampler="shuffle", views_per_class=8, images_per_epoch=images), LABELS, 0)
    assert way is not None
    assert Counter(LABELS[way.epoch(2)[0]].tolist()) == dict.fromkeys(np.unique(LABELS).tolist(), each)


@pytest.mark.parametrize("sampler", ["balanced", "sqrt"])
def test_draws_may_be_fewer_than_images(sampler: str) -> None:
    way = build_sampling(TrainSettings(sampler=sampler, views_per_class=None, images_per_epoch=7), LABELS, 0)
    assert way is not None
    assert len(way) == len(way.epoch(0)[0]) == 7


# ---- drawn with replacement --------------------------------------------------------------------------------------------


def test_balanced_draws_show_every_class_alike() -> None:
    shown = frequencies(sampling("balanced"))
    totals = [shown[c == LABELS].sum() for c in (0, 2, 3)]
    assert totals == pytest.approx([20, 20, 20], abs=0.6)  # four standard errors are 0.73 for a class of these
    assert shown[LABELS == 0] == pytest.approx([10, 10], abs=0.6)  # and within a class every image


def test_square_root_draws_show_a_class_as_the_root_of_its_size() -> None:
    shown = frequencies(sampling("sqrt"))
    roots = np.sqrt([2, 8, 50])
    totals = [shown[c == LABELS].sum() for c in (0, 2, 3)]
    assert totals == pytest.approx(60 * roots / roots.sum(), abs=0.7)


def test_balanced_draws_are_as_frequent_as_those_of_torchs_weighted_sampler() -> None:
    torch.manual_seed(0)
    theirs = torch.utils.data.WeightedRandomSampler((1 / SIZES[LABELS]).tolist(), 60 * 400, replacement=True)
    expected = np.bincount(list(theirs), minlength=60) / 400
    assert frequencies(sampling("balanced")) == pytest.approx(expected, abs=0.9)


@pytest.mark.parametrize("sampler", ["balanced", "sqrt"])
def test_a_drawn_epoch_is_as_long_as_the_train_part(sampler: str) -> None:
    assert len(sampling(sampler)) == len(sampling(sampler).epoch(0)[0]) == 60


# ---- so many views a class ---------------------------------------------------------------------------------------------

some_labels = st.lists(st.integers(0, 5), min_size=1, max_size=60).map(lambda labels: np.array(labels, dtype=np.int64))


@given(labels=some_labels, views=st.integers(1, 40), epoch=st.integers(0, 1000), seed=st.integers(0, 5))
def test_every_class_is_shown_as_often_as_asked_and_its_images_alike(labels: np.ndarray, views: int, epoch: int, seed: int) -> None:
    way = sampling(views=views, seed=seed, labels=labels)
    positions, _ = way.epoch(epoch)
    assert len(way) == len(positions)
    shown = np.bincount(positions, minlength=len(labels))
    for c in np.unique(labels):
        of_class = shown[labels == c]
        assert of_class.sum() == views
        assert set(of_class) <= {views // len(of_class), -(-views // len(of_class))}


@given(labels=some_labels, views=st.integers(1, 40), epochs=st.integers(1, 12))
def test_over_epochs_no_image_of_a_class_is_shown_more_than_once_more_than_another(labels: np.ndarray, views: int, epochs: int) -> None:
    way = sampling(views=views, labels=labels)
    shown = sum(np.bincount(way.epoch(e)[0], minlength=len(labels)) for e in range(epochs))
    for c in np.unique(labels):
        assert np.ptp(np.asarray(shown)[labels == c]) <= 1


def test_a_large_class_shows_other_images_in_the_next_epoch() -> None:
    way = sampling(views=10)
    first, second = (set(way.epoch(e)[0][LABELS[way.epoch(e)[0]] == 3]) for e in (0, 1))
    assert len(first) == len(second) == 10
    assert not first & second


def test_the_classes_come_mixed() -> None:
    labels = LABELS[sampling(views=50).epoch(0)[0]]
    assert 60 < np.count_nonzero(np.diff(labels)) < 140  # 2 / 3 of 149 neighbours differ by chance; sorted, 2 do


# ---- both --------------------------------------------------------------------------------------------------------------

WAYS: list[tuple[str, int | None]] = [("balanced", None), ("sqrt", None), ("shuffle", 20)]


@pytest.mark.parametrize(("sampler", "views"), WAYS)
def test_an_epoch_depends_on_the_seed_and_its_number_alone(sampler: str, views: int | None) -> None:
    way, again = sampling(sampler, views), sampling(sampler, views)
    later = way.epoch(7)
    for _ in range(2):
        assert [a.tolist() for a in again.epoch(7)] == [a.tolist() for a in later]
    assert way.epoch(8)[0].tolist() != later[0].tolist()
    assert sampling(sampler, views, seed=1).epoch(7)[0].tolist() != later[0].tolist()


@pytest.mark.parametrize(("sampler", "views"), WAYS)
def test_repeats_count_the_showings_of_an_image_in_order(sampler: str, views: int | None) -> None:
    positions, repeats = sampling(sampler, views).epoch(3)
    assert positions.dtype == repeats.dtype == np.int64
    seen: Counter[int] = Counter()
    for position, repeat in zip(positions.tolist(), repeats.tolist(), strict=True):
        assert repeat == seen[position]
        seen[position] += 1
    assert max(seen.values()) > 1  # the small class cannot do without


def test_a_sampling_that_could_show_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no image"):
        Sampling(np.array([], dtype=np.int64), "balanced", 0)
    with pytest.raises(ValueError, match="at least once"):
        Sampling(LABELS, 0, 0)
