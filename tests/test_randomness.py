from __future__ import annotations

import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.randomness import _mix, key, permutation, seed_torch, stream, uniform

seeds = st.integers(0, 2**63 - 1)
images = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20)


def keys(values: list[int]) -> npt.NDArray[np.uint64]:
    return np.array(values, dtype=np.uint64)


def split_mix_64(state: int, count: int) -> list[int]:
    """Steele, Lea and Flood 2014, in Python's whole numbers."""
    words, found = 2**64, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % words
        z = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % words
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % words
        found.append(z ^ (z >> 31))
    return found


def test_the_reference_gives_the_published_numbers() -> None:
    assert split_mix_64(1234567, 3) == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@settings(deadline=None)
@given(seeds, images, st.integers(0, 40))
def test_draws_are_those_of_split_mix_64(seed: int, values: list[int], count: int) -> None:
    found = uniform(seed, "augment", 3, keys(values), count)
    assert found.shape == (len(values), count)
    for row, value in zip(found, values, strict=True):
        start = split_mix_64((value ^ split_mix_64(_less(key(seed, "augment", 3)), 1)[0]) - 0x9E3779B97F4A7C15, 1)[0]
        assert row.tolist() == [(word >> 11) / 2**53 for word in split_mix_64(start, count)]


def _less(value: int) -> int:
    """The state from which SplitMix64's next number is the mixture of `value`."""
    return value - 0x9E3779B97F4A7C15


@settings(deadline=None)
@given(seeds, images, st.data())
def test_an_images_draws_do_not_depend_on_the_others(seed: int, values: list[int], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(values))))
    together = uniform(seed, "augment", 0, keys(values), 5)
    assert np.array_equal(uniform(seed, "augment", 0, keys(values)[order], 5), together[order])
    assert np.array_equal(uniform(seed, "augment", 0, keys(values[:1]), 5), together[:1])
    assert np.array_equal(uniform(seed, "augment", 0, keys(values), 3), together[:, :3])


@pytest.mark.parametrize(("seed", "purpose", "epoch"), [(1, "augment", 0), (0, "mixup", 0), (0, "augment", 1)])
def test_another_seed_purpose_or_epoch_gives_other_draws(seed: int, purpose: str, epoch: int) -> None:
    some = keys(list(range(100)))
    assert not np.isin(uniform(seed, purpose, epoch, some, 8), uniform(0, "augment", 0, some, 8)).any()


def test_draws_look_uniform_and_independent() -> None:
    draws = uniform(0, "augment", 0, keys(list(range(5000))), 8)
    assert draws.min() >= 0
    assert draws.max() < 1
    for column in draws.T:
        assert scipy.stats.kstest(column, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(draws.T) - np.eye(8)).max() < 0.06
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.06  # of neighbouring keys


def test_the_largest_word_stays_below_one() -> None:
    assert (2**64 - 1 >> 11) * 2.0**-53 < 1
    assert _mix(keys([0])) == 0


def test_a_key_is_the_same_on_every_machine() -> None:
    assert key(0, "split", "ab") == 16471903237393666679  # b2sum -l 64, its bytes from the last to the first
    assert key("image", "Blüte/🌸 1.jpg") == key("image", "Blüte/🌸 1.jpg")
    assert len({key(0, "a", 1), key(1, "a", 0), key("0", "a", 11), key(0, "a1"), key(0, "a")}) == 5
    code = "from sightline.randomness import key; print(key(7, 'order', 'x'))"
    for hash_seed in ("1", "2"):  # Python's own hash differs between processes
        done = subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True)
        assert int(done.stdout) == key(7, "order", "x")


@settings(deadline=None)
@given(seeds, st.integers(0, 300))
def test_an_order_holds_each_image_once_and_is_repeatable(seed: int, n: int) -> None:
    order = permutation(seed, "order", 2, n)
    assert sorted(order.tolist()) == list(range(n))
    assert np.array_equal(order, permutation(seed, "order", 2, n))


def test_epochs_have_different_orders() -> None:
    orders = {tuple(permutation(0, "order", epoch, 20).tolist()) for epoch in range(50)}
    assert len(orders) == 50


def test_streams_are_apart_and_repeatable() -> None:
    assert stream(0, "a").random() == stream(0, "a").random()
    assert stream(0, "a").random() != stream(0, "b").random()


def test_torch_is_seeded_from_its_purpose_alone() -> None:
    def draw(*parts: object) -> list[float]:
        seed_torch(*parts)
        return torch.rand(3).tolist()

    first = draw(0, "step", 5)
    torch.rand(100)
    assert draw(0, "step", 5) == first
    assert draw(0, "step", 6) != first
    assert draw(0, "weights") != first
    draws = draw(0, "step", 5)
    torch.manual_seed(key(0, "step", 5) % 2**63)
    assert torch.rand(3).tolist() == draws
