from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from sightline.data.augment import Stored, View, plain_views, training_views
from sightline.data.batches import Growth, Mixing, Order, TrainBatches, image_keys, mean_and_std, plain_batches
from sightline.data.policy import POLICIES
from sightline.data.store import Limits, PixelFiles, PixelStore, open_pixels
from sightline.data.table import scan
from sightline.errors import DataError

SIDE = 12
VIEW = View(10, "squash", (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
CPU = torch.device("cpu")
N = 23


class FakePixels:
    """Image i is a square of the one colour i; remembers what was read, and how many reads ran at once."""

    side = 2

    def __init__(self, count: int) -> None:
        self.extents = np.full((count, 2), 2, dtype=np.int32)
        self.asked: list[list[int]] = []

    def read(self, rows: npt.NDArray[np.int64], into: torch.Tensor | None = None) -> torch.Tensor:
        self.asked.append(rows.tolist())
        return torch.from_numpy(rows).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 2, 2, 3).contiguous()


class BrokenPixels(FakePixels):
    """The third batch cannot be read."""

    def read(self, rows: npt.NDArray[np.int64], into: torch.Tensor | None = None) -> torch.Tensor:
        if len(self.asked) == 2:
            raise DataError("gone")
        return super().read(rows, into)


def batches_of(pixels: Any, rows: Any = None, batch_size: int = 5, seed: int = 0, **changes: Any) -> TrainBatches:
    count = len(pixels.extents)
    rows = np.arange(count) if rows is None else np.asarray(rows)
    keys = image_keys(f"image-{i}" for i in range(count))
    made = TrainBatches(pixels, rows, np.arange(count) * 2, keys, VIEW, POLICIES["standard"], Order(len(rows), batch_size, seed), seed, CPU)
    return replace(made, **changes)


def rows_of(batches: TrainBatches, epoch: int) -> list[npt.NDArray[np.int64]]:
    """The rows of each batch of an epoch."""
    return [batches.rows[positions] for positions, _ in batches.order.epoch(epoch)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PNG files of many shapes, larger and smaller than what is stored."""
    root, draws = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(N):
        folder = root / "ab"[i % 2]
        folder.mkdir(exist_ok=True)
        height, width = draws.integers(1, 40, 2)
        Image.fromarray(draws.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{i:02d}.png")
    return root


Opener = Callable[..., PixelStore | PixelFiles]


@pytest.fixture
def opened(photos: Path, tmp_path: Path) -> Iterator[Opener]:
    """The photos' pixels: stored, or decoded by so many threads each time."""
    pools = []

    def open_them(workers: int | None = None) -> PixelStore | PixelFiles:
        budget, cache = (None, "store") if workers is None else (0.0, "files")
        limits = Limits(64_000_000, budget, workers or 1, tmp_path / cache)
        _, pixels = open_pixels(scan(photos), SIDE, limits)
        assert isinstance(pixels, PixelStore if workers is None else PixelFiles)
        if isinstance(pixels, PixelFiles):
            pools.append(pixels.pool)
        return pixels

    yield open_them
    for pool in pools:
        pool.shutdown()


def readers() -> set[threading.Thread]:
    """Threads that are not the decoding ones, which belong to the pixels."""
    gc.collect()
    return {t for t in threading.enumerate() if not t.name.startswith("decode")}


# ---- order -----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 99), min_size=1, max_size=60), st.integers(1, 20), st.integers(0, 2**63 - 1), st.integers(0, 500))
@example(set(range(11)), 5, 0, 0)
@example({3}, 64, 0, 0)
def test_an_epoch_has_each_image_once_in_batches_of_nearly_one_size(rows: set[int], batch_size: int, seed: int, epoch: int) -> None:
    batches = batches_of(FakePixels(100), sorted(rows), batch_size, seed)
    order = rows_of(batches, epoch)
    sizes = {len(part) for part in order}
    assert sorted(np.concatenate(order)) == sorted(rows)
    assert len(order) == len(batches)
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= batch_size


def test_views_and_labels_belong_to_the_rows_of_the_order() -> None:
    pixels = FakePixels(N)
    batches = batches_of(pixels, policy=POLICIES["none"])
    for rows, (images, labels, *_) in zip(rows_of(batches, 4), batches.epoch(4), strict=True):
        colours = images[:, 0, 0, 0] * VIEW.std[0] + VIEW.mean[0]
        np.testing.assert_allclose(colours * 255, rows, atol=1e-3)
        np.testing.assert_array_equal(labels, 2 * rows)
    assert pixels.asked == [part.tolist() for part in rows_of(batches, 4)]


def test_another_epoch_or_seed_has_another_order() -> None:
    orders = [np.concatenate(rows_of(batches_of(FakePixels(60), seed=seed), epoch)).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_an_image_looks_the_same_in_batches_of_any_size(opened: Opener) -> None:
    def by_label(batch_size: int) -> dict[int, torch.Tensor]:
        made = batches_of(opened(), batch_size=batch_size).epoch(2)
        return {int(label): image for images, labels, *_ in made for image, label in zip(images, labels, strict=True)}

    small, large = by_label(3), by_label(N)
    for label, image in small.items():
        np.testing.assert_allclose(image, large[label], atol=2e-4)  # float32 products of another shape


# ---- the same, wherever the pixels come from and wherever it begins --------------------------------------------------


def assert_same(some: Any, others: Any) -> None:
    for (images, labels, *_), (other_images, other_labels, *_) in zip(some, others, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_batches_do_not_depend_on_where_pixels_come_from_or_on_the_number_of_workers(opened: Opener, workers: int) -> None:
    stored, decoded = opened(), opened(workers)
    assert_same(batches_of(stored).epoch(1), batches_of(decoded).epoch(1))
    for a, b in zip(*(plain_batches(p, np.arange(N), VIEW, 4, CPU) for p in (stored, decoded)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize("start", [0, 1, 3, 5])
def test_an_epoch_goes_on_from_any_batch(opened: Opener, workers: int | None, start: int) -> None:
    batches = batches_of(opened(workers))
    assert_same(batches.epoch(1, start), list(batches.epoch(1))[start:])


@given(st.integers(1, 200))
def test_pictures_grow_and_end_at_their_full_size(epochs: int) -> None:
    sizes = [Growth(8, epochs).size(epoch, 24) for epoch in range(epochs)]
    assert sizes == sorted(sizes)
    assert set(sizes) <= {8, 16, 24}
    assert sizes[-1] == 24
    if epochs >= 10:
        assert 0.55 * epochs <= sizes.count(8) <= 0.8 * epochs
        assert 0.05 * epochs <= sizes.count(24) <= 0.25 * epochs


def test_growing_pictures_are_those_of_a_smaller_view() -> None:
    growing, plain = batches_of(FakePixels(N), growth=Growth(4, 10)), batches_of(FakePixels(N), view=replace(VIEW, size=4))
    for mine, others in zip(growing.epoch(0), plain.epoch(0), strict=True):
        assert torch.equal(mine.inputs, others.inputs)
        assert mine.inputs.shape[2:] == (4, 4)
    assert next(growing.epoch(9)).inputs.shape[2:] == (10, 10)


def test_views_come_in_turn_where_there_are_only_so_many() -> None:
    def seen(epoch: int, views: int | None) -> dict[int, torch.Tensor]:
        made = batches_of(FakePixels(N), views=views).epoch(epoch)
        return {int(label): image for images, labels, *_ in made for image, label in zip(images, labels, strict=True)}

    first, second, third, fourth = (seen(epoch, 3) for epoch in range(4))
    assert all(torch.allclose(first[label], fourth[label], atol=1e-5) for label in first)
    assert not all(torch.allclose(first[label], other[label], atol=1e-3) for other in (second, third) for label in first)
    fresh = [seen(epoch, None) for epoch in (0, 3)]
    assert not all(torch.allclose(fresh[0][label], fresh[1][label], atol=1e-3) for label in first)


class Twice:
    """Every image is shown twice an epoch, in the same batch."""

    def __len__(self) -> int:
        return 2 * N

    def epoch(self, epoch: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        return np.repeat(np.arange(N), 2), np.tile([0, 1], N)


def test_an_image_shown_twice_looks_different_the_second_time() -> None:
    once = batches_of(FakePixels(N)).epoch(5)
    plain = {label: image for images, labels, *_ in once for label, image in zip(labels.tolist(), images, strict=True)}
    batches = batches_of(FakePixels(N), order=Order(N, 2, 0, Twice()))
    assert len(batches) == N
    different = []
    for images, labels, *_ in batches.epoch(5):
        assert labels[0] == labels[1]
        assert torch.allclose(images[0], plain[int(labels[0])], atol=1e-5)
        different.append(not torch.allclose(images[0], images[1], atol=1e-4))
    assert np.mean(different) > 0.7  # nearly black ones stay black


def test_mixed_batches_name_the_partner_and_its_share() -> None:
    batches = batches_of(FakePixels(N), mixing=Mixing(mixup=1.0), policy=POLICIES["none"])
    for inputs, labels, partner, share in batches.epoch(0):
        assert partner is not None
        assert share is not None
        colours = (inputs[:, 0, 0, 0] * VIEW.std[0] + VIEW.mean[0]) * 255
        expected = share * labels / 2 + (1 - share) * partner / 2  # an image's colour is half its label here
        np.testing.assert_allclose(colours, expected, atol=1e-2)


def test_views_are_the_policys_in_the_asked_precision(opened: Opener) -> None:
    pixels = opened()
    for precision in (torch.float32, torch.bfloat16):
        batches = batches_of(pixels, precision=precision)
        rows = rows_of(batches, 7)[2]
        images, *_ = list(batches.epoch(7))[2]
        stored = Stored(pixels.read(rows), pixels.extents[rows], batches.keys[rows])
        assert torch.equal(images, training_views(stored, VIEW, POLICIES["standard"], 0, 7, precision))
        assert images.dtype == precision


def test_plain_batches_keep_the_order_of_their_rows(opened: Opener) -> None:
    pixels, rows = opened(), np.array([5, 3, 3, 11, 0, 22, 7])
    made = list(plain_batches(pixels, rows, VIEW, 3, CPU))
    assert [len(images) for images in made] == [3, 3, 1]
    stored = Stored(pixels.read(rows), pixels.extents[rows], np.zeros(7, dtype=np.uint64))
    np.testing.assert_allclose(torch.cat(made), plain_views(stored, VIEW), atol=2e-4)  # float32 products of another shape
    assert list(plain_batches(pixels, rows[:0], VIEW, 3, CPU)) == []


def test_keys_come_from_paths_alone() -> None:
    assert len(set(image_keys(["a/1.png", "a/2.png", "b/1.png"]).tolist())) == 3
    assert image_keys(["a/2.png"])[0] == image_keys(["a/1.png", "a/2.png"])[1]
    assert image_keys([]).dtype == np.uint64


# ---- reading ahead ---------------------------------------------------------------------------------------------------


def test_decoding_is_one_batch_ahead_and_no_more() -> None:
    pixels = FakePixels(N)
    epoch = batches_of(pixels).epoch(0)
    for used in (1, 2):
        next(epoch)
        patience = time.monotonic() + 5
        while len(pixels.asked) <= used and time.monotonic() < patience:
            time.sleep(0.001)
        assert len(pixels.asked) == used + 1
    epoch.close()


@pytest.mark.parametrize("workers", [1, 4])
def test_leaving_an_epoch_early_leaves_no_thread_behind(opened: Opener, workers: int) -> None:
    before, batches = readers(), batches_of(opened(workers))
    for _ in range(3):
        for _batch in batches.epoch(0):
            break
    assert readers() == before


def test_an_error_in_the_loop_leaves_no_thread_behind() -> None:
    before = readers()

    def train() -> None:
        for _batch in batches_of(FakePixels(N)).epoch(0):
            raise ArithmeticError("the loss is not finite")

    with pytest.raises(ArithmeticError):
        train()
    assert readers() == before


def test_a_file_that_is_gone_ends_the_epoch_with_its_error_after_the_batches_before() -> None:
    before, seen = readers(), []

    def train() -> None:
        for batch in batches_of(BrokenPixels(N)).epoch(0):
            seen.append(len(batch.labels))

    with pytest.raises(DataError, match="gone"):
        train()
    assert len(seen) == 2
    assert readers() == before


# ---- mean and standard deviation -------------------------------------------------------------------------------------


def test_mean_and_deviation_are_numpys_over_all_stored_pixels(opened: Opener) -> None:
    pixels, rows = opened(), np.array([1, 2, 3, 5, 8, 13, 21])
    used = [pixels.read(np.array([row]))[0, :h, :w].reshape(-1, 3).numpy() for row in rows for h, w in [pixels.extents[row]]]
    colours = np.concatenate(used).astype(np.float64) / 255
    for found, expected in zip(mean_and_std(pixels, rows), (colours.mean(0), colours.std(0)), strict=True):
        np.testing.assert_allclose(found, expected, atol=5.1e-5)  # they are rounded to four places


def test_mean_and_deviation_are_numpys_over_the_decoded_files(photos: Path, tmp_path: Path) -> None:
    """Stored large enough that nothing is shrunk: the files' own pixels."""
    table, pixels = open_pixels(scan(photos), 40, Limits(64_000_000, None, 2, tmp_path))
    colours = np.concatenate([np.asarray(Image.open(photos / path)).reshape(-1, 3) for path in table.usable["path"]]) / 255
    mean, std = mean_and_std(pixels, np.arange(N))
    np.testing.assert_allclose(mean, colours.mean(0), atol=5.1e-5)
    np.testing.assert_allclose(std, colours.std(0), atol=5.1e-5)


def test_mean_and_deviation_do_not_depend_on_where_pixels_come_from(opened: Opener) -> None:
    assert mean_and_std(opened(), np.arange(N)) == mean_and_std(opened(2), np.arange(N))


def test_one_flat_colour_still_has_a_scale() -> None:
    assert mean_and_std(FakePixels(256), np.array([51])) == ((0.2, 0.2, 0.2), (0.01, 0.01, 0.01))
