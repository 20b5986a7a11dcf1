"""Two small pictures laid over each other: where one lies in the other, and how alike they are there.

    places = align(larger, smaller, places, steps=4)     (P, 2, 3)
    alike = likeness(larger, smaller, places)            (P,) in [-1, 1]

Coordinates run from -1 to 1 between the edges of a picture. A place is a matrix: what the smaller picture shows at (x, y, 1)
the larger one shows at place @ (x, y, 1). The same picture darker, brighter, or with another contrast is equally alike.

It gives up turns of more than about ten degrees, and perspective.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F

_FURTHEST = 0.4  # |shift|: a fifth of the side
_SCALES = (0.7, 1.4)
_LEAN = 0.2  # |the two numbers that turn or shear|
_STRIDE = 0.15  # longest move of a step, in each number
_CONTRAST = 50.0  # levels of 255: standard deviation that pictures are brought to before their detail is measured
_FAINT = 8.0  # of these levels: detail below is noise, and is not brought up with the rest

_MOVES = 0.3  # by how much less the middle may correlate


def opponent(pixels: torch.Tensor) -> torch.Tensor:
    """(P, 3, T, T) red, green, blue to lightness, red against blue, green against both; about equally scaled."""
    red, green, blue = pixels.to(torch.float32).unbind(1)
    return torch.stack([(red + green + blue) / 3, (red - blue) / 2, (2 * green - red - blue) / 4], 1)


def deviation(pictures: torch.Tensor) -> torch.Tensor:
    """(P, C, 1, 1) standard deviation of (P, C, T, T); `std` says the same in ten times the time."""
    centred = pictures - pictures.mean((2, 3), keepdim=True)
    length: torch.Tensor = torch.linalg.vector_norm(centred, dim=(2, 3), keepdim=True)
    return length / math.sqrt(pictures.shape[2] * pictures.shape[3] - 1)


def window_places(windows: torch.Tensor) -> torch.Tensor:
    """(P, 2, 3) places of windows (P, 2, 2) of the larger picture: y and x, from and to, as shares of its sides."""
    places = torch.zeros((len(windows), 2, 3))
    places[:, 0, 0], places[:, 1, 1] = (windows[:, 1, 1] - windows[:, 1, 0]), (windows[:, 0, 1] - windows[:, 0, 0])
    places[:, 0, 2], places[:, 1, 2] = windows[:, 1].sum(1) - 1, windows[:, 0].sum(1) - 1
    return places


def look(pictures: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the larger pictures (P, C, T, T) show at the places of the smaller ones, bilinear.

    Returns:
        (P, C, T, T), and (P, T, T) float32: 1 where the place lies inside the picture.
    """
    side = pictures.shape[-1]
    spots = (places.reshape(-1, 3) @ _points(side)).view(-1, 2, side, side)  # x, then y: one product for all pairs
    inside = (torch.maximum(spots[:, 0].abs(), spots[:, 1].abs()) <= 1).to(torch.float32)
    return F.grid_sample(pictures, spots.permute(0, 2, 3, 1), padding_mode="border", align_corners=False), inside


def align(larger: torch.Tensor, smaller: torch.Tensor, places: torch.Tensor, steps: int) -> torch.Tensor:
    """Better places, by Gauss-Newton on the lightness, with the gain and the offset of the light fitted at each step.

    Inverse compositional (Baker and Matthews 2004, section 3.2): slopes are those of the smaller picture, once.

    Args:
        larger, smaller: (P, T, T) float32.
        places: (P, 2, 3) where to begin; good to about a tenth of the picture.
    """
    centred = smaller - smaller.mean((1, 2), keepdim=True)
    slopes = _slopes(centred)  # (P, 6, T * T)
    hessian = slopes @ slopes.mT
    hold = 0.005 * hessian.diagonal(dim1=1, dim2=2) + 1e-3 * slopes.shape[2]
    solver = torch.linalg.inv(hessian + torch.diag_embed(hold)) @ slopes
    for _ in range(steps):
        seen, inside = look(larger[:, None], places)
        error = (_relit(seen[:, 0], centred, inside) - centred) * inside
        move = torch.linalg.vecdot(solver, error.flatten(1)[:, None]).clamp_(-_STRIDE, _STRIDE)
        places = _moved(places, move.view(-1, 2, 3))
    return places


def _slopes(picture: torch.Tensor) -> torch.Tensor:
    """(P, 6, T * T): how a centred picture changes as its place does; what a change of light would explain is taken out."""
    side = picture.shape[-1]
    down, across = torch.gradient(picture, spacing=2 / side, dim=(1, 2))
    slopes = torch.stack([across, down], 1).flatten(2)[:, :, None] * _points(side)  # (P, 2, 3, T * T)
    slopes, gain = slopes.flatten(1, 2), F.normalize(picture.flatten(1), dim=1, eps=1e-3)
    light = torch.stack([gain, torch.full_like(gain, 1 / side)], 1)  # each of length 1, and at right angles, as the picture is centred
    return torch.baddbmm(slopes, slopes @ light.mT, light, alpha=-1)


def _relit(seen: torch.Tensor, wanted: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """(P, T, T) the picture with the gain and the offset that bring it nearest to the wanted one."""
    count = inside.sum((1, 2), keepdim=True).clamp(min=1)
    mean, aim = ((x * inside).sum((1, 2), keepdim=True) / count for x in (seen, wanted))
    seen = seen - mean
    lit = seen * inside
    gain = (lit * wanted).sum((1, 2), keepdim=True) / (lit * seen).sum((1, 2), keepdim=True).clamp(min=1)
    return seen * gain + aim


def _moved(places: torch.Tensor, move: torch.Tensor) -> torch.Tensor:
    """Places after the inverse of a move of the smaller picture, within what they may be."""
    turn = torch.linalg.inv(torch.eye(2) + move[:, :, :2])
    linear = places[:, :, :2] @ turn
    shift = places[:, :, 2:] - linear @ move[:, :, 2:]
    scales = torch.eye(2, dtype=torch.bool)
    linear = torch.where(scales, linear.clamp(*_SCALES), linear.clamp(-_LEAN, _LEAN))
    return torch.cat([linear, shift.clamp(-_FURTHEST, _FURTHEST)], 2)


def likeness(larger: torch.Tensor, smaller: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """(P,) in [-1, 1]: the lowest of three correlations: of the detail of the lightness, everywhere and in the middle, and of
    the colours.

    Two flowers before a dark ground correlate by their outline alone. Detail is therefore what differs from the mean of the
    surroundings, an eighth of the side across, and counts the same wherever it is more than noise: divided by its own
    strength there (local contrast normalisation, Jarrett et al. 2009, section 2.1). Two pictures in the same frame agree
    around the edges: the middle must agree too, if less, since it is what moves between two frames of a film.

    Args:
        larger, smaller: (P, 3, T, T) of `opponent`.
    """
    seen, inside = look(larger, places)
    details = _detail(seen[:, :1]), _detail(smaller[:, :1])
    everywhere = _correlation(*details, inside, 0.05)
    quarter = inside.shape[-1] // 4
    middle = _correlation(*details, F.pad(inside[:, quarter:-quarter, quarter:-quarter], (quarter,) * 4), 0.05)
    return torch.minimum(torch.minimum(everywhere, middle + _MOVES), _correlation(seen, smaller, inside, 0.5))


def _detail(pictures: torch.Tensor) -> torch.Tensor:
    side = pictures.shape[-1]
    at = torch.arange(side)
    band = ((at[:, None] - at).abs() <= side // 16).to(torch.float32)
    band = band / band.sum(1, keepdim=True)  # means of fewer at the edges
    pictures = pictures * (_CONTRAST / (deviation(pictures) + 1))
    fine = pictures - band @ pictures @ band.T
    return fine / ((band @ fine.square() @ band.T).sqrt() + _FAINT)


def _correlation(first: torch.Tensor, second: torch.Tensor, inside: torch.Tensor, faint: float) -> torch.Tensor:
    """(P,) correlation of (P, C, T, T) where `inside` (P, T, T) is 1; each channel around its mean, all with one gain.

    What deviates by less than `faint` counts as nothing.
    """
    count = inside.sum((1, 2)).clamp(min=1)
    inside = inside[:, None]
    first, second = ((x - (x * inside).sum((2, 3), keepdim=True) / count[:, None, None, None]) * inside for x in (first, second))
    floor = count * faint**2
    power = (first.square().sum((1, 2, 3)) + floor) * (second.square().sum((1, 2, 3)) + floor)
    return (first * second).sum((1, 2, 3)) / power.sqrt()


@functools.cache
def _points(side: int) -> torch.Tensor:
    """(3, T * T): x, y and 1 of the pixels' centres, row by row."""
    at = (2 * torch.arange(side, dtype=torch.float32) + 1) / side - 1
    y, x = torch.meshgrid(at, at, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)]).view(3, -1)
