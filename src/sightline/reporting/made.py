"""How the run was made: images found and used, the audit, the split, the training, and where the network looked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from sightline.data.groups import twin_counts, twins_sentence
from sightline.reporting.charts import number, training_curves
from sightline.reporting.facts import HeatMap, RunFacts
from sightline.reporting.findings import level_of, pairs_and_singles, passed_over, sheet, single, sum_of, title_of, told
from sightline.reporting.html import Content, Html, join, tag
from sightline.reporting.page import Section, coded, more, name_of, scrolling
from sightline.reporting.pictures import Pictures, gallery
from sightline.reporting.words import NONE, count, duration, part_name, percent

PARTS = {"train": "var(--right)", "val": "var(--good)", "test": "var(--phase)"}
AUDIT_PICTURES = 12  # a finding
AUDIT_PAIRS = 8
_REASONS = 12


# ---- the data ----------------------------------------------------------------------------------------------------------


def data_section(facts: RunFacts) -> Section:
    """What was found, what became of it, and how it was divided."""
    if facts.images is None:
        return Section("data", "The images", tag("p", "The table of images (images.parquet) is missing.", class_="told warning"))
    images = facts.images
    parts = {name: int((images["split"] == name).sum()) for name in PARTS}
    unused = {"quarantined": images.filter(_QUARANTINED), "left out": images.filter(_LEFT_OUT)}
    counts = {name: len(rows) for name, rows in unused.items()}
    body = [
        tag("p", ["Images of ", tag("code", facts.source), "."]),
        tag("p", _sum_of(len(images), parts, *counts.values())),
        passed_over(facts.passed_over),
        _shares(parts, counts),
        [_reasons(name, rows) for name, rows in unused.items()],
        _groups(images),
        _leaks(images),
        _by_class(images),
    ]
    return Section("data", "The images", join(body), "Images")


_QUARANTINED = pl.col("group_number").is_null()
_LEFT_OUT = pl.col("group_number").is_not_null() & pl.col("split").is_null()


def _sum_of(found: int, parts: Mapping[str, int], quarantined: int, left_out: int) -> Html:
    """The two sums: of what was found, and of what was used."""
    used = sum(parts.values())
    first = f"{sum_of(found, used, quarantined, left_out)}."
    return join(
        [tag("strong", first), f" {used:,} used = {parts['train']:,} train + {parts['val']:,} validation + {parts['test']:,} test."]
    )


def _shares(parts: Mapping[str, int], unused: Mapping[str, int]) -> Html:
    shown = [(name, n, PARTS.get(name, "var(--soft)")) for name, n in {**parts, **unused}.items() if n]
    total = sum(n for _, n, _ in shown) or 1
    bar = tag("div", [tag("i", style=f"--n:{n};--fill:{fill}") for _, n, fill in shown], class_="shares", aria_hidden="true")
    key = [tag("li", tag("i", style=f"--fill:{fill}"), f"{name} {n:,} ({percent(n / total)})") for name, n, fill in shown]
    return join([bar, tag("ul", key, class_="key")])


def _reasons(word: str, rows: pl.DataFrame) -> Content:
    """Why images are quarantined, or left out, and which."""
    if rows.is_empty():
        return None
    counted = rows["reason"].value_counts(sort=True).to_dicts()
    lines = [tag("tr", tag("td", f"{row['count']:,}", class_="number"), tag("td", row["reason"])) for row in counted[:_REASONS]]
    rest = sum(row["count"] for row in counted[_REASONS:])
    lines += [tag("tr", tag("td", f"{rest:,}", class_="number"), tag("td", "other reasons"))] if rest else []
    listed = [tag("li", tag("code", row["path"]), f": {row['reason']}") for row in rows.head(50).to_dicts()]
    more_of = [tag("li", f"and {len(rows) - 50:,} more, all in images.parquet")] if len(rows) > 50 else []
    table = tag("table", tag("tbody", lines, tag("tr", tag("th", f"{len(rows):,}", class_="number"), tag("th", f"{word} in all"))))
    return join([tag("h3", word.capitalize()), scrolling(f"Reasons: {word}", table), more("Which", tag("ul", listed, more_of))])


def _groups(images: pl.DataFrame) -> Content:
    twins, groups = twin_counts(images["group_number"].drop_nulls().to_numpy())
    return tag("p", f"{twins_sentence(twins, groups)}.") if twins else None


def _leaks(images: pl.DataFrame) -> Content:
    if "twin" not in images.columns:
        return None
    leaking = images.filter(pl.col("twin"))
    told = [f"{n:,} of {name}" for name in ("val", "test") if (n := int((leaking["split"] == name).sum()))]
    if not told:
        return tag("p", "No image that chose or judged has a known twin in train: groups stay on one side of the split.")
    words = f"The split leaks: {' and '.join(told)} have a twin on the other side. Figures are given with and without them."
    return tag("p", words, class_="told warning")


def _by_class(images: pl.DataFrame) -> Html:
    """How many images of each class are in each part."""
    used = images.filter(pl.col("split").is_not_null())
    counted = used.group_by("label").agg(pl.len().alias("all"), *[(pl.col("split") == name).sum().alias(name) for name in PARTS])
    counted = counted.join(used.group_by("label").agg(pl.col("group_number").n_unique().alias("groups")), on="label").sort("label")
    most = int(counted["all"].max() or 1)  # type: ignore[arg-type]
    heads = [("Class", False), ("Images", True), ("", False), ("Different", True), ("Train", True), ("Validation", True), ("Test", True)]
    head = [tag("th", tag("button", text, type="button") if text else None, scope="col", aria_sort="none" if text else None,
                class_="number" if right else None if text else "bars") for text, right in heads]  # fmt: skip
    rows = []
    for row in counted.to_dicts():
        bar = tag(
            "td", tag("i", class_="bar", style=f"--n:{100 * row['all'] / most:.1f}"), class_="bars", data_v=row["all"], aria_hidden="true"
        )
        numbers = [_count_cell(row[name]) for name in ("groups", *PARTS)]
        rows.append(tag("tr", tag("th", name_of(row["label"]), scope="row"), _count_cell(row["all"]), bar, numbers))
    sums = [int(counted[name].sum()) for name in ("all", "groups", *PARTS)]
    cells = [tag("td", f"{n:,}", class_="number") for n in sums]
    foot = tag("tfoot", tag("tr", tag("th", "all", scope="row"), cells[0], tag("td", class_="bars"), cells[1:]))
    table = tag("table", tag("thead", tag("tr", head)), tag("tbody", rows), foot, class_="sortable classes")
    return more("Each class in each part", scrolling("Images of each class", table))


def _count_cell(n: int) -> Html:
    return tag("td", f"{n:,}", class_="number", data_v=n)


# ---- the audit ---------------------------------------------------------------------------------------------------------


def audit_section(facts: RunFacts, pictures: Pictures) -> Section | None:
    """The findings of the audit, in short; None where there was none."""
    if facts.audit is None:
        return None
    found = [finding for finding in facts.audit["findings"] if finding["count"]]
    clean = [finding["title"] for finding in facts.audit["findings"] if not finding["count"]]
    body: list[Content] = [_finding(finding, pictures) for finding in found]
    if not found:
        body = [tag("p", "Nothing was found.")]
    if clean:
        body.append(tag("p", f"Looked for and not found: {', '.join(clean)}.", class_="note"))
    return Section("audit", "What the audit found", join(body), "Audit")


def _finding(finding: Mapping[str, Any], pictures: Pictures) -> Html:
    kind, words = level_of(finding)
    head = [tag("strong", title_of(finding)), f"  {count(finding['count'], 'image')}  ", tag("span", words, class_=kind)]
    pairs, singles = pairs_and_singles(finding)
    pairs, singles = pairs[:AUDIT_PAIRS], singles[:AUDIT_PICTURES]
    return more(
        head,
        told(finding),
        _part_note(len({path for image in pairs for path in (image["path"], image["with"])}) + len(singles), finding["count"]),
        sheet(pairs, pictures) if pairs else None,
        gallery([single(image, pictures) for image in singles]) if singles else None,
        opened=finding["level"] == "error",
        class_="one",
    )


def audit_paths(audit: Mapping[str, Any]) -> list[str]:
    """Paths of the pictures that `audit_section` shows."""
    found = []
    for finding in audit["findings"]:
        pairs, singles = pairs_and_singles(finding)
        found += [path for image in pairs[:AUDIT_PAIRS] for path in (image["path"], image["with"])]
        found += [image["path"] for image in singles[:AUDIT_PICTURES]]
    return found


def _part_note(shown: int, of: int) -> Content:
    words = coded(f"{shown:,} of {of:,} shown, the worst first; `sightline audit --out` has more.")
    return tag("p", words, class_="note") if 0 < shown < of else None


# ---- training ------------------------------------------------------------------------------------------------------------


def training_section(facts: RunFacts) -> Section:
    """Curves, with phases and the best epoch, and the table behind them."""
    if not facts.history:
        return Section("training", "Training", tag("p", "No epoch has been finished.", class_="told warning"))
    seconds = sum(value for row in facts.history if (value := number(row.get("seconds"))) == value)
    words = [f"{count(len(facts.history), 'epoch')}" + (f" in {duration(seconds)}" if seconds else "") + ". "]
    if facts.best is not None:
        words.append(f"The weights of epoch {facts.best} were kept: the dashed line.")
    phases = [tag("li", f"from epoch {first}: {text}", value=k) for k, (first, text) in enumerate(facts.phases, 2)]
    body = [
        tag("p", words),
        [tag("p", "Phases, each a line in the drawings:"), tag("ol", phases)] if phases else None,
        training_curves(facts.history, facts.phases, facts.best),
        more("The epochs as a table", _history_table(facts.history, facts.best)),
    ]
    return Section("training", "Training", join(body))


def _history_table(history: Sequence[Mapping[str, str]], best: int | None) -> Html:
    names = [name for name in history[0] if name != "best"]
    head = tag("tr", [tag("th", name.replace("_", " "), scope="col", class_="number") for name in names])
    rows = []
    for row in history:
        cells = [tag("td", _short(row.get(name)), class_="number") for name in names]
        rows.append(tag("tr", cells, class_="kept" if best is not None and number(row.get("epoch")) == best else None))
    return scrolling("Epochs", tag("table", tag("thead", head), tag("tbody", rows)))


def _short(value: str | None) -> str:
    found = number(value)
    return f"{found:.4g}" if found == found else (value or NONE)


# ---- heat maps -------------------------------------------------------------------------------------------------------------


def heat_section(heat_maps: Mapping[str, Sequence[HeatMap]], first: int) -> Section | None:
    """Pictures of each part beside what their prediction rests on; `first` is the number of their first in the page's table."""
    if not any(heat_maps.values()):
        return None
    intro = "Warm colours: where the network found what speaks for the class named above the map. A map shows where it looked, not why."
    body: list[Content] = [tag("p", intro)]
    for part, drawn in heat_maps.items():
        tiles = [_heat_tile(heat, first + k) for k, heat in enumerate(drawn)]
        body += [tag("h3", f"Of the {part_name(part)} images"), tag("div", tiles, class_="strips")]
        first += len(drawn)
    return Section("heat", "Where the network looked", join(body), "Heat maps")


def _heat_tile(heat: HeatMap, number_: int) -> Html:
    right = heat.label == heat.predicted
    said: list[Content] = ["right: " if right else "called ", tag("strong", name_of(heat.predicted)), f" {percent(heat.confidence)}"]
    if not right:
        said += [", labelled ", name_of(heat.label)]
    image = tag("img", data_picture=number_, alt=f"{heat.path} and its heat maps", decoding="async")
    panels = tag("span", " | ".join(heat.panels), class_="note") if heat.panels else None
    path = tag("span", tag("bdi", heat.path), class_="path", title=heat.path)
    caption = tag("figcaption", tag("span", said), panels, path)
    return tag(
        "figure", tag("div", image, class_="frame"), caption, class_=f"tile strip {'right' if right else 'wrong'}", data_path=heat.path
    )
