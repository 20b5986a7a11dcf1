"""What happens to colours: one matrix an image.

    matrix = normalise(mean, std) @ grey(...) @ hue(...) @ saturation(...) @ contrast(...) @ brightness(...)
    views = apply(views, matrix)       (B, 3, H, W)

A colour is (red, green, blue, m, 1): red, green and blue in [0, 255], and m, the mean brightness of its picture, which
contrast needs. Every operation is linear in these five, so all of them and the normalisation are one 5x5 matrix and one
pass; `apply` measures m. Between operations nothing is clipped; the end is. Definitions are torchvision's, but for hue:
a rotation about the grey axis instead of the HSV hexagon, equal to it for thirds of a turn. What makes m something else
than the mean brightness (hue) comes after contrast.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.float64]
Triple = tuple[float, float, float]
LUMA = (0.2989, 0.587, 0.114)  # torchvision's weights (ITU-R BT.601)


def _operations(count: int) -> Floats:
    """(B, 5, 5): nothing happens."""
    return np.tile(np.eye(5), (count, 1, 1))


def brightness(factor: Floats) -> Floats:
    """(B, 5, 5): multiplied with `factor` (B,)."""
    matrix = _operations(len(factor))
    matrix[:, :4, :4] *= factor[:, None, None]
    return matrix


def contrast(factor: Floats) -> Floats:
    """(B, 5, 5): away from the picture's mean brightness by `factor` (B,)."""
    matrix = _operations(len(factor))
    matrix[:, :3, :3] *= factor[:, None, None]
    matrix[:, :3, 3] = 1 - factor[:, None]
    return matrix


def saturation(factor: Floats) -> Floats:
    """(B, 5, 5): away from grey by `factor` (B,); 0 is grey."""
    matrix = _operations(len(factor))
    matrix[:, :3, :3] = factor[:, None, None] * np.eye(3) + (1 - factor)[:, None, None] * np.array(LUMA)
    return matrix


def hue(turns: Floats) -> Floats:
    """(B, 5, 5): colours turned about the grey axis by `turns` (B,) of a full turn (Rodrigues' formula)."""
    angle = 2 * math.pi * turns[:, None, None]
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    matrix = _operations(len(turns))
    matrix[:, :3, :3] = np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) / 3
    return matrix


def grey(where: npt.NDArray[np.bool_]) -> Floats:
    """(B, 5, 5): grey where True."""
    return saturation(np.where(where, 0.0, 1.0))


def normalise(mean: Triple, std: Triple) -> Floats:
    """(1, 5, 5): from [0, 255] to (x / 255 - mean) / std."""
    matrix = _operations(1)
    matrix[0, :3, :3] /= 255 * np.array(std)[:, None]
    matrix[0, :3, 4] = -np.array(mean) / np.array(std)
    return matrix


def apply(views: torch.Tensor, matrices: Floats) -> torch.Tensor:
    """(B, 3, H, W) float32 through (B, 5, 5)."""
    batch, _, height, width = views.shape
    m = torch.from_numpy(matrices[:, :3]).to(views.device, torch.float32)
    flat, shift = views.reshape(batch, 3, height * width), m[:, :, 4:]
    if matrices[:, :3, 3].any():
        of_mean = torch.from_numpy(matrices[:, :3, 3:4] * np.array(LUMA)).to(views.device, torch.float32)
        shift = torch.baddbmm(shift, of_mean, flat.mean(2, keepdim=True))
    return torch.baddbmm(shift, m[:, :, :3], flat).view(batch, 3, height, width)


def limits(mean: Triple, std: Triple) -> tuple[list[float], list[float]]:
    """Lowest and highest normalised value of each channel: what colours in [0, 255] can give."""
    pairs = list(zip(mean, std, strict=True))
    return [-m / s for m, s in pairs], [(1 - m) / s for m, s in pairs]


def clip(views: torch.Tensor, mean: Triple, std: Triple) -> torch.Tensor:
    """Normalised views, in place, brought back to their limits."""
    for channel, (lowest, highest) in enumerate(zip(*limits(mean, std), strict=True)):
        views[:, channel].clamp_(lowest, highest)
    return views
