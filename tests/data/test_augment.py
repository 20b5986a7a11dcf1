from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as F

from sightline.config import AugmentSettings, Config, watch
from sightline.data import augment
from sightline.data.augment import FITS, POLICIES, Policy, Stored, View, choose_policy, plain_views, training_views

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
}


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


@pytest.mark.parametrize("policy", ["none", "flip", "light", "standard", "strong"])
def test_letterboxed_pictures_have_grey_borders_under_every_policy(policy: str) -> None:
    """White strips: whatever is not white normalises to zero."""
    white = torch.full((40, SIDE, SIDE, 3), 255, dtype=torch.uint8)
    stored = Stored(white, np.full((40, 2), (5, SIDE), np.int32), np.arange(40, dtype=np.uint64))
    uncoloured = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "grey": 0}
    chosen = replace(choose_policy(AugmentSettings(policy=policy), "letterbox"), **uncoloured)
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
@pytest.mark.parametrize("name", ["standard", "strong"])
def test_views_are_the_same_bit_for_bit_when_made_again(name: str, precision: torch.dtype) -> None:
    made = [training_views(noise(), VIEW, POLICIES[name], 5, 6, precision) for _ in range(2)]
    assert torch.equal(*made)
    assert made[0].dtype == precision


@pytest.mark.parametrize("name", ["flip", "standard", "strong"])
def test_views_do_not_depend_on_how_much_is_made_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = views(POLICIES[name])
    monkeypatch.setattr(augment, "_PART", 5 * 3 * SIDE**2)
    np.testing.assert_allclose(views(POLICIES[name]), whole, atol=CLOSE)


@pytest.mark.parametrize("name", ["flip", "standard", "strong"])
def test_bfloat16_views_are_the_float32_ones_within_three_of_255(name: str) -> None:
    """Two from the resample, one from the rounding of the result; colour may stretch them."""
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
    assert {*SINGLE, "policy", "crop_ratio", "fill"} == set(AugmentSettings.model_fields)


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
    ],
)
def test_a_setting_that_can_have_no_effect_is_not_read(given: dict[str, Any], fit: str, unread: set[str]) -> None:
    reads: set[str] = set()
    choose_policy(watch(Config(augment=AugmentSettings(**given)), reads).augment, fit)
    assert {f"augment.{name}" for name in AugmentSettings.model_fields} - reads == {f"augment.{name}" for name in unread}


def test_a_policy_gives_way_to_settings_one_by_one() -> None:
    chosen = choose_policy(AugmentSettings(policy="strong", hue=0.0, rotate=3.0, fill="constant"), "squash")
    assert chosen == replace(POLICIES["strong"], hue=0.0, rotate=3.0, fill="constant")
    assert choose_policy(AugmentSettings(), "squash") == POLICIES["standard"]


@pytest.mark.parametrize(
    "wrong",
    [{"crop_scale": (0.0, 1.0)}, {"crop_scale": (0.5, 1.1)}, {"crop_ratio": (2.0, 1.0)}, {"scale": (-1.0, 1.0)}, {"fill": "black"}],
    ids=str,
)
def test_impossible_policies_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no policy"):
        Policy(**wrong)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"fit": "stretch"}, {"std": (0.2, 0.0, 0.2)}, {"mean": (0.5, 0.5)}], ids=str)
def test_impossible_views_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no view"):
        replace(VIEW, **wrong)
