"""What happened to a run, event by event, in sentences.

    table = ledger_table(facts.events)
    by_budget(facts.events)             names of the settings that a budget chose
    budget_moved(facts.events)          whether it moved the last epoch while the run trained

An event that has no sentence here is told by its facts, as they stand in ledger.jsonl.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sightline.reporting.html import Html, tag
from sightline.reporting.page import scrolling
from sightline.reporting.words import count, duration, moment, part_name

Event = Mapping[str, Any]

_EMPTY: tuple[Any, ...] = (None, {}, [], (), "")


def ledger_table(events: Sequence[Event]) -> Html:
    """A row an event: when, what, and what came of it."""
    rows = [
        tag(
            "tr",
            tag("td", moment(str(event.get("time", ""))), class_="ends"),
            tag("th", event.get("event"), scope="row"),
            tag("td", _sentence(event)),
        )
        for event in events
    ]
    head = tag("tr", [tag("th", text, scope="col") for text in ("When", "What", "What came of it")])
    return scrolling("Ledger", tag("table", tag("thead", head), tag("tbody", rows), class_="stacked"))


def by_budget(events: Sequence[Event]) -> frozenset[str]:
    """Names of the settings that a budget chose."""
    return frozenset(name for event in _budgets(events) for name, value in event.get("values", {}).items() if value is not None)


def budget_moved(events: Sequence[Event]) -> bool:
    """Whether a budget moved the last epoch while the run trained: such a schedule followed the clock."""
    return any("seconds" not in event for event in _budgets(events))


def _budgets(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if event.get("event") == "budget"]


# ---- sentences ---------------------------------------------------------------------------------------------------------


def _sentence(event: Event) -> str:
    kind = str(event.get("event"))
    try:
        return _SENTENCES[kind](event) if kind in _SENTENCES else _told(event)
    except (KeyError, TypeError, ValueError):  # a ledger of another version
        return _told(event)


def _started(event: Event) -> str:
    given = f"; given: {_value(event['given'])}" if event.get("given") else ""
    return f"Images of {event['folder']}{given}. {_told(event, 'folder', 'given', 'passed_over')}".strip()


def _resumed(event: Event) -> str:
    """Without `given`: those are all the settings again, which have tables of their own."""
    changed = f", with {_value(event['changed'])}" if event.get("changed") else ""
    return f"Went on in epoch {event['epoch']}{changed}. {_told(event, 'changed', 'epoch', 'given')}".strip()


def _interrupted(event: Event) -> str:
    return f"Stopped in epoch {event['epoch']}, after {count(event['step'], 'step')} of it."


def _budget(event: Event) -> str:
    values = event["values"]
    if "seconds" not in event:
        return f"The clock moved the last epoch to {values['train.epochs']}: epochs took longer or shorter than was planned."
    limited = values["train.images_per_epoch"]
    shown = count(limited, "image") if limited else "all images"
    planned = f"For {duration(event['seconds'])} in all: {count(values['train.epochs'], 'epoch')} of {shown} at {values['data.size']} px."
    rates = "; ".join(_rate(cost) for cost in event["costs"])
    return f"{planned} Measured here, in images a second: {rates}."


def _rate(cost: Mapping[str, float]) -> str:
    return f"at {cost['size']} px {_per_second(cost['train'])} to learn from and {_per_second(cost['judge'])} to judge"


def _per_second(seconds: float) -> str:
    return f"{float(f'{1 / seconds:.2g}'):,.0f}"


def _trained(event: Event) -> str:
    best = event.get("best_value")
    reached = "" if best is None else f", whose monitored figure on validation was {best:.3f}"
    return f"{count(event['epochs'], 'epoch')}; kept were the weights of epoch {event['best_epoch']}{reached}."


def _evaluated(event: Event) -> str:
    return f"Judged on {count(event['images'], part_name(event['split']) + ' image')}."


_SENTENCES: Mapping[str, Callable[[Event], str]] = {
    "started": _started,
    "resumed": _resumed,
    "interrupted": _interrupted,
    "budget": _budget,
    "trained": _trained,
    "evaluated": _evaluated,
}


# ---- facts as they stand -------------------------------------------------------------------------------------------------


def _told(event: Event, *but: str) -> str:
    """The facts of an event that have a value, apart from some."""
    facts = {key: value for key, value in event.items() if key not in ("time", "event", *but) and value not in _EMPTY}
    return "; ".join(f"{key.replace('_', ' ')}: {_value(value)}" for key, value in facts.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_value(one)}" for key, one in value.items())
    if isinstance(value, (list, tuple)):
        shown = ", ".join(_value(one) for one in value[:5])
        return shown + (f" and {len(value) - 5:,} more" if len(value) > 5 else "")
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]  # as a recipe writes them
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
