"""Heat on pictures: where it lies, and that nothing breaks it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.evaluation.heat import GAP, Entry, heat_sheet_figure, heat_sheet_picture, overlay, side_by_side


def photo(height: int = 40, width: int = 60) -> np.ndarray:
    return np.full((height, width, 3), 120, dtype=np.uint8)


def test_the_hottest_place_is_the_brightest() -> None:
    heat = np.zeros((4, 6), dtype=np.float32)
    heat[1, 4] = 0.01  # its own scale: the size of the numbers does not matter
    shown = overlay(photo(), heat).astype(int).sum(2)
    y, x = np.unravel_index(shown.argmax(), shown.shape)
    assert 10 <= y < 20
    assert 40 <= x < 50


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_map_without_heat_leaves_the_dimmed_photo(value: float) -> None:
    shown = overlay(photo(), np.full((2, 2), value, dtype=np.float32))
    assert shown.min() == shown.max() < 120


def test_panels_stand_beside_each_other_with_a_gap() -> None:
    strip = side_by_side([photo(), photo(), photo()])
    assert strip.shape == (40, 3 * 60 + 2 * GAP, 3)
    assert (strip[:, 60 : 60 + GAP] == 255).all()


def entry(right: bool, width: int = 200) -> Entry:
    panels = ("photo", "for cat") if right else ("photo", "for cat", "for dog (true)")
    return Entry(side_by_side([photo(150, width)] * len(panels)), panels, "a caption $x$", right)


def test_a_sheet_has_wrong_ones_first_and_says_what_each_panel_is(tmp_path: Path) -> None:
    texts = [text.get_text() for text in heat_sheet_figure([entry(True), entry(False), entry(False)]).texts]
    assert texts.index("Wrong, the surest mistakes first: 2") < texts.index("Right: 1")
    assert texts.count("for dog (true)") == 2
    heat_sheet_picture([entry(False)], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size[0] == 1284


def test_rows_wrap_and_no_picture_leaves_the_sheet() -> None:
    figure = heat_sheet_figure([entry(False) for _ in range(7)])
    width, height = figure.get_size_inches() * figure.dpi
    for image in figure.images:
        rows, columns = image.get_array().shape[:2]
        assert 0 <= image.ox <= width - columns
        assert 0 <= image.oy <= height - rows
