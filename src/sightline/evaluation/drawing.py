"""What all pictures share: colours, sizes, the pen that writes names in any script, axes placed in inches.

    pen = Pen.for_texts(names)
    figure = Figure((7, 4), dpi=DPI)
    axes = axes_at(figure, left=0.8, bottom=0.5, width=6, height=3)
    axes.set_title("loss", **pen.style(9))
    save(figure, "loss.png")            or pixels(figure), (H, W, 3) uint8

Nothing here touches matplotlib's global state. Names are drawn in any script for which a font is installed; else the
missing characters become dots, and the number of the class goes before them.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"  # Okabe and Ito (2008): apart for every common colour blindness
INK, GREY, LINE = "#222222", "#777777", "#e2e2e2"
DPI = 150
LONGEST = 40  # characters of a name
_FONT = "DejaVu Sans"  # comes with matplotlib


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes a figure as a PNG file."""
    figure.savefig(Path(path), format="png")


def pixels(figure: Figure) -> np.ndarray:
    """(H, W, 3) uint8: a figure as it would be saved."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches, so that sizes of text and of cells stay in a known proportion."""
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, bottom / h, width / w, height / h))


@dataclass(frozen=True, slots=True)
class Pen:
    """Writes names in the fonts that have their characters; `families` in the order in which they are tried."""

    families: tuple[str, ...]
    drawable: frozenset[int]

    @classmethod
    def for_texts(cls, texts: Iterable[str]) -> Pen:
        wanted = {ord(character) for text in texts for character in text}
        families, drawable = [_FONT], set(_characters(font_manager.findfont(_FONT)))
        # "Last Resort" has a box for everything, which is what is to be avoided.
        others = (font for font in font_manager.fontManager.ttflist if not font.name.startswith("Last Resort"))
        for font in others:
            if wanted <= drawable:
                break
            found = _characters(font.fname)
            if (wanted - drawable) & found:
                families.append(font.name)
                drawable |= found
        return cls(tuple(families), frozenset(drawable))

    def drawn(self, text: str) -> str:
        """The text on one line; characters that no font has become dots."""
        return "".join(letter if ord(letter) in self.drawable else "·" for letter in " ".join(text.split()))

    def clean(self, text: str) -> str:
        """As `drawn`, and not longer than LONGEST."""
        line = self.drawn(text)
        return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"

    def names(self, names: Sequence[str]) -> list[str]:
        """Names to tell classes apart by: a name that lost characters gets the number of its class, from 1."""
        whole = [all(ord(character) in self.drawable for character in "".join(name.split())) for name in names]
        pairs = enumerate(zip(names, whole, strict=True), 1)
        return [self.clean(name) if intact else self.clean(f"{k}: {name}") for k, (name, intact) in pairs]

    def style(self, size: float, color: str = INK) -> dict[str, Any]:
        """For every text that is drawn; a name may hold a $, which must not begin a formula."""
        return {"family": list(self.families), "size": size, "color": color, "parse_math": False}

    def widest(self, texts: Iterable[str], size: float) -> float:
        """The width of the widest text, in inches."""
        figure = Figure((1, 1), dpi=DPI)
        FigureCanvasAgg(figure)
        drawn = (figure.text(0, 0, text, **self.style(size)) for text in texts)
        return max(float(text.get_window_extent().width) for text in drawn) / DPI

    def fitted(self, text: str, width: float, size: float) -> str:
        """One line, its middle left out where it is wider than `width` inches: the end of a path tells most."""
        line = self.drawn(text)
        shorter = [f"{line[: keep // 3]}…{line[keep // 3 - keep :]}" for keep in range(1, len(line))]
        return self._longest([*shorter, line], width, size)

    def cut(self, text: str, width: float, size: float) -> str:
        """One line, its end left out where it is wider than `width` inches."""
        line = self.drawn(text)
        return self._longest([*(f"{line[:keep]}…" for keep in range(1, len(line))), line], width, size)

    def _longest(self, texts: list[str], width: float, size: float) -> str:
        """The last of ever longer texts that fits; the first where none does."""
        if self.widest(texts[-1:], size) <= width:
            return texts[-1]
        fitting = bisect_right(texts, width, key=lambda text: self.widest([text], size))
        return texts[max(0, fitting - 1)]


@lru_cache(maxsize=1024)
def _characters(font: str) -> frozenset[int]:
    try:
        opened = font_manager.get_font(font)
        return frozenset(opened.get_charmap()) if opened.scalable else frozenset()
    except (OSError, RuntimeError):  # a font that cannot be read is one that is not there
        return frozenset()


PEN = Pen.for_texts(())  # for our own words
