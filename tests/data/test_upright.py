"""What the compiled kernel makes is what torch and Pillow make; where it cannot be compiled, torch makes it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sightline.data import augment, colour, geometry, upright
from sightline.data.augment import FITS, Stored, View, plain_views, training_views
from sightline.data.policy import POLICIES, Policy
from sightline.data.upright import ANY, Kernel, agrees, kernel, standing

Array = npt.NDArray[Any]
CPU = torch.device("cpu")
VIEW = View(16, "squash", (0.5, 0.4, 0.3), (0.25, 0.2, 0.3))
CLOSE = 1e-5  # of values up to 4; the worst seen is 2e-6
UPRIGHT = {
    **{name: POLICIES[name] for name in ("flip", "light", "standard")},
    "strong, not turned": replace(POLICIES["strong"], rotate=0, shear=0),
    "shifted": Policy(translate=0.3, scale=(0.5, 1.5)),
    "shifted, painted": Policy(translate=0.3, scale=(0.5, 1.5), fill="constant", contrast=0.5),
    "trivial": POLICIES["trivial"],  # those of its pictures that are not turned
}


@pytest.fixture
def made() -> Kernel:
    """The kernel; tests of it are skipped where there is none."""
    found = kernel()
    if found is None:
        pytest.skip(f"no compiled kernel here: {standing(CPU)}")
    return found


@pytest.fixture
def forgotten() -> Iterator[None]:
    """The process looks for a kernel again, and forgets what it found."""
    upright._find.cache_clear()
    yield
    upright._find.cache_clear()


def noise(count: int, side: int, seed: int = 0) -> Stored:
    """Noise of several shapes, the whole square and single pixels among them; what is not used of a square is white."""
    draws = np.random.default_rng(seed)
    extents = draws.integers(1, side + 1, (count, 2)).astype(np.int32)
    extents[0] = side
    if count > 3:
        extents[1], extents[2], extents[3] = (1, side), (side, 1), (1, 1)
    pixels = torch.full((count, side, side, 3), 255, dtype=torch.uint8)
    for square, (h, w) in zip(pixels, extents, strict=True):
        square[:h, :w] = torch.from_numpy(draws.integers(0, 256, (h, w, 3), dtype=np.uint8))
    return Stored(pixels, extents, draws.integers(0, 2**64, count, dtype=np.uint64))


def by_torch(stored: Stored, view: View, policy: Policy, precision: torch.dtype = torch.float32) -> torch.Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upright, "kernel", lambda: None)
        return training_views(stored, view, policy, 3, 4, precision)


def within_one_rounding(rounded: torch.Tensor, exact: torch.Tensor) -> bool:
    """Whether bfloat16 values are float32 ones to half of their last bit, or what float32 sums in another order add to it."""
    return bool(((rounded.float() - exact).abs() <= exact.abs() * 2.0**-8 + CLOSE).all())


# ---- torch's way -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("policy", UPRIGHT)
@pytest.mark.parametrize(("side", "size"), [(16, 16), (16, 11), (9, 40), (40, 7), (33, 1), (1, 5)])
def test_views_are_torchs(made: Kernel, policy: str, fit: str, side: int, size: int) -> None:
    stored, view = noise(12, side), replace(VIEW, fit=fit, size=size)
    exact = by_torch(stored, view, UPRIGHT[policy])
    torch.testing.assert_close(training_views(stored, view, UPRIGHT[policy], 3, 4), exact, atol=CLOSE, rtol=0)
    rounded = training_views(stored, view, UPRIGHT[policy], 3, 4, torch.bfloat16)
    assert rounded.dtype == torch.bfloat16
    if policy != "trivial":  # its turned pictures are torch's own
        assert within_one_rounding(rounded, exact)


@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize(("side", "size"), [(128, 128), (128, 72), (28, 28), (28, 20)])
def test_views_of_the_sizes_that_are_trained_on_are_torchs(made: Kernel, side: int, size: int, batch: int) -> None:
    stored, view = noise(batch, side), replace(VIEW, size=size)
    exact = by_torch(stored, view, POLICIES["standard"])
    views = training_views(stored, view, POLICIES["standard"], 3, 4)
    torch.testing.assert_close(views, exact, atol=CLOSE, rtol=0)
    assert views.is_contiguous(memory_format=torch.channels_last)
    assert within_one_rounding(training_views(stored, view, POLICIES["standard"], 3, 4, torch.bfloat16), exact)


def test_bfloat16_views_are_the_float32_ones_rounded_to_even(made: Kernel) -> None:
    stored = noise(12, 16)
    for policy in ("flip", "standard"):
        exact, rounded = (training_views(stored, VIEW, POLICIES[policy], 0, 0, precision) for precision in upright.PRECISIONS)
        assert torch.equal(exact.bfloat16(), rounded)


def test_the_policy_none_and_turned_pictures_stay_torchs_bit_for_bit() -> None:
    stored = noise(12, 16)
    assert torch.equal(training_views(stored, VIEW, POLICIES["none"], 3, 4), plain_views(stored, VIEW))
    turned = Policy(rotate=20, brightness=0.2)
    assert torch.equal(training_views(stored, VIEW, turned, 3, 4), by_torch(stored, VIEW, turned))


def test_what_evaluation_sees_is_never_made_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upright, "kernel", lambda: pytest.fail("asked for"))
    plain_views(noise(4, 16), VIEW)
    list(augment.test_views(noise(4, 16), VIEW, 10))


@settings(max_examples=60)
@given(
    st.integers(1, 24),
    st.integers(1, 24),
    st.tuples(*(st.floats(-40, 40) for _ in range(4))),
    st.booleans(),
    st.integers(0, 5),
)
def test_whatever_is_asked_for_is_torchs(side: int, size: int, numbers: tuple[float, ...], painted: bool, seed: int) -> None:
    found = kernel()
    if found is None:
        pytest.skip(f"no compiled kernel here: {standing(CPU)}")
    stored, fill = noise(5, side, seed), (10.0, 100.0, 200.0) if painted else None
    matrices = np.zeros((5, 2, 3))
    matrices[:, 0, 0], matrices[:, 0, 2], matrices[:, 1, 1], matrices[:, 1, 2] = numbers
    colours = colour.contrast(np.linspace(0, 2, 5))
    expected = colour.apply(geometry.resample(stored.pixels, stored.extents, matrices, size, fill, torch.float64), colours)
    views = found(stored.pixels, stored.extents, matrices, colours, size, fill, ANY, torch.float32)
    torch.testing.assert_close(views, expected, atol=2e-3, rtol=0)  # of 255


# ---- Pillow ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(28, 28), (17, 23), (1, 9), (90, 64)])
@pytest.mark.parametrize("size", [1, 7, 20, 28, 64])
def test_a_squashed_picture_is_pillows_resize(made: Kernel, height: int, width: int, size: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels = torch.zeros((1, 90, 90, 3), dtype=torch.uint8)
    pixels[0, :height, :width] = torch.from_numpy(picture)
    extents, nothing = np.array([(height, width)], dtype=np.int32), np.eye(5)[None]
    views = made(pixels, extents, geometry.fit_matrices(extents, "squash"), nothing, size, None, ANY, torch.float32)
    expected = np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR)).astype(float)
    assert np.abs(views[0].permute(1, 2, 0).numpy() - expected).max() <= 1.01  # Pillow rounds to bytes twice


# ---- an image's view is its own --------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", upright.PRECISIONS)
def test_views_depend_neither_on_the_batch_nor_on_threads_bit_for_bit(made: Kernel, precision: torch.dtype) -> None:
    stored, view, policy = noise(40, 32), replace(VIEW, size=48), POLICIES["standard"]
    assert upright._FEW < 40 * 48**2  # so that threads are used
    whole = training_views(stored, view, policy, 1, 2, precision)
    for rows in ([7], [39, 3, 3], range(5, 30)):
        at = np.array(rows)
        part = Stored(stored.pixels[at], stored.extents[at], stored.keys[at])
        assert torch.equal(training_views(part, view, policy, 1, 2, precision), whole[at])
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(training_views(stored, view, policy, 1, 2, precision), whole)
        assert torch.equal(replace(made, parallel=None)(*asked(stored, view, policy, precision)), whole)
    finally:
        torch.set_num_threads(before)


def asked(stored: Stored, view: View, policy: Policy, precision: torch.dtype) -> tuple[Any, ...]:
    """What `training_views` asks the kernel for, seed 1, epoch 2."""
    heard: list[Any] = []

    def hear(*what: Any) -> torch.Tensor:
        heard[:] = what
        return torch.zeros(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upright, "kernel", lambda: hear)
        training_views(stored, view, policy, 1, 2, precision)
    return tuple(heard)


def test_no_pictures_are_no_views(made: Kernel) -> None:
    none = Stored(torch.zeros((0, 8, 8, 3), dtype=torch.uint8), np.zeros((0, 2), np.int32), np.zeros(0, np.uint64))
    assert training_views(none, VIEW, POLICIES["standard"], 0, 0).shape == (0, 3, 16, 16)


def test_pixels_that_do_not_lie_in_a_row_are_read_as_they_are(made: Kernel) -> None:
    stored = noise(4, 16)
    turned = replace(stored, pixels=stored.pixels.transpose(1, 2).contiguous().transpose(1, 2))
    assert not turned.pixels.is_contiguous()
    expected = training_views(stored, VIEW, POLICIES["standard"], 0, 0)
    assert torch.equal(training_views(turned, VIEW, POLICIES["standard"], 0, 0), expected)


@pytest.mark.parametrize("wrong", [0, 1, 2, 3])
def test_shapes_that_do_not_belong_together_are_refused(made: Kernel, wrong: int) -> None:
    what = list(asked(noise(4, 16), VIEW, POLICIES["standard"], torch.float32))
    what[wrong] = what[wrong][:3]
    with pytest.raises(ValueError, match="no batch of pictures"):
        made(*what)


# ---- where it cannot be ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("CC", "/nowhere/cc", r"torch \(/nowhere/cc did not run: FileNotFoundError\)"),
        ("SIGHTLINE_NATIVE", "0", r"torch \(SIGHTLINE_NATIVE=0\)"),
    ],
)
@pytest.mark.usefixtures("forgotten")
def test_without_a_compiler_views_are_torchs_and_that_is_told(variable: str, value: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    assert re.fullmatch(why, standing(CPU))
    stored = noise(12, 16)
    for precision in upright.PRECISIONS:
        expected = by_torch(stored, VIEW, POLICIES["standard"], precision)
        assert torch.equal(training_views(stored, VIEW, POLICIES["standard"], 3, 4, precision), expected)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("k + 0.5 - x", "k + 0.45 - x"),
        ("* 2 / size, 1)", "* 2 / size, 0.9)"),
        ("rint(periods)", "floor(periods)"),
        ("painted * batch->fill[c]", "0 * batch->fill[c]"),
        ("+ 0x7fff +", "+"),
        ("value > highest ? highest : value", "value"),
    ],
)
@pytest.mark.usefixtures("made", "forgotten")
def test_a_kernel_that_computes_something_else_is_not_used(right: str, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = upright.SOURCE.read_text()
    assert right in text
    (tmp_path / "wrong.c").write_text(text.replace(right, wrong))
    monkeypatch.setattr(upright, "SOURCE", tmp_path / "wrong.c")
    assert kernel() is None
    assert "computes something else" in standing(CPU)


@pytest.mark.parametrize(("at", "by"), [(0, 1), (1, -1)])
def test_a_view_that_is_off_by_a_pixel_is_noticed(made: Kernel, at: int, by: int) -> None:
    def shifted(pixels: torch.Tensor, *rest: Any) -> torch.Tensor:
        return made(pixels, *rest).roll(by, 2 + at)

    assert not agrees(shifted)  # type: ignore[arg-type]


def test_on_another_device_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upright, "_found", lambda: pytest.fail("asked for"))
    assert standing(torch.device("cuda")) == "torch (on cuda)"
    upright.compile_ahead(torch.device("cuda"))


@pytest.mark.skipif(sys.platform != "linux", reason="torch's OpenMP goes by another name elsewhere")
def test_torchs_own_threads_are_used(made: Kernel) -> None:
    assert made.parallel
