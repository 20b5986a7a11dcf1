"""How numbers are written on a page: shares in percent with one decimal, thousands with a comma, intervals as "a to b"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

NONE = "–"
SPACE = "\N{NO-BREAK SPACE}"


def percent(value: float | None) -> str:
    """74.1 %"""
    return NONE if value is None else f"{100 * value:.1f}{SPACE}%"


def decimal(value: float | None) -> str:
    """0.688"""
    return NONE if value is None else f"{value:.3f}"


def share_ends(figure: Mapping[str, float | None]) -> str:
    """70.6 to 77.3, or nothing where there is no interval."""
    low, high = figure["low"], figure["high"]
    return "" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"


def decimal_ends(figure: Mapping[str, float | None]) -> str:
    """0.621 to 0.758, or nothing."""
    low, high = figure["low"], figure["high"]
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def share(figure: Mapping[str, float | None]) -> str:
    """74.1 % (70.6 to 77.3)"""
    ends = share_ends(figure)
    return percent(figure["value"]) + (f" ({ends})" if ends else "")


def count(n: int, noun: str, nouns: str | None = None) -> str:
    """1 image, 2 images, 3 classes"""
    plural = nouns or noun + ("es" if noun.endswith("s") else "s")
    return f"{n:,} {noun if n == 1 else plural}"


def listing(names: Sequence[str], most: int = 8) -> str:
    """a, b, c and 4 more"""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def part_name(part: str) -> str:
    """What the images of a part of the split are called: test, validation, training; the name of a folder as it is."""
    return {"val": "validation", "train": "training", "folds": "out-of-fold"}.get(part, part)


def duration(seconds: float) -> str:
    """14 min 20 s"""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def moment(stamp: str) -> str:
    """22 November 2026, 04:04, of a ledger's time stamp; anything else as it is."""
    try:
        time = datetime.fromisoformat(stamp)
    except (TypeError, ValueError):
        return str(stamp)
    return f"{time.day} {time:%B %Y, %H:%M}"
