"""What an audit's findings look like, in a run's report and on a page of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sightline.reporting.html import Html, join, tag
from sightline.reporting.page import name_of
from sightline.reporting.pictures import Pictures, gallery, tile

LEVELS = {"error": ("wrong-ink", "Mend this"), "warning": ("wrong-ink", "Look at this"), "info": ("note", "Good to know")}
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


def sum_of(found: int, used: int, quarantined: int, left_out: int) -> str:
    """The sum that must hold; that it does is checked here, where the numbers are. Raises ValueError where it does not."""
    if used + quarantined + left_out != found:
        raise ValueError(f"{used} used, {quarantined} quarantined and {left_out} left out are not the {found} found")
    more = f" + {left_out:,} left out" if left_out else ""
    return f"{found:,} found = {used:,} used + {quarantined:,} quarantined{more}"


def passed_over(counts: Mapping[str, int]) -> Html | None:
    """What lies in the folder and is no image, so that it is not among those found."""
    told = ", ".join(f"{n:,} {reason}" for reason, n in counts.items() if n)
    return tag("p", f"Passed over, as no images to learn from: {told}.", class_="note") if told else None


def sheet(pairs: list[Mapping[str, Any]], pictures: Pictures) -> Html:
    """Pairs, each side by side."""
    return tag("div", [_pair(image, pictures) for image in pairs], class_="twins")


def single(image: Mapping[str, Any], pictures: Pictures) -> Html:
    """A flagged image with what there is to say about it."""
    label = image.get("label")
    return tile(pictures, image["path"], name_of(label) if label else None, image.get("why"))


def _pair(image: Mapping[str, Any], pictures: Pictures) -> Html:
    both = [(image["path"], image.get("label"), image.get("part")), (image["with"], image.get("with_label"), image.get("with_part"))]
    tiles = [tile(pictures, path, name_of(label) if label else None, part) for path, label, part in both]
    return tag("div", gallery(tiles), tag("p", image.get("why"), class_="note"))
