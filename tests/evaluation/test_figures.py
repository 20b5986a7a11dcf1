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

from sightline.evaluation import figures
from sightline.evaluation.figures import confusion_picture, curves_picture, predictions_picture

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


def history(epochs: int) -> list[dict[str, Any]]:
    return [
        {
            "epoch": e,
            "train_loss": 1 / e,
            "val_loss": 1.2 / e,
            "val_accuracy": 1 - 1 / (1 + e),
            "lr": 0.1 / e,
            "best": e < 3,
        }
        for e in range(1, epochs + 1)
    ]


def boxes(texts: list[Text]) -> list[Any]:
    return [text.get_window_extent() for text in texts if text.get_text()]


def laid_out(figure: Figure) -> Figure:
    figure.draw_without_rendering()
    return figure


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def matrix_of(figure: Figure) -> Axes:
    return figure.axes[0]


@pytest.mark.parametrize("k", [1, 2, 10, 42, 102])
def test_names_of_classes_never_overlap(k: int) -> None:
    figure = laid_out(figures._confusion_figure(metrics(k)))
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
    axes = matrix_of(laid_out(figures._confusion_figure(metrics(60))))
    rows = boxes(axes.get_yticklabels())
    assert 15 <= len(rows) <= 30
    assert all(upper.y0 >= lower.y1 - 0.5 for upper, lower in pairwise(rows))
    assert len([text for text in axes.texts if text.get_ha() == "right"]) == len(rows)


@pytest.mark.parametrize(("k", "most"), [(10, 9), (42, 250), (102, 50_000)])
def test_counts_stand_inside_their_cells_and_not_where_nothing_is(k: int, most: int) -> None:
    drawn = metrics(k, most=most)
    axes = matrix_of(laid_out(figures._confusion_figure(drawn)))
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
    figure = laid_out(figures._confusion_figure(drawn))
    confusion_picture(drawn, tmp_path / "c.png")
    image, box = pixels(tmp_path / "c.png"), matrix_of(figure).bbox

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
        box = matrix_of(figures._confusion_figure(metrics(k, names=[str(c) for c in range(k)]))).bbox
        sides[k] = box.width / k
        assert sides[k] == pytest.approx(round(sides[k]), abs=1e-6)
        assert box.width == pytest.approx(box.height)
        assert box.width <= figures.LARGEST * figures.DPI
    assert list(sides.values()) == sorted(sides.values(), reverse=True)


def test_a_picture_for_any_name_without_a_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        confusion_picture(metrics(len(STRANGE), names=STRANGE, empty=0), tmp_path / "c.png")
        for name in STRANGE:
            predictions_picture(np.zeros((4, 4, 3), np.uint8), [name], [1.0], tmp_path / "p.png", title=name)
    assert pixels(tmp_path / "c.png").std() > 0


def test_names_that_no_font_can_draw_still_differ() -> None:
    pen = figures._Pen(("DejaVu Sans",), frozenset(map(ord, "abc 0123456789:·…")))
    assert pen.names(["abc", "狐", "猫"]) == ["abc", "2: ·", "3: ·"]


def test_another_font_is_taken_for_the_characters_that_the_first_lacks() -> None:
    """matplotlib brings STIX along, which has the double-struck letters that DejaVu lacks in some versions."""
    wanted = set(range(0x1D6A4, 0x1D7CB)) | set(range(0xE000, 0xE0FF))
    first = figures._characters(figures.font_manager.findfont("DejaVu Sans"))
    pen = figures._Pen.for_texts([chr(c) for c in wanted])
    assert (len(pen.families) > 1) == bool((wanted & pen.drawable) - first)
    assert not any(family.startswith("Last Resort") for family in pen.families)


@pytest.mark.parametrize("epochs", [1, 2, 40])
def test_curves_show_every_epoch_and_the_best(tmp_path: Path, epochs: int) -> None:
    figure = laid_out(figures._curves_figure(history(epochs)))
    loss, score, rate = figure.axes
    assert [len(axes.lines) for axes in figure.axes] == [3, 2, 2]  # one of them marks the best epoch
    assert loss.lines[0].get_ydata().tolist() == [1 / e for e in range(1, epochs + 1)]
    assert score.lines[0].get_ydata()[0] == 50  # percent
    assert all(list(axes.lines[-1].get_xdata()) == [min(2, epochs)] * 2 for axes in figure.axes)
    assert loss.get_xlim() == score.get_xlim() == rate.get_xlim()
    assert rate.get_yscale() == ("log" if epochs == 40 else "linear")
    assert all(float(text.get_text()).is_integer() for text in rate.get_xticklabels())
    curves_picture(history(epochs), tmp_path / "h.png")
    assert pixels(tmp_path / "h.png").std() > 0


def test_curves_survive_gaps_and_text() -> None:
    rows = [{key: str(value) for key, value in row.items()} for row in history(5)]
    rows[1] |= {"train_loss": "", "val_loss": "nan", "best": "False"}
    del rows[2]["val_accuracy"]
    figure = figures._curves_figure([*rows, {"epoch": 6, "train_loss": None}])
    assert np.isnan(figure.axes[0].lines[0].get_ydata()).tolist() == [False, True, False, False, False, True]
    assert list(figure.axes[0].lines[-1].get_xdata()) == [1, 1]


def test_a_panel_without_numbers_is_left_out() -> None:
    figure = laid_out(figures._curves_figure([{"epoch": 1, "train_loss": 0.5, "val_loss": None, "lr": float("nan")}]))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss"]
    with pytest.raises(ValueError, match="no epoch"):
        figures._curves_figure([])


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
