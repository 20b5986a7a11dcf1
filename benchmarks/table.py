"""The JSON that a measure prints, as a Markdown section for RESULTS.md: title, machine, command, table, versions.

python -m benchmarks pipeline FOLDER --json pipeline.json --markdown pipeline.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def as_markdown(found: Mapping[str, Any]) -> str:
    """The rows of `found["table"]` with a line above and below; other plain figures in a list."""
    machine = found["machine"]
    where = [f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB", machine["gpu"] or "no GPU"]
    lines = [f"## {machine['date']}, {found['measure']}", f"{', '.join(where)}; load before {machine['load_before']}.", ""]
    lines += [f"    {found['command']}", ""]
    rows = found.get("table", [])
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if rows:
        lines += [_line(columns), _line(["---"] * len(columns))]
        lines += [_line([_cell(row.get(name)) for name in columns]) for row in rows] + [""]
    plain = {k: v for k, v in found.items() if k not in ("table", "machine", "versions", "command", "measure", "missing")}
    lines += [f"- {name.replace('_', ' ')}: {_cell(value)}" for name, value in plain.items()]
    lines += [f"- {sentence}" for sentence in found.get("missing", [])]
    lines += ["- " + ", ".join(f"{name} {version}" for name, version in found["versions"].items())]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mapping) and {"median", "min", "max"} <= set(value):
        return str(value["median"]) if value["min"] == value["max"] else f"{value['median']} ({value['min']} to {value['max']})"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_cell(one)}" for name, one in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(one) for one in value)
    return str(value).replace("|", "\\|")
