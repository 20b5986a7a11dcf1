"""Pipelines of the user's own in place of a policy: any Python callable, or what Albumentations saved.

    pipeline = from_callable(torchvision.transforms.v2.Compose([...]))
    batches = pipeline_batches(pixels, rows, numbers, keys, paths, view, pipeline, seed, epoch, workers)
    for views in batches: ...                                      (B, 3, size, size) float32, normalised, in order

A pipeline takes the stored picture and gives a picture of any size; fitting it to the network's input and normalising it
stay ours. Every picture has a seed of its own, from (seed, "augment", epoch, image key), so the number of workers changes
nothing.

It gives up speed: each picture by itself, on processor cores. Where processes do not fork (Windows, macOS), every epoch
starts its workers anew and a callable must be one that pickle can send.
"""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, get_worker_info

from sightline.data.augment import Stored, View, plain_views
from sightline.data.shelf import map_pixels
from sightline.data.store import PixelFiles, Pixels, PixelStore
from sightline.errors import SettingsError, SightlineError, first_line
from sightline.randomness import numbered, uniform

Picture = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What happens to a picture.

    Attributes:
        name: what errors call it.
        apply: (H, W, 3) uint8 and a seed to what should be such a picture again; the same seed gives the same.
        identity: equal where the pipeline is; None where that cannot be known, so that nothing may be kept for it.
        notes: sentences for the user.
    """

    name: str
    apply: Callable[[Picture, int], Any]
    identity: str | None = None
    notes: tuple[str, ...] = ()


# ---- any callable ----------------------------------------------------------------------------------------------------


def from_callable(transform: Callable[[Image.Image], Any], name: str | None = None) -> Pipeline:
    """A pipeline of a callable: PIL image to PIL image or (3, H, W) uint8 tensor, such as torchvision's v2 transforms.

    It draws from the global generators of torch, numpy or random, which have a seed of their own for each picture.

    Args:
        name: what errors call it.

    Raises:
        SettingsError: with the same seed it gives two different pictures, so it draws from somewhere else.
    """
    name = name or str(getattr(transform, "__qualname__", type(transform).__name__))
    pipeline = Pipeline(name, functools.partial(_seeded_call, transform))
    picture = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    for seed in range(4):
        try:
            first, second = (_checked(pipeline.apply(picture.copy(), seed)) for _ in range(2))
        except Exception:
            return pipeline  # it may want pictures of another kind; those that come will tell
        if not np.array_equal(first, second):
            raise SettingsError(
                f"{name} gives two pictures for one seed: draw from torch's, numpy's or Python's global generator, which sightline seeds."
            )
    return pipeline


def _seeded_call(transform: Callable[[Image.Image], Any], picture: Picture, seed: int) -> Any:
    with _seeded(seed):
        done = transform(Image.fromarray(picture))
    if isinstance(done, Image.Image):
        return np.array(done.convert("RGB"))
    return done.permute(1, 2, 0).numpy() if isinstance(done, torch.Tensor) and done.ndim == 3 else done


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds the global generators; afterwards they go on as if nothing had been."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)  # not torch.manual_seed: a worker may not touch the accelerator
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def _checked(picture: Any) -> Picture:
    """What a pipeline gave, if it is a picture."""
    if not isinstance(picture, np.ndarray):
        raise TypeError(f"it gives a {type(picture).__name__}, not a picture")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise TypeError(
            f"it gives {picture.dtype} of shape {picture.shape}, not a picture of whole numbers from 0 to 255 in three channels; "
            "sightline normalises itself"
        )
    return np.ascontiguousarray(picture)


# ---- batches ---------------------------------------------------------------------------------------------------------


def pipeline_batches(
    pixels: Pixels,
    batches: Sequence[Rows],
    numbers: Sequence[Rows],
    keys: Keys,
    paths: Sequence[str],
    view: View,
    pipeline: Pipeline,
    seed: int,
    epoch: int,
    workers: int,
) -> Iterator[torch.Tensor]:
    """(B, 3, size, size) float32 on the processor, normalised, for each batch in its order.

    Args:
        pixels: of all usable rows.
        batches: the rows of each batch.
        numbers: which view of each row's image it is, in batches as the rows are: 0, or how often it was shown before.
        keys: (N,) uint64 keys of all usable rows.
        paths: (N,) what errors call the images.
        workers: processes that work at once; 0: this one does it. The views are the same.

    Raises:
        SettingsError: the pipeline fails at an image, or does not give a picture.
    """
    seeds = [_seeds(seed, epoch, numbered(keys[rows], number)) for rows, number in zip(batches, numbers, strict=True)]
    items = [list(zip(rows.tolist(), own, strict=True)) for rows, own in zip(batches, seeds, strict=True)]
    loader: DataLoader[Any] = DataLoader(
        _Views(pixels, paths, view, pipeline),
        batch_sampler=cast(Any, items),
        num_workers=min(workers, len(items)),
        collate_fn=_as_it_is,
        worker_init_fn=_begin,
        generator=torch.Generator(),  # otherwise it draws from the global one, on which dropout depends
    )
    for made in loader:
        if isinstance(made, Exception):
            raise made
        yield made


def _seeds(seed: int, epoch: int, keys: Keys) -> list[int]:
    """A seed of 53 bits for each image."""
    return [int(draw) for draw in uniform(seed, "augment", epoch, keys, 1)[:, 0] * 2.0**53]


def _as_it_is(made: Any) -> Any:
    return made


@dataclass
class _Views(Dataset[Any]):
    """Batches by their items, (row, seed) each. An error is given back instead of raised: torch would wrap it in pages."""

    pixels: Pixels
    paths: Sequence[str]
    view: View
    pipeline: Pipeline

    def __getitems__(self, items: list[tuple[int, int]]) -> torch.Tensor | SightlineError:
        rows = np.array([row for row, _ in items], dtype=np.int64)
        views = torch.empty((len(items), 3, self.view.size, self.view.size))
        try:
            block = self.pixels.read(rows)
            for place, (row, seed) in enumerate(items):
                height, width = self.pixels.extents[row]
                views[place] = self._one(block[place, :height, :width].numpy().copy(), row, seed)
        except SightlineError as error:
            return error
        return views

    def _one(self, picture: Picture, row: int, seed: int) -> torch.Tensor:
        try:
            done = _checked(self.pipeline.apply(picture, seed))
        except Exception as error:
            raise SettingsError(f"{self.pipeline.name} fails at {self.paths[row]}: {first_line(error)}.") from None
        return plain_views(_square(done), self.view)[0]

    def __getstate__(self) -> dict[str, Any]:
        """For a process that does not fork: threads cannot be sent, and a memory map would be copied whole."""
        pixels: Any = self.pixels
        if isinstance(pixels, PixelStore):
            pixels = replace(pixels, pixels=torch.empty(0))
        elif isinstance(pixels, PixelFiles):
            pixels = replace(pixels, pool=cast(Any, None))
        return {**vars(self), "pixels": pixels}


def _square(picture: Picture) -> Stored:
    """A picture as it would be stored: in the upper left of a square."""
    height, width = picture.shape[:2]
    side = max(height, width)
    if height != width:
        padded = np.zeros((side, side, 3), dtype=np.uint8)
        padded[:height, :width] = picture
        picture = padded
    return Stored(torch.from_numpy(picture)[None], np.array([[height, width]], dtype=np.int32), np.zeros(1, dtype=np.uint64))


def _begin(_: int) -> None:
    """Readies a worker: its pixels are opened again, since neither threads nor (without fork) maps have come along."""
    info = get_worker_info()
    assert info is not None
    views = cast(_Views, info.dataset)
    if isinstance(views.pixels, PixelFiles):
        views.pixels = replace(views.pixels, pool=ThreadPoolExecutor(1))
    elif isinstance(views.pixels, PixelStore):
        views.pixels = replace(views.pixels, pixels=torch.from_numpy(map_pixels(views.pixels.folder, views.pixels.side)))
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(0)  # its threads do not outlive a fork either
