"""An audit in words for a terminal: what was found in the folder, a check a row, and what can be said of its classes.

    print(summary(record, width=100))

Everything is read from the content of audit.json, so the table, the file and the page never differ.
"""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console
from rich.table import Table

from sightline.auditing.balance import ALL, JUDGED, TRAINED, UNBALANCED, spread, unbalanced
from sightline.auditing.finding import count_of, listing, percent
from sightline.data.groups import twins_sentence

_KINDS = {
    ALL: "learned, chosen with and judged",
    JUDGED: "learned and judged, without a voice in choosing the epoch",
    TRAINED: "learned, but never judged",
}


def summary(record: dict[str, Any], width: int = 100) -> str:
    """Some lines of counts, the table of findings, what was looked for and not found, and the classes.

    Args:
        record: the content of audit.json.
        width: of the lines, in cells.
    """
    found = [one for one in record["findings"] if one["count"]]
    silent = [one["title"] for one in record["findings"] if not one["count"]]
    parts = [*_counts(record), ""]
    parts += [*_table(found, width), ""] if found else []
    parts += [_wrapped(f"Looked for and not found: {', '.join(silent)}.", width)] if silent else []
    parts += [_wrapped(line, width) for line in (*_classes(record), *_channels(record), *record["notes"])]
    return "\n".join(parts)


def _counts(record: dict[str, Any]) -> list[str]:
    """What was found, and what became of it; the numbers add up."""
    refused, left_out = (sum(record[name].values()) for name in ("quarantined", "left_out"))
    parts = ", ".join(f"{n:,} {name}" for name, n in record["parts"].items() if n)
    used = f"{record['used']:,} used" + (f" ({parts})" if parts else "")
    also = f", {left_out:,} left out" if left_out else ""
    lines = [f"{record['folder']}", f"{count_of(record['found'], 'image')}: {used}, {refused:,} quarantined{also}."]
    lines += [*_reasons("quarantined", record["quarantined"]), *_reasons("left out", record["left_out"])]
    passed = ", ".join(f"{n:,} {reason}" for reason, n in record["passed_over"].items())
    lines += [f"Passed over, as no images to learn from: {passed}."] if passed else []
    twins = record["twins"]
    return lines + ([f"{twins_sentence(twins['images'], twins['groups'])}."] if twins["images"] else [])


def _reasons(word: str, reasons: dict[str, int]) -> list[str]:
    """The five most frequent reasons, and the rest in one line."""
    lines = [f"  {word}: {n:,} {reason}" for reason, n in list(reasons.items())[:5]]
    rest = list(reasons.values())[5:]
    return lines + ([f"  {word}: {sum(rest):,} for other reasons"] if rest else [])


def _table(found: list[dict[str, Any]], width: int) -> list[str]:
    """A row a finding: level, what, how many, their share, and the worst example above what was found and what to do."""
    table = Table(box=None, pad_edge=False, header_style="")
    for heading, side in (("level", "left"), ("what", "left"), ("images", "right"), ("share", "right")):
        table.add_column(heading, justify=side, no_wrap=heading != "what", max_width=18 if heading == "what" else None)  # type: ignore[arg-type]
    table.add_column("worst example, what was found, what to do", overflow="fold")
    for one in found:
        share = percent(one["count"] / max(1, one["of"]))
        table.add_row(one["level"], one["title"], f"{one['count']:,}", share, f"{_example(one)}\n{one['sentence']}")
    out = io.StringIO()
    Console(file=out, width=width, markup=False, highlight=False, emoji=False).print(table)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def _example(finding: dict[str, Any]) -> str:
    worst = finding["images"][0]
    beside = f" = {worst['with']}" if worst["with"] else ""
    return f"{worst['path']}{beside}" + (f": {worst['why']}" if worst["why"] else "")


def _classes(record: dict[str, Any]) -> list[str]:
    """How many classes there are, and what can be evaluated; the numbers add up."""
    classes = record["classes"]
    if not classes:
        return []
    lines = [f"{count_of(len(classes), 'class', 'classes')} {spread(classes)}."]
    for kind, words in _KINDS.items():
        some = [one for one in classes if one["evaluable"] == kind]
        if some:
            names = f": {listing([one['name'] for one in some])}" if kind != ALL else ""
            counted = f"{count_of(len(some), 'class', 'classes')}, {count_of(sum(one['images'] for one in some), 'image')}"
            lines.append(f"  {words}: {counted}{names}" if len(some) < len(classes) else f"  {words}: every class")
    return lines + ([f"  {UNBALANCED}"] if unbalanced(classes) else [])


def _channels(record: dict[str, Any]) -> list[str]:
    mean, std = (" ".join(f"{value:.3f}" for value in record[name]) for name in ("mean", "std"))
    return [f"Red, green, blue: mean {mean}, standard deviation {std} (of 1)."] if record["used"] else []


def _wrapped(line: str, width: int) -> str:
    from textwrap import wrap

    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return "\n".join(wrap(line, width, subsequent_indent=indent, break_long_words=False, drop_whitespace=True)) if line else ""
