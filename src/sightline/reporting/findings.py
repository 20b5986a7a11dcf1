"""What an audit's findings look like, in a run's report and on a page of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sightline.reporting.html import Html, join, tag
from sightline.reporting.page import name_of
from sightline.reporting.pictures import Pictures, gallery, tile

LEVELS = {"error": ("wrong-ink", "Mend this"), "warning": ("wrong-ink", "Look at this"), "info": ("note", "Known")}
"""The class and the words of each level."""


def level_of(finding: Mapping[str, Any]) -> tuple[str, str]:
    """The class and the words of a finding's level."""
    return LEVELS.get(finding["level"], LEVELS["info"])


def told(finding: Mapping[str, Any]) -> Html:
    """What was found, and what to do about it."""
    advice = finding.get("advice")
    return join([tag("p", finding.get("found") or finding["sentence"]), tag("p", advice) if advice else None])


def title_of(finding: Mapping[str, Any]) -> str:
    """The title of a finding, as a heading."""
    title: str = finding["title"]
    return title[:1].upper() + title[1:]


def pairs_and_singles(finding: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Images that have another beside them, each pair once, and those that stand alone; the worst first."""
    pairs: dict[frozenset[str], Mapping[str, Any]] = {}
    singles = []
    for image in finding["images"]:
        if image.get("with"):
            pairs.setdefault(frozenset((image["path"], image["with"])), image)
        else:
            singles.append(image)
    return list(pairs.values()), singles


def sheet(pairs: list[Mapping[str, Any]], pictures: Pictures) -> Html:
    """Pairs, each side by side."""
    return tag("div", [_pair(image, pictures) for image in pairs], class_="twins")


def single(image: Mapping[str, Any], pictures: Pictures) -> Html:
    """A flagged image with what there is to say about it."""
    label = image.get("label")
    return tile(pictures, image["path"], name_of(label) if label else None, image.get("why"))


def _pair(image: Mapping[str, Any], pictures: Pictures) -> Html:
    label = name_of(image["label"]) if image.get("label") else None
    both = [tile(pictures, image["path"], label), tile(pictures, image["with"])]
    return tag("div", gallery(both), tag("p", image.get("why"), class_="note"))
