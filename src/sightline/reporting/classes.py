"""Each class: its figures in a table that sorts, and why it is weak, with its worst mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightline.evaluation.weakness import ClassWeakness, weaknesses
from sightline.reporting.charts import interval
from sightline.reporting.confusions import mistake_tile
from sightline.reporting.facts import Judged, RunFacts
from sightline.reporting.html import Content, Html, join, tag
from sightline.reporting.page import Section, more, name_of, scrolling
from sightline.reporting.pictures import Pictures, gallery
from sightline.reporting.words import NONE, count, listing, percent, share_ends

WORST = 12  # mistakes shown of a class
OPENED = 3  # classes whose mistakes are open at first
TALL = 24  # classes from which on the table scrolls by itself
FILTERED = 15  # classes from which on the table has a field to find one

_MARKS = {
    "few_to_learn": "few images to learn from",
    "few_to_judge": "few images judged",
    "twins": "twins",
    "confusable": "look-alike",
    "scattered": "scattered mistakes",
    "attracts": "named too often",
    "suspects": "labels in doubt",
    "sure": "sure mistakes",
}


def classes_section(facts: RunFacts, judged: Judged) -> Section:
    """The table of classes."""
    metrics = judged.metrics
    counts = facts.train_counts()
    heads = ["Class", *(["Learned from"] if counts else []), "Judged", "Precision, %", "Recall, %", "F1, %"]
    rows = [_row(k, row, counts) for k, row in enumerate(metrics["per_class"])]
    table = tag(
        "table",
        tag("caption", "Figures of each class", class_="unseen"),
        tag("thead", tag("tr", [_head(text) for text in heads])),
        tag("tbody", rows),
        class_="sortable classes figures",
        id="class-table",
        style=f"--counts:{2 if counts else 1}",
    )
    many = len(metrics["per_class"]) >= FILTERED
    body = [
        tag(
            "p",
            "Precision: the share of the images called so that are. Recall: the share of its images that was recognised. F1: both in one. ",
            "Ranges and bands are 95 % intervals; a wide one means few images.",
        ),
        _find() if many else None,
        scrolling("Figures of each class", table, tall=len(rows) > TALL),
        _absent(metrics),
    ]
    return Section("classes", "Each class", join(body), "Classes")


def weak_section(facts: RunFacts, judged: Judged, pictures: Pictures) -> Section | None:
    """The classes from the weakest on, with reasons and worst mistakes; None without predictions."""
    if judged.predictions is None:
        return None
    found = weaknesses(judged.predictions, facts.train_counts(), facts.twins(), facts.suspects)
    if facts.images is None:  # without the table of images nobody knows how many each was learned from
        found = [_without(weak, "few_to_learn") for weak in found]
    numbers = {name: k for k, name in enumerate(judged.predictions.classes)}
    weak = [one for one in found if one.mistakes or one.false]
    perfect = [one.name for one in found if one.support and not one.mistakes and not one.false]
    intro = "The weakest class first. A reason is a fact that goes along with the mistakes, not a proof that it caused them."
    fine = tag("p", f"Without a mistake: {listing(perfect, 40)}.", class_="note") if perfect else None
    parts = [_class(one, numbers[one.name], pictures, k < OPENED) for k, one in enumerate(weak)]
    body = join([tag("p", intro), parts, fine]) if weak else join([tag("p", "No mistake was made."), fine])
    return Section("mistakes", "Why classes are weak", body, "Mistakes")


def _without(weak: ClassWeakness, kind: str) -> ClassWeakness:
    values = {name: getattr(weak, name) for name in ClassWeakness.__dataclass_fields__}
    return ClassWeakness(**{**values, "reasons": tuple(reason for reason in weak.reasons if reason.kind != kind)})


def _head(text: str) -> Html:
    numeric = text in ("Learned from", "Judged")
    return tag("th", tag("button", text, type="button"), scope="col", aria_sort="none", class_="number" if numeric else None)


def _find() -> Html:
    field = tag("input", type="search", class_="field", id="find-class", data_filters="class-table", placeholder="part of a name")
    return tag("div", tag("label", "Find a class ", for_="find-class", class_="note"), field, class_="controls")


def _row(k: int, row: Mapping[str, Any], counts: Mapping[str, int]) -> Html:
    name = tag("th", tag("a", name_of(row["name"]), href=f"#class-{k}"), scope="row")
    numbers = [_number(counts.get(row["name"], 0))] if counts else []
    return tag("tr", name, numbers, _number(row["support"]), [_figure(row[f]) for f in ("precision", "recall", "f1")])


def _number(n: int) -> Html:
    return tag("td", f"{n:,}", class_="number", data_v=n)


def _figure(figure: Mapping[str, float | None]) -> Html:
    value = figure["value"]
    if value is None:
        return tag("td", NONE, class_="figure", data_v="")
    inside = [tag("b", f"{100 * value:.1f}"), tag("span", share_ends(figure), class_="ends"), interval(figure)]
    return tag("td", inside, class_="figure", data_v=f"{value:.6f}")


def _absent(metrics: Mapping[str, Any]) -> Content:
    absent = metrics.get("not_evaluated") or []
    if not absent:
        return None
    return tag(
        "p", f"Not evaluated, as no image of them judged: {listing(absent, 40)}. Means over classes are over the others.", class_="note"
    )


def _class(weak: ClassWeakness, number: int, pictures: Pictures, opened: bool) -> Html:
    missed = weak.support - weak.right
    marks = ", ".join(dict.fromkeys(_MARKS[reason.kind] for reason in weak.reasons))
    score = "not judged" if weak.f1 is None else f"F1 {percent(weak.f1)}"
    head = [tag("strong", name_of(weak.name)), f"  {score}", tag("span", f"  {marks}" if marks else "", class_="note")]
    facts = f"{missed:,} of its {count(weak.support, 'image')} missed; {count(weak.false, 'image')} of other classes taken for it."
    reasons = tag("ul", [tag("li", reason.sentence) for reason in weak.reasons]) if weak.reasons else None
    return more(head, tag("p", facts), reasons, _worst(weak, pictures), opened=opened, class_="one", id=f"class-{number}")


def _worst(weak: ClassWeakness, pictures: Pictures) -> Content:
    if not weak.mistakes:
        return None
    shown: Sequence[Any] = weak.mistakes[:WORST]
    part = (
        f"{len(shown)} of {len(weak.mistakes):,} shown, the surest mistakes first"
        if len(shown) < len(weak.mistakes)
        else "the surest first"
    )
    return [tag("p", f"Its worst mistakes: {part}.", class_="note"), gallery([mistake_tile(mistake, pictures) for mistake in shown])]
