"""What a run was given and what was settled, what happened to it, and how to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from sightline.files import quoted
from sightline.reporting.facts import RunFacts, SettingRow
from sightline.reporting.html import Content, Html, join, tag
from sightline.reporting.ledger import budget_moved, by_budget, ledger_table
from sightline.reporting.page import Section, coded, more, scrolling
from sightline.reporting.words import NONE, count


def settings_section(facts: RunFacts) -> Section:
    """What was given, what was settled, and what happened."""
    planned = by_budget(facts.events)
    given = [row for row in facts.settings if row.given]
    chosen = [row for row in facts.settings if row.name in planned and not row.given]
    rest = [row for row in facts.settings if row not in given and row not in chosen]
    body = [
        _settings("Given", given),
        _settings("Chosen by the budget", chosen),
        None if given or chosen else tag("p", "Every setting was left as it is by default."),
        more(f"All other settings, as they were settled ({len(rest)})", _settings_table(rest)) if rest else None,
        tag("h3", "What happened"),
        ledger_table(facts.events),
    ]
    return Section("settings", "Settings and ledger", join(body), "Settings")


def _settings(title: str, rows: Sequence[SettingRow]) -> Content:
    return [tag("h3", title), _settings_table(rows)] if rows else None


def _settings_table(rows: Sequence[SettingRow]) -> Html:
    head = tag("tr", [tag("th", text, scope="col") for text in ("Setting", "Value", "What it is")])
    body = [
        tag(
            "tr",
            tag("th", tag("code", row.name), scope="row"),
            tag("td", tag("code", row.value)),
            tag("td", coded(row.meaning), class_="note"),
        )
        for row in rows
    ]
    return scrolling("Settings", tag("table", tag("thead", head), tag("tbody", body), class_="stacked"))


def reproduce_section(facts: RunFacts, lacking: Content = None) -> Section:
    """What it takes to have this run again; and what could be added to the report."""
    environment = facts.environment or {}
    seeds = {row.name: row.value for row in facts.settings if row.name in ("train.seed", "split.seed")}
    device = environment.get("device") or {}
    items: list[tuple[str, Content]] = [
        ("The command it was", tag("code", _command(environment.get("command")))),
        ("Seeds", ", ".join(f"{name}={value}" for name, value in seeds.items())),
        ("Device", _device(device, environment)),
        ("Versions", ", ".join(f"{name} {version}" for name, version in _versions(environment).items())),
        ("Git commit", environment.get("git")),
        ("Digest of the weights", tag("code", (facts.card or {}).get("digest")) if facts.card else None),
        ("Run folder", tag("code", facts.place)),
    ]
    listed = [[tag("dt", name), tag("dd", value)] for name, value in items if value]
    again = f"sightline train {quoted(facts.source)} -c {quoted(facts.place + '/config.yaml')}"
    told = _MOVED if budget_moved(facts.events) else _SAME
    return Section(
        "reproduce",
        "Reproduce this",
        join([tag("pre", tag("code", again)), tag("p", told), tag("dl", listed, class_="facts"), lacking]),
        "Reproduce",
    )


_SAME = "The same settings, seed, images, machine and number of threads give the same weights, bit for bit; others differ by rounding."
_MOVED = (
    "This repeats the settings that the run ended with, not its weights: to keep to the budget, the last epoch, and with it the learning "
    "rate's schedule, was moved by the clock while the run trained."
)


def _command(command: Sequence[str] | None) -> str:
    if not command:
        return NONE
    name = "sightline" if "sightline" in command[0] else command[0]
    return shlex.join([name, *command[1:]])


def _device(device: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    if not device:
        return ""
    what = environment.get("gpu") or environment.get("processor") or ""
    threads = count(int(device.get("threads") or 1), "thread")
    return "; ".join(filter(None, [f"{device.get('name')}, {device.get('precision')}, {threads}", what, environment.get("platform")]))


def _versions(environment: Mapping[str, Any]) -> dict[str, Any]:
    packages = {name: version for name, version in (environment.get("packages") or {}).items() if version}
    return ({"Python": environment["python"]} if environment.get("python") else {}) | packages
