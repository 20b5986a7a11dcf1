"""Training views: what a policy draws for an image in an epoch, and the batch that comes of it.

    policy = choose_policy(config.augment, config.data.fit)
    views = training_views(batch, view, policy, seed, epoch)      (B, 3, size, size), normalised
    for views in test_views(batch, view, 5): ...                  test-time augmentation: the same each time

Draws come from (seed, "augment", epoch, image key) alone, so a batch does not depend on workers, on batch size or on
where a run was resumed. All geometry is one resample, all colour one matrix; what is erased follows. Colour operations
have a fixed order (brightness, contrast, saturation, hue, grey); torchvision's ColorJitter shuffles it.

The policy "trivial" is TrivialAugment (Mueller and Hutter 2021, the "wide" ranges): one operation an image. It gives up
what neither matrix can say (posterize, solarize, sharpness, autocontrast, equalize), draws strengths from the whole range
instead of 31 steps, and shears about the centre instead of the upper left corner.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import torch

from sightline.data import colour, geometry
from sightline.randomness import uniform
from sightline.settings import AugmentSettings

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
class Policy:
    """What training views may differ in; the words are those of the settings `augment.*`. The defaults change nothing.

    Attributes:
        trivial: one operation of TrivialAugment an image, of random strength, in place of all moves and colours.
    """

    flip: float = 0.0
    vertical_flip: float = 0.0
    crop_scale: Pair = (1.0, 1.0)
    crop_ratio: Pair = (3 / 4, 4 / 3)
    rotate: float = 0.0
    shear: float = 0.0
    scale: Pair = (1.0, 1.0)
    translate: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grey: float = 0.0
    fill: str = "reflect"
    erase: float = 0.0
    trivial: bool = False

    def __post_init__(self) -> None:
        pairs = (self.crop_scale, self.crop_ratio, self.scale)
        if any(not 0 < low <= high for low, high in pairs) or self.crop_scale[1] > 1 or self.fill not in ("reflect", "constant"):
            raise ValueError(f"no policy has these values: {self}")
        plain = replace(self, trivial=False) if self.trivial else None
        if plain and (plain.moves or plain.colours):
            raise ValueError(f"no policy has these values, trivial has its own: {self}")

    @property
    def crops(self) -> bool:
        """Whether views are random crops."""
        return self.crop_scale != (1.0, 1.0)

    @property
    def moves(self) -> bool:
        """Whether views are turned, sheared, magnified or shifted."""
        return bool(self.trivial or self.rotate or self.shear or self.translate or self.scale != (1.0, 1.0))

    @property
    def colours(self) -> bool:
        """Whether colours change."""
        return bool(self.trivial or self.brightness or self.contrast or self.saturation or self.hue or self.grey)


POLICIES: dict[str, Policy] = {
    "none": Policy(),
    "flip": Policy(flip=0.5),
    "light": Policy(flip=0.5, crop_scale=(0.7, 1.0), brightness=0.1, contrast=0.1),
    "standard": Policy(flip=0.5, crop_scale=(0.35, 1.0), brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02),
    "strong": Policy(
        flip=0.5,
        crop_scale=(0.2, 1.0),
        rotate=15,
        shear=8,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.05,
        grey=0.1,
        erase=0.25,
    ),
    "trivial": Policy(flip=0.5, trivial=True),
}
_BESIDE_TRIVIAL = ("flip", "vertical_flip", "crop_scale", "erase")  # what the one operation leaves open


def choose_policy(settings: AugmentSettings, fit: str) -> Policy:
    """The policy's values, with those that the settings give in their place.

    Only what can have an effect is read: nothing more with `augment.policy=none`, no ranges with `trivial`, which has its
    own; the ratio only where there are random crops, the fill only where views can leave the picture and the outside is
    not grey anyway (letterbox).
    """
    policy = POLICIES[settings.policy]
    if settings.policy == "none":
        return policy
    names = [f.name for f in fields(Policy) if f.name not in ("crop_ratio", "fill", "trivial")]
    names = [name for name in names if not policy.trivial or name in _BESIDE_TRIVIAL]
    own = {name: getattr(settings, name) for name in names}
    policy = replace(policy, **{name: value for name, value in own.items() if value is not None})
    if policy.crops and settings.crop_ratio is not None:
        policy = replace(policy, crop_ratio=settings.crop_ratio)
    if policy.moves and fit != "letterbox":
        policy = replace(policy, fill=settings.fill)
    return policy


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
    render = _render_apart if policy.trivial else _render
    views = render(stored, view, matrices, colours, policy, precision)
    return erase(views, uniform(seed, "erase", epoch, stored.keys, 6), policy.erase) if policy.erase else views


def _render(
    stored: Stored, view: View, matrices: geometry.Floats, colours: colour.Floats, policy: Policy, precision: torch.dtype
) -> torch.Tensor:
    """The views that (B, 2, 3) `matrices` and (B, 5, 5) `colours` describe."""
    device, size, batch = stored.pixels.device, view.size, len(matrices)
    fill = view.grey if view.fit == "letterbox" or policy.fill == "constant" else None
    step = max(1, _PART // (3 * size**2)) if device.type == "cpu" else batch
    views = torch.empty((batch, 3, size, size), dtype=precision, device=device)
    for first in range(0, batch, step):
        part = slice(first, first + step)
        x = geometry.resample(stored.pixels[part], stored.extents[part], matrices[part], size, fill, precision)
        x = colour.apply(x, colours[part])
        views[part] = colour.clip(x, view.mean, view.std) if policy.colours else x
    return views


def _render_apart(
    stored: Stored, view: View, matrices: geometry.Floats, colours: colour.Floats, policy: Policy, precision: torch.dtype
) -> torch.Tensor:
    """As `_render`, upright and turned images apart: each has its own way through `geometry.resample`, whatever the others are."""
    turned, device = (matrices[:, 0, 1] != 0) | (matrices[:, 1, 0] != 0), stored.pixels.device
    views = torch.empty((len(matrices), 3, view.size, view.size), dtype=precision, device=device)
    for places in (np.flatnonzero(~turned), np.flatnonzero(turned)):
        if len(places):
            at = torch.from_numpy(places).to(device)
            part = Stored(stored.pixels.index_select(0, at), stored.extents[places], stored.keys[places])
            views.index_copy_(0, at, _render(part, view, matrices[places], colours[places], policy, precision))
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


# ---- erasing ---------------------------------------------------------------------------------------------------------

ERASED_AREA = (0.02, 0.33)
ERASED_RATIO = (0.3, 3.3)  # height / width


def erase(views: torch.Tensor, draws: geometry.Floats, probability: float) -> torch.Tensor:
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


def _rectangles(draws: geometry.Floats, size: int) -> npt.NDArray[np.int64]:
    """(4, n): top, left, height and width in pixels; `draws` (n, 4)."""
    area = _between(draws[:, 0], ERASED_AREA)
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
