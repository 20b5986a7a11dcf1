"""Training views: what a policy draws for an image in an epoch, and the batch that comes of it.

    policy = choose_policy(config.augment, config.data.fit)
    views = training_views(batch, view, policy, seed, epoch)      (B, 3, size, size), normalised

Draws come from (seed, "augment", epoch, image key) alone, so a batch does not depend on workers, on batch size or on
where a run was resumed. All geometry is one resample, all colour one matrix. Colour operations have a fixed order
(brightness, contrast, saturation, hue, grey); torchvision's ColorJitter shuffles it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch

from sightline.config import AugmentSettings
from sightline.data import colour, geometry
from sightline.randomness import uniform

Triple = tuple[float, float, float]


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

    @property
    def grey(self) -> Triple:
        """The colour, in [0, 255], that normalises to zero: what lies outside of a picture."""
        return (self.mean[0] * 255, self.mean[1] * 255, self.mean[2] * 255)


@dataclass(frozen=True, slots=True)
class Policy:
    """What training views may differ in; the words are those of the settings `augment.*`. The defaults change nothing."""

    flip: float = 0.0
    vertical_flip: float = 0.0
    crop_scale: tuple[float, float] = (1.0, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    rotate: float = 0.0
    shear: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    translate: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grey: float = 0.0
    fill: str = "reflect"

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
    "strong": Policy(
        flip=0.5, crop_scale=(0.2, 1.0), rotate=15, shear=8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.05, grey=0.1
    ),
}


def choose_policy(settings: AugmentSettings, fit: str) -> Policy:
    """The policy's values, with those that the settings give in their place.

    With `augment.policy=none` no other setting is read; with letterbox the outside is always grey.
    """
    base = POLICIES[settings.policy]
    if settings.policy == "none":
        return base
    own = {f.name: getattr(settings, f.name) for f in fields(Policy) if f.name != "fill"}
    values = {f.name: getattr(base, f.name) for f in fields(Policy)} | {k: v for k, v in own.items() if v is not None}
    values["fill"] = "constant" if fit == "letterbox" else settings.fill
    return Policy(**values)


@dataclass(frozen=True, slots=True)
class Stored:
    """A batch of stored pixels: (B, S, S, 3) uint8, (B, 2) extents, (B,) uint64 keys of the images."""

    pixels: torch.Tensor
    extents: npt.NDArray[np.int32]
    keys: npt.NDArray[np.uint64]


def plain_views(stored: Stored, view: View) -> torch.Tensor:
    """(B, 3, size, size) float32, normalised, without augmentation: what evaluation and prediction see."""
    matrices = geometry.fit_matrices(stored.extents, view.fit)
    colours = np.broadcast_to(colour.normalise(view.mean, view.std), (len(matrices), 5, 5))
    return _render(stored, view, matrices, colours, Policy(fill="constant" if view.fit == "letterbox" else "reflect"), torch.float32)


def training_views(
    stored: Stored, view: View, policy: Policy, seed: int, epoch: int, precision: torch.dtype = torch.float32
) -> torch.Tensor:
    """(B, 3, size, size) in `precision`, normalised: each image as this epoch sees it."""
    draws = uniform(seed, "augment", epoch, stored.keys, 17)
    matrices = _matrices(stored.extents, draws, policy, view.fit)
    colours = colour.normalise(view.mean, view.std) @ _colours(draws[:, 12:], policy)
    return _render(stored, view, matrices, colours, policy, precision)


PART=int(__import__('os').environ.get('PART','400000'))
def _render(stored, view, matrices, colours, policy, precision):
    fill = view.grey if policy.fill == "constant" else None
    step = max(1, PART // (view.size**2*3))
    device=stored.pixels.device
    views=torch.empty((len(matrices),3,view.size,view.size),dtype=precision,device=device)
    for i in range(0,len(matrices),step):
        part=slice(i,i+step)
        x = geometry.resample(stored.pixels[part], stored.extents[part], matrices[part], view.size, fill, precision)
        x = colour.apply(x, colours[part])
        if policy.colours:
            colour.clip(x, view.mean, view.std)
        views[part]=x
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
    """Area and log-ratio uniform as in Inception's random crop (Szegedy et al. 2015); what would stick out is cut to fit.

    With fit=crop the ratio is that of the picture's own pixels, otherwise that of the squashed or padded square.
    """
    area = _between(draws[:, 0], policy.crop_scale)
    low, high = np.log(policy.crop_ratio)
    ratio = np.exp(low + draws[:, 1] * (high - low))
    if fit == "crop":
        ratio = ratio * extents[:, 0] / extents[:, 1]
    half = np.minimum(np.stack([np.sqrt(area * ratio), np.sqrt(area / ratio)], axis=1), 1.0)
    centre = (2 * draws[:, 2:4] - 1) * (1 - half)
    return geometry.window(centre, half)


def _colours(draws: geometry.Floats, policy: Policy) -> colour.Floats:
    """(B, 5, 5); `draws` (B, 5)."""

    def around_one(column: int, spread: float) -> colour.Floats:
        return 1 + (2 * draws[:, column] - 1) * spread

    done = colour.contrast(around_one(1, policy.contrast)) @ colour.brightness(around_one(0, policy.brightness))
    done = colour.hue((2 * draws[:, 3] - 1) * policy.hue) @ colour.saturation(around_one(2, policy.saturation)) @ done
    return colour.grey(draws[:, 4] < policy.grey) @ done


def _between(draw: geometry.Floats, pair: tuple[float, float]) -> geometry.Floats:
    return pair[0] + draw * (pair[1] - pair[0])
