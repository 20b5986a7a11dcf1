"""What happens to a picture before the network sees it; travels with the weights.

    preprocess = Preprocess(view, store_size=128, max_pixels=64_000_000)
    pictures = [preprocess.shrunk(path.read_bytes()), ...]
    stored = preprocess.stack(pictures)                     the pixels that a store would hold
    images = plain_views(stored, preprocess.view)           (B, 3, size, size)

Training reads the same pixels from the store, made by the same two functions (`decode`, `shrink`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sightline.data.augment import Stored, View
from sightline.data.images import decode, shrink


@dataclass(frozen=True, slots=True)
class Preprocess:
    """The way from a file's bytes to stored pixels, and the view that the network was trained for."""

    view: View
    store_size: int
    max_pixels: int

    def shrunk(self, data: bytes) -> npt.NDArray[np.uint8]:
        """(h, w, 3) uint8 of one file, the long side at most `store_size`; raises UnreadableImage."""
        return shrink(decode(data, max_pixels=self.max_pixels, side=self.store_size), self.store_size)

    def stack(self, pictures: Sequence[npt.NDArray[np.uint8]]) -> Stored:
        """A batch of pictures as a store would hold them."""
        side = self.store_size
        pixels = torch.zeros((len(pictures), side, side, 3), dtype=torch.uint8)
        into = pixels.numpy()
        for slot, picture in enumerate(pictures):
            into[slot, : picture.shape[0], : picture.shape[1]] = picture
        extents = np.array([p.shape[:2] for p in pictures], dtype=np.int32).reshape(-1, 2)
        return Stored(pixels, extents, np.zeros(len(pictures), dtype=np.uint64))

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**asdict(self.view), "store_size": self.store_size, "max_pixels": self.max_pixels}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Preprocess:
        """What `to_json` gave; raises KeyError, TypeError or ValueError where it is something else."""
        view = View(int(value["size"]), str(value["fit"]), tuple(value["mean"]), tuple(value["std"]))
        return cls(view, int(value["store_size"]), int(value["max_pixels"]))
