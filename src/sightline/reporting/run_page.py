"""report.html: what a run was given, what it made of it, how good it is, and why, in one file.

    wanted = wanted_pictures(facts)             paths, the most important first
    html = run_page(facts, make_pictures(wanted, read))

Everything a run does not have (an audit, an embedding, repeats) is left out, with one line that says how to have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sightline.evaluation.embedding import Embedding
from sightline.files import quoted
from sightline.reporting.classes import classes_section, weak_section
from sightline.reporting.confusions import matrix_data, matrix_section
from sightline.reporting.embedding_page import embedding_data, embedding_script, embedding_section
from sightline.reporting.facts import RunFacts, chosen
from sightline.reporting.figures import figures_section, headline, repeats_section
from sightline.reporting.html import Html, join, tag
from sightline.reporting.made import (
    audit_paths,
    audit_section,
    data_section,
    heat_section,
    training_section,
)
from sightline.reporting.page import Section, page
from sightline.reporting.pictures import Pictures
from sightline.reporting.probabilities import calibration_section, sets_section
from sightline.reporting.settled import reproduce_section, settings_section
from sightline.reporting.words import count, part_name


def run_page(facts: RunFacts, pictures: Pictures) -> str:
    """The whole file."""
    judged = facts.judged
    sections: list[Section | None] = []
    maps = [heat.code for drawn in facts.heat_maps.values() for heat in drawn]
    data: dict[str, object] = {"pictures": [*pictures.table, *maps]}
    if judged is not None:
        sections += [
            figures_section(facts, judged),
            classes_section(facts, judged),
            matrix_section(facts, judged, pictures),
            weak_section(facts, judged, pictures),
            calibration_section(facts, judged),
            sets_section(judged),
            repeats_section(facts),
        ]
        data |= matrix_data(judged, pictures)
    plane = next(iter(facts.embeddings.values()), None)
    if plane is not None:
        sections.append(_plane(facts, plane, pictures))
        data["embedding"] = embedding_data(plane, pictures)
    sections += [
        heat_section(facts.heat_maps, len(pictures.table)),
        data_section(facts),
        audit_section(facts, pictures),
        training_section(facts),
        settings_section(facts),
        reproduce_section(facts, _missing(facts)),
    ]
    there = [section for section in sections if section is not None]
    lead = join([headline(facts), _about(facts), _gone(pictures)])
    return page(facts.name, there, data=data, lead=lead, script=embedding_script() if plane is not None else "")


def _plane(facts: RunFacts, plane: Embedding, pictures: Pictures) -> Section:
    """The plane of the first part that was drawn, and where those of the others are."""
    part, *others = facts.embeddings
    section = embedding_section(plane, pictures, f"The {part_name(part)} images as the network sees them")
    if not others:
        return section
    files = [[" and " if k else "", tag("code", f"embedding/{other}/embedding.html")] for k, other in enumerate(others)]
    return replace(section, body=join([section.body, tag("p", "Of other parts there is a page each: ", files, ".", class_="note")]))


def wanted_pictures(facts: RunFacts) -> list[str]:
    """Paths of the images that the page shows, the most important first: mistakes, findings of the audit, right answers, the embedding."""
    wanted: list[str] = []
    judged = facts.judged
    if judged is not None and judged.predictions is not None:
        wanted += [judged.predictions.ids[row] for row in chosen(judged.predictions)]
    flagged = audit_paths(facts.audit) if facts.audit is not None else []
    few = len(wanted) // 4  # the audit's come before the long tail of mistakes
    laid_out = next((plane.paths for plane in facts.embeddings.values()), ())
    return [*wanted[:few], *flagged, *wanted[few:], *laid_out]


def _about(facts: RunFacts) -> Html:
    """The network, what it learned from, and when."""
    told: list[str] = []
    name = next((row.value for row in facts.settings if row.name == "model.name"), None)
    size = next((row.value for row in facts.settings if row.name == "data.size"), None)
    if name:
        told.append(f"{name} at {size} pixels" if size else name)
    if facts.images is not None:
        trained = int((facts.images["split"] == "train").sum())
        told.append(f"trained on {count(trained, 'image')}")
    if facts.judged is not None:
        told.append(count(len(facts.judged.metrics["classes"]), "class"))
    started = str(facts.events[0].get("time", ""))[:10] if facts.events else ""
    return tag("p", " · ".join([*told, *([started] if started else [])]), class_="note")


def _gone(pictures: Pictures) -> Html | None:
    """Pictures that could not be had, by reason."""
    if not pictures.missing:
        return None
    reasons: dict[str, int] = {}
    for why in pictures.missing.values():
        reasons[why] = reasons.get(why, 0) + 1
    told = "; ".join(f"{n:,} × {why}" for why, n in sorted(reasons.items(), key=lambda item: -item[1]))
    return tag("p", f"Not every picture can be shown: {told}.", class_="note")


_COMMANDS = {
    "an audit of the images": "sightline audit {source}",
    "an embedding": "sightline embed {place}",
    "heat maps": "sightline explain {place}",
    "doubted labels": "sightline labels {place}",
}


def _missing(facts: RunFacts) -> Html | None:
    """What the run does not have (yet), in one line."""
    lacking: Sequence[str] = [
        name
        for name, there in (
            ("an audit of the images", facts.audit is not None),
            ("an embedding", bool(facts.embeddings)),
            ("heat maps", bool(facts.heat_maps)),
            ("doubted labels", facts.suspects is not None),
        )
        if not there
    ]
    if not lacking or facts.judged is None:
        return None
    told = [
        [", " if k else "", name, " (", tag("code", _COMMANDS[name].format(source=quoted(facts.source), place=quoted(facts.place))), ")"]
        for k, name in enumerate(lacking)
    ]
    return tag(
        "p",
        "What this report lacks can be added: ",
        told,
        "; then ",
        tag("code", f"sightline report {quoted(facts.place)}"),
        ".",
        class_="note",
    )
