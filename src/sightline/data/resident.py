"""Pixels that lie on the GPU which trains, where they fit: a batch is then picked there, and nothing is copied to it.

    pixels = reside(pixels, rows, device)          as they are, where the device is no GPU or they do not fit

Ten thousand pictures of 128 pixels are half a gigabyte. Those that do not fit are read into page-locked memory one batch
ahead (batches.py). Written without a GPU at hand: tested for what it reads, not measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from sightline.data.store import Pixels

SHARE = 0.25
"""Of the GPU's free memory: the rest is for the network, whose activations usually need most of it."""

_BLOCK = 256  # pictures that are copied at once


@dataclass(frozen=True)
class ResidentPixels:
    """Some rows of a store, on a device; row numbers stay those of the table."""

    side: int
    extents: npt.NDArray[np.int32]
    slots: npt.NDArray[np.int64]  # (N,) the place of each row; -1 where it is not held
    pixels: torch.Tensor  # (M, S, S, 3) uint8

    def read(self, rows: npt.NDArray[np.int64], into: torch.Tensor | None = None) -> torch.Tensor:
        """(B, S, S, 3) uint8 of these table rows, on the device; raises IndexError for a row that is not held."""
        slots = self.slots[rows]
        if (slots < 0).any():
            raise IndexError(f"row {rows[slots < 0][0]} does not lie on the device")
        return torch.index_select(self.pixels, 0, torch.from_numpy(slots).to(self.pixels.device), out=into)


def reside(pixels: Pixels, rows: npt.NDArray[np.int64], device: torch.device) -> Pixels:
    """The pixels of these rows on the device, if it is a GPU with room for them; else `pixels` as they are."""
    if device.type != "cuda" or len(rows) * 3 * pixels.side**2 > SHARE * torch.cuda.mem_get_info(device)[0]:
        return pixels
    return copied(pixels, rows, device)


def copied(pixels: Pixels, rows: npt.NDArray[np.int64], device: torch.device) -> ResidentPixels:
    """The pixels of these rows in the memory of a device."""
    slots = np.full(len(pixels.extents), -1, dtype=np.int64)
    slots[rows] = np.arange(len(rows))
    held = torch.empty((len(rows), pixels.side, pixels.side, 3), dtype=torch.uint8, device=device)
    for start in range(0, len(rows), _BLOCK):
        held[start : start + _BLOCK] = pixels.read(rows[start : start + _BLOCK]).to(device)
    return ResidentPixels(pixels.side, pixels.extents, slots, held)
