"""An audit in words for a terminal: what was found in the folder, a check a row, and what can be said of its classes.

    print(summary(record, width=100))

Everything is read from the content of audit.json, so the table, the file and the page never differ.
"""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console
from rich.table import Table

from sightline.auditing.balance import ALL, JUDGED, TRAINED
from sightline.auditing.finding import count_of, listing, percent

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
    refused = sum(record["quarantined"].values())
    parts = ", ".join(f"{n:,} {name}" for name, n in record["parts"].items() if n)
    used = f"{record['used']:,} used" + (f" ({parts})" if parts else "")
    lines = [f"{record['folder']}", f"{count_of(record['found'], 'image')}: {used}, {refused:,} quarantined."]
    lines += [f"  quarantined: {n:,} {reason}" for reason, n in list(record["quarantined"].items())[:5]]
    rest = list(record["quarantined"].values())[5:]
    lines += [f"  quarantined: {sum(rest):,} for other reasons"] if rest else []
    left_out = record["left_out"]
    return lines + (["Left out: " + ", ".join(f"{n:,} {reason}" for reason, n in left_out.items()) + "."] if left_out else [])


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
    sizes = [one["images"] for one in classes]
    lines = [f"{count_of(len(classes), 'class', 'classes')} of {min(sizes):,} to {max(sizes):,} images."]
    for kind, words in _KINDS.items():
        some = [one for one in classes if one["evaluable"] == kind]
        if some:
            names = f": {listing([one['name'] for one in some])}" if kind != ALL else ""
            counted = f"{count_of(len(some), 'class', 'classes')}, {count_of(sum(one['images'] for one in some), 'image')}"
            lines.append(f"  {words}: {counted}{names}" if len(some) < len(classes) else f"  {words}: every class")
    return lines


def _channels(record: dict[str, Any]) -> list[str]:
    mean, std = (" ".join(f"{value:.3f}" for value in record[name]) for name in ("mean", "std"))
    return [f"Red, green, blue: mean {mean}, standard deviation {std} (of 1)."] if record["used"] else []


def _wrapped(line: str, width: int) -> str:
    from textwrap import wrap

    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return "\n".join(wrap(line, width, subsequent_indent=indent, break_long_words=False, drop_whitespace=True)) if line else ""
