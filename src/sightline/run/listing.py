"""What can be chosen: the networks and the settings, as lists and as tables for a terminal.

networks("resnet18"), list_settings("augment")
"""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from sightline.config import allowed, describe, show
from sightline.errors import SettingsError


def networks(pattern: str) -> list[dict[str, Any]]:
    """The networks whose name fits, ours first; raises SettingsError where none does."""
    from sightline.models.catalog import list_models

    found = [asdict(info) for info in list_models(pattern)]
    if not found:
        raise SettingsError(f"No network has '{pattern}' in its name; `sightline models` lists all.")
    return found


def models_table(found: list[dict[str, Any]]) -> str:
    """Name, parameters, input size and a word about each."""
    table = _table("network", ">parameters", ">input", "")
    for info in found:
        million = "" if info["parameters"] is None else f"{info['parameters'] / 1e6:.1f} M"
        table.add_row(info["name"], million, "any" if info["size"] is None else str(info["size"]), info["about"])
    return _text(table)


def list_settings(pattern: str) -> list[dict[str, Any]]:
    """The settings with the pattern in their name; raises SettingsError where there are none."""
    found = [
        {"name": path, "default": info.default, "may_be": allowed(path), "about": info.description}
        for path, info in describe().items()
        if pattern in path
    ]
    if not found:
        raise SettingsError(f"No setting has '{pattern}' in its name; `sightline settings` lists all.")
    return found


def settings_table(found: list[dict[str, Any]]) -> str:
    """Name, default, allowed values and meaning of each."""
    table = _table("setting", "default", "may be", "what it is")
    for one in found:
        table.add_row(one["name"], show(one["default"]), one["may_be"], one["about"])
    return _text(table)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="")
    for heading in headings:
        table.add_column(heading.removeprefix(">"), justify="right" if heading.startswith(">") else "left", overflow="fold")
    return table


def _text(table: Table) -> str:
    """As plain text, as wide as the terminal, or 120 characters where there is none."""
    out = io.StringIO()
    terminal = Console()
    console = Console(file=out, width=terminal.width if terminal.is_terminal else 120, markup=False, highlight=False)
    console.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())
