from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from sightline.data.geometry import affine, fit_matrices, flip, identity, resample, resampled, window

Array = npt.NDArray[Any]
ROUNDING = 0.001  # of 255: float32 sums against Pillow's float64 ones; the worst seen is 0.0003
TURNED = 0.02  # of 255: turned views have float32 coordinates too, good to 4e-6 of a pixel; the worst seen is 0.006
EXACT = 1e-9  # the last bit of a float64 coordinate gives a neighbour a weight of 1e-16; no sum but zero keeps it


def picture(height: int, width: int, seed: int = 0) -> Array:
    """Noise: no neighbours alike, so a wrong weight or a wrong place shows."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int, seed: int = 0) -> Array:
    """Blobs about eight pixels wide, as photographs are made of."""
    blobs = picture(max(2, height // 8), max(2, width // 8), seed)
    return np.asarray(Image.fromarray(blobs).resize((width, height), Image.Resampling.BICUBIC))


def stored(*pictures: Array, side: int | None = None, unused: int = 0) -> tuple[torch.Tensor, Array]:
    """(B, S, S, 3) and (B, 2), as a store holds pictures."""
    side = side or max(max(p.shape) for p in pictures)
    pixels = torch.full((len(pictures), side, side, 3), unused, dtype=torch.uint8)
    for slot, p in enumerate(pictures):
        pixels[slot, : p.shape[0], : p.shape[1]] = torch.from_numpy(p.copy())
    return pixels, np.array([p.shape[:2] for p in pictures], dtype=np.int32)


def fitted(p: Array, size: int, fit: str = "squash", inner: Array | None = None, **options: Any) -> Array:
    """(size, size, 3) float32: the view of one picture."""
    pixels, extents = stored(p, side=options.pop("side", None))
    matrices = fit_matrices(extents, fit) @ (identity(1) if inner is None else inner)
    return resample(pixels, extents, matrices, size, **options)[0].permute(1, 2, 0).numpy()


def by_pillow(p: Array, width: int, height: int, box: tuple[float, ...] | None = None) -> Array:
    """Pillow's antialiased BILINEAR, each channel as float32, so that nothing is rounded to bytes."""
    planes = [Image.fromarray(p[..., c].astype(np.float32)) for c in range(3)]
    return np.stack([np.asarray(q.resize((width, height), Image.Resampling.BILINEAR, box=box)) for q in planes], axis=2)


def turned(angle: float = 0, right: float = 0, down: float = 0, scale: float = 1, shear: float = 0) -> Array:
    return affine(np.array([angle]), np.array([[right, down]]), np.array([scale]), np.array([shear]))


def rms(difference: Array) -> float:
    return float(np.sqrt((difference**2).mean()))


# ---- where nothing is turned: Pillow ---------------------------------------------------------------------------------

SHAPES = [(1, 1), (1, 9), (9, 1), (10, 30), (31, 10), (17, 23), (28, 28), (90, 64)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 7, 16, 40])
def test_squash_is_pillows_resize(shape: tuple[int, int], size: int) -> None:
    p = picture(*shape)
    np.testing.assert_allclose(fitted(p, size), by_pillow(p, size, size), atol=ROUNDING)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 7, 16, 40])
def test_crop_is_pillows_resize_of_the_central_square(shape: tuple[int, int], size: int) -> None:
    p, (height, width), short = picture(*shape), shape, min(shape)
    box = ((width - short) / 2, (height - short) / 2, (width + short) / 2, (height + short) / 2)
    np.testing.assert_allclose(fitted(p, size, "crop"), by_pillow(p, size, size, box), atol=ROUNDING)


@pytest.mark.parametrize(("shape", "size", "inner"), [((10, 30), 15, (5, 15)), ((10, 30), 60, (20, 60)), ((40, 8), 10, (10, 2))])
def test_letterbox_is_pillows_resize_between_borders(shape: tuple[int, int], size: int, inner: tuple[int, int]) -> None:
    p, (height, width) = picture(*shape), inner
    top, left = (size - height) // 2, (size - width) // 2
    expected = np.full((size, size, 3), (10.5, 20.0, 30.0), dtype=np.float32)
    expected[top : top + height, left : left + width] = by_pillow(p, width, height)
    np.testing.assert_allclose(fitted(p, size, "letterbox", fill=(10.5, 20.0, 30.0)), expected, atol=ROUNDING)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.tuples(*[st.floats(0, 1)] * 4), st.booleans())
def test_any_window_is_pillows_resize_of_that_box(height: int, width: int, size: int, draws: tuple[float, ...], flipped: bool) -> None:
    half = np.array([[0.05 + 0.95 * draws[0], 0.05 + 0.95 * draws[1]]])
    centre = (2 * np.array([[draws[2], draws[3]]]) - 1) * (1 - half)
    (left, top), (right, bottom) = np.clip((1 + np.concatenate([centre - half, centre + half])) / 2, 0, 1) * (width, height)
    p = picture(height, width)
    expected = by_pillow(p, size, size, (left, top, right, bottom))
    inner = window(centre, half) @ flip(np.array([flipped]), np.array([False]))
    np.testing.assert_allclose(fitted(p, size, inner=inner, side=45), expected[:, ::-1] if flipped else expected, atol=ROUNDING)


def test_a_window_is_torchvisions_resized_crop_away_from_its_edges() -> None:
    """At the edges torchvision has forgotten what lies outside of the crop, as Pillow's box and we have not."""
    p = picture(60, 80)
    view = fitted(p, 12, inner=window(np.array([[0.0, -0.2]]), np.array([[0.6, 0.8]])))  # x 16 to 64, y 0 to 48
    image = torch.from_numpy(p).permute(2, 0, 1).to(torch.float32)
    other = F.resized_crop(image, 0, 16, 48, 48, [12, 12], InterpolationMode.BILINEAR, antialias=True)
    np.testing.assert_allclose(view[2:-2, 2:-2], other.permute(1, 2, 0).numpy()[2:-2, 2:-2], atol=ROUNDING)


def test_the_same_size_gives_the_stored_bytes_exactly() -> None:
    p = picture(29, 29)
    for precision in (torch.float32, torch.bfloat16):
        np.testing.assert_allclose(fitted(p, 29, precision=precision), p, rtol=0, atol=EXACT)


@pytest.mark.parametrize(("right_left", "up_down"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("size", [28, 13])
def test_flips_are_exact(right_left: bool, up_down: bool, size: int) -> None:
    p = picture(28, 28)
    view = fitted(p, size, inner=flip(np.array([right_left]), np.array([up_down])))
    expected = fitted(p, size)[:: -1 if up_down else 1, :: -1 if right_left else 1]
    if size == 28:
        np.testing.assert_allclose(view, expected, rtol=0, atol=EXACT)
    np.testing.assert_allclose(view, expected, atol=ROUNDING)


# ---- where it is turned: torchvision ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        {"angle": 25},
        {"angle": -140},
        {"angle": 90},
        {"right": 0.25, "down": -0.125},
        {"right": 0.03, "down": 0.11},
        {"scale": 1.7},
        {"angle": 4, "scale": 0.97},
        {"shear": 15},
        {"shear": -30, "scale": 1.4},
        {"angle": 33, "right": 0.1, "down": -0.07, "scale": 1.3, "shear": 20},
        {"angle": -75, "right": -0.2, "down": 0.05, "scale": 1.6, "shear": -25},
    ],
    ids=str,
)
@pytest.mark.parametrize("side", [32, 33])
def test_affine_is_torchvisions(how: dict[str, float], side: int) -> None:
    p = picture(side, side)
    image = torch.from_numpy(p).permute(2, 0, 1).to(torch.float32)
    other, inside = (
        F.affine(
            x,
            angle=how.get("angle", 0),
            translate=[how.get("right", 0) * side, how.get("down", 0) * side],
            scale=how.get("scale", 1),
            shear=[how.get("shear", 0), 0],
            interpolation=InterpolationMode.BILINEAR,
        )
        for x in (image, torch.ones_like(image))
    )
    view = fitted(p, side, inner=turned(**how))
    away = inside.permute(1, 2, 0).numpy() > 0.999  # torchvision fades into its border
    assert away.mean() > 0.3
    # 0.06 of 255: a float32 coordinate of 32 is good to 4e-6, and noise changes by up to 255 a pixel; torchvision
    # builds its grid in float32 as well
    np.testing.assert_allclose(view[away], other.permute(1, 2, 0).numpy()[away], atol=0.06)


def test_half_a_turn_is_both_flips() -> None:
    p = picture(20, 20)
    np.testing.assert_allclose(fitted(p, 20, inner=turned(angle=180)), p[::-1, ::-1], atol=TURNED)


@pytest.mark.parametrize(("angle", "scale"), [(20, 0.5), (-50, 0.4), (70, 0.3), (45, 0.7)])
def test_a_turned_and_shrunk_view_is_pillows_supersampled_one(angle: float, scale: float) -> None:
    """Pillow turns at eight times the size and then shrinks with a triangle; two filters of one variance differ a little."""
    p, size, fine = picture(64, 64), 64, 8
    x, y, o = turned(angle=angle, scale=scale)[0, :2].T * 32
    o += 32
    start = o - x - y  # the upper left corner
    rows = [(2 * x[i] / (size * fine), 2 * y[i] / (size * fine), start[i]) for i in (0, 1)]
    planes = [Image.fromarray(p[..., c].astype(np.float32)) for c in range(3)]
    turns = [q.transform((size * fine,) * 2, Image.Transform.AFFINE, (*rows[0], *rows[1]), Image.Resampling.BILINEAR) for q in planes]
    expected = np.stack([np.asarray(q.resize((size, size), Image.Resampling.BILINEAR)) for q in turns], axis=2)
    view = fitted(p, size, inner=turned(angle=angle, scale=scale))
    u = (2 * np.arange(size) + 1) / size - 1
    at = np.abs(np.stack([x[i] * u[None, :] + y[i] * u[:, None] + o[i] - 32 for i in (0, 1)]))
    inside = (at < 32 - 3 / scale).all(0)  # away from the border, about which the two differ
    aliased = p[tuple(np.clip(np.round(x[i] * u[None, :] + y[i] * u[:, None] + o[i] - 0.5), 0, 63).astype(int) for i in (1, 0))]
    assert inside.sum() > 50
    # of noise with a standard deviation of 74; without the filter the error is above 40
    assert rms((view - expected)[inside]) < 10 < rms((aliased - expected)[inside]) / 4


def test_turned_and_plain_views_agree_where_the_matrices_nearly_do() -> None:
    """A millionth of a degree takes the other way through the code."""
    p = picture(30, 41)
    for inner in (window(np.array([[0.1, -0.3]]), np.array([[0.7, 0.5]])), turned(right=0.3, down=-0.4, scale=1.2)):
        nearly = inner @ turned(angle=1e-6)
        np.testing.assert_allclose(fitted(p, 48, inner=nearly), fitted(p, 48, inner=inner), atol=0.05)


def test_turned_and_plain_views_agree_when_they_shrink() -> None:
    """A triangle here, a Gaussian and bilinear sampling there: 2 of 255 on blobs of eight pixels, borders included."""
    p = smooth(80, 72)
    for size in (60, 40, 20, 9):
        assert rms(fitted(p, size, inner=turned(angle=1e-6)) - fitted(p, size)) < 2


# ---- beyond the picture ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("right", "down"), [(4, 0), (-3, 5), (16, -16), (40, -23)])
@pytest.mark.parametrize("angle", [0, 1e-7], ids=["plain", "turned"])
def test_reflection_is_numpys_symmetric_padding(right: int, down: int, angle: float) -> None:
    p = picture(16, 16)
    padded = np.pad(p, ((48, 48), (48, 48), (0, 0)), "symmetric")
    expected = padded[48 - down : 64 - down, 48 - right : 64 - right]
    view = fitted(p, 16, inner=turned(angle=angle, right=right / 16, down=down / 16))
    np.testing.assert_allclose(view, expected, atol=TURNED if angle else ROUNDING)


@pytest.mark.parametrize("angle", [0, 30])
def test_a_fill_colour_is_all_that_lies_outside_and_nothing_else(angle: float) -> None:
    p, fill = np.maximum(picture(20, 26), 1), (0.25, 0.5, 0.75)
    inner = turned(angle=angle, right=0.2, down=-0.3, scale=0.8)
    view, mirrored = fitted(p, 24, inner=inner, fill=fill), fitted(p, 24, inner=inner)
    x, y, o = (fit_matrices(np.array([[20, 26]], dtype=np.int32), "squash") @ inner)[0].T
    u = (2 * np.arange(24) + 1) / 24 - 1
    at = x * u[None, :, None] + y * u[:, None, None] + o
    outside = ((at < 0) | (at > (26, 20))).any(2)
    assert 0.2 < outside.mean() < 0.8
    np.testing.assert_array_equal(view[outside], np.broadcast_to(np.float32(fill), view[outside].shape))
    np.testing.assert_array_equal(view[~outside], mirrored[~outside])


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 24),
    st.integers(1, 24),
    st.integers(1, 30),
    st.sampled_from(["squash", "crop", "letterbox"]),
    st.floats(-180, 180) | st.just(0),
    st.floats(0.2, 3),
    st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_the_unused_part_of_the_square_never_shows(
    height: int, width: int, size: int, fit: str, angle: float, scale: float, shift: tuple[float, float], precision: torch.dtype
) -> None:
    p = picture(height, width)
    views = []
    for unused in (0, 255):
        pixels, extents = stored(p, side=24, unused=unused)
        matrices = fit_matrices(extents, fit) @ turned(angle, *shift, scale)
        views.append(resample(pixels, extents, matrices, size, precision=precision))
    assert torch.equal(*views)
    assert views[0].min() > int(p.min()) - 2
    assert views[0].max() < int(p.max()) + 2


# ---- batches and precision -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [0, 12])
def test_a_view_does_not_depend_on_the_others_of_its_batch(angle: float) -> None:
    """One shrinks to a third, one by a thirtieth, one grows: each has its own filter."""
    pictures = [picture(60, 60), picture(31, 31, 1), picture(20, 6, 2), picture(40, 26, 3)]
    pixels, extents = stored(*pictures)
    inner = np.concatenate([turned(angle=angle, scale=s) for s in (0.67, 1, 1.4, 0.5)])
    together = resample(pixels, extents, fit_matrices(extents, "squash") @ inner, 30)
    for i in range(4):
        own = slice(i, i + 1)
        alone = resample(pixels[own], extents[own], fit_matrices(extents[own], "squash") @ inner[own], 30)
        np.testing.assert_allclose(together[own].numpy(), alone.numpy(), atol=TURNED if angle else ROUNDING)


@pytest.mark.parametrize("fill", [None, (9.0, 120.0, 250.0)])
@pytest.mark.parametrize("angle", [0, 12])
def test_a_batch_in_parts_is_the_same_batch(angle: float, fill: tuple[float, float, float] | None) -> None:
    pixels, extents = stored(picture(60, 60), picture(31, 31, 1), picture(20, 6, 2), picture(40, 26, 3))
    inner = np.concatenate([turned(angle=angle, scale=s) for s in (0.67, 1, 1.4, 0.5)])
    matrices = fit_matrices(extents, "letterbox") @ inner
    parts = list(resampled(pixels, extents, matrices, 30, fill, torch.float32, step=3))
    assert [len(views) for _, views in parts] == [3, 1]
    whole = resample(pixels, extents, matrices, 30, fill)
    for part, views in parts:
        np.testing.assert_allclose(views.numpy(), whole[part].numpy(), atol=TURNED if angle else ROUNDING)


@pytest.mark.parametrize("angle", [0, 12])
def test_bfloat16_is_good_to_two_of_255(angle: float) -> None:
    """Two roundings to 8 bits (weights, and the sums between the products): at most 0.4 % of 255 each."""
    for size, scale in ((20, 1.0), (64, 1.3), (33, 0.5)):
        inner = window(np.array([[0.1, 0.0]]), np.array([[0.8, 0.6]])) @ turned(angle=angle, scale=scale)
        exact = fitted(picture(40, 32), size, inner=inner)
        coarse = fitted(picture(40, 32), size, inner=inner, precision=torch.bfloat16)
        assert np.abs(coarse - exact).max() < 2
        assert abs((coarse - exact).mean()) < 0.3  # brightness drifts by less than a thousandth


def test_views_are_float32_channels_first() -> None:
    pixels, extents = stored(picture(8, 6), picture(3, 8))
    for inner in (turned(), turned(angle=9)):
        for precision in (torch.float32, torch.bfloat16):
            views = resample(pixels, extents, fit_matrices(extents, "crop") @ inner, 5, precision=precision)
            assert views.shape == (2, 3, 5, 5)
            assert views.dtype == torch.float32
