"""Where the pixels of a view come from: one 2x3 matrix an image, one resample a batch.

    base = fit_matrices(extents, "squash")                 output square -> the whole stored picture
    inner = affine(angle, shift, scale, shear) @ ...       output square -> output square
    views = resample(pixels, extents, base @ inner, size)  (B, 3, size, size) float32 in [0, 255]
    for part, views in resampled(..., step=16):            the same, so many images at a time

Output coordinates (u, v) run from -1 to 1 between the edges of the square; a matrix maps (u, v, 1) to (x, y) in stored
pixels, 0 at the left and upper edge. Flip, crop, rotation, shear, scale, shift and the fit itself are all such matrices,
so a view is resampled once, whatever is asked of it.

Where no picture of the batch is turned or sheared the resample is separable: two matrix products with triangle
weights, equal to Pillow's antialiased BILINEAR. Otherwise it is bilinear sampling after a low-pass filter on those axes
that shrink. It gives up perspective and bicubic filters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

Floats = npt.NDArray[np.float64]
Extents = npt.NDArray[np.int32]
Coordinates = TypeVar("Coordinates", Floats, torch.Tensor)


# ---- matrices, in numpy: a few numbers an image ----------------------------------------------------------------------


def fit_matrices(extents: Extents, fit: str) -> Floats:
    """(B, 2, 3): the output square onto the picture: all of it squashed, its central square, or with borders added.

    Args:
        extents: (B, 2) height and width of each stored picture.
        fit: "squash", "crop" or "letterbox".
    """
    height, width = extents[:, 0].astype(np.float64), extents[:, 1].astype(np.float64)
    if fit == "squash":
        half_y, half_x = height / 2, width / 2
    else:
        half_y = half_x = (np.minimum if fit == "crop" else np.maximum)(height, width) / 2
    matrices = np.zeros((len(extents), 2, 3))
    matrices[:, 0, 0], matrices[:, 0, 2] = half_x, width / 2
    matrices[:, 1, 1], matrices[:, 1, 2] = half_y, height / 2
    return matrices


def identity(count: int) -> Floats:
    """(B, 3, 3)."""
    return np.tile(np.eye(3), (count, 1, 1))


def flip(horizontal: npt.NDArray[np.bool_], vertical: npt.NDArray[np.bool_]) -> Floats:
    """(B, 3, 3): mirrored left-right and up-down where True."""
    matrices = identity(len(horizontal))
    matrices[:, 0, 0] = np.where(horizontal, -1.0, 1.0)
    matrices[:, 1, 1] = np.where(vertical, -1.0, 1.0)
    return matrices


def affine(angle: Floats, shift: Floats, scale: Floats, shear: Floats) -> Floats:
    """(B, 3, 3): rotation, shift, magnification and horizontal shear as torchvision's `affine` defines them.

    Args:
        angle: (B,) degrees, clockwise.
        shift: (B, 2) right and down, as shares of the side.
        scale: (B,) magnification.
        shear: (B,) degrees along x.
    """
    turn, slope = np.radians(angle), np.tan(np.radians(shear))
    cos, sin = np.cos(turn), np.sin(turn)
    a, b, c, d = cos, -cos * slope - sin, sin, -sin * slope + cos  # forward: rotation after shear, determinant 1
    matrices = identity(len(angle))
    matrices[:, 0, 0], matrices[:, 0, 1] = d / scale, -b / scale
    matrices[:, 1, 0], matrices[:, 1, 1] = -c / scale, a / scale
    moved = -2.0 * shift  # the output square is 2 wide
    matrices[:, :2, 2] = np.einsum("bij,bj->bi", matrices[:, :2, :2], moved)
    return matrices


def window(centre: Floats, half: Floats) -> Floats:
    """(B, 3, 3): only a window of the square: its centre (B, 2) and half its width and height (B, 2), in (u, v)."""
    matrices = identity(len(centre))
    matrices[:, 0, 0], matrices[:, 1, 1] = half[:, 0], half[:, 1]
    matrices[:, :2, 2] = centre
    return matrices


# ---- the resample, in torch: on the device that trains ---------------------------------------------------------------

Fill = tuple[float, float, float] | None


def resample(
    pixels: torch.Tensor,
    extents: Extents,
    matrices: Floats,
    size: int,
    fill: Fill = None,
    precision: torch.dtype = torch.float32,
) -> torch.Tensor:
    """One antialiased view an image.

    Args:
        pixels: (B, S, S, 3) uint8, the picture in the upper left.
        extents: (B, 2) height and width of the pictures.
        matrices: (B, 2, 3), output square to stored pixels.
        size: side of the views.
        fill: colour in [0, 255] of what lies outside of the picture; None: its mirror image.
        precision: of the matrix products. Pixels are exact in bfloat16; weights and sums are rounded to 8 bits, so that
            values are good to two of 255.

    Returns:
        (B, 3, size, size) float32 in [0, 255].
    """
    return next(resampled(pixels, extents, matrices, size, fill, precision, step=len(matrices)))[1]


def resampled(
    pixels: torch.Tensor, extents: Extents, matrices: Floats, size: int, fill: Fill, precision: torch.dtype, step: int
) -> Iterator[tuple[slice, torch.Tensor]]:
    """The views of `resample`, `step` images at a time, and which they are; what they share is worked out once."""
    parts = [slice(first, first + step) for first in range(0, len(matrices), step)]
    if matrices[:, 0, 1].any() or matrices[:, 1, 0].any():
        for part in parts:
            yield part, _warp(pixels[part], extents[part], matrices[part], size, fill, precision)
        return
    down, across, outside = _separated(extents, matrices, size, pixels.shape[1], pixels.device, precision)
    for part in parts:
        views = _products(pixels[part], down[part], across[part])
        if fill is not None:
            _paint(views, outside[0, part, :, None] | outside[1, part, None, :], fill)
        yield part, views


def _separated(
    extents: Extents, matrices: Floats, size: int, side: int, device: torch.device, precision: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The filters down and across, (B, size, side), and (2, B, size) what lies outside of the picture.

    A triangle of half-width max(1, shrink), cut at the picture's edge and normalised: Pillow's BILINEAR.
    """
    factor, offset = matrices[:, [1, 0], [1, 0]].T[..., None], matrices[:, [1, 0], 2].T[..., None]  # (2, B, 1): y, x
    reach, extent = np.maximum(np.abs(factor) * 2 / size, 1), extents.T[..., None]
    x = factor * _centres(size) + offset  # (2, B, size) stored pixels
    outside = torch.from_numpy((x < 0) | (x > extent)).to(device)
    x = 2 * extent * _folded(x / (2 * extent))
    at = _neighbours(x - reach, math.ceil(2 * reach.max()), side)  # (K, 2, B, size)
    weights = np.maximum(1 - np.abs(at + 0.5 - x) / reach, 0)
    return *_filters(at, weights, extent, side, device, precision), outside


def _warp(pixels: torch.Tensor, extents: Extents, matrices: Floats, size: int, fill: Fill, precision: torch.dtype) -> torch.Tensor:
    """Bilinear sampling, after a low-pass filter where a picture shrinks."""
    side, device = pixels.shape[1], pixels.device
    wh = extents[:, [1, 0], None].astype(np.float64)  # (B, 2, 1)
    periods = matrices / (2 * wh)  # in which the picture lies from 0 to 1/2
    edge = wh - 0.5 - side * 2.0**-20  # a hair before the last centre: rounding gives the unused part no weight
    lines = np.concatenate([periods, edge / (2 * wh), 4 * wh / side], axis=2)[..., None, None]
    a, b, c, last, scale = torch.from_numpy(lines).to(device, torch.float32).unbind(2)  # (B, 2, 1, 1) each
    u = torch.from_numpy(_centres(size)).to(device, torch.float32)
    at = a * u + (b * u[:, None] + c)  # (B, 2, size, size), x and y
    grid = torch.minimum(_folded(at), last).mul_(scale).sub_(1).permute(0, 2, 3, 1)
    source = _low_passed(pixels, extents, matrices, size, precision)
    views = F.grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=False)
    if fill is not None:
        _paint(views, ((at < 0) | (at > 0.5)).any(1), fill)
    return views


def _paint(views: torch.Tensor, where: torch.Tensor, colour: tuple[float, float, float]) -> None:
    """One colour (red, green, blue) where the (B, size, size) mask is True, in place."""
    for channel, value in enumerate(colour):
        views[:, channel].masked_fill_(where, value)


def _centres(size: int) -> Floats:
    """(size,): output coordinates of the pixel centres."""
    return (2 * np.arange(size) + 1) / size - 1


def _folded(periods: Coordinates) -> Coordinates:
    """Coordinates in [0, 1/2], where the picture lies, of what is mirrored at both of its edges again and again."""
    return abs(periods - periods.round())


def _low_passed(pixels: torch.Tensor, extents: Extents, matrices: Floats, size: int, precision: torch.dtype) -> torch.Tensor:
    """(B, 3, S, S): bilinear sampling of it is like a triangle of half-width s, the stored pixels an output pixel covers.

    Bilinear sampling alone is a triangle of half-width 1, variance 1/6; the filter adds what s^2 / 6 is above that: three
    taps below 1/2, a sampled Gaussian (too narrow to sample below) above. Under a twentieth of shrinking nothing is done.
    """
    shrinks = np.sqrt((matrices[:, :, :2] ** 2).sum(2)) * (2 / size)  # (B, 2): x, y
    variances = np.where(shrinks > 1.05, (shrinks**2 - 1) / 6, 0)  # an image's own, whatever the others of its batch need
    if not variances.any():
        return pixels.permute(0, 3, 1, 2).to(torch.float32)
    variance, extent = variances.T[::-1, :, None], extents.T[..., None]  # (2, B, 1): y, x
    centre = np.tile(np.arange(pixels.shape[1], dtype=np.float64), (2, len(pixels), 1))
    reach = max(1, math.ceil(4 * math.sqrt(variances.max())))
    at = _neighbours(centre - reach, 2 * reach + 1, pixels.shape[1])
    square = (at - centre) ** 2
    taps = (1 - variance) * (square == 0) + variance / 2 * (square == 1)
    weights = np.where(variance < 0.5, taps, np.exp(-square / (2 * np.maximum(variance, 0.5))))
    return _products(pixels, *_filters(at, weights, extent, pixels.shape[1], pixels.device, precision))


# A filter touches few of the stored pixels: its weights are worked out for K neighbours, in numpy's float64, so that what
# falls on a stored pixel is that pixel exactly; then they are spread into the rows of matrices.


def _neighbours(start: Floats, count: int, side: int) -> Floats:
    """(K, 2, B, n): the K = min(count, side) stored pixels whose centres follow `start` (2, B, n), moved inside [0, side)."""
    count = min(count, side)
    first = np.clip(np.ceil(start - 0.5), 0, side - count)
    return first + np.arange(count)[:, None, None, None]


def _filters(
    at: Floats, weights: Floats, extent: Extents, side: int, device: torch.device, precision: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Down and across, (B, n, side) each, of the weights (K, 2, B, n) of pixels `at`, cut at the picture's edge and adding up to 1."""
    weights = weights * (at < extent)
    weights /= np.maximum(weights.sum(0), 1e-9)  # rows of the unused part stay empty
    places = at + side * np.arange(at[0].size).reshape(at.shape[1:])
    filters = torch.zeros((*at.shape[1:], side), device=device, dtype=precision).put_(
        torch.from_numpy(places).to(device, torch.int64), torch.from_numpy(weights).to(device, precision)
    )
    return filters[0], filters[1]


def _products(pixels: torch.Tensor, down: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
    """(B, 3, n, n) float32: (B, S, S, 3) pixels filtered with (B, n, S) down and across.

    The order of the products leaves channels first without a transposed copy.
    """
    batch, n, side = down.shape
    x = pixels.to(down.dtype).view(batch, side, side * 3)
    x = torch.bmm(x.transpose(1, 2), down.transpose(1, 2))  # (B, S * 3, n)
    x = torch.bmm(x.view(batch, side, 3 * n).transpose(1, 2), across.transpose(1, 2))  # (B, 3 * n, n)
    return x.view(batch, 3, n, n).to(torch.float32)
