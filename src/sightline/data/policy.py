"""What training views may differ in: a policy by its name, and the settings that take the place of its values.

    policy = choose_policy(config.augment, config.data.fit)

The policy "trivial" is TrivialAugment (Mueller and Hutter 2021, the "wide" ranges): one operation an image.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from sightline.settings import AugmentSettings

Pair = tuple[float, float]


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
