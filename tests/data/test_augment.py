from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from sightline import randomness
from sightline.config import Config
from sightline.data import augment
from sightline.data import erase as erasing
from sightline.data.augment import FITS, Stored, View, plain_views, training_views
from sightline.data.policy import POLICIES, Policy, choose_policy
from sightline.settings import AugmentSettings
from sightline.watched import watch

Array = npt.NDArray[Any]
NOTHING = Policy()
SIDE = 16
VIEW = View(SIDE, "squash", (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
BYTES = View(SIDE, "squash", (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))  # normalised values are colours in [0, 255]
SINGLE = {  # a value for each setting that changes something by itself
    "flip": 1.0,
    "vertical_flip": 1.0,
    "crop_scale": (0.3, 0.5),
    "rotate": 40.0,
    "shear": 30.0,
    "scale": (0.6, 0.8),
    "translate": 0.3,
    "brightness": 0.5,
    "contrast": 0.5,
    "saturation": 0.5,
    "hue": 0.2,
    "grey": 1.0,
    "erase": 1.0,
}
BESIDE = ("mixup", "cutmix", "views", "albumentations")  # settings of the room that are no policy's


def noise(count: int = 12, side: int = SIDE, seed: int = 0) -> Stored:
    """Noise of several shapes, one of them the whole square."""
    draws = np.random.default_rng(seed)
    extents = draws.integers(1, side + 1, (count, 2)).astype(np.int32)
    extents[0] = side
    pixels = torch.zeros((count, side, side, 3), dtype=torch.uint8)
    for square, (h, w) in zip(pixels, extents, strict=True):
        square[:h, :w] = torch.from_numpy(draws.integers(0, 256, (h, w, 3), dtype=np.uint8))
    return Stored(pixels, extents, draws.integers(0, 2**64, count, dtype=np.uint64))


def part(stored: Stored, rows: Any) -> Stored:
    rows = np.asarray(rows)
    return Stored(stored.pixels[rows], stored.extents[rows], stored.keys[rows])


def ramps(count: int, height: int = SIDE, width: int = SIDE) -> Stored:
    """Pictures whose red tells the column and whose green the row: a view then tells where each of its pixels came from."""
    pixels = torch.zeros((count, max(height, width), max(height, width), 3), dtype=torch.uint8)
    pixels[:, :height, :width, 0] = 5 * torch.arange(width, dtype=torch.uint8)
    pixels[:, :height, :width, 1] = 5 * torch.arange(height, dtype=torch.uint8)[:, None]
    return Stored(pixels, np.full((count, 2), (height, width), dtype=np.int32), np.arange(count, dtype=np.uint64))


def windows(stored: Stored, policy: Policy, fit: str = "squash", seed: int = 0) -> tuple[Array, Array]:
    """What each view of `ramps` shows, in stored pixels: centre (B, 2) and size (B, 2), x first; negative where flipped."""
    x = training_views(stored, replace(BYTES, fit=fit), policy, seed, 0)
    a, b = SIDE // 4, SIDE - 1 - SIDE // 4  # pixels far enough from the edges of the picture
    red, green = x[:, 0, SIDE // 2].numpy() / 5 + 0.5, x[:, 1, :, SIDE // 2].numpy() / 5 + 0.5
    centre = np.stack([red[:, a] + red[:, b], green[:, a] + green[:, b]], 1) / 2
    size = np.stack([red[:, b] - red[:, a], green[:, b] - green[:, a]], 1) / (b - a) * SIDE
    return centre, size


def views(policy: Policy, stored: Stored | None = None, view: View = VIEW, seed: int = 0, epoch: int = 0, **how: Any) -> Array:
    return training_views(noise() if stored is None else stored, view, policy, seed, epoch, **how).float().numpy()


# ---- without augmentation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", FITS)
def test_the_policy_none_shows_what_evaluation_sees(fit: str) -> None:
    stored, view = noise(), replace(VIEW, fit=fit)
    assert torch.equal(training_views(stored, view, choose_policy(AugmentSettings(policy="none"), fit), 0, 3), plain_views(stored, view))


def test_a_plain_view_of_the_same_size_is_torchvisions_normalised_picture() -> None:
    picture = noise(1)
    expected = F.normalize(picture.pixels.permute(0, 3, 1, 2) / 255, list(VIEW.mean), list(VIEW.std))
    np.testing.assert_allclose(plain_views(picture, VIEW).numpy(), expected.numpy(), atol=3e-6)


def test_what_lies_outside_of_a_letterboxed_picture_is_exactly_zero() -> None:
    picture = part(noise(), [0])
    picture.extents[:] = (4, SIDE)
    view = replace(VIEW, fit="letterbox")
    for made in (plain_views(picture, view), training_views(picture, view, replace(POLICIES["strong"], rotate=0, shear=0), 0, 0)):
        assert plain_views(picture, view)[0, :, :6].abs().max() < 1e-6
        assert made.abs().max() > 0.1


@pytest.mark.parametrize("policy", [*POLICIES])
def test_letterboxed_pictures_have_grey_borders_under_every_policy(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """White strips: whatever is not white normalises to zero."""
    white = torch.full((40, SIDE, SIDE, 3), 255, dtype=torch.uint8)
    stored = Stored(white, np.full((40, 2), (5, SIDE), np.int32), np.arange(40, dtype=np.uint64))
    uncoloured = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "grey": 0, "erase": 0}
    chosen = replace(choose_policy(AugmentSettings(policy=policy), "letterbox"), **uncoloured)
    monkeypatch.setattr(augment, "_TRIVIAL", augment._TRIVIAL | {"brightness": 0.0, "saturation": 0.0, "contrast": 0.0})
    x = views(chosen, stored, replace(VIEW, fit="letterbox"))
    highest = (1 - np.array(VIEW.mean)) / VIEW.std
    zero, full = (np.abs(x).max(1) < 1e-5), (np.abs(x - highest[:, None, None]).max(1) < 1e-3)
    assert zero.mean() > 0.2
    assert full.mean() > 0.2
    assert (zero | full).all()


# ---- what is drawn ---------------------------------------------------------------------------------------------------

MANY = 3000
FIVE_SIGMA = 5 * np.sqrt(0.25 / MANY)  # of a share; one seed in two million falls outside


@pytest.mark.parametrize(("flip", "vertical"), [(0.5, 0.0), (0.0, 0.3), (0.5, 0.5), (1.0, 1.0)])
def test_the_asked_share_of_pictures_is_flipped(flip: float, vertical: float) -> None:
    _, size = windows(ramps(MANY), Policy(flip=flip, vertical_flip=vertical))
    shares = (size < 0).mean(0)
    assert abs(shares[0] - flip) <= (FIVE_SIGMA if 0 < flip < 1 else 0)
    assert abs(shares[1] - vertical) <= (FIVE_SIGMA if 0 < vertical < 1 else 0)
    both = (size < 0).all(1).mean()
    assert abs(both - flip * vertical) <= FIVE_SIGMA  # one does not depend on the other


@pytest.mark.parametrize("scale", [(0.2, 0.9), (0.35, 1.0), (0.7, 0.7001), (0.95, 1.0)])
def test_crops_have_areas_and_ratios_in_their_ranges_and_lie_in_the_picture(scale: tuple[float, float]) -> None:
    centre, size = windows(ramps(MANY), Policy(crop_scale=scale, crop_ratio=(0.75, 1.25)))
    area, ratio = size.prod(1) / SIDE**2, size[:, 0] / size[:, 1]
    assert scale[0] - 1e-3 < area.min()
    assert area.max() < scale[1] + 1e-3
    assert ratio.min() > 0.75 - 1e-3
    assert ratio.max() < 1.25 + 1e-3
    assert (np.abs(centre - SIDE / 2) + size / 2).max() < SIDE / 2 + 1e-2
    np.testing.assert_allclose(area.mean(), np.mean(scale), atol=5 * (scale[1] - scale[0]) / np.sqrt(12 * MANY))  # uniform
    np.testing.assert_allclose(centre.mean(0), SIDE / 2, atol=0.2)
    assert np.abs(centre - SIDE / 2).max() > 0.9 * (SIDE - size.min()) / 2  # up to the edges


def test_ratios_of_small_crops_are_uniform_in_their_logarithm() -> None:
    _, size = windows(ramps(MANY), Policy(crop_scale=(0.2, 0.3), crop_ratio=(0.5, 2.0)))
    logs = np.sort(np.log2(size[:, 0] / size[:, 1]) / 2 + 0.5)
    assert np.abs(logs - np.linspace(0, 1, MANY)).max() < 1.95 / np.sqrt(MANY)  # Kolmogorov and Smirnov, one in a thousand


@pytest.mark.parametrize(("height", "width"), [(12, 16), (16, 12), (16, 16)])
def test_with_fit_crop_ratios_are_those_of_the_pictures_own_pixels(height: int, width: int) -> None:
    _, size = windows(ramps(MANY, height, width), Policy(crop_scale=(0.2, 0.5), crop_ratio=(0.9, 1.1)), "crop")
    ratio = size[:, 0] / size[:, 1]
    assert ratio.min() > 0.9 - 2e-3
    assert ratio.max() < 1.1 + 2e-3
    np.testing.assert_allclose(size.prod(1).mean() / (height * width), 0.35, atol=0.01)


def test_where_no_crop_of_that_area_fits_the_area_gives_way_and_the_ratio_stays() -> None:
    centre, size = windows(ramps(400, 8, 16), Policy(crop_scale=(0.9, 1.0), crop_ratio=(0.8, 1.2)), "crop")
    ratio = size[:, 0] / size[:, 1]
    assert ratio.min() > 0.8 - 2e-3
    assert ratio.max() < 1.2 + 2e-3
    np.testing.assert_allclose(size[:, 1], 8, atol=0.05)
    assert np.ptp(centre[:, 0]) > 4  # from one end of the picture to the other


def test_shifts_and_magnifications_are_uniform_in_their_ranges() -> None:
    centre, size = windows(ramps(MANY), Policy(scale=(1.5, 2.0), translate=0.1))
    magnified = SIDE / size
    np.testing.assert_allclose(magnified[:, 0], magnified[:, 1], atol=1e-3)
    shift = -(centre - SIDE / 2) * magnified / SIDE
    for values, low, high in ((magnified[:, 0], 1.5, 2.0), (shift[:, 0], -0.1, 0.1), (shift[:, 1], -0.1, 0.1)):
        placed = np.sort(values - low) / (high - low)
        assert np.abs(placed - np.linspace(0, 1, MANY)).max() < 1.95 / np.sqrt(MANY)  # as above
    assert abs(np.corrcoef(shift.T)[0, 1]) < 0.1


def test_angles_are_uniform_in_their_range() -> None:
    x = training_views(ramps(MANY), BYTES, Policy(rotate=30), 0, 0)[:, :2].numpy() / 5
    a, b, middle = SIDE // 4, SIDE - 1 - SIDE // 4, SIDE // 2
    angle = np.degrees(np.arctan2(x[:, 0, b, middle] - x[:, 0, a, middle], x[:, 0, middle, b] - x[:, 0, middle, a]))
    assert np.abs(np.sort(angle) / 60 + 0.5 - np.linspace(0, 1, MANY)).max() < 1.95 / np.sqrt(MANY)  # as above


@pytest.mark.parametrize(
    ("policy", "measured"),
    [
        (Policy(brightness=0.3), lambda x: x.mean((1, 2, 3)) / 100),
        (Policy(contrast=0.3), lambda x: (x[:, 0].mean((1, 2)) - x[:, 2].mean((1, 2))) / 40),
        (Policy(saturation=0.3), lambda x: (x[:, 0].mean((1, 2)) - x[:, 2].mean((1, 2))) / 40),
    ],
    ids=["brightness", "contrast", "saturation"],
)
def test_factors_are_uniform_about_one(policy: Policy, measured: Any) -> None:
    flat = torch.tensor([120, 100, 80], dtype=torch.uint8).expand(MANY, 2, 2, 3).contiguous()
    stored = Stored(flat, np.full((MANY, 2), 2, np.int32), np.arange(MANY, dtype=np.uint64))
    factors = np.sort(measured(views(policy, stored, replace(BYTES, size=2))))
    assert np.abs((factors - 0.7) / 0.6 - np.linspace(0, 1, MANY)).max() < 1.95 / np.sqrt(MANY)  # as above


def test_the_asked_share_of_pictures_is_grey() -> None:
    stored = noise(600, 2)
    x = views(Policy(grey=0.3), stored, replace(BYTES, size=2))
    assert abs((np.ptp(x, axis=1).max((1, 2)) < 1e-2).mean() - 0.3) < 5 * np.sqrt(0.21 / 600)


def test_no_view_leaves_the_range_of_colours() -> None:
    bright = Policy(brightness=0.9, contrast=0.9, saturation=0.9, hue=0.5)
    x = views(bright, noise(40), BYTES)
    assert x.min() == 0
    assert x.max() <= 255
    assert x.max() > 254.9


# ---- one operation an image ------------------------------------------------------------------------------------------

OPERATIONS = [*augment._TRIVIAL]


def trivial(operation: str, strength: float, count: int = 12) -> Array:
    """(B, 17) draws in which the policy trivial does this to every image."""
    draws = np.full((count, 17), 0.75)
    draws[:, 2] = (OPERATIONS.index(operation) + 0.5) / len(OPERATIONS)
    draws[:, 3] = (strength + 1) / 2
    return draws


def done_by(draws: Array, policy: Policy, stored: Stored, monkeypatch: pytest.MonkeyPatch, view: View = BYTES) -> torch.Tensor:
    with monkeypatch.context() as patch:
        patch.setattr(augment, "uniform", lambda *_: draws)
        return training_views(stored, view, policy, 0, 0)


@pytest.mark.parametrize("strength", [-1.0, -0.4, 0.3, 0.99])
@pytest.mark.parametrize(
    ("operation", "column", "alone"),
    [
        ("rotate", 2, Policy(rotate=135)),
        ("brightness", 12, Policy(brightness=0.99)),
        ("contrast", 13, Policy(contrast=0.99)),
        ("saturation", 14, Policy(saturation=0.99)),
        ("translate_x", 5, Policy(translate=32 / 224)),
        ("translate_y", 6, Policy(translate=32 / 224)),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_each_trivial_operation_is_the_policy_that_does_it_alone(
    operation: str, column: int, alone: Policy, strength: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = np.full((12, 17), 0.5)  # in the middle of their ranges nothing happens
    draws[:, column] = (strength + 1) / 2
    expected = done_by(draws, alone, noise(), monkeypatch)
    made = done_by(trivial(operation, strength), Policy(trivial=True), noise(), monkeypatch)
    np.testing.assert_allclose(made.numpy(), expected.numpy(), atol=2e-2)
    assert (made - training_views(noise(), BYTES, NOTHING, 0, 0)).abs().max() > 5


@pytest.mark.parametrize(("operation", "place"), [("shear_x", 0), ("shear_y", 1)])
@pytest.mark.parametrize("strength", [-0.9, 0.5])
def test_trivial_shears_are_torchvisions_about_the_centre(
    operation: str, place: int, strength: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = 41
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8))
    pixels = F.gaussian_blur(pixels.permute(0, 3, 1, 2), [9, 9]).permute(0, 2, 3, 1).contiguous()  # one filter or another
    stored = Stored(pixels, np.full((1, 2), side, np.int32), np.zeros(1, dtype=np.uint64))
    degrees = [0.0, 0.0]
    degrees[place] = float(np.degrees(np.arctan(0.99 * strength)))
    picture = pixels.permute(0, 3, 1, 2).float()
    expected = F.affine(picture, 0.0, [0, 0], 1.0, degrees, InterpolationMode.BILINEAR)[0, :, 14:27, 14:27]
    made = done_by(trivial(operation, strength, 1), Policy(trivial=True), stored, monkeypatch, replace(BYTES, size=side))
    assert (made[0, :, 14:27, 14:27] - expected).abs().max() < 8  # torchvision does not filter where it shrinks
    assert (made - picture).abs().max() > 12


def test_the_trivial_operations_are_torchvisions_that_are_matrices_and_as_likely_as_each_other() -> None:
    space = v2.TrivialAugmentWide._AUGMENTATION_SPACE
    left_out = {"Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize"}
    names = {"ShearX": "shear_x", "ShearY": "shear_y", "TranslateX": "translate_x", "TranslateY": "translate_y", "Color": "saturation"}
    strongest = {names.get(name, name.lower()): of(31, 224, 224) for name, (of, _) in space.items() if name not in left_out}
    scale = {"translate_x": 224, "translate_y": 224}
    expected = {name: 0.0 if steps is None else float(steps[-1]) / scale.get(name, 1) for name, steps in strongest.items()}
    assert pytest.approx(expected, rel=1e-6) == augment._TRIVIAL
    strengths = augment._trivial_strengths(np.random.default_rng(0).random((9000, 17)))
    for name, values in strengths.items():
        if name != "identity":
            assert abs((values != 0).mean() - 1 / 9) < 5 * np.sqrt(8 / 81 / 9000)
            assert stats.kstest(values[values != 0] / augment._TRIVIAL[name], stats.uniform(-1, 2).cdf).pvalue > 0.001
    assert (sum((values != 0).astype(int) for values in strengths.values()) <= 1).all()


# ---- erasing ---------------------------------------------------------------------------------------------------------


def erased(count: int, probability: float = 1.0, size: int = 60, epoch: int = 0, precision: torch.dtype = torch.float32) -> torch.Tensor:
    """Views of black pictures, which normalise to -1000."""
    stored = Stored(torch.zeros((count, 2, 2, 3), dtype=torch.uint8), np.full((count, 2), 2, np.int32), np.arange(count, dtype=np.uint64))
    view = View(size, "squash", (1.0, 1.0, 1.0), (0.001, 0.001, 0.001))
    return training_views(stored, view, Policy(erase=probability), 0, epoch, precision)


def boxes_of(views: torch.Tensor) -> Array:
    """(n, 4) top, left, height and width of what is erased; a hole in a rectangle fails."""
    found = []
    for gone in (views > -500).numpy():
        assert (gone == gone[0]).all()  # in all channels
        rows, columns = np.flatnonzero(gone[0].any(1)), np.flatnonzero(gone[0].any(0))
        if len(rows):
            assert gone[0].sum() == len(rows) * len(columns) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            found.append((rows[0], columns[0], len(rows), len(columns)))
    return np.array(found)


def test_erased_rectangles_are_distributed_as_torchvisions() -> None:
    count, size = 1200, 60
    ours = boxes_of(erased(count, size=size)).astype(float)
    assert len(ours) == count
    reference, picture = v2.RandomErasing(value="random"), [torch.zeros(3, size, size)]
    torch.manual_seed(0)
    drawn = [reference.make_params(picture) for _ in range(count)]
    theirs = np.array([[p[name] for name in "ijhw"] for p in drawn], dtype=float)
    for what in (lambda b: b[:, 2] * b[:, 3], lambda b: b[:, 2] / b[:, 3], lambda b: b[:, 0], lambda b: b[:, 1]):
        assert stats.ks_2samp(what(ours), what(theirs)).pvalue > 0.001
    area = ours[:, 2] * ours[:, 3] / size**2
    assert 0.015 < area.min() < 0.025
    assert 0.31 < area.max() < 0.34


def test_the_asked_share_of_views_is_erased() -> None:
    assert abs(len(boxes_of(erased(1500, 0.3, 8))) / 1500 - 0.3) < 5 * np.sqrt(0.21 / 1500)


def test_what_is_erased_is_standard_normal_noise_without_repetition() -> None:
    x = erased(60)
    for values in (x[x > -500], *(x[:, c][x[:, c] > -500] for c in range(3))):
        assert len(values) > 10_000
        assert stats.kstest(values.numpy(), "norm").pvalue > 0.001
        assert len(values.unique()) > 0.95 * len(values)  # of two million numbers
    one = x[int((x[:, 0] > -500).sum((1, 2)).argmax())]
    red, green, blue = (one[c][one[c] > -500].numpy() for c in range(3))
    for first, second in ((red, green), (green, blue), (red, blue), (red[1:], red[:-1])):
        assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(len(first))


def test_the_noises_hash_is_that_of_all_other_draws() -> None:
    words = np.random.default_rng(0).integers(0, 2**64, 1000, dtype=np.uint64)
    with np.errstate(over="ignore"):
        expected = randomness._mix(words)
    assert np.array_equal(erasing._hashed(torch.from_numpy(words.view(np.int64))).numpy().view(np.uint64), expected)


def test_only_the_rectangle_changes_and_only_in_erased_views() -> None:
    stored = noise(40)
    plain, with_erasing = (training_views(stored, VIEW, replace(POLICIES["standard"], erase=p), 0, 0) for p in (0.0, 0.5))
    changed = (plain != with_erasing).any(1).flatten(1).float().mean(1)
    assert 8 < (changed > 0).sum() < 32
    assert changed.max() < 0.4


def test_another_epoch_erases_something_else_and_bfloat16_the_same() -> None:
    first, again, coarse, other = erased(8), erased(8), erased(8, precision=torch.bfloat16), erased(8, epoch=1)
    assert torch.equal(first, again)
    assert torch.equal(first.bfloat16(), coarse)
    assert (first != other).flatten(1).any(1).all()


@pytest.mark.parametrize("size", [1, 2, 8])
def test_tiny_views_are_erased_too(size: int) -> None:
    assert len(boxes_of(erased(50, size=size))) == 50


# ---- test-time augmentation ------------------------------------------------------------------------------------------


def test_the_first_test_view_is_the_plain_one_and_fewer_views_are_the_first_of_more() -> None:
    stored = noise()
    ten, three = (list(augment.test_views(stored, VIEW, count)) for count in (10, 3))
    assert torch.equal(ten[0], plain_views(stored, VIEW))
    assert len(ten) == 10
    for one, other in zip(ten, three, strict=False):
        assert torch.equal(one, other)


def test_test_views_show_the_windows_that_are_described() -> None:
    stored = part(noise(), [0])  # the whole square
    eighth, quarter, whole, near = SIDE / 8, SIDE / 4, SIDE, SIDE * 7 / 8
    boxes = [
        *((0, 0, whole, whole),) * 2,
        *((eighth / 2, eighth / 2, whole - eighth / 2, whole - eighth / 2),) * 2,
        *((0, 0, near, near), (eighth, 0, whole, near), (0, eighth, near, whole), (eighth, eighth, whole, whole)),
        *((quarter / 2, quarter / 2, whole - quarter / 2, whole - quarter / 2),) * 2,
    ]
    picture = Image.fromarray(stored.pixels[0].numpy())
    for place, (made, box) in enumerate(zip(augment.test_views(stored, BYTES, 10), boxes, strict=True)):
        expected = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)).transpose(2, 0, 1).astype(float)
        expected = expected[:, :, ::-1] if place in (1, 3, 9) else expected
        inner = np.s_[:, 1:-1, 1:-1]  # Pillow's filter ends at the window, ours at the picture
        assert np.abs(made[0].numpy()[inner] - expected[inner]).max() < 1


@pytest.mark.parametrize("fit", FITS)
def test_test_views_keep_to_the_fit(fit: str) -> None:
    stored, view = noise(), replace(VIEW, fit=fit)
    flipped = [*augment.test_views(stored, view, 2)][1]
    np.testing.assert_allclose(flipped.flip(3).numpy(), plain_views(stored, view).numpy(), atol=1e-5)


@pytest.mark.parametrize("count", [0, 11])
def test_there_are_one_to_ten_test_views(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 10"):
        next(augment.test_views(noise(), VIEW, count))


# ---- the same draws, whatever else happens ---------------------------------------------------------------------------

CLOSE = 2e-4  # of values up to 4: float32 products of another shape may add up in another order


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([*POLICIES]),
    st.sampled_from(FITS),
    st.lists(st.integers(0, 11), min_size=1, max_size=12),
    st.integers(0, 2**63 - 1),
    st.integers(0, 1000),
)
def test_a_view_depends_on_seed_epoch_and_key_alone(name: str, fit: str, rows: list[int], seed: int, epoch: int) -> None:
    stored, view = noise(), replace(VIEW, fit=fit, size=11)
    policy = choose_policy(AugmentSettings(policy=name), fit)
    together = views(policy, stored, view, seed, epoch)
    np.testing.assert_allclose(views(policy, part(stored, rows), view, seed, epoch), together[rows], atol=CLOSE)


@pytest.mark.parametrize("changed", ["seed", "epoch", "keys"])
def test_another_seed_epoch_or_key_gives_another_view(changed: str) -> None:
    stored = noise()
    first = views(POLICIES["standard"], stored)
    if changed == "keys":
        second = views(POLICIES["standard"], Stored(stored.pixels, stored.extents, stored.keys + np.uint64(1)))
    else:
        second = views(POLICIES["standard"], stored, **{changed: 1})
    different = np.abs(first - second).max((1, 2, 3)) > 0.01
    assert different[(stored.extents > 2).all(1)].all()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["standard", "strong", "trivial"])
def test_views_are_the_same_bit_for_bit_when_made_again(name: str, precision: torch.dtype) -> None:
    made = [training_views(noise(), VIEW, POLICIES[name], 5, 6, precision) for _ in range(2)]
    assert torch.equal(*made)
    assert made[0].dtype == precision


@pytest.mark.parametrize("name", ["flip", "standard", "strong", "trivial"])
def test_views_do_not_depend_on_how_much_is_made_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = views(POLICIES[name])
    monkeypatch.setattr(augment, "_PART", 5 * 3 * SIDE**2)
    np.testing.assert_allclose(views(POLICIES[name]), whole, atol=CLOSE)


@pytest.mark.parametrize("name", ["flip", "standard", "strong"])
def test_torchs_bfloat16_views_are_the_float32_ones_within_three_of_255(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two from the resample, one from the rounding of the result; colour may stretch them."""
    monkeypatch.setattr(augment.upright, "kernel", lambda: None)
    coarse, exact = (training_views(noise(), VIEW, POLICIES[name], 0, 0, p) for p in (torch.bfloat16, torch.float32))
    assert name == "strong" or not torch.equal(coarse, exact.bfloat16())  # the products too are in bfloat16, but for turned views
    coarse, exact = (x.float().numpy() * np.array(VIEW.std)[:, None, None] for x in (coarse, exact))
    assert np.abs(coarse - exact).max() < 3.5 * 1.4**3 / 255
    assert np.sqrt(((coarse - exact) ** 2).mean()) < 0.7 / 255


# ---- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SINGLE)
def test_each_setting_changes_views_when_set_alone(name: str) -> None:
    alone = choose_policy(AugmentSettings(policy="flip", **{"flip": 0.0, name: SINGLE[name]}), "squash")
    assert np.abs(views(alone) - views(NOTHING)).max() > 0.05


def test_the_ratio_matters_where_there_are_crops_and_the_fill_where_views_leave_the_picture() -> None:
    for base, own in (({"crop_scale": (0.3, 0.5)}, {"crop_ratio": (1.5, 1.6)}), ({"rotate": 40.0}, {"fill": "constant"})):
        with_own, without = (choose_policy(AugmentSettings(policy="flip", **base, **more), "squash") for more in (own, {}))
        assert np.abs(views(with_own) - views(without)).max() > 0.05


def test_every_setting_is_tested_here() -> None:
    assert {*SINGLE, "policy", "crop_ratio", "fill", *BESIDE} == set(AugmentSettings.model_fields)


TRIVIAL_LEAVES = {"flip", "vertical_flip", "crop_scale", "erase"}


@pytest.mark.parametrize(
    ("given", "fit", "unread"),
    [
        ({"policy": "none"}, "squash", {*SINGLE, "crop_ratio", "fill"}),
        ({"policy": "flip"}, "squash", {"crop_ratio", "fill"}),
        ({"policy": "standard"}, "squash", {"fill"}),
        ({"policy": "strong"}, "squash", set()),
        ({"policy": "strong"}, "letterbox", {"fill"}),
        ({"policy": "flip", "crop_scale": (0.5, 1.0)}, "crop", {"fill"}),
        ({"policy": "flip", "translate": 0.1}, "crop", {"crop_ratio"}),
        ({"policy": "trivial"}, "squash", {*SINGLE, "crop_ratio"} - TRIVIAL_LEAVES),
        ({"policy": "trivial", "crop_scale": (0.5, 1.0)}, "letterbox", {*SINGLE, "fill"} - TRIVIAL_LEAVES),
    ],
)
def test_a_setting_that_can_have_no_effect_is_not_read(given: dict[str, Any], fit: str, unread: set[str]) -> None:
    reads: set[str] = set()
    choose_policy(watch(Config(augment=AugmentSettings(**given)), reads).augment, fit)
    assert {f"augment.{name}" for name in AugmentSettings.model_fields} - reads == {f"augment.{name}" for name in (*unread, *BESIDE)}


def test_a_policy_gives_way_to_settings_one_by_one() -> None:
    chosen = choose_policy(AugmentSettings(policy="strong", hue=0.0, rotate=3.0, fill="constant"), "squash")
    assert chosen == replace(POLICIES["strong"], hue=0.0, rotate=3.0, fill="constant")
    assert choose_policy(AugmentSettings(), "squash") == POLICIES["standard"]


@pytest.mark.parametrize(
    "wrong",
    [
        *({"crop_scale": (0.0, 1.0)}, {"crop_scale": (0.5, 1.1)}, {"crop_ratio": (2.0, 1.0)}, {"scale": (-1.0, 1.0)}, {"fill": "black"}),
        *({"trivial": True, "rotate": 3.0}, {"trivial": True, "grey": 0.1}),
    ],
    ids=str,
)
def test_impossible_policies_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no policy"):
        Policy(**wrong)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"fit": "stretch"}, {"std": (0.2, 0.0, 0.2)}, {"mean": (0.5, 0.5)}], ids=str)
def test_impossible_views_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no view"):
        replace(VIEW, **wrong)
