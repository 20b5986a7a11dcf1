"""Where the pixels of a view come from: one 2x3 matrix an image, one resample a batch.

    base = fit_matrices(extents, "squash")                 output square -> the whole stored picture
    inner = affine(angle, shift, scale, shear) @ ...       output square -> output square
    views = resample(pixels, extents, base @ inner, size)  (B, 3, size, size) float32 in [0, 255]

Output coordinates (u, v) run from -1 to 1 between the edges of the square; a matrix maps (u, v, 1) to (x, y) in stored
pixels, 0 at the left and upper edge. Flip, crop, rotation, shear, scale, shift and the fit itself are all such matrices,
so a view is resampled once, whatever is asked of it.

Where no picture of the batch is turned or sheared the resample is separable: two matrix products with triangle
weights, equal to Pillow's antialiased BILINEAR. Otherwise it is bilinear sampling after a low-pass filter on those axes
that shrink. It gives up perspective and bicubic filters.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

Floats = npt.NDArray[np.float64]


# ---- matrices, in numpy: a few numbers an image ----------------------------------------------------------------------


def fit_matrices(extents: npt.NDArray[np.int32], fit: str) -> Floats:
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
    return np.broadcast_to(np.eye(3), (count, 3, 3)).copy()


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


def resample(
    pixels: torch.Tensor,
    extents: npt.NDArray[np.int32],
    matrices: Floats,
    size: int,
    fill: tuple[float, float, float] | None = None,
    precision: torch.dtype = torch.float32,
) -> torch.Tensor:
    """One antialiased view an image.

    Args:
        pixels: (B, S, S, 3) uint8, the picture in the upper left.
        extents: (B, 2) height and width of the pictures.
        matrices: (B, 2, 3), output square to stored pixels.
        size: side of the views.
        fill: colour in [0, 255] of what lies outside of the picture; None: its mirror image.
        precision: of the matrix products; in bfloat16 (pixels are exact in it) values are good to about one of 255.

    Returns:
        (B, 3, size, size) float32 in [0, 255].
    """
    way = _warp if matrices[:, 0, 1].any() or matrices[:, 1, 0].any() else _separable
    views, outside = way(pixels, extents, matrices, size, fill is not None, precision)
    if fill is not None and outside is not None:
        for channel, value in enumerate(fill):
            views[:, channel].masked_fill_(outside, value)
    return views


Resampled = tuple[torch.Tensor, torch.Tensor | None]  # views, and (B, size, size) whether outside, where that matters


def _separable(
    pixels: torch.Tensor, extents: npt.NDArray[np.int32], matrices: Floats, size: int, bounded: bool, precision: torch.dtype
) -> Resampled:
    """Triangle of half-width max(1, shrink), cut at the picture's edge and normalised: Pillow's BILINEAR."""
    side, device = pixels.shape[1], pixels.device
    factors, offsets = matrices[:, [1, 0], [1, 0]].T, matrices[:, [1, 0], 2].T  # (2, B): y, x
    reaches = np.maximum(np.abs(factors) * 2 / size, 1)
    lines = np.stack([factors, offsets, reaches, extents.T])[..., None]
    factor, offset, reach, extent = torch.from_numpy(lines).to(device, torch.float32)  # (2, B, 1) each
    x = torch.addcmul(offset, factor, _centres(size, device))  # (2, B, size) stored pixels, y and x
    outside = None
    if bounded:
        beyond = (x < 0) | (x > extent)
        outside = beyond[0, :, :, None] | beyond[1, :, None, :]
    else:
        x = _mirror(x, extent)
    at = _window(x - reach, math.ceil(2 * reaches.max()), side)  # (K, 2, B, size)
    weights = (1 - (at + 0.5 - x).abs_().div_(reach)).clamp_(min=0)
    down, across = _matrices(at, weights, extent, side, precision)
    return _products(pixels, down, across), outside


def _warp(
    pixels: torch.Tensor, extents: npt.NDArray[np.int32], matrices: Floats, size: int, bounded: bool, precision: torch.dtype
) -> Resampled:
    """Bilinear sampling, after a low-pass filter where a picture shrinks."""
    side, device = pixels.shape[1], pixels.device
    m = torch.from_numpy(matrices[..., None]).to(device, torch.float32)
    wh = torch.from_numpy(extents[:, [1, 0], None, None]).to(device, torch.float32)  # (B, 2, 1, 1)
    u = _centres(size, device)
    at = m[:, :, 0:1] * u + (m[:, :, 1:2] * u[:, None] + m[:, :, 2:3])  # (B, 2, size, size) stored pixels, x and y
    outside = None
    if bounded:
        outside = ((at < 0) | (at > wh)).any(1)
    else:
        at = _mirror(at, wh)
    at = torch.minimum(at, wh - 0.5)  # no pixel of the unused part has any weight
    grid = at.mul_(2 / side).sub_(1).permute(0, 2, 3, 1)
    source = _low_passed(pixels, extents, matrices, size, precision)
    return F.grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=False), outside


def _centres(size: int, device: torch.device) -> torch.Tensor:
    """(size,): output coordinates of the pixel centres."""
    return (2 * torch.arange(size, device=device) + 1) / size - 1


def _mirror(x: torch.Tensor, extent: torch.Tensor) -> torch.Tensor:
    """Folds coordinates back into [0, extent]."""
    periods = x / (2 * extent)
    return (periods - periods.round()).abs_().mul_(2 * extent)


def _low_passed(
    pixels: torch.Tensor, extents: npt.NDArray[np.int32], matrices: Floats, size: int, precision: torch.dtype
) -> torch.Tensor:
    """(B, 3, S, S): bilinear sampling of it is like a triangle of half-width s, the stored pixels an output pixel covers.

    Bilinear sampling alone is a triangle of half-width 1, variance 1/6; the filter adds what s^2 / 6 is above that: three
    taps below 1/2, a sampled Gaussian (too narrow to sample below) above. Under a twentieth of shrinking nothing is done.
    """
    shrinks = np.sqrt((matrices[:, :, :2] ** 2).sum(2)) * (2 / size)  # (B, 2): x, y
    variances = np.where(shrinks > 1.05, (shrinks**2 - 1) / 6, 0)
    if not variances.any():
        return pixels.permute(0, 3, 1, 2).to(torch.float32)
    side, device = pixels.shape[1], pixels.device
    lines = np.stack([variances.T[::-1], extents.T])[..., None]
    variance, extent = torch.from_numpy(lines).to(device, torch.float32)  # (2, B, 1) each: y, x
    centre = torch.arange(side, device=device).expand(2, len(pixels), side)
    reach = max(1, math.ceil(4 * math.sqrt(variances.max())))
    at = _window(centre - float(reach), 2 * reach + 1, side)
    square = (at - centre) ** 2
    taps = (1 - variance) * (square == 0) + variance / 2 * (square == 1)
    weights = torch.where(variance < 0.5, taps, torch.exp(-square / (2 * variance.clamp(min=0.5))))
    return _products(pixels, *_matrices(at, weights, extent, side, precision))


# Both filters touch few stored pixels: their weights are worked out for K neighbours and then put into (size, S) matrices.


def _window(start: torch.Tensor, taps: int, side: int) -> torch.Tensor:
    """(K, ...): the K = min(taps, side) stored pixels whose centres lie from `start` on, moved inside [0, side)."""
    taps = min(taps, side)
    first = (start - 0.5).ceil_().clamp_(0, side - taps)
    steps = torch.arange(taps, device=start.device, dtype=start.dtype)
    return first + steps.view(-1, *[1] * start.ndim)


def _matrices(at: torch.Tensor, weights: torch.Tensor, extent: torch.Tensor, side: int, precision: torch.dtype) -> torch.Tensor:
    """(2, B, n, S) from (K, 2, B, n) pixels and their weights: cut at the picture's edge, rows sum to 1."""
    weights = weights * (at < extent)
    weights /= weights.sum(0).clamp_(min=1e-6)
    rows = torch.arange(weights[0].numel(), device=at.device).view(weights[0].shape)
    whole = torch.zeros((*rows.shape, side), device=at.device, dtype=precision)
    return whole.put_(at.long() + rows * side, weights.to(precision))


def _products(pixels: torch.Tensor, down: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
    """(B, 3, n, m) float32 from (B, S, S, 3) pixels, (B, n, S) and (B, m, S) weights.

    The order of the products leaves channels first without a transposed copy.
    """
    batch, side = pixels.shape[:2]
    n, m = down.shape[1], across.shape[1]
    x = pixels.to(down.dtype).view(batch, side, side * 3)
    x = torch.bmm(x.transpose(1, 2), down.transpose(1, 2))  # (B, S * 3, n)
    x = torch.bmm(x.view(batch, side, 3 * n).transpose(1, 2), across.transpose(1, 2))  # (B, 3 * n, m)
    return x.view(batch, 3, n, m).to(torch.float32)


def side_for_crop(size: int) -> int:
    """Stored long side for fit=crop: at 4:3 the central square then has about `size` pixels a side."""
    return math.ceil(size * 4 / 3)
