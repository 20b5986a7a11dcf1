"""Training views: what a policy draws for an image in an epoch, and the batch that comes of it.

    policy = choose_policy(config.augment, config.data.fit)
    views = training_views(batch, view, policy, seed, epoch)      (B, 3, size, size), normalised

Draws come from (seed, "augment", epoch, image key) alone, so a batch does not depend on workers, on batch size or on
where a run was resumed. All geometry is one resample, all colour one matrix. Colour operations have a fixed order
(brightness, contrast, saturation, hue, grey); torchvision's ColorJitter shuffles it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import torch

from sightline.config import AugmentSettings
from sightline.data import colour, geometry
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
class Policy:
    """What training views may differ in; the words are those of the settings `augment.*`. The defaults change nothing."""

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

    def __post_init__(self) -> None:
        pairs = (self.crop_scale, self.crop_ratio, self.scale)
        if any(not 0 < low <= high for low, high in pairs) or self.crop_scale[1] > 1 or self.fill not in ("reflect", "constant"):
            raise ValueError(f"no policy has these values: {self}")

    @property
    def crops(self) -> bool:
        """Whether views are random crops."""
        return self.crop_scale != (1.0, 1.0)

    @property
    def moves(self) -> bool:
        """Whether views are turned, sheared, magnified or shifted."""
        return bool(self.rotate or self.shear or self.translate or self.scale != (1.0, 1.0))

    @property
    def colours(self) -> bool:
        """Whether colours change."""
        return bool(self.brightness or self.contrast or self.saturation or self.hue or self.grey)


POLICIES: dict[str, Policy] = {
    "none": Policy(),
    "flip": Policy(flip=0.5),
    "light": Policy(flip=0.5, crop_scale=(0.7, 1.0), brightness=0.1, contrast=0.1),
    "standard": Policy(flip=0.5, crop_scale=(0.35, 1.0), brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02),
    "strong": Policy(flip=0.5, crop_scale=(0.2, 1.0), rotate=15, shear=8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.05, grey=0.1),
}


def choose_policy(settings: AugmentSettings, fit: str) -> Policy:
    """The policy's values, with those that the settings give in their place.

    Only what can have an effect is read: nothing more with `augment.policy=none`, the ratio only where there are random
    crops, the fill only where views can leave the picture and the outside is not grey anyway (letterbox).
    """
    policy = POLICIES[settings.policy]
    if settings.policy == "none":
        return policy
    names = [f.name for f in fields(Policy) if f.name not in ("crop_ratio", "fill")]
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


def training_views(
    stored: Stored, view: View, policy: Policy, seed: int, epoch: int, precision: torch.dtype = torch.float32
) -> torch.Tensor:
    """(B, 3, size, size) in `precision`, normalised: each image as this epoch sees it."""
    draws = uniform(seed, "augment", epoch, stored.keys, 17)
    matrices = _matrices(stored.extents, draws, policy, view.fit)
    colours = colour.normalise(view.mean, view.std) @ _colours(draws[:, 12:], policy)
    return _render(stored, view, matrices, colours, policy, precision)


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


def _matrices(extents: npt.NDArray[np.int32], draws: geometry.Floats, policy: Policy, fit: str) -> geometry.Floats:
    """(B, 2, 3) of the whole geometry; `draws` columns 0 to 11."""
    inner = geometry.flip(draws[:, 0] < policy.flip, draws[:, 1] < policy.vertical_flip)
    if policy.moves:
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
    """(B, 5, 5); `draws` (B, 5)."""

    def around_one(column: int, spread: float) -> colour.Floats:
        return 1 + (2 * draws[:, column] - 1) * spread

    done = colour.contrast(around_one(1, policy.contrast)) @ colour.brightness(around_one(0, policy.brightness))
    done = colour.hue((2 * draws[:, 3] - 1) * policy.hue) @ colour.saturation(around_one(2, policy.saturation)) @ done
    return colour.grey(draws[:, 4] < policy.grey) @ done


def _between(draw: geometry.Floats, pair: Pair) -> geometry.Floats:
    return pair[0] + draw * (pair[1] - pair[0])
