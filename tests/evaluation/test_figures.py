from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from sightline.evaluation import drawing, figures
from sightline.evaluation.drawing import Pen, pixels
from sightline.evaluation.figures import (
    confusion_figure,
    confusion_picture,
    per_class_f1_figure,
    predictions_picture,
    sheet_figure,
)

STRANGE = ["狐の嫁入り", "हिन्दी", "😀", "a\nb", "$x^{$", "bad\udcff", "", "\\frac{", "ab\u0301c", "x" * 200]


def metrics(k: int, names: list[str] | None = None, empty: int | None = None, most: int = 250) -> dict[str, Any]:
    """The parts of metrics.json that the picture reads: many right, every class with a mistake."""
    rng = np.random.default_rng(k)
    table = np.diag(rng.integers(1, most, k))
    table[np.arange(k), rng.integers(0, k, k)] += rng.integers(1, 9, k)
    if empty is not None:
        table[empty] = 0
    accuracy = {"value": 0.9, "low": 0.85, "high": 0.93}
    classes = names or [f"a rather long class name {c}"[: 8 + 9 * c % 26] + f" {c}" for c in range(k)]
    return {"n": int(table.sum()), "classes": classes, "confusion": table.tolist(), "accuracy": accuracy}


def boxes(texts: list[Text]) -> list[Any]:
    return [text.get_window_extent() for text in texts if text.get_text()]


def laid_out(figure: Figure) -> Figure:
    figure.draw_without_rendering()
    return figure


def saved(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def matrix_of(figure: Figure) -> Axes:
    return figure.axes[0]


@pytest.mark.parametrize("k", [1, 2, 10, 42, 102])
def test_names_of_classes_never_overlap(k: int) -> None:
    figure = laid_out(confusion_figure(metrics(k)))
    axes, page = matrix_of(figure), figure.bbox
    rows, columns = boxes(axes.get_yticklabels()), boxes(axes.get_xticklabels())
    assert len(rows) == len(columns) == k
    for upper, lower in pairwise(rows):
        assert upper.y0 >= lower.y1 - 0.5
    for left, right in pairwise(columns):
        assert left.x1 <= right.x0 + 0.5
    supports = boxes([text for text in axes.texts if text.get_ha() == "right"])
    for name, support in zip(rows, supports, strict=True):
        assert name.x1 < support.x0
        assert support.x1 < axes.bbox.x0
    for box in [*rows, *columns, *boxes(figure.texts), axes.xaxis.label.get_window_extent()]:
        assert page.x0 <= box.x0 < box.x1 <= page.x1
        assert page.y0 <= box.y0 < box.y1 <= page.y1
    assert axes.yaxis.label.get_window_extent().x1 < min(box.x0 for box in rows)


def test_not_every_class_is_named_where_lines_would_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "LARGEST", 3)
    axes = matrix_of(laid_out(confusion_figure(metrics(60))))
    rows = boxes(axes.get_yticklabels())
    assert 15 <= len(rows) <= 30
    assert all(upper.y0 >= lower.y1 - 0.5 for upper, lower in pairwise(rows))
    assert len([text for text in axes.texts if text.get_ha() == "right"]) == len(rows)


@pytest.mark.parametrize(("k", "most"), [(10, 9), (42, 250), (102, 50_000)])
def test_counts_stand_inside_their_cells_and_not_where_nothing_is(k: int, most: int) -> None:
    drawn = metrics(k, most=most)
    axes = matrix_of(laid_out(confusion_figure(drawn)))
    table, cell = np.array(drawn["confusion"]), axes.bbox.width / k
    counts = [text for text in axes.texts if text.get_ha() == "center"]
    for text in counts:
        column, row = map(int, text.get_position())
        assert text.get_text() == str(table[row, column])
        assert text.get_window_extent().width <= cell
        assert text.get_fontsize() >= 4
    most_digits = 4 if k == 102 else 9  # five are too many for the smallest cells
    assert len(counts) == np.count_nonzero((table > 0) & (table < 10**most_digits))


def test_cells_have_the_colour_of_their_share(tmp_path: Path) -> None:
    drawn = {**metrics(3), "confusion": [[90, 10, 0], [0, 0, 0], [3, 0, 1]]}
    figure = laid_out(confusion_figure(drawn))
    confusion_picture(drawn, tmp_path / "c.png")
    image, box = saved(tmp_path / "c.png"), matrix_of(figure).bbox

    def colour(row: int, column: int) -> np.ndarray:
        """Near the corner of a cell, beside its count."""
        x, y = box.x0 + box.width * (column + 0.15) / 3, box.y1 - box.height * (row + 0.15) / 3
        return image[image.shape[0] - int(y), int(x)].astype(int)

    assert colour(0, 2).tolist() == [255, 255, 255]
    assert colour(1, 0).tolist() == colour(1, 1).tolist() == [242, 242, 242]
    for row in (0, 2):
        assert colour(row, row)[2] > colour(row, row)[0] + 40  # blue
    for cell in ((0, 1), (2, 0)):
        assert colour(*cell)[0] > colour(*cell)[2] + 40  # orange
    assert colour(0, 0).sum() < colour(2, 2).sum()  # 90 % is darker than 25 %
    assert colour(2, 0).sum() < colour(0, 1).sum()


def test_cells_are_whole_pixels_and_grow_fewer_inches_with_k() -> None:
    sides = {}
    for k in (2, 10, 42, 102, 200):
        box = matrix_of(confusion_figure(metrics(k, names=[str(c) for c in range(k)]))).bbox
        sides[k] = box.width / k
        assert sides[k] == pytest.approx(round(sides[k]), abs=1e-6)
        assert box.width == pytest.approx(box.height)
        assert box.width <= figures.LARGEST * drawing.DPI
    assert list(sides.values()) == sorted(sides.values(), reverse=True)


def test_a_picture_for_any_name_without_a_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        confusion_picture(metrics(len(STRANGE), names=STRANGE, empty=0), tmp_path / "c.png")
        for name in STRANGE:
            predictions_picture(np.zeros((4, 4, 3), np.uint8), [name], [1.0], tmp_path / "p.png", title=name)
    assert saved(tmp_path / "c.png").std() > 0


def test_names_that_no_font_can_draw_still_differ() -> None:
    pen = Pen(("DejaVu Sans",), frozenset(map(ord, "abc 0123456789:·…")))
    assert pen.names(["abc", "狐", "猫"]) == ["abc", "2: ·", "3: ·"]


def test_another_font_is_taken_for_the_characters_that_the_first_lacks() -> None:
    """matplotlib brings STIX along, which has the double-struck letters that DejaVu lacks in some versions."""
    wanted = set(range(0x1D6A4, 0x1D7CB)) | set(range(0xE000, 0xE0FF))
    first = drawing._characters(drawing.font_manager.findfont("DejaVu Sans"))
    pen = Pen.for_texts([chr(c) for c in wanted])
    assert (len(pen.families) > 1) == bool((wanted & pen.drawable) - first)
    assert not any(family.startswith("Last Resort") for family in pen.families)


@pytest.mark.parametrize("shape", [(28, 28), (300, 900), (900, 100), (1, 1)])
def test_an_image_stands_beside_its_bars(shape: tuple[int, int]) -> None:
    names, probabilities = ["a long name of a class", "b", "c"], [0.99995, 0.00005, 0.0]
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    figure = laid_out(figures._predictions_figure(image, names, probabilities, "folder/" * 60 + "image.jpg"))
    picture, bars = figure.axes
    assert np.array_equal(picture.images[0].get_array(), image)
    assert [bar.get_width() for bar in bars.patches] == probabilities
    assert [text.get_text() for text in bars.texts] == ["> 99.9 %", "< 0.1 %", "0.0 %"]
    assert figure.texts[0].get_text().endswith("image.jpg")
    for box in [*boxes(bars.get_yticklabels()), *boxes(bars.texts), *boxes(figure.texts)]:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert min(box.x0 for box in boxes(bars.get_yticklabels())) > picture.bbox.x1
    assert bars.patches[0].get_window_extent().y0 > bars.patches[1].get_window_extent().y1  # the likeliest on top


def test_the_pixels_of_a_figure_are_those_of_its_file(tmp_path: Path) -> None:
    drawn = metrics(4)
    confusion_picture(drawn, tmp_path / "c.png")
    assert np.array_equal(pixels(confusion_figure(drawn)), saved(tmp_path / "c.png"))


@pytest.mark.parametrize("width", [0.3, 0.8, 2.0, 50.0])
def test_a_long_line_loses_its_middle_or_its_end_until_it_fits(width: float) -> None:
    pen, text = Pen.for_texts(()), "imbalance=sampler, augment.policy=light"
    for shown in (pen.fitted(text, width, 9), pen.cut(text, width, 9)):
        assert pen.widest([shown], 9) <= width
        assert shown == text or "…" in shown
    if width < 50:
        assert pen.cut(text, width, 9).endswith("…")
        assert text.startswith(pen.cut(text, width, 9)[:-1])
        assert text.endswith(pen.fitted(text, width, 9)[-1])


@pytest.mark.parametrize("k", [1, 2, 42, 102])
def test_bars_of_f1_are_sorted_and_their_names_never_overlap(k: int) -> None:
    f1 = np.random.default_rng(k).random(k)
    names = metrics(k)["classes"]
    figure = laid_out(per_class_f1_figure(names, f1.tolist()))
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == sorted(f1)
    assert [label.get_text() for label in axes.get_yticklabels()] == [" ".join(names[i].split()) for i in np.argsort(f1)]
    rows = boxes(axes.get_yticklabels())
    assert all(upper.y0 >= lower.y1 - 0.5 for upper, lower in pairwise(rows))
    for box in [*rows, *boxes(axes.texts), *boxes(figure.texts), *boxes(axes.get_xticklabels())]:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
    assert axes.patches[0].get_window_extent().y0 >= axes.patches[-1].get_window_extent().y0  # the weakest on top
    assert axes.lines[0].get_xdata()[0] == pytest.approx(f1.mean())


def test_a_class_without_images_has_no_bar_and_no_part_in_the_mean() -> None:
    (axes,) = per_class_f1_figure(["none", "weak", "good"], [float("nan"), 0.2, 0.6]).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["weak", "good", "none"]
    assert [text.get_text() for text in axes.texts] == ["20.0", "60.0", "no images"]
    assert axes.lines[0].get_xdata()[0] == pytest.approx(0.4)
    assert not per_class_f1_figure(["a"], [float("nan")]).axes[0].lines


def test_of_very_many_classes_the_weakest_are_drawn() -> None:
    f1 = np.linspace(1, 0, 1000)
    figure = per_class_f1_figure([str(k) for k in range(1000)], f1.tolist())
    assert [bar.get_width() for bar in figure.axes[0].patches] == sorted(f1)[: figures.MOST_BARS]
    assert "the 200 weakest of 1,000 classes" in figure.texts[-1].get_text()
    assert figure.axes[0].lines[0].get_xdata()[0] == pytest.approx(0.5)


def test_f1_of_other_classes_is_refused() -> None:
    for names, f1 in ((["a"], [0.1, 0.2]), ([], [])):
        with pytest.raises(ValueError, match="one F1 a class"):
            per_class_f1_figure(names, f1)


@pytest.mark.parametrize(("count", "side"), [(1, 28), (8, 28), (11, 128), (32, 224), (3, 300)])
def test_a_sheet_shows_every_pixel_of_every_picture(count: int, side: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    names = [f"class {k}" * (1 + k % 9) for k in range(count)]
    figure = laid_out(sheet_figure(images, names))
    sheet = pixels(figure)
    times = max(1, round(figures.TILE / side))
    tile = side * times
    for k, image in enumerate(images):
        left, top = 10 + k % 8 * (tile + 10), 10 + k // 8 * (tile + 26 + 10)
        shown = sheet[top : top + tile, left : left + tile]
        assert np.array_equal(shown, image.repeat(times, axis=0).repeat(times, axis=1)), k
    labels = boxes(figure.texts)
    assert len(labels) == count
    assert all(box.width <= tile + 1 for box in labels)
    assert all(figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 for box in labels)
