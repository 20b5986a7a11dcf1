"""Things measured in turn, so that a slow minute of the machine hits all of them; what counts are medians and ratios."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
ROUNDS = 3


def in_turn(tasks: Mapping[str, Callable[[], T]], rounds: int) -> tuple[dict[str, list[T]], list[str]]:
    """What each task gave in each round, and a sentence about each that is not installed here."""
    found: dict[str, list[T]] = {}
    missing: dict[str, str] = {}
    for _ in range(rounds):
        for name, task in tasks.items():
            if name in missing:
                continue
            try:
                found.setdefault(name, []).append(task())
            except ModuleNotFoundError as error:
                found.pop(name, None)
                missing[name] = f"{name}: {error.name} is not installed (uv run --group bench ...)"
    return found, list(missing.values())


def spread(values: Sequence[float], digits: int = 3) -> dict[str, Any]:
    """Median, smallest and largest, to so many significant digits."""
    return {
        "median": shorter(statistics.median(values), digits),
        "min": shorter(min(values), digits),
        "max": shorter(max(values), digits),
        "n": len(values),
    }


def shorter(value: float, digits: int = 3) -> float:
    """A number to so many significant digits, but whole from 100 on."""
    return round(value) if abs(value) >= 100 else float(f"{value:.{digits}g}")
