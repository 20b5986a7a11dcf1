"""Batches: from the pixels of a part of the split to what the network sees.

    train = TrainBatches(pixels, rows, labels, keys, view, policy, batch_size=64, seed=0, device=torch.device("cpu"))
    for images, labels in train.epoch(3, start=10): ...        each image once, from batch 10 on
    for images in plain_batches(pixels, rows, view, 256, device): ...

The order of an epoch comes from (seed, "order", epoch). All batches of an epoch have nearly the same size, so none is
so small that batch norm suffers. Pixels that have to be decoded are read one batch ahead, in threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from sightline.data.augment import Policy, Stored, View, plain_views, training_views
from sightline.data.store import Pixels, PixelStore
from sightline.randomness import key, permutation

Rows = npt.NDArray[np.int64]


def image_keys(paths: Iterable[str]) -> npt.NDArray[np.uint64]:
    """(N,) uint64: what an image's random draws depend on, its path inside the folder."""
    return np.array([key("image", path) for path in paths], dtype=np.uint64)


@dataclass(frozen=True)
class TrainBatches:
    """The training views of a part of the split.

    Attributes:
        pixels: of all usable rows.
        rows: (n,) the rows trained on.
        labels: (N,) class numbers of all usable rows.
        keys: (N,) uint64 keys of all usable rows.
        precision: of the views; bfloat16 where the network computes in it anyway.
    """

    pixels: Pixels
    rows: Rows
    labels: Rows
    keys: npt.NDArray[np.uint64]
    view: View
    policy: Policy
    batch_size: int
    seed: int
    device: torch.device
    precision: torch.dtype = torch.float32

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def order(self, epoch: int) -> list[Rows]:
        """The rows of each batch of an epoch; sizes differ by at most one."""
        shuffled = self.rows[permutation(self.seed, "order", epoch, len(self.rows))]
        return np.array_split(shuffled, len(self))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(B, 3, S, S) views and (B,) labels, from batch `start` on."""
        batches = self.order(epoch)[start:]
        for rows, pixels in _read_ahead(self.pixels, batches):
            stored = Stored(pixels.to(self.device), self.pixels.extents[rows], self.keys[rows])
            views = training_views(stored, self.view, self.policy, self.seed, epoch, self.precision)
            yield views, torch.from_numpy(self.labels[rows]).to(self.device)


def plain_batches(pixels: Pixels, rows: Rows, view: View, batch_size: int, device: torch.device) -> Iterator[torch.Tensor]:
    """(B, 3, S, S) views without augmentation, in the order of `rows`."""
    batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    for part, block in _read_ahead(pixels, batches):
        stored = Stored(block.to(device), pixels.extents[part], np.zeros(len(part), dtype=np.uint64))
        yield plain_views(stored, view)


def mean_and_std(pixels: Pixels, rows: Rows) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of each channel over all pixels of `rows`, in [0, 1]; from exact counts."""
    counts, used = np.zeros((3, 256)), 0
    for part, block in _read_ahead(pixels, [rows[i : i + 32] for i in range(0, len(rows), 32)]):
        counts += [np.bincount(block[..., channel].reshape(-1).numpy(), minlength=256) for channel in range(3)]
        used += int(pixels.extents[part].astype(np.int64).prod(1).sum())
    values = np.arange(256)  # the zeros of the unused parts add nothing to the sums
    mean = counts @ values / used / 255
    variance = counts @ values**2 / used / 255**2 - mean**2
    return _triple(mean), _triple(np.sqrt(np.maximum(variance, 1e-4)))  # one flat colour still has a scale


def _triple(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    red, green, blue = (round(float(v), 4) for v in values)
    return red, green, blue


def _read_ahead(pixels: Pixels, batches: list[Rows]) -> Iterator[tuple[Rows, torch.Tensor]]:
    """Each batch with its stored pixels; those that must be decoded are read while the batch before is used."""
    if isinstance(pixels, PixelStore):
        yield from ((rows, pixels.read(rows)) for rows in batches)
        return
    with ThreadPoolExecutor(1) as reader:
        read: Callable[[Rows], torch.Tensor] = pixels.read
        coming = reader.submit(read, batches[0]) if batches else None
        for i, rows in enumerate(batches):
            assert coming is not None
            block = coming.result()
            coming = reader.submit(read, batches[i + 1]) if i + 1 < len(batches) else None
            yield rows, block
