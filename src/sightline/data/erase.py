"""Random erasing: in some views a rectangle becomes noise, a plain function on a batch.

    views = erase(views, draws, probability=0.25)          (B, 3, S, S), in place

The noise is a hash of (draw, pixel): nothing is drawn in an order, so a view is the same in any batch and on any device.
It gives up fills other than normal noise.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.float64]

ERASED_AREA = (0.02, 0.33)
ERASED_RATIO = (0.3, 3.3)  # height / width


def erase(views: torch.Tensor, draws: Floats, probability: float) -> torch.Tensor:
    """Random erasing (Zhong et al. 2017), in place: in some views a rectangle becomes normal noise, one draw a value.

    The area is uniform in 2 to 33 % of the view, the logarithm of height / width uniform among those in 0.3 to 3.3 that
    fit. The noise is a hash of (draw, pixel), made on the device, for the erased pixels only.

    Args:
        views: (B, 3, size, size), normalised.
        draws: (B, 6) in [0, 1).
    """
    rows, size = np.flatnonzero(draws[:, 0] < probability), views.shape[2]
    if not len(rows):
        return views
    top, left, height, width = _rectangles(draws[rows, 1:5], size)
    starts = (draws[rows, 5] * 2.0**53).astype(np.int64)
    areas, corners = height * width, rows * 3 * size**2 + top * size + left
    lines = torch.from_numpy(np.stack([areas, np.cumsum(areas) - areas, width, corners, starts])).to(views.device)
    count = int(areas.sum())  # so that the device need not be asked
    which = torch.repeat_interleave(lines[0], output_size=count)  # (P,) the rectangle of each erased pixel
    first, wide, corner, start = (line.index_select(0, which) for line in lines[1:])
    place = torch.arange(count, device=views.device).sub_(first)
    down = place // wide
    spot = corner.add_(place).add_(down.mul_(wide.neg_().add_(size)))  # corner + place % wide + size * down
    values = _normal(start, place).to(views.dtype)
    for channel, value in enumerate(values):
        views.put_(spot + channel * size**2, value)
    return views


def _rectangles(draws: Floats, size: int) -> npt.NDArray[np.int64]:
    """(4, n): top, left, height and width in pixels; `draws` (n, 4)."""
    area = ERASED_AREA[0] + draws[:, 0] * (ERASED_AREA[1] - ERASED_AREA[0])
    least, most = np.maximum(ERASED_RATIO[0], area), np.minimum(ERASED_RATIO[1], 1 / area)
    ratio = least * (most / least) ** draws[:, 1]
    extent = np.clip(np.rint(np.sqrt([area * ratio, area / ratio]) * size), 1, size)
    corner = np.floor(draws[:, 2:4].T * (size - extent + 1))
    return np.concatenate([corner, extent]).astype(np.int64)


def _normal(start: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """(3, P) float32, standard normal: 63 bits of a SplitMix64 counter, 21 a value, through the inverse of the normal law."""
    bits = _hashed(start.add_((place + 1).mul_(_GOLDEN)))
    thirds = torch.stack([bits >> 43, bits >> 22, bits >> 1]).bitwise_and_(2**21 - 1)
    return thirds.to(torch.float32).add_(0.5).mul_(2.0**-20).sub_(1).erfinv_().mul_(2**0.5)


_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # torch has no unsigned arithmetic; what wraps has the same bits


def _hashed(z: torch.Tensor) -> torch.Tensor:
    """SplitMix64's finaliser, as in `randomness`, on int64 of any device; `&` makes the shifts logical."""
    z = ((z >> 30).bitwise_and_(2**34 - 1)).bitwise_xor_(z).mul_(0xBF58476D1CE4E5B9 - 2**64)
    z = ((z >> 27).bitwise_and_(2**37 - 1)).bitwise_xor_(z).mul_(0x94D049BB133111EB - 2**64)
    return ((z >> 31).bitwise_and_(2**33 - 1)).bitwise_xor_(z)
