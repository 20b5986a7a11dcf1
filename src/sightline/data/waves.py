"""The low frequencies of a glance at a picture: what near twins are looked for with (twins.py).

    waves = waves_of(opponent(glances), WINDOWS[0])        74 numbers a picture, of length 1
    cosine(queries, others)                                (Q, M) how alike they are, either way round

Discrete cosines, as in a perceptual hash, but numbers instead of bits. A mirrored picture differs in the sign of the odd
ones, so both ways cost one comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

GLANCE = 16
"""Side of the pictures that waves are taken of."""

Span = tuple[float, float]

_WHOLE, _LOW, _HIGH, _MIDDLE = (0.0, 1.0), (0.0, 0.9), (0.1, 1.0), (0.05, 0.95)
WINDOWS = [(_WHOLE, _WHOLE), (_MIDDLE, _MIDDLE), (_LOW, _LOW), (_LOW, _HIGH), (_HIGH, _LOW), (_HIGH, _HIGH)]
"""Parts of a picture that a twin may show: (y, x), from and to, as shares of its sides."""


_EVEN = 38  # numbers that are the same in a mirrored picture


@dataclass(frozen=True, slots=True)
class Waves:
    """Low frequencies of pictures, together of length 1: those even across, then those odd across.

    numbers: (..., 74). The cosine of two pictures is the sum of the two products, of one and the mirrored other their
    difference.
    """

    numbers: torch.Tensor

    @property
    def even(self) -> torch.Tensor:
        """(..., 38)."""
        return self.numbers[..., :_EVEN]

    @property
    def odd(self) -> torch.Tensor:
        """(..., 36)."""
        return self.numbers[..., _EVEN:]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, at: torch.Tensor | slice) -> Waves:
        return Waves(self.numbers[at])

    def rounded(self) -> Waves:
        """In bfloat16."""
        return Waves(self.numbers.to(torch.bfloat16))


def _cosines(low: float, high: float, count: int) -> torch.Tensor:
    """(count, 16): the first discrete cosines of a window of the side, from 0 to 1; pixels at its edges count in part."""
    edges = torch.arange(GLANCE + 1, dtype=torch.float64) / GLANCE
    left, right = edges[:-1].clamp(min=low), edges[1:].clamp(max=high)
    cover = (right - left).clamp(min=0)
    middle = ((left + right) / 2 - low) / (high - low)
    waves = torch.cos(torch.pi * torch.arange(count, dtype=torch.float64)[:, None] * middle)
    return (waves * cover / cover.sum()).to(torch.float32)


def waves_of(pictures: torch.Tensor, window: tuple[Span, Span]) -> Waves:
    """Waves of a window of (B, 3, 16, 16) pictures of `opponent`.

    Of the lightness those of order 1 to 8, of both colours 4x4, the mean too. Each is weighted by the square root of its
    frequency, because the power of photographs falls with it; colours twice.
    """
    waves = _cosines(*window[0], 8) @ pictures @ _cosines(*window[1], 8).T  # (B, 3, 8, 8)
    order = torch.arange(8.0)
    scale = torch.where(order == 0, 1.0, 2**0.5)
    frequency = (order[:, None] ** 2 + order**2).sqrt()
    waves = waves * scale[:, None] * scale * frequency.clamp(min=1).sqrt()
    waves[:, 1:] *= 2
    total = order[:, None] + order
    kept = torch.stack([(total >= 1) & (total <= 8), *[(order[:, None] < 4) & (order < 4)] * 2])  # (3, 8, 8)
    odd = (order % 2 == 1).expand(3, 8, 8)
    even_part, odd_part = waves[:, kept & ~odd], waves[:, kept & odd]
    length = (even_part.square().sum(1) + odd_part.square().sum(1)).sqrt().clamp(min=1e-6)[:, None]
    return Waves(torch.cat([even_part, odd_part], 1) / length)


def windows_of(pictures: torch.Tensor) -> Waves:
    """(B, 6, 74): of each window of (B, 3, 16, 16) pictures of `opponent`."""
    return Waves(torch.stack([waves_of(pictures, window).numbers for window in WINDOWS], 1))


def cosine(queries: Waves, others: Waves) -> torch.Tensor:
    """(Q, M) the higher cosine of both ways round."""
    odd = (queries.odd @ others.odd.T).abs_()
    return odd.addmm_(queries.even, others.even.T)


def best_cosine(queries: Waves, others: Waves) -> torch.Tensor:
    """(Q, M) the highest cosine of any window of (Q, 6, 74) queries."""
    first, *rest = queries.numbers.unbind(1)
    best = cosine(Waves(first), others)
    for window in rest:
        torch.maximum(best, cosine(Waves(window), others), out=best)
    return best


def any_above(queries: Waves, others: Waves, least: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(L,) which of (Q, 6, 74) queries has a window whose cosine with (L,) which of (M, 74) others is higher; in order, each pair once.

    Args:
        least: above 0.
    """
    numbers, against, border = queries.numbers, others.numbers, least
    if numbers.dtype == torch.bfloat16:
        numbers, against = _even_out(numbers, 32), _even_out(against, 128)
    cosines = cosine(Waves(numbers.flatten(0, 1)), Waves(against)).view(*numbers.shape[:2], len(against))
    if numbers.dtype == torch.bfloat16:  # the bits of positive numbers are in their order, and integers are compared 8 times as fast
        cosines, border = cosines.view(torch.int16), int(torch.tensor(least).view(torch.int32)) >> 16
    query, other = np.divmod(np.flatnonzero((cosines.amax(1) > border).numpy()), len(against))
    return torch.from_numpy(query), torch.from_numpy(other)


def _even_out(numbers: torch.Tensor, step: int) -> torch.Tensor:
    """With rows of zeros up to a multiple of `step`: for each shape of a product in bfloat16 oneDNN keeps 0.3 MB of code."""
    return F.pad(numbers, (0, 0) * (numbers.ndim - 1) + (0, -len(numbers) % step))


def best_window(queries: Waves, others: Waves) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(M,) the highest cosine of any window of each query with its other, the number of that window, and whether it is so mirrored."""
    even = (queries.even * others.even[:, None]).sum(2)
    odd = (queries.odd * others.odd[:, None]).sum(2)
    cosine, window = (even + odd.abs()).max(1)
    return cosine, window, odd.gather(1, window[:, None])[:, 0] < 0
