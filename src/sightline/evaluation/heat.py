"""Heat maps on pictures: where a network looked, laid over what it saw.

    shown = overlay(picture, heat)                       (H, W, 3) uint8
    strip = side_by_side([picture, shown, other])        the picture beside its heat maps
    heat_sheet_picture(entries, "explain.png")           a sheet of many, with captions

The photo is greyed and dimmed under the heat, so that colour means heat alone. Each map is scaled by its own hottest
place: two pictures' colours cannot be compared, and the edge of a map is as coarse as its grid.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

from sightline.evaluation.drawing import BLUE, DPI, GREY, INK, ORANGE, PEN, Pen, save

Picture = npt.NDArray[np.uint8]
Heat = npt.NDArray[np.float32]

GAP = 4  # pixels between panels
_COLOURS = colormaps["inferno"]


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One picture of a sheet: what stands side by side, what each panel is, and whether the answer was right."""

    strip: Picture
    panels: tuple[str, ...]
    caption: str
    right: bool


def overlay(picture: Picture, heat: Heat) -> Picture:
    """The picture with its heat: the hotter, the brighter; a map without any heat leaves the dimmed photo.

    Args:
        picture: (H, W, 3).
        heat: (h, w), 0 and more.
    """
    warm = _enlarged(heat, picture.shape[0], picture.shape[1])[..., None]
    grey = picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    dimmed = 0.62 * (0.75 * grey[..., None] + 0.25 * picture)
    # The ground of inferno is black: what is cold would only get darker, so the photo shows through there.
    colour = 255 * _COLOURS(0.18 + 0.8 * warm[..., 0])[..., :3]
    share = 0.78 * np.sqrt(warm)
    lit = 0.55 * picture + 0.45 * colour  # where it is hottest the photo's own detail stays visible
    shown: Picture = ((1 - share) * dimmed + share * (0.5 * colour + 0.5 * lit)).clip(0, 255).astype(np.uint8)
    return shown


def _enlarged(heat: Heat, height: int, width: int) -> Heat:
    """(H, W) in 0..1, the hottest place 1; all 0 where nothing is hot or a value is no number."""
    top = float(heat.max(initial=0))
    if not np.isfinite(top) or top <= 0:
        return np.zeros((height, width), dtype=np.float32)
    large = Image.fromarray((heat / top).astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(large, dtype=np.float32).clip(0, 1)


def side_by_side(panels: Sequence[Picture]) -> Picture:
    """Panels of one size in a row, with a white gap."""
    gap = np.full((panels[0].shape[0], GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([part for panel in panels for part in (gap, panel)][1:], axis=1)


# ---- a sheet of many -------------------------------------------------------------------------------------------------

_MARGIN, _BETWEEN, _LINE, _HEAD = 30, 26, 19, 44  # pixels
_SHEET = 1284  # three pictures with one map a row, or two with two


def heat_sheet_picture(entries: Sequence[Entry], path: str | os.PathLike[str], title: str = "") -> None:
    """Writes the sheet as a PNG file: wrong ones first, then right ones, each under a heading of its own."""
    save(heat_sheet_figure(entries, title), path)


def heat_sheet_figure(entries: Sequence[Entry], title: str = "") -> Figure:
    """The figure of `heat_sheet_picture`; at least one entry."""
    parts = [("Wrong, the surest mistakes first", ORANGE, [e for e in entries if not e.right])]
    parts += [("Right", BLUE, [e for e in entries if e.right])]
    placed: list[tuple[int, int, Entry]] = []
    heads: list[tuple[int, str, str]] = []
    y = _MARGIN + 70
    for words, colour, group in parts:
        if group:
            heads.append((y, f"{words}: {len(group):,}", colour))
            y = _place(group, y + _HEAD, placed)
    figure = Figure((_SHEET / DPI, (y + _MARGIN) / DPI), dpi=DPI)
    pen = Pen.for_texts([title, *(text for entry in entries for text in (entry.caption, *entry.panels))])
    _write(figure, _MARGIN, _MARGIN, title or "Where the network looked", 11, INK, pen)
    _write(figure, _MARGIN, _MARGIN + 32, "The brighter, the more a place spoke for the class named above the panel.", 7.5, GREY, PEN)
    for top, words, colour in heads:
        _write(figure, _MARGIN, top + 8, words, 9, colour, PEN)
    for left, top, entry in placed:
        _draw_entry(figure, left, top, entry, pen)
    return figure


def _place(group: Sequence[Entry], y: int, placed: list[tuple[int, int, Entry]]) -> int:
    """Rows from left to right; where the next row begins."""
    x, tallest = _MARGIN, 0
    for entry in group:
        height, width = entry.strip.shape[:2]
        if x > _MARGIN and x + width > _SHEET - _MARGIN:
            x, y, tallest = _MARGIN, y + tallest, 0
        placed.append((x, y, entry))
        x, tallest = x + width + _BETWEEN, max(tallest, height + 2 * _LINE + _BETWEEN)
    return y + tallest


def _draw_entry(figure: Figure, left: int, top: int, entry: Entry, pen: Pen) -> None:
    height, width = entry.strip.shape[:2]
    figure.figimage(entry.strip, left, round(figure.get_size_inches()[1] * DPI) - top - _LINE - height)
    step = (width + GAP) / len(entry.panels)
    for i, words in enumerate(entry.panels):
        _write(figure, left + i * step, top, pen.cut(words, (step - GAP) / DPI, 6.5), 6.5, GREY, pen)
    _write(figure, left, top + _LINE + height + 3, pen.cut(entry.caption, width / DPI, 7), 7, BLUE if entry.right else ORANGE, pen)


def _write(figure: Figure, x: float, y: float, text: str, size: float, colour: str, pen: Pen) -> None:
    """Text by its upper left corner, in pixels from the figure's."""
    width, height = figure.get_size_inches() * DPI
    figure.text(x / width, 1 - y / height, text, va="top", **pen.style(size, colour))
