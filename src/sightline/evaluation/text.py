"""The figures of `metrics.json` in words: some lines for the end of a command, and a full table for `report.txt`.

    print(summary(metrics))
    Path("report.txt").write_text(classification_report(metrics), encoding="utf-8")

Shares are in percent with one decimal, 95 % intervals follow in brackets. Columns line up for any script a terminal
shows in one or two cells a character; emoji joined from several characters may be off by a cell.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

NAME_WIDTH = 48  # longer names of classes are cut, in cells
_LISTED = 6  # how many names a sentence spells out


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


_FIGURES: dict[str, tuple[str, Callable[[float | None], str], str]] = {
    "accuracy": ("accuracy", _percent, " %"),
    "balanced_accuracy": ("balanced accuracy", _percent, " %"),
    "macro_precision": ("macro precision", _percent, " %"),
    "macro_recall": ("macro recall", _percent, " %"),
    "macro_f1": ("macro F1", _percent, " %"),
    "weighted_f1": ("weighted F1", _percent, " %"),
    "top5_accuracy": ("top-5 accuracy", _percent, " %"),
    "log_loss": ("log loss", _decimal, "  "),
    "brier": ("Brier score", _decimal, "  "),
    "ece": ("calibration error", _percent, " %"),
    "ece_uncalibrated": ("the same, uncalibrated", _percent, " %"),
}
_HEADLINE = {"accuracy": "accuracy", "macro_f1": "macro F1", "ece": "calibration error"}


def summary(metrics: dict[str, Any]) -> str:
    """A few lines: the main figures, beside them those without twins, and what was not evaluated.

    Args:
        metrics: what `sightline.evaluation.metrics.evaluate` returned, or `metrics.json` as read.
    """
    lines = [_headline(metrics, f"{_count(metrics['n'], 'image')}, {_count(metrics['evaluated_classes'], 'class')}")]
    leak_free = metrics.get("leak_free")
    if leak_free:
        lines.append(_headline(leak_free, f"without twins in train, {_count(leak_free['n'], 'image')}"))
    lines += _views(metrics)
    if metrics["not_evaluated"]:
        lines.append(f"not evaluated, for want of images: {_listing(metrics['not_evaluated'])}")
    return "\n".join(lines)


def classification_report(metrics: dict[str, Any]) -> str:
    """Every class in a row, in the order of the classes, then every figure of the whole; ends with a newline.

    Args:
        metrics: what `sightline.evaluation.metrics.evaluate` returned, or `metrics.json` as read.
    """
    parts = [f"{_count(metrics['n'], 'image')}, {_count(metrics['evaluated_classes'], 'class')} evaluated."]
    parts.append("Precision, recall and F1 in percent; a range in brackets holds the true value 95 times in 100.")
    parts += _views(metrics)
    parts += ["", *_class_table(metrics["per_class"])]
    if metrics["not_evaluated"]:
        parts += ["", f"Not evaluated, as they have no images here: {', '.join(metrics['not_evaluated'])}."]
        parts.append("Means over classes are over the others.")
    parts += ["", *_figure_table(metrics)]
    return "\n".join(parts) + "\n"


def _views(metrics: dict[str, Any]) -> list[str]:
    """A sentence where the figures are those of test-time augmentation."""
    views = metrics.get("views", 1)
    return [] if views == 1 else [f"Test-time augmentation: each answer is the mean of {views} views of its image."]


def _class_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    table = [["class", "images", "precision", "recall", "F1"]]
    for row in rows:
        figures = [_with_ends(row[name], _percent) for name in ("precision", "recall", "f1")]
        table.append([_cut(row["name"]), f"{row['support']:,}", *figures])
    head, *body = _aligned(table, "<><<<")
    return [head, "-" * len(head), *body]


def _figure_table(metrics: dict[str, Any]) -> list[str]:
    leak_free = metrics.get("leak_free")
    parts = [part for part in (metrics, leak_free) if part and part["n"]]
    table = [["", "all images", f"the {leak_free['n']:,} without twins in train"][: 1 + len(parts)]] if leak_free else []
    for key, (name, form, unit) in _FIGURES.items():
        if key in metrics:
            table.append([name, *(_with_ends(part[key], form, unit) for part in parts)])
    note = ["", f"Without twins: {leak_free['note']}."] if leak_free and not leak_free["n"] else []
    return _aligned(table, "<<<") + note


def _headline(metrics: dict[str, Any], about: str) -> str:
    if not metrics["n"]:
        return f"{about}: {metrics['note']}"
    figures = (f"{name} {_with_ends(metrics[key], _percent, ' %').strip()}" for key, name in _HEADLINE.items())
    return f"{about}: {', '.join(figures)}"


def _with_ends(figure: dict[str, float | None], form: Callable[[float | None], str], unit: str = "") -> str:
    value, low, high = (form(figure[key]) for key in ("value", "low", "high"))
    return f"{value:>5}{unit}" + (f" ({low} to {high})" if figure["low"] is not None else "")


def _count(n: int, noun: str) -> str:
    ending = "" if n == 1 else "es" if noun.endswith("s") else "s"
    return f"{n:,} {noun}{ending}"


def _listing(names: Sequence[str]) -> str:
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def _aligned(table: Sequence[Sequence[str]], sides: str) -> list[str]:
    """Lines with the cells padded to the widest of their column, to the left (<) or to the right (>)."""
    widths = [max(_width(cell) for cell in column) for column in zip(*table, strict=True)]
    return ["  ".join(map(_padded, row, widths, sides)).rstrip() for row in table]


def _padded(cell: str, width: int, side: str) -> str:
    space = " " * (width - _width(cell))
    return cell + space if side == "<" else space + cell


def _width(text: str) -> int:
    """How many cells of a terminal: wide East Asian characters take two, marks and joiners none (UAX 11)."""
    return sum(_cells(character) for character in text)


def _cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _cut(name: str) -> str:
    """The name on one line, shortened where it is wider than NAME_WIDTH cells."""
    name = " ".join(name.split())
    if _width(name) <= NAME_WIDTH:
        return name
    while _width(name) > NAME_WIDTH - 1:
        name = name[:-1]
    return name + "…"
