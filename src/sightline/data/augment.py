"""Training views: what a policy draws for an image in an epoch, and the batch that comes of it.

    views = training_views(batch, view, policy, seed, epoch)      (B, 3, size, size), normalised
    for views in test_views(batch, view, 5): ...                  test-time augmentation: the same each time

Draws come from (seed, "augment", epoch, image key) alone, so a batch does not depend on workers, on batch size or on
where a run was resumed. All geometry is one resample, all colour one matrix; what is erased follows. Colour operations
have a fixed order (brightness, contrast, saturation, hue, grey); torchvision's ColorJitter shuffles it.

Training views of upright pictures on a processor are made by compiled C where there is a compiler (upright.py), all others by
torch: those of the policy "none" too, which are what evaluation sees, bit for bit.

The policy "trivial" is TrivialAugment (Mueller and Hutter 2021, the "wide" ranges): one operation an image. It gives up
what neither matrix can say (posterize, solarize, sharpness, autocontrast, equalize), draws strengths from the whole range
instead of 31 steps, and shears about the centre instead of the upper left corner.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from sightline.data import colour, geometry, upright
from sightline.data.erase import erase
from sightline.data.policy import POLICIES, Policy
from sightline.randomness import uniform

Triple = tuple[float, float, float]
Pair = tuple[float, float]

FITS = ("squash", "crop", "letterbox")
_PART = 800_000  # numbers of a batch that are made at once on a processor: they stay in its cache


@dataclass(frozen=True, slots=True)
class View:
    """What turns stored pixels into the network's input.

    Attributes:
        size: side of the input in pixels.
        fit: "squash", "crop" or "letterbox".
        mean, std: of the normalisation, in [0, 1], red, green, blue.
    """

    size: int
    fit: str
    mean: Triple
    std: Triple

    def __post_init__(self) -> None:
        if self.size < 1 or self.fit not in FITS or len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"no view has these values: {self}")

    @property
    def grey(self) -> Triple:
        """The colour, in [0, 255], that normalises to zero: what lies outside of a picture."""
        return (self.mean[0] * 255, self.mean[1] * 255, self.mean[2] * 255)


@dataclass(frozen=True, slots=True)
class Stored:
    """A batch of stored pixels: (B, S, S, 3) uint8, (B, 2) extents, (B,) uint64 keys of the images."""

    pixels: torch.Tensor
    extents: npt.NDArray[np.int32]
    keys: npt.NDArray[np.uint64]


def plain_views(stored: Stored, view: View) -> torch.Tensor:
    """(B, 3, size, size) float32, normalised, without augmentation: what evaluation and prediction see."""
    matrices = geometry.fit_matrices(stored.extents, view.fit)
    colours = np.tile(colour.normalise(view.mean, view.std), (len(matrices), 1, 1))
    return _render(stored, view, matrices, colours, POLICIES["none"], torch.float32)


_WINDOWS = (
    *((0.0, 0.0, 1.0, flipped) for flipped in (False, True)),  # the whole view
    *((0.0, 0.0, 0.875, flipped) for flipped in (False, True)),  # its centre, 7/8 of each side, as ImageNet is cropped
    *((x, y, 0.875, False) for y in (-0.125, 0.125) for x in (-0.125, 0.125)),  # its corners
    *((0.0, 0.0, 0.75, flipped) for flipped in (False, True)),  # its centre, closer
)
MOST_TEST_VIEWS = len(_WINDOWS)


def test_views(stored: Stored, view: View, count: int) -> Iterator[torch.Tensor]:
    """Test-time augmentation: `count` times (B, 3, size, size) float32, normalised, the same whenever they are made.

    In this order: the plain view, that one flipped; the centre, 7/8 of each side, the same flipped; the corners of that
    size, upper left, upper right, lower left, lower right; the centre, 3/4 of each side, the same flipped.

    Args:
        count: from 1, which gives `plain_views`, to 10.
    """
    if not 1 <= count <= MOST_TEST_VIEWS:
        raise ValueError(f"there are 1 to {MOST_TEST_VIEWS} views for the test, not {count}")
    fit = geometry.fit_matrices(stored.extents, view.fit)
    colours = np.tile(colour.normalise(view.mean, view.std), (len(fit), 1, 1))
    for x, y, half, flipped in _WINDOWS[:count]:
        window = geometry.window(np.array([[x, y]]), np.array([[half, half]]))
        inner = window @ geometry.flip(np.array([flipped]), np.array([False]))
        yield _render(stored, view, fit @ inner, colours, POLICIES["none"], torch.float32)


def training_views(
    stored: Stored, view: View, policy: Policy, seed: int, epoch: int, precision: torch.dtype = torch.float32
) -> torch.Tensor:
    """(B, 3, size, size) in `precision`, normalised: each image as this epoch sees it."""
    draws = uniform(seed, "augment", epoch, stored.keys, 17)
    matrices = _matrices(stored.extents, draws, policy, view.fit)
    colours = colour.normalise(view.mean, view.std) @ _colours(draws, policy)
    render = _render_apart if policy.trivial else _render_fast
    views = render(stored, view, matrices, colours, policy, precision)
    return erase(views, uniform(seed, "erase", epoch, stored.keys, 6), policy.erase) if policy.erase else views


def _render(
    stored: Stored, view: View, matrices: geometry.Floats, colours: colour.Floats, policy: Policy, precision: torch.dtype
) -> torch.Tensor:
    """The views that (B, 2, 3) `matrices` and (B, 5, 5) `colours` describe, channels last in memory, as networks want them."""
    device, size, batch, fill = stored.pixels.device, view.size, len(matrices), _fill(view, policy)
    step = max(1, _PART // (3 * size**2)) if device.type == "cpu" else batch
    views = torch.empty((batch, 3, size, size), dtype=precision, device=device, memory_format=torch.channels_last)
    for part, x in geometry.resampled(stored.pixels, stored.extents, matrices, size, fill, precision, step):
        x = colour.apply(x, colours[part])
        x = colour.clip(x, view.mean, view.std) if policy.colours else x
        views[part] = x.to(precision)  # rounded and reordered in one step would take twice as long
    return views


def _fill(view: View, policy: Policy) -> geometry.Fill:
    """The colour of what lies outside of a picture; None: its mirror image."""
    return view.grey if view.fit == "letterbox" or policy.fill == "constant" else None


def _render_fast(
    stored: Stored, view: View, matrices: geometry.Floats, colours: colour.Floats, policy: Policy, precision: torch.dtype
) -> torch.Tensor:
    """As `_render`, but compiled where that can be. bfloat16 is rounded once, at the end, not in the products too."""
    can = stored.pixels.device.type == "cpu" and precision in upright.PRECISIONS and upright.upright(matrices)
    make = upright.kernel() if can and policy != POLICIES["none"] else None
    if make is None:
        return _render(stored, view, matrices, colours, policy, precision)
    limits = colour.limits(view.mean, view.std) if policy.colours else upright.ANY
    return make(stored.pixels, stored.extents, matrices, colours, view.size, _fill(view, policy), limits, precision)


def _render_apart(
    stored: Stored, view: View, matrices: geometry.Floats, colours: colour.Floats, policy: Policy, precision: torch.dtype
) -> torch.Tensor:
    """As `_render_fast`, upright and turned images apart: each has its own way through the resample, whatever the others are."""
    turned, device = (matrices[:, 0, 1] != 0) | (matrices[:, 1, 0] != 0), stored.pixels.device
    views = torch.empty((len(matrices), 3, view.size, view.size), dtype=precision, device=device, memory_format=torch.channels_last)
    for places in (np.flatnonzero(~turned), np.flatnonzero(turned)):
        if len(places):
            at = torch.from_numpy(places).to(device)
            part = Stored(stored.pixels.index_select(0, at), stored.extents[places], stored.keys[places])
            views.index_copy_(0, at, _render_fast(part, view, matrices[places], colours[places], policy, precision))
    return views


def _matrices(extents: npt.NDArray[np.int32], draws: geometry.Floats, policy: Policy, fit: str) -> geometry.Floats:
    """(B, 2, 3) of the whole geometry; `draws` columns 0 to 11."""
    inner = geometry.flip(draws[:, 0] < policy.flip, draws[:, 1] < policy.vertical_flip)
    if policy.trivial:
        inner = _trivial_move(_trivial_strengths(draws)) @ inner
    elif policy.moves:
        angle = (2 * draws[:, 2] - 1) * policy.rotate
        shear = (2 * draws[:, 3] - 1) * policy.shear
        scale = _between(draws[:, 4], policy.scale)
        shift = (2 * draws[:, 5:7] - 1) * policy.translate
        inner = geometry.affine(angle, shift, scale, shear) @ inner
    if policy.crops:
        inner = _random_window(extents, draws[:, 7:11], policy, fit) @ inner
        fit = "squash" if fit == "crop" else fit  # a random crop may lie anywhere in the picture
    return geometry.fit_matrices(extents, fit) @ inner


def _random_window(extents: npt.NDArray[np.int32], draws: geometry.Floats, policy: Policy, fit: str) -> geometry.Floats:
    """Inception's random crop (Szegedy et al. 2015): area uniform, log-ratio uniform among those that fit into the picture.

    Where none fits (a panorama), the area gives way. With fit=crop the ratio is that of the picture's own pixels,
    otherwise that of the squashed or padded square.
    """
    shape = extents[:, 1] / extents[:, 0] if fit == "crop" else np.ones(len(extents))
    area = _between(draws[:, 0], policy.crop_scale)
    low, high = policy.crop_ratio
    least, most = np.maximum(low, area * shape), np.minimum(high, shape / area)
    fits = least <= most
    least, most = np.where(fits, least, low), np.where(fits, most, high)
    ratio = least * (most / least) ** draws[:, 1]
    half = np.stack([np.sqrt(area * ratio / shape), np.sqrt(area * shape / ratio)], axis=1)
    half /= np.maximum(half.max(1, keepdims=True), 1)
    centre = (2 * draws[:, 2:4] - 1) * (1 - half)
    return geometry.window(centre, half)


def _colours(draws: geometry.Floats, policy: Policy) -> colour.Floats:
    """(B, 5, 5); `draws` columns 12 to 16."""
    if policy.trivial:
        return _trivial_colours(_trivial_strengths(draws))

    def around_one(column: int, spread: float) -> colour.Floats:
        return 1 + (2 * draws[:, column] - 1) * spread

    done = colour.contrast(around_one(13, policy.contrast)) @ colour.brightness(around_one(12, policy.brightness))
    done = colour.hue((2 * draws[:, 15] - 1) * policy.hue) @ colour.saturation(around_one(14, policy.saturation)) @ done
    return colour.grey(draws[:, 16] < policy.grey) @ done


def _between(draw: geometry.Floats, pair: Pair) -> geometry.Floats:
    return pair[0] + draw * (pair[1] - pair[0])


# ---- one operation an image ------------------------------------------------------------------------------------------

_TRIVIAL = {  # largest strength, either way, of each operation of TrivialAugment's wide space that a matrix can say
    "identity": 0.0,
    "shear_x": 0.99,  # slopes
    "shear_y": 0.99,
    "translate_x": 32 / 224,  # of the side: the paper's 32 pixels of ImageNet's views
    "translate_y": 32 / 224,
    "rotate": 135.0,  # degrees
    "brightness": 0.99,  # factors about 1
    "saturation": 0.99,  # "color" there
    "contrast": 0.99,
}


def _trivial_strengths(draws: geometry.Floats) -> dict[str, geometry.Floats]:
    """(B,) strength of each operation, 0 but for the image's one; `draws` column 2 chooses it, column 3 its strength."""
    chosen, strength = (draws[:, 2] * len(_TRIVIAL)).astype(np.int64), 2 * draws[:, 3] - 1
    return {name: np.where(chosen == i, strength * most, 0) for i, (name, most) in enumerate(_TRIVIAL.items())}


def _trivial_move(strengths: dict[str, geometry.Floats]) -> geometry.Floats:
    """(B, 3, 3), output square to output square."""
    shift = np.stack([strengths["translate_x"], strengths["translate_y"]], axis=1)
    shear = np.degrees(np.arctan(strengths["shear_x"]))
    moves = geometry.affine(strengths["rotate"], shift, np.ones(len(shear)), shear)
    moves[:, 1, 0] += strengths["shear_y"]  # nothing else happens where this is not zero
    return moves


def _trivial_colours(strengths: dict[str, geometry.Floats]) -> colour.Floats:
    """(B, 5, 5)."""
    done = colour.contrast(1 + strengths["contrast"]) @ colour.brightness(1 + strengths["brightness"])
    return colour.saturation(1 + strengths["saturation"]) @ done
