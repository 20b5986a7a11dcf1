from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from sightline.data.colour import apply, brightness, clip, contrast, grey, hue, normalise, saturation

Array = npt.NDArray[Any]
ROUNDING = 0.001  # of 255: float32 sums of four terms on either side
B = 6


def colours(low: float = 0.35, high: float = 0.6, side: int = 12) -> torch.Tensor:
    """(B, 3, H, W) in [0, 1]; far enough from the ends that torchvision, which clips after each step, clips nothing."""
    return low + (high - low) * torch.rand(B, 3, side, side, generator=torch.Generator().manual_seed(1))


def drawn(low: float, high: float, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(low, high, B)


def ours(images: torch.Tensor, matrices: Array) -> torch.Tensor:
    return apply(images * 255, matrices) / 255


def one_by_one(change: Callable[..., torch.Tensor], images: torch.Tensor, values: Array) -> torch.Tensor:
    return torch.stack([change(image, float(value)) for image, value in zip(images, values, strict=True)])


def assert_close(a: torch.Tensor, b: torch.Tensor, tolerance: float = ROUNDING) -> None:
    np.testing.assert_allclose(255 * a.numpy(), 255 * b.numpy(), rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("matrix", "reference"),
    [(brightness, F.adjust_brightness), (contrast, F.adjust_contrast), (saturation, F.adjust_saturation)],
    ids=["brightness", "contrast", "saturation"],
)
def test_a_factor_does_what_torchvisions_does(matrix: Callable[[Array], Array], reference: Callable[..., torch.Tensor]) -> None:
    images, factors = colours(), drawn(0.6, 1.5)
    assert_close(ours(images, matrix(factors)), one_by_one(reference, images, factors))


def test_grey_is_torchvisions_for_those_that_it_is_asked_for() -> None:
    images, where = colours(0, 1), np.array([True, False, True, True, False, True])
    done = ours(images, grey(where))
    assert_close(done[where], F.rgb_to_grayscale(images[where], num_output_channels=3))
    assert_close(done[~where], images[~where])


def test_saturation_zero_is_grey() -> None:
    images = colours(0, 1)
    assert_close(ours(images, saturation(np.zeros(B))), ours(images, grey(np.ones(B, dtype=bool))))


@pytest.mark.parametrize("turns", [1 / 3, -1 / 3])
def test_hue_is_torchvisions_for_thirds_of_a_turn(turns: float) -> None:
    images = colours(0, 1)
    assert_close(ours(images, hue(np.full(B, turns))), F.adjust_hue(images, turns))


@pytest.mark.parametrize("turns", [0.005, 0.02, -0.02, 0.05])
def test_a_small_turn_of_hue_moves_colours_as_torchvisions_does(turns: float) -> None:
    """Beside the grey axis both move a colour by about as much in about the same direction.

    A circle about that axis against the edge of a hexagon: the lengths differ by up to a tenth, the directions by up to 30
    degrees, and by the turn itself on the way round a corner. Along the axis torchvision's brightness changes, ours not.
    """
    images = colours(0, 1)
    moved = ours(images, hue(np.full(B, turns))) - images
    other = F.adjust_hue(images, turns) - images
    np.testing.assert_allclose(moved.mean(1), 0, atol=1e-6)
    other = other - other.mean(1, keepdim=True)
    coloured = (images.amax(1) - images.amin(1)) > 0.1
    lengths = (moved.norm(dim=1) / other.norm(dim=1))[coloured]
    cosines = torch.nn.functional.cosine_similarity(moved, other, dim=1)[coloured]
    assert lengths.min() > 0.85
    assert lengths.max() < 1.25
    assert cosines.min() > np.cos(np.radians(31 + 360 * abs(turns)))


def test_a_full_turn_and_factors_of_one_change_nothing() -> None:
    images, one = colours(0, 1), np.ones(B)
    for matrix in (hue(one), brightness(one), contrast(one), saturation(one), grey(one == 0)):
        assert_close(ours(images, matrix), images)


def test_normalise_is_torchvisions() -> None:
    images, mean, std = colours(0, 1), (0.1, 0.5, 0.75), (0.2, 0.25, 0.3)
    done = apply(images * 255, np.tile(normalise(mean, std), (B, 1, 1)))
    # values up to 5, float32
    np.testing.assert_allclose(done.numpy(), F.normalize(images, list(mean), list(std)).numpy(), atol=3e-6)


def test_one_matrix_does_what_torchvisions_steps_do_in_their_order() -> None:
    """Contrast's mean is that after brightness: in any other order the pictures come out differently."""
    images, mean, std = colours(0.42, 0.55), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    b, c, s = drawn(0.8, 1.2, 1), drawn(0.6, 1.4, 2), drawn(0.7, 1.3, 3)
    turned, greyed = np.array([0, 1, -1, 0, 1, 0]) / 3, np.array([0, 0, 0, 1, 1, 0], dtype=bool)
    matrices = normalise(mean, std) @ grey(greyed) @ hue(turned) @ saturation(s) @ contrast(c) @ brightness(b)
    done = apply(images * 255, matrices)
    steps = ((F.adjust_brightness, b), (F.adjust_contrast, c), (F.adjust_saturation, s), (F.adjust_hue, turned))
    expected = images
    for change, values in steps:
        expected = one_by_one(change, expected, values)
        assert ((expected > 0) & (expected < 1)).all()  # nothing was clipped
    expected[greyed] = F.rgb_to_grayscale(expected[greyed], num_output_channels=3)
    expected = F.normalize(expected, list(mean), list(std))
    np.testing.assert_allclose(done.numpy(), expected.numpy(), atol=2e-5)  # 0.001 of 255, divided by std
    swapped = apply(images * 255, normalise(mean, std) @ brightness(b) @ contrast(c) @ saturation(s))
    assert (swapped - expected).abs().max() > 0.01


def test_each_picture_has_its_own_mean_for_contrast() -> None:
    dark_and_light = torch.cat([torch.full((1, 3, 4, 4), 0.2), torch.full((1, 3, 4, 4), 0.8)])
    assert_close(ours(dark_and_light, contrast(np.array([0.3, 0.3]))), dark_and_light, 0.03)  # LUMA adds up to 0.9999


def test_clip_brings_back_what_no_colour_can_be() -> None:
    mean, std = (0.1, 0.5, 0.75), (0.2, 0.25, 0.3)
    images = colours(-0.8, 1.9)
    done = clip(F.normalize(images, list(mean), list(std)), mean, std)
    np.testing.assert_allclose(done.numpy(), F.normalize(images.clamp(0, 1), list(mean), list(std)).numpy(), atol=2e-6)
