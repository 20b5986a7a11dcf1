from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.data.align import align, likeness, look, opponent, window_places

EVERYTHING = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])


def scene(side: int, seed: int = 0) -> torch.Tensor:
    """(1, 3, side, side) float32 in [0, 255]: clouds of several sizes, as photographs have them."""
    draws, total = np.random.default_rng(seed), np.zeros((side, side, 3))
    for cells in (4, 8, 16, 32):
        noise = draws.normal(size=(cells, cells, 3)).astype(np.float32)
        layers = [np.asarray(Image.fromarray(noise[..., c]).resize((side, side), Image.Resampling.BICUBIC)) for c in range(3)]
        total += np.stack(layers, -1) / cells**0.5
    total = (total - total.mean()) / total.std() * 45 + 128
    return torch.from_numpy(total.clip(0, 255).transpose(2, 0, 1)[None].astype(np.float32))


def test_all_of_a_picture_is_the_picture() -> None:
    picture = scene(32)
    seen, inside = look(picture, window_places(EVERYTHING))
    torch.testing.assert_close(seen, picture, atol=1e-3, rtol=0)
    assert inside.min() == 1


def test_a_window_is_what_pillow_cuts_out() -> None:
    picture = scene(64)
    seen, _ = look(picture, window_places(torch.tensor([[[0.25, 0.75], [0.5, 1.0]]])))
    pixels = Image.fromarray(picture[0].permute(1, 2, 0).numpy().astype(np.uint8))
    wanted = pixels.resize((64, 64), Image.Resampling.BILINEAR, box=(32, 16, 64, 48))
    difference = seen[0].permute(1, 2, 0).numpy() - np.asarray(wanted, dtype=np.float32)
    assert np.abs(difference)[2:-2, 2:-2].max() < 2  # the edges of a window see what is beyond it; a cut picture does not


def test_what_lies_outside_is_told() -> None:
    _, inside = look(scene(32), torch.tensor([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]]))
    assert inside[0, 0].tolist() == [1.0] * 24 + [0.0] * 8


@pytest.mark.parametrize(
    "place",
    [
        [[0.9, 0.0, 0.1], [0.0, 0.9, -0.1]],
        [[0.95, 0.0, 0.0], [0.0, 0.85, 0.05]],
        [[1.0, 0.05, 0.04], [-0.05, 1.0, -0.06]],
        [[1.05, 0.0, 0.0], [0.0, 1.05, 0.0]],
    ],
)
@pytest.mark.parametrize("gain", [1.0, 0.6])
def test_the_place_of_a_part_is_found_whatever_the_light(place: list[list[float]], gain: float) -> None:
    larger, wanted = scene(32)[:, 0], torch.tensor([place])
    smaller = look(larger[:, None], wanted)[0][:, 0] * gain + 20
    found = align(larger, smaller, window_places(EVERYTHING), steps=12)
    assert (found - wanted).abs().max() < 0.02


def test_pictures_do_not_disturb_each_other() -> None:
    larger, smaller = torch.cat([scene(32, 1), scene(32, 2)])[:, 0], torch.cat([scene(32, 3), scene(32, 2)])[:, 0]
    start = window_places(EVERYTHING.repeat(2, 1, 1))
    together = align(larger, smaller, start, steps=4)
    for row in (0, 1):
        torch.testing.assert_close(together[row], align(larger[row : row + 1], smaller[row : row + 1], start[:1], steps=4)[0])


def alike(first: torch.Tensor, second: torch.Tensor) -> float:
    return likeness(opponent(first), opponent(second), window_places(EVERYTHING)).item()


def test_a_picture_is_like_itself_in_any_light() -> None:
    picture = scene(64)
    assert alike(picture, picture) > 0.99
    assert alike(picture, picture * 0.6 + 30) > 0.97


def test_different_pictures_are_not_alike() -> None:
    assert max(abs(alike(scene(64, seed), scene(64, seed + 100))) for seed in range(10)) < 0.4


def test_a_frame_around_two_pictures_does_not_make_them_alike() -> None:
    inner = torch.zeros((1, 1, 64, 64))
    inner[..., 8:56, 8:56] = 1
    first, second = (scene(64, seed) * inner + 255 * (1 - inner) for seed in (1, 2))
    plain = np.corrcoef(first.mean(1).flatten().numpy(), second.mean(1).flatten().numpy())[0, 1]
    assert plain > 0.7
    assert alike(first, second) < 0.5


def test_other_colours_make_another_picture() -> None:
    picture = scene(64)
    assert alike(picture, picture.flip(1)) < 0.9


def test_a_picture_of_nothing_is_like_nothing() -> None:
    grey = torch.full((1, 3, 64, 64), 90.0)
    assert alike(grey, scene(64)) == pytest.approx(0, abs=1e-3)
    assert alike(grey, grey) == pytest.approx(0, abs=1e-3)
    assert np.isfinite(align(grey[:, 0], grey[:, 0], window_places(EVERYTHING), steps=3).numpy()).all()
