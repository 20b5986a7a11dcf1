"""The low frequencies of a glance at a picture: what near twins are looked for with (twins.py).

    waves = waves_of(opponent(glances), WINDOWS[0])        71 numbers a picture, of length 1
    cosine(queries, others)                                (Q, M) how alike they are, either way round

Discrete cosines, as in a perceptual hash, but numbers instead of bits. A mirrored picture differs in the sign of the odd
ones, so both ways cost one comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

GLANCE = 16
"""Side of the pictures that waves are taken of."""

Span = tuple[float, float]

_WHOLE, _LOW, _HIGH, _MIDDLE = (0.0, 1.0), (0.0, 0.9), (0.1, 1.0), (0.05, 0.95)
WINDOWS = [(_WHOLE, _WHOLE), (_MIDDLE, _MIDDLE), (_LOW, _LOW), (_LOW, _HIGH), (_HIGH, _LOW), (_HIGH, _HIGH)]
"""Parts of a picture that a twin may show: (y, x), from and to, as shares of its sides."""


@dataclass(frozen=True, slots=True)
class Waves:
    """Low frequencies of pictures, those even across and those odd across apart; together of length 1.

    even: (..., 39) and odd: (..., 32): the cosine of two pictures is the sum of the two products, of one and the mirrored other
    their difference.
    """

    even: torch.Tensor
    odd: torch.Tensor

    def __getitem__(self, at: torch.Tensor | slice) -> Waves:
        return Waves(self.even[at], self.odd[at])

    def rounded(self) -> Waves:
        """In bfloat16."""
        return Waves(self.even.to(torch.bfloat16), self.odd.to(torch.bfloat16))


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
    return Waves(even_part / length, odd_part / length)


def cosine(queries: Waves, others: Waves) -> torch.Tensor:
    """(Q, M) the higher cosine of both ways round."""
    odd = (queries.odd @ others.odd.T).abs_()
    return odd.addmm_(queries.even, others.even.T)


def best_cosine(windows: list[Waves], others: Waves) -> torch.Tensor:
    """(Q, M) the highest cosine of any window."""
    best = cosine(windows[0], others)
    for window in windows[1:]:
        torch.maximum(best, cosine(window, others), out=best)
    return best


def above(windows: list[Waves], others: Waves, cosine_above: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(M,) the query and (M,) the other of all whose highest cosine of any window is above a positive number; `rounded` waves.

    Positive numbers of bfloat16 are in the order of their bits, and below them as signed integers lie all negative ones: so integers
    are compared, which is several times as fast.
    """
    best = cosine(windows[0], others).view(torch.int16)
    for window in windows[1:]:
        torch.maximum(best, cosine(window, others).view(torch.int16), out=best)
    bits = torch.tensor(cosine_above, dtype=torch.bfloat16).view(torch.int16).item()
    query, other = np.divmod(np.flatnonzero((best > bits).numpy()), best.shape[1])
    return torch.from_numpy(query), torch.from_numpy(other)


def best_window(queries: list[Waves], others: Waves) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(M,) the highest cosine of any window of each query with its other, the number of that window, and whether it is so mirrored."""
    even = torch.stack([(query.even * others.even).sum(1) for query in queries], 1)
    odd = torch.stack([(query.odd * others.odd).sum(1) for query in queries], 1)
    cosine, window = (even + odd.abs()).max(1)
    return cosine, window, odd.gather(1, window[:, None])[:, 0] < 0
