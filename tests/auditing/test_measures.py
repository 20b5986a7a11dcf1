from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageFilter
from scipy.ndimage import convolve, laplace

from sightline.auditing.material import Material
from sightline.auditing.measures import colours_of, histograms_of, light_of, measure, sharpness

PICTURES = arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 31), st.integers(1, 20), st.just(3)))
HISTOGRAMS = st.lists(st.integers(0, 255), min_size=1, max_size=200).map(lambda values: np.bincount(values, minlength=256))
LUMA = np.array([0.299, 0.587, 0.114])


@given(HISTOGRAMS)
def test_the_darkest_and_the_brightest_hundredth_are_numpys_percentiles(histogram: np.ndarray) -> None:
    pixels = np.repeat(np.arange(256), histogram)
    darkest, brightest, _ = light_of(histogram[None])
    assert darkest == np.percentile(pixels, 1, method="inverted_cdf")
    assert brightest == np.percentile(pixels, 99, method="inverted_cdf")


@given(HISTOGRAMS)
def test_entropy_agrees_with_pillow(histogram: np.ndarray) -> None:
    pixels = np.repeat(np.arange(256), histogram).astype(np.uint8)
    assert light_of(histogram[None])[2] == pytest.approx(Image.fromarray(pixels[None]).entropy(), abs=1e-5)


@given(PICTURES)
def test_sums_and_chroma_agree_with_their_definitions(pictures: np.ndarray) -> None:
    sums, squares, chroma = colours_of(pictures)
    pixels = pictures.reshape(len(pictures), -1, 3).astype(np.float64)
    apart = pixels - np.roll(pixels, 1, axis=2)
    assert (histograms_of(pictures).sum(axis=1) == pixels.shape[1]).all()
    assert sums == pytest.approx(pixels.sum(axis=1), rel=1e-5)
    assert squares == pytest.approx((pixels**2).sum(axis=1), rel=1e-5)
    assert chroma == pytest.approx(np.sqrt((apart**2).mean(axis=(1, 2))), rel=1e-4)


def test_luma_is_that_of_pillow(scene: Callable[..., np.ndarray]) -> None:
    picture = scene(0, 31, 40)
    wanted = np.asarray(Image.fromarray(picture).convert("L"))
    histogram = histograms_of(picture[None])[0]
    values = np.sort(np.repeat(np.arange(256), histogram))
    assert np.abs(values - np.sort(wanted.ravel())).max() <= 1


def test_sharpness_agrees_with_scipy(scene: Callable[..., np.ndarray]) -> None:
    picture = scene(1, 31, 40)
    luma = picture.astype(np.float64) @ LUMA
    inside = (slice(1, -1), slice(1, -1))
    detail = (laplace(luma)[inside] ** 2).mean()
    across, down = (convolve(luma, kernel)[inside] for kernel in (np.array([[1, 0, -1]]), np.array([[1], [0], [-1]])))
    edges = (across**2).mean() + (down**2).mean()
    assert sharpness(picture[None]) == pytest.approx(1.5 * np.log(1 + detail) - np.log(1 + edges), rel=1e-4)


def test_blur_lowers_sharpness_and_contrast_alone_matters_less(scene: Callable[..., np.ndarray]) -> None:
    picture = scene(2, 64, 64)
    blurred = [sharpness(np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))[None]) for radius in (0, 0.7, 1, 2)]
    faded = sharpness((128 + (picture.astype(float) - 128) * 0.5).astype(np.uint8)[None])
    assert blurred == sorted(blurred, reverse=True)
    assert faded > blurred[1]


@pytest.mark.parametrize("size", [(2, 9), (9, 2), (1, 1)])
def test_nothing_is_known_of_the_sharpness_of_what_has_no_inside(size: tuple[int, int]) -> None:
    assert sharpness(np.zeros((2, *size, 3), dtype=np.uint8)).tolist() == [np.inf] * 2


def test_a_red_rose_is_not_dark(make_material: Callable[..., Material]) -> None:
    red = np.zeros((20, 20, 3), dtype=np.uint8)
    red[..., 0] = 200
    assert make_material([red, red // 4]).measures.brightest.tolist() == [200, 50]


def test_mean_and_standard_deviation_are_those_of_all_pixels(
    make_material: Callable[..., Material], scene: Callable[..., np.ndarray]
) -> None:
    pictures = [scene(i, 20 + i, 31) for i in range(5)]
    measures = make_material(pictures).measures
    pixels = np.concatenate([picture.reshape(-1, 3) for picture in pictures]) / 255
    assert measures.mean == pytest.approx(pixels.mean(axis=0), abs=1e-3)
    assert measures.std == pytest.approx(pixels.std(axis=0), abs=1e-3)


def test_a_picture_is_measured_alone_as_in_company(squares: Callable[..., Any], scenes: list[np.ndarray]) -> None:
    together = measure(squares(scenes)).sharpness
    assert together == pytest.approx([measure(squares([scene])).sharpness[0] for scene in scenes])


@pytest.mark.parametrize("threads", [1, 3])
def test_every_image_is_measured_in_its_place_whatever_the_threads(squares: Callable[..., Any], threads: int) -> None:
    pictures = [np.full((5 + i % 2, 4 + i % 3, 3), i, dtype=np.uint8) for i in range(150)]
    seen: list[tuple[int, int]] = []
    measures = measure(squares(pictures), lambda done, whole: seen.append((done, whole)), threads)
    assert measures.darkest.tolist() == list(range(150))
    assert seen[-1] == (150, 150)
