"""audit.html: what an audit found, a section a finding, with the pictures; in one file.

    wanted = audit_pictures(record)             paths, the most important first; record: the content of audit.json
    html = audit_page(record, make_pictures(wanted, read))

Twins stand side by side, groups of twins in a row, all else as a sheet of pictures, the worst first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import PurePath
from typing import Any

from sightline.reporting.findings import level_of, pairs_and_singles, sheet, single, title_of, told
from sightline.reporting.html import Content, Html, join, tag
from sightline.reporting.made import PARTS
from sightline.reporting.page import Section, name_of, page, scrolling
from sightline.reporting.pictures import Pictures, gallery, tile
from sightline.reporting.words import count, percent

SHOWN = 60  # pictures of a finding
PAIRS = 36  # pairs of twins
GROUPS, GROUP = 18, 12  # groups of twins, pictures of one
LISTED = 200  # lines of a finding that has no pictures
_NO_PICTURES = frozenset({"unreadable"})
_PARTS = {**PARTS, "": "var(--line)"}


def audit_page(record: Mapping[str, Any], pictures: Pictures) -> str:
    """The whole file, from the content of audit.json."""
    found = [finding for finding in record["findings"] if finding["count"]]
    sections = [
        Section("summary", "Summary", _summary(record)),
        *(_finding_section(finding, pictures) for finding in found),
        Section("balance", "Classes", _classes(record["classes"])),
        Section("colours", "Colours", _colours(record)),
    ]
    title = PurePath(record.get("folder") or "images").name or "images"
    return page(f"Audit of {title}", sections, data={"pictures": pictures.table}, lead=_lead(record, found))


def audit_pictures(record: Mapping[str, Any]) -> list[str]:
    """Paths of all pictures on the page: the worst of every finding first, then the next of every one."""
    lists = [list(_paths(finding)) for finding in record["findings"] if finding["count"] and finding["name"] not in _NO_PICTURES]
    return [path for path in chain.from_iterable(zip_longest(*lists)) if path is not None]


def _paths(finding: Mapping[str, Any]) -> Iterator[str]:
    pairs, singles = pairs_and_singles(finding)
    for image in (*pairs[:PAIRS], *singles[:SHOWN]):
        yield image["path"]
        if image.get("with"):
            yield image["with"]
    for group in _groups(finding):
        yield from group[:GROUP]


# ---- the head ----------------------------------------------------------------------------------------------------------


def _lead(record: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> Html:
    refused = sum(record["quarantined"].values())
    if record["used"] + refused != record["found"]:
        raise ValueError(f"{record['used']} used and {refused} quarantined are not the {record['found']} found")
    numbers = f"{record['found']:,} found = {record['used']:,} used + {refused:,} quarantined"
    classes = count(len(record["classes"]), "class")
    serious = [finding for finding in found if finding["level"] != "info"]
    verdict = f"{count(len(serious), 'finding needs', 'findings need')} a look." if serious else "Nothing needs a look."
    images = [count(record["found"], "image"), f" in {classes}: ", tag("strong", numbers), ". ", verdict]
    return join([tag("p", images, class_="lead"), tag("p", tag("code", record["folder"]), class_="note") if record.get("folder") else None])


def _summary(record: Mapping[str, Any]) -> Html:
    rows = [_summary_row(finding) for finding in record["findings"] if finding["count"]]
    clean = [finding["title"] for finding in record["findings"] if not finding["count"]]
    head = tag("tr", [tag("th", text, scope="col") for text in ("Finding", "Images", "", "What it is")])
    return join(
        [
            scrolling("Findings", tag("table", tag("thead", head), tag("tbody", rows), class_="findings"))
            if rows
            else tag("p", "Nothing was found."),
            tag("p", f"Looked for and not found: {', '.join(clean)}.", class_="note") if clean else None,
            _quarantined(record),
            _parts(record),
            [tag("p", note, class_="told") for note in record.get("notes", ())],
        ]
    )


def _summary_row(finding: Mapping[str, Any]) -> Html:
    kind, words = level_of(finding)
    name = tag("th", tag("a", title_of(finding), href=f"#{_anchor(finding)}"), scope="row")
    number = tag("td", f"{finding['count']:,}", class_="number")
    return tag("tr", name, number, tag("td", words, class_=kind), tag("td", finding["sentence"]))


def _quarantined(record: Mapping[str, Any]) -> Content:
    left_out = record.get("left_out") or {}
    told = [f"{n:,} {reason}" for reason, n in left_out.items()]
    reasons = [tag("li", f"{n:,} {reason}") for reason, n in sorted(record["quarantined"].items(), key=lambda item: -item[1])]
    return [
        [tag("h3", "Quarantined"), tag("ul", reasons)] if reasons else None,
        tag("p", f"Left out, as they are no images to learn from: {', '.join(told)}.", class_="note") if told else None,
    ]


def _parts(record: Mapping[str, Any]) -> Content:
    parts = {name: n for name, n in (record.get("parts") or {}).items() if n}
    if not parts:
        return None
    bar = tag("div", [tag("i", style=f"--n:{n};--fill:{_PARTS[name]}") for name, n in parts.items()], class_="shares", aria_hidden="true")
    total = sum(parts.values())
    key = [
        tag("li", tag("i", style=f"--fill:{_PARTS[name]}"), f"{name or 'no part'} {n:,} ({percent(n / total)})")
        for name, n in parts.items()
    ]
    return [tag("h3", "The split that training would use"), bar, tag("ul", key, class_="key")]


# ---- findings ------------------------------------------------------------------------------------------------------------


def _finding_section(finding: Mapping[str, Any], pictures: Pictures) -> Section:
    kind, words = level_of(finding)
    head = [
        tag("p", tag("strong", words, class_=kind), f" · {count(finding['count'], 'image')} · severity up to {finding['severity']:.2f}"),
        told(finding),
    ]
    return Section(_anchor(finding), title_of(finding), join([*head, _evidence(finding, pictures)]))


def _evidence(finding: Mapping[str, Any], pictures: Pictures) -> Html:
    if finding["name"] in _NO_PICTURES:
        return _list(finding)
    pairs, singles = pairs_and_singles(finding)
    groups = _groups(finding)
    return join(
        [
            _part("pairs", len(pairs[:PAIRS]), len(pairs)) if pairs else None,
            sheet(pairs[:PAIRS], pictures) if pairs else None,
            _part("images", len(singles[:SHOWN]), finding["count"]) if singles else None,
            gallery([single(image, pictures) for image in singles[:SHOWN]]) if singles else None,
            [tag("h3", "Groups"), _part("groups", len(groups), _group_count(finding))] if groups else None,
            [_group(group, pictures) for group in groups],
        ]
    )


def _list(finding: Mapping[str, Any]) -> Html:
    lines = [tag("li", tag("code", image["path"]), f": {image['why']}") for image in finding["images"][:LISTED]]
    return join([_part("files", len(lines), finding["count"]), tag("ul", lines)])


def _part(what: str, shown: int, of: int) -> Content:
    return tag("p", f"{shown:,} of {of:,} {what} shown, the worst first.", class_="note") if shown < of else None


def _groups(finding: Mapping[str, Any]) -> list[list[str]]:
    """Groups of three or more; those of two are pairs already."""
    return [group for group in finding.get("groups", ()) if len(group) > 2][:GROUPS]


def _group_count(finding: Mapping[str, Any]) -> int:
    return sum(len(group) > 2 for group in finding.get("groups", ()))


def _group(group: Sequence[str], pictures: Pictures) -> Html:
    note = tag("p", f"{GROUP} of {len(group):,} shown.", class_="note") if len(group) > GROUP else None
    return join([tag("h4", count(len(group), "image")), note, gallery([tile(pictures, path) for path in group[:GROUP]])])


def _anchor(finding: Mapping[str, Any]) -> str:
    return "finding_" + "".join(letter if letter.isalnum() else "_" for letter in finding["name"])


# ---- classes and colours ---------------------------------------------------------------------------------------------------


def _classes(classes: Sequence[Mapping[str, Any]]) -> Html:
    most = max((one["images"] for one in classes), default=1)
    heads = [("Class", False), ("Images", True), (None, False), ("Different", True), ("Can be", False)]
    head = [
        tag(
            "th",
            tag("button", text, type="button") if text else None,
            scope="col",
            aria_sort="none" if text else None,
            class_="number" if right else None,
        )
        for text, right in heads
    ]
    rows = [
        tag(
            "tr",
            tag("th", name_of(one["name"]), scope="row"),
            tag("td", f"{one['images']:,}", class_="number", data_v=one["images"]),
            tag(
                "td",
                tag("i", class_="bar", style=f"--n:{100 * one['images'] / most:.1f}"),
                class_="bars",
                data_v=one["images"],
                aria_hidden="true",
            ),
            tag("td", f"{one['different']:,}", class_="number", data_v=one["different"]),
            tag("td", _EVALUABLE.get(one["evaluable"], one["evaluable"])),
        )
        for one in classes
    ]
    total = tag("tfoot", tag("tr", tag("th", "all"), tag("td", f"{sum(one['images'] for one in classes):,}", class_="number")))
    words = "Different: twins count as one. A class is judged by images in test, and has a voice in choosing the epoch by those in val."
    table = tag("table", tag("thead", tag("tr", head)), tag("tbody", rows), total, class_="sortable classes")
    return join([tag("p", words), scrolling("Classes", table)])


_EVALUABLE = {
    "all": "trained, chosen with and judged",
    "train and test": "trained and judged, no voice in choosing",
    "train only": "trained only, never judged",
}


def _colours(record: Mapping[str, Any]) -> Html:
    head = tag("tr", tag("td"), [tag("th", name, scope="col", class_="number") for name in ("red", "green", "blue")])
    rows = [
        tag("tr", tag("th", title, scope="row"), [tag("td", f"{value:.4f}", class_="number") for value in record[name]])
        for name, title in (("mean", "Mean"), ("std", "Standard deviation"))
    ]
    return join([tag("p", "Of all pixels, from 0 to 1."), tag("table", tag("thead", head), tag("tbody", rows))])
