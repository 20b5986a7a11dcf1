"""What the report says of a run's settings and its ledger: sentences a person reads, and no promise that a budget broke."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any

from sightline.reporting.facts import RunFacts, SettingRow
from sightline.reporting.ledger import budget_moved, by_budget, ledger_table
from sightline.reporting.settled import reproduce_section, settings_section

PLANNED = {
    "event": "budget",
    "time": "2026-11-28T22:49:59+0000",
    "seconds": 60.0,
    "values": {"data.size": 72, "train.epochs": 15, "train.images_per_epoch": None},
    "costs": [
        {"size": 96, "shown": 3021, "first": 0.0007, "train": 0.00107, "judge": 0.000578, "batch": 64},
        {"size": 72, "shown": 3021, "first": 0.0007, "train": 0.00073, "judge": 0.000402, "batch": 64},
    ],
}
MOVED = {"event": "budget", "time": "2026-11-28T22:50:03+0000", "values": {"train.epochs": 8}}
SETTINGS = [SettingRow(name, value, "", False) for name, value in (("data.size", "72"), ("train.epochs", "8"), ("train.seed", "0"))]


def text_of(html: str) -> str:
    return " ".join(unescape(re.sub(r"<.*?>", " ", html)).split())


def test_a_budget_is_told_in_a_sentence() -> None:
    said = text_of(ledger_table([PLANNED, MOVED]))
    assert "For 1 min 0 s in all: 15 epochs of all images at 72 px." in said
    assert "at 96 px 930 to learn from and 1,700 to judge; at 72 px 1,400 to learn from" in said
    assert "The clock moved the last epoch to 8" in said
    limited = PLANNED | {"values": {"data.size": 72, "train.epochs": 4, "train.images_per_epoch": 64}}
    assert "4 epochs of 64 images at 72 px" in text_of(ledger_table([limited]))


def test_no_event_shows_what_python_calls_its_values() -> None:
    events: list[dict[str, Any]] = [
        {"event": "started", "folder": "/photos", "given": {"train.report": False, "data.size": 48}, "transform": None},
        {"event": "resumed", "changed": {"model.dropout": None}, "epoch": 4, "given": {"data.corrections": None}, "images": []},
        {"event": "interrupted", "epoch": 1, "step": 35},
        {"event": "budget", "values": "of another version"},
        {"event": "new", "what": [1.5, None]},
    ]
    said = text_of(ledger_table(events))
    assert "Images of /photos; given: train.report=false, data.size=48." in said
    assert "Went on in epoch 4, with model.dropout=null." in said
    assert "Stopped in epoch 1, after 35 steps of it." in said
    assert "what: 1.5, null" in said
    assert "None" not in said
    assert "False" not in said


def test_what_a_budget_chose_is_said_to_be_its_choice(make_facts: Callable[..., RunFacts]) -> None:
    assert by_budget([PLANNED, MOVED]) == {"data.size", "train.epochs"}
    said = text_of(settings_section(make_facts(("cat", "dog"), settings=SETTINGS, events=[PLANNED])).body)
    assert "left as it is by default" not in said
    assert said.index("Chosen by the budget") < said.index("data.size") < said.index("All other settings") < said.index("train.seed")
    said = text_of(settings_section(make_facts(("cat", "dog"), settings=SETTINGS, events=[])).body)
    assert "left as it is by default" in said


def test_the_same_weights_are_promised_only_where_no_clock_moved_the_schedule(make_facts: Callable[..., RunFacts]) -> None:
    assert not budget_moved([PLANNED])
    assert "bit for bit" in text_of(reproduce_section(make_facts(("cat", "dog"), events=[PLANNED])).body)
    said = text_of(reproduce_section(make_facts(("cat", "dog"), events=[PLANNED, MOVED])).body)
    assert "bit for bit" not in said
    assert "repeats the settings that the run ended with, not its weights" in said
