"""Thumbnails: each picture once, the most important first, and an honest tile where there is none."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.reporting.pictures import CHANGED, GONE, LEFT_OUT, UNREADABLE, MissingPicture, from_folder, make_pictures, tile


def _opened(code: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(code)))


def test_a_thumbnail_is_the_picture_made_small() -> None:
    ramp = np.zeros((200, 400, 3), dtype=np.uint8)
    ramp[:, 200:] = (10, 200, 30)
    pictures = make_pictures(["x"], lambda path: ramp)
    picture = _opened(pictures.table[0])
    assert (picture.format, picture.size) == ("WEBP", (128, 64))
    np.testing.assert_allclose(picture.convert("RGB").getpixel((110, 32)), (10, 200, 30), atol=14)
    np.testing.assert_allclose(picture.convert("RGB").getpixel((20, 32)), (0, 0, 0), atol=14)


def test_pictures_of_equal_content_are_kept_once(picture_folder: Path) -> None:
    pictures = make_pictures(["a.png", "b.png", "same.png", "a.png"], from_folder(picture_folder))
    assert len(pictures.table) == 2
    assert pictures.of("a.png") == pictures.of("same.png") == 0
    assert pictures.of("b.png") == 1


def test_what_cannot_be_had_says_why(picture_folder: Path) -> None:
    known = hashlib.sha256((picture_folder / "a.png").read_bytes()).hexdigest()
    read = from_folder(picture_folder, {"a.png": known, "b.png": known})
    pictures = make_pictures(["a.png", "b.png", "broken.png", "nowhere.png", "a\0.png"], read)
    assert pictures.of("a.png") == 0
    assert [pictures.of(name) for name in ("b.png", "broken.png", "nowhere.png", "a\0.png")] == [CHANGED, UNREADABLE, GONE, GONE]
    assert pictures.of("never asked for") == LEFT_OUT


@pytest.mark.parametrize("workers", [1, 3])
def test_the_budget_holds_and_goes_to_the_first(read_colour: Callable[[str], np.ndarray], workers: int) -> None:
    names = [f"{i}.png" for i in range(300)]
    whole = make_pictures(names, read_colour)
    one = len(whole.table[0])
    pictures = make_pictures(names, read_colour, budget=20 * one, workers=workers)
    assert sum(map(len, pictures.table)) <= 20 * one
    shown = [isinstance(pictures.of(name), int) for name in names]
    assert sum(shown) >= 10
    assert shown == sorted(shown, reverse=True)
    assert pictures.of(names[-1]) == LEFT_OUT


def test_progress_ends_with_all(read_colour: Callable[[str], np.ndarray]) -> None:
    told: list[tuple[int, int]] = []
    make_pictures([str(i) for i in range(150)], read_colour, done=lambda done, whole: told.append((done, whole)))
    assert told[-1] == (150, 150)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_tile_has_the_picture_or_the_reason_and_always_the_path(read_colour: Callable[[str], np.ndarray]) -> None:
    def read(path: str) -> np.ndarray:
        if path == "gone.png":
            raise MissingPicture(GONE)
        return read_colour(path)

    pictures = make_pictures(["a.png", "gone.png"], read)
    assert 'data-picture="0"' in tile(pictures, "a.png", "called cat", kind="wrong")
    gone = tile(pictures, "gone.png")
    assert GONE in gone
    assert "<img" not in gone
    assert 'data-path="gone.png"' in gone
    assert "&lt;i&gt;" in tile(pictures, "<i>.png")
    assert "<i>" not in tile(pictures, "<i>.png", "<i>")
