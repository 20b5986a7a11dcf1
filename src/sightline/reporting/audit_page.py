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

from sightline.auditing.balance import UNBALANCED, learned, spread, unbalanced
from sightline.data.groups import twins_sentence
from sightline.reporting.findings import level_of, pairs_and_singles, passed_over, sheet, single, sum_of, title_of, told
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
    refused, left_out = (sum(record[name].values()) for name in ("quarantined", "left_out"))
    numbers = sum_of(record["found"], record["used"], refused, left_out)
    classes = count(len(record["classes"]), "class")
    serious = [finding for finding in found if finding["level"] != "info"]
    verdict = f"{count(len(serious), 'finding needs', 'findings need')} a look." if serious else "Nothing needs a look."
    images = [count(record["found"], "image"), f" in {classes}: ", tag("strong", numbers), ". ", verdict]
    return join([tag("p", images, class_="lead"), tag("p", tag("code", record["folder"]), class_="note") if record.get("folder") else None])


def _summary(record: Mapping[str, Any]) -> Html:
    rows = [_summary_row(finding) for finding in record["findings"] if finding["count"]]
    clean = [finding["title"] for finding in record["findings"] if not finding["count"]]
    names = (("Finding", None), ("Images", "number"), ("What to do", None), ("What it is", None))
    head = tag("tr", [tag("th", text, scope="col", class_=kind) for text, kind in names])
    return join(
        [
            scrolling("Findings", tag("table", tag("thead", head), tag("tbody", rows), class_="findings"))
            if rows
            else tag("p", "Nothing was found."),
            tag("p", f"Looked for and not found: {', '.join(clean)}.", class_="note") if clean else None,
            tag("p", _SEVERITY, class_="note") if any(_graded(finding) for finding in record["findings"]) else None,
            _twins(record["twins"]),
            _unused(record),
            _parts(record),
            [tag("p", note, class_="told") for note in record.get("notes", ())],
        ]
    )


_SEVERITY = "Severity, below, says how far an image goes in what was looked for: 0 is not at all, 1 as far as can be."


def _graded(finding: Mapping[str, Any]) -> bool:
    """Whether how severe it is says something."""
    return bool(finding["count"]) and finding["level"] != "info"


def _summary_row(finding: Mapping[str, Any]) -> Html:
    kind, words = level_of(finding)
    name = tag("th", tag("a", title_of(finding), href=f"#{_anchor(finding)}"), scope="row")
    number = tag("td", f"{finding['count']:,}", class_="number")
    return tag("tr", name, number, tag("td", words, class_=kind), tag("td", finding["sentence"]))


def _twins(twins: Mapping[str, int]) -> Content:
    """The count that training gives too."""
    return tag("p", f"{twins_sentence(twins['images'], twins['groups'])}.") if twins["images"] else None


def _unused(record: Mapping[str, Any]) -> Content:
    """What is not used, by reason."""
    return [
        _reasons("Quarantined", record["quarantined"]),
        _reasons("Left out", record["left_out"]),
        passed_over(record["passed_over"]),
    ]


def _reasons(title: str, reasons: Mapping[str, int]) -> Content:
    rows = [tag("li", f"{n:,} {reason}") for reason, n in sorted(reasons.items(), key=lambda item: -item[1])]
    return [tag("h3", title), tag("ul", rows)] if rows else None


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
    worst = f" · severity up to {finding['severity']:.2f} of 1" if _graded(finding) else ""
    head = [tag("p", tag("strong", words, class_=kind), f" · {count(finding['count'], 'image')}{worst}"), told(finding)]
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
    if not classes:
        return tag("p", "No class has a usable image.")
    size = learned(classes)
    most = max(1, *(one[size] for one in classes))
    heads = [("Class", False), ("Images", True), ("Different", True), ("Train", True), (None, False), ("Validation", True), ("Test", True)]
    head = [
        tag(
            "th",
            tag("button", text, type="button") if text else None,
            scope="col",
            aria_sort="none" if text else None,
            class_="number" if right else _KINDS.get(text),
        )
        for text, right in [*heads, ("Can be", False)]
    ]
    rows = [_class_row(one, size, most) for one in classes]
    sums = [sum(one[name] for one in classes) for name in _COUNTS]
    cells = [tag("td", f"{n:,}", class_="number") for n in sums]
    total = tag(
        "tfoot", tag("tr", tag("th", "all", scope="row"), cells[:3], tag("td", class_="bars"), cells[3:], tag("td", class_="words"))
    )
    words = [
        f"{count(len(classes), 'class')} {spread(classes)}. {UNBALANCED if unbalanced(classes) else ''}",
        "Different: twins count as one. A class is judged by images in test, and has a voice in choosing the epoch by those in val.",
    ]
    table = tag("table", tag("thead", tag("tr", head)), tag("tbody", rows), total, class_="sortable classes")
    return join([[tag("p", text) for text in words], scrolling("Classes", table)])


_KINDS = {None: "bars", "Can be": "words"}
_COUNTS = ("images", "different", "train", "val", "test")


def _class_row(one: Mapping[str, Any], size: str, most: int) -> Html:
    """A class with its counts; the bar shows how much there is to learn from."""
    cells = [tag("td", f"{one[name]:,}", class_="number", data_v=one[name]) for name in _COUNTS]
    width = tag("i", class_="bar", style=f"--n:{100 * one[size] / most:.1f}")
    bar = tag("td", width, class_="bars", data_v=one[size], aria_hidden="true")
    evaluable = tag("td", _EVALUABLE.get(one["evaluable"], one["evaluable"]), class_="words")
    return tag("tr", tag("th", name_of(one["name"]), scope="row"), cells[:3], bar, cells[3:], evaluable)


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
