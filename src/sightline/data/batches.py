"""Batches: from the pixels of a part of the split to what the network sees.

    order = Order(len(rows), batch_size=64, seed=0)
    train = TrainBatches(pixels, rows, labels, keys, view, policy, order, seed=0, device=torch.device("cpu"))
    for batch in train.epoch(3, start=10): ...             from batch 10 on
    for images in plain_batches(pixels, rows, view, 256, device): ...

The order of an epoch comes from (seed, "order", epoch). All batches of an epoch have nearly the same size, so none is
so small that batch norm suffers. Pixels that have to be decoded, or copied to a GPU, are read one batch ahead, in threads. Of
several processes each makes its own contiguous part of every batch; where pictures are mixed, each makes the whole and keeps its part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from sightline import processes
from sightline.data.augment import Stored, View, plain_views, test_views, training_views
from sightline.data.mix import mix
from sightline.data.pipelines import Pipeline, pipeline_batches
from sightline.data.policy import Policy
from sightline.data.resident import ResidentPixels
from sightline.data.store import Pixels, PixelStore
from sightline.processes import ALL, Share
from sightline.randomness import key, numbered, permutation

Rows = npt.NDArray[np.int64]
_PROCESSOR = torch.device("cpu")


def image_keys(paths: Iterable[str]) -> npt.NDArray[np.uint64]:
    """(N,) uint64: what an image's random draws depend on, its path inside the folder."""
    return np.fromiter((key("image", path) for path in paths), dtype=np.uint64)


class Sampling(Protocol):
    """Which images an epoch shows, where it is not each of them once."""

    def __len__(self) -> int:
        """Images an epoch."""

    def epoch(self, epoch: int) -> tuple[Rows, Rows]:
        """(m,) positions among the train rows, and how often each was shown before in this epoch."""


class Batch(NamedTuple):
    """What a step trains on: (B, ...) inputs, (B,) labels; where two pictures were mixed, the other's label and the first's share."""

    inputs: torch.Tensor
    labels: torch.Tensor
    partner: torch.Tensor | None = None
    share: torch.Tensor | None = None

    def part(self, share: Share) -> Batch:
        """The share of one process."""
        own = share.of(len(self.labels))
        partner, shares = (None if value is None else value[own] for value in (self.partner, self.share))
        return Batch(self.inputs[own], self.labels[own], partner, shares)


@dataclass(frozen=True)
class Order:
    """Which images each batch of an epoch shows: all of `count` once, or what `sampling` says; and whose part they are."""

    count: int
    batch_size: int
    seed: int
    sampling: Sampling | None = None
    share: Share = ALL

    @property
    def smallest(self) -> int:
        """Images of the smallest batch, over all processes."""
        return (self.count if self.sampling is None else len(self.sampling)) // len(self)

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-(self.count if self.sampling is None else len(self.sampling)) // self.batch_size)

    def epoch(self, epoch: int) -> list[tuple[Rows, Rows]]:
        """(positions, repeats) of this share of each batch; sizes of batches differ by at most one, and so do those of shares."""
        if self.sampling is None:
            positions = permutation(self.seed, "order", epoch, self.count)
            repeats = np.zeros(self.count, dtype=np.int64)  # from the system: pages that are never written to cost nothing
        else:
            positions, repeats = self.sampling.epoch(epoch)
        batches = zip(np.array_split(positions, len(self)), np.array_split(repeats, len(self)), strict=True)
        return [(p[own], r[own]) for p, r in batches for own in [self.share.of(len(p))]]


@dataclass(frozen=True)
class Mixing:
    """The Beta parameters of MixUp and CutMix; None: off."""

    mixup: float | None = None
    cutmix: float | None = None

    @property
    def on(self) -> bool:
        """Whether any pictures are mixed."""
        return self.mixup is not None or self.cutmix is not None


@dataclass(frozen=True)
class Growth:
    """Pictures that grow while a network is trained: what is coarse is learned from small ones, which cost less.

    Progressive resizing (Howard 2018, for DAWNBench; Tan and Le 2021, EfficientNetV2). A network with global pooling takes
    any size. When each size begins was measured on flowers-128px (docs/log.md).

    Attributes:
        first: side of the first pictures.
        epochs: of the whole run.
    """

    first: int
    epochs: int

    def size(self, epoch: int, last: int) -> int:
        """Side of the pictures of an epoch (from 0)."""
        return (self.first, round((self.first + last) / 16) * 8, last)[growth_stage(epoch, self.epochs)]


def growth_stage(epoch: int, epochs: int) -> int:
    """0 where pictures are smallest; 1, half way, from 70 % of the epochs on; 2, at their full size, from 85 %, the last at least."""
    return (epoch >= round(0.7 * epochs)) + (epoch >= min(round(0.85 * epochs), epochs - 1)) if epoch < epochs - 1 else 2


@dataclass(frozen=True)
class Piped:
    """A pipeline in place of the policy: what the images are called in its errors, and how many processes run it."""

    pipeline: Pipeline
    paths: Sequence[str]
    workers: int


@dataclass(frozen=True)
class TrainBatches:
    """The training views of a part of the split.

    Attributes:
        pixels: of all usable rows.
        rows: (n,) the rows trained on; positions of the order count in it.
        labels: (N,) class numbers of all usable rows.
        keys: (N,) uint64 keys of all usable rows.
        precision: of the views; bfloat16 where the network computes in it anyway.
        views: how many different views an image has over the run; None: a new one each time.
        piped: what makes the views in place of the policy.
        growth: of their size, which is the view's own without.
    """

    pixels: Pixels
    rows: Rows
    labels: Rows
    keys: npt.NDArray[np.uint64]
    view: View
    policy: Policy
    order: Order
    seed: int
    device: torch.device
    precision: torch.dtype = torch.float32
    views: int | None = None
    mixing: Mixing = Mixing()
    piped: Piped | None = None
    growth: Growth | None = None

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """(B, 3, S, S) views and (B,) labels, from batch `start` on."""
        own = self.order.share
        mixes = self.mixing.on and own.parts > 1  # with any picture of the whole batch
        order = replace(self.order, share=ALL) if mixes else self.order
        batches = order.epoch(epoch)[start:]
        numbers = [view_numbers(epoch, repeats, self.views) for _, repeats in batches]
        made = self._made([self.rows[positions] for positions, _ in batches], numbers, epoch)
        for index, (rows, views) in enumerate(made, start):
            labels = torch.from_numpy(self.labels[rows]).to(self.device)
            mixed = mix(views, labels, self.mixing.mixup, self.mixing.cutmix, self.seed, epoch, index)
            made_batch = Batch(mixed[0], labels, mixed[1], mixed[2])
            yield made_batch.part(own) if mixes else made_batch

    def _made(self, batches: list[Rows], numbers: list[Rows], epoch: int) -> Iterator[tuple[Rows, torch.Tensor]]:
        """The rows of each batch, and their views."""
        if self.piped is None:
            for (rows, pixels), number in zip(_read_ahead(self.pixels, batches, self.device), numbers, strict=True):
                yield rows, self.views_of(rows, pixels, number, epoch)
            return
        pipeline, paths, workers = self.piped.pipeline, self.piped.paths, self.piped.workers
        draw = 0 if self.views else epoch
        views = pipeline_batches(self.pixels, batches, numbers, self.keys, paths, self.view_in(epoch), pipeline, self.seed, draw, workers)
        for rows, made in zip(batches, views, strict=True):
            yield rows, made.to(self.device, self.precision)

    def views_of(self, rows: Rows, pixels: torch.Tensor, number: Rows, epoch: int) -> torch.Tensor:
        """(B, 3, S, S): view `number` of each row, among the run's `views` or among those of this epoch."""
        stored = Stored(pixels.to(self.device), self.pixels.extents[rows], numbered(self.keys[rows], number))
        return training_views(stored, self.view_in(epoch), self.policy, self.seed, 0 if self.views else epoch, self.precision)

    def view_in(self, epoch: int) -> View:
        """The view of an epoch."""
        return self.view if self.growth is None else replace(self.view, size=self.growth.size(epoch, self.view.size))


def view_numbers(epoch: int, repeats: Rows, views: int | None) -> Rows:
    """Which view of each image comes: in turn where there are `views` of them, else the epoch's first, second, ..."""
    return repeats if views is None else (epoch + repeats) % views


def plain_batches(pixels: Pixels, rows: Rows, view: View, batch_size: int, device: torch.device, views: int = 1) -> Iterator[torch.Tensor]:
    """(B, 3, S, S) views without augmentation, in the order of `rows`; `views` above 1: (V, B, 3, S, S), see `test_views`."""
    batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    for part, block in _read_ahead(pixels, batches, device):
        stored = Stored(block.to(device), pixels.extents[part], np.zeros(len(part), dtype=np.uint64))
        yield stacked_views(stored, view, views)


def stacked_views(stored: Stored, view: View, count: int) -> torch.Tensor:
    """(B, 3, S, S) plain views, or (V, B, 3, S, S) of test-time augmentation."""
    return plain_views(stored, view) if count == 1 else torch.stack(list(test_views(stored, view, count)))


def mean_and_std(pixels: Pixels, rows: Rows) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of each channel over all pixels of `rows`, in [0, 1]; from exact counts.

    All processes call it; each counts its share.
    """
    counts, used = np.zeros((3, 256)), 0
    rows = rows[processes.share().of(len(rows))]
    for part, block in _read_ahead(pixels, [rows[i : i + 32] for i in range(0, len(rows), 32)]):
        counts += [np.bincount(block[..., channel].reshape(-1).numpy(), minlength=256) for channel in range(3)]
        used += int(pixels.extents[part].astype(np.int64).prod(1).sum())
    counts, used = np.sum(processes.gathered(counts), axis=0), sum(processes.gathered(used))
    values = np.arange(256)  # the zeros of the unused parts add nothing to the sums
    mean = counts @ values / used / 255
    variance = counts @ values**2 / used / 255**2 - mean**2
    return _triple(mean), _triple(np.sqrt(np.maximum(variance, 1e-4)))  # one flat colour still has a scale


def _triple(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    red, green, blue = (round(float(v), 4) for v in values)
    return red, green, blue


def _read_ahead(pixels: Pixels, batches: list[Rows], device: torch.device = _PROCESSOR) -> Iterator[tuple[Rows, torch.Tensor]]:
    """Each batch with its pixels, on the device. What must be decoded, or copied to a GPU, is read while the batch before is used."""
    copies = device.type == "cuda" and not isinstance(pixels, ResidentPixels)
    if isinstance(pixels, (PixelStore, ResidentPixels)) and not copies:
        yield from ((rows, pixels.read(rows)) for rows in batches)
        return
    with ThreadPoolExecutor(1) as reader:
        read = partial(_read_locked, pixels) if copies else pixels.read
        coming = reader.submit(read, batches[0]) if batches else None
        for i, rows in enumerate(batches):
            assert coming is not None
            block = coming.result().to(device, non_blocking=True)
            coming = reader.submit(read, batches[i + 1]) if i + 1 < len(batches) else None
            yield rows, block


def _read_locked(pixels: Pixels, rows: Rows) -> torch.Tensor:
    """Stored pixels in page-locked memory, from which a GPU copies by itself; torch hands the memory out again when that is done."""
    return pixels.read(rows, torch.empty((len(rows), pixels.side, pixels.side, 3), dtype=torch.uint8, pin_memory=True))
