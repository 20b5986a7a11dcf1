"""Pairs of small pictures that may show the same, and where one lies in the other (align.py).

better = laid(pairs, larger, smaller, steps=4)         with better places, and how alike they are there
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from sightline.data.align import align, likeness, opponent


@dataclass(frozen=True, slots=True)
class Pairs:
    """M pairs of different glances, by their numbers: the smaller one, or its mirror image, lies in the larger one."""

    larger: torch.Tensor  # (M,) int64
    smaller: torch.Tensor
    mirrored: torch.Tensor  # (M,) bool
    places: torch.Tensor  # (M, 2, 3) as in align.py
    alike: torch.Tensor  # (M,) float32

    def __getitem__(self, at: torch.Tensor | slice) -> Pairs:
        return Pairs(self.larger[at], self.smaller[at], self.mirrored[at], self.places[at], self.alike[at])

    def split(self, size: int) -> Iterator[Pairs]:
        """In parts."""
        return (self[start : start + size] for start in range(0, len(self.larger), size))


NOBODY = torch.zeros(0, dtype=torch.int64)
NONE = Pairs(NOBODY, NOBODY, NOBODY.bool(), torch.zeros((0, 2, 3)), torch.zeros(0))


def joined(parts: list[Pairs]) -> Pairs:
    """All of them, in their order."""
    return Pairs(*(torch.cat([getattr(part, name) for part in parts]) for name in Pairs.__slots__))


def laid(pairs: Pairs, larger: torch.Tensor, smaller: torch.Tensor, steps: int) -> Pairs:
    """Pairs of (M, 3, T, T) uint8 pictures with better places, and how alike they are there."""
    a, b = opponent(larger), opponent(smaller)
    a[pairs.mirrored] = a[pairs.mirrored].flip(-1)
    places = align(a[:, 0], b[:, 0], pairs.places, steps)
    return replace(pairs, places=places, alike=likeness(a, b, places))


def once(pairs: Pairs) -> Pairs:
    """Of each two pictures the way round that is more alike; ordered by their numbers."""
    low, high = torch.minimum(pairs.larger, pairs.smaller).numpy(), torch.maximum(pairs.larger, pairs.smaller).numpy()
    order = np.lexsort((pairs.larger.numpy(), -pairs.alike.numpy(), high, low))
    repeated = (np.diff(low[order], prepend=-1) == 0) & (np.diff(high[order], prepend=-1) == 0)
    return pairs[torch.from_numpy(order[~repeated])]
