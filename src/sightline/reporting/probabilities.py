"""What the probabilities are worth: calibration, and prediction sets with what they promise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sightline.reporting.charts import interval, reliability
from sightline.reporting.facts import Judged, RunFacts
from sightline.reporting.figures import Figure, card, kept
from sightline.reporting.html import Content, Html, join, tag
from sightline.reporting.page import Section, more, name_of, scrolling
from sightline.reporting.words import count, percent, share, share_ends


def calibration_section(facts: RunFacts, judged: Judged) -> Section:
    """What the probabilities are worth."""
    metrics = judged.metrics
    temperature = (facts.card or {}).get("temperature")
    note = ((facts.card or {}).get("about") or {}).get("temperature_note")
    fixed = kept(facts)
    words = ["Of the images that it is 80 % sure of, 80 % should be right. "]
    if fixed:
        words.append("No temperature was fitted: it stays 1, which leaves the probabilities as they are. ")
    elif temperature is not None:
        words.append(f"The temperature {temperature:.3f}, chosen on validation, ")
        words.append("sharpens" if temperature < 1 else "softens" if temperature > 1 else "leaves")
        words.append(" the probabilities. " if temperature != 1 else " the probabilities as they are. ")
    words.append(f"The calibration error is {share(metrics['ece'])}")
    if "ece_uncalibrated" in metrics and not fixed:
        words.append(f"; without the temperature it would be {share(metrics['ece_uncalibrated'])}")
    harm = metrics.get("calibration_note")
    told = [tag("p", text, class_="told warning") for text in (f"{note[:1].upper()}{note[1:]}." if note else None, harm) if text]
    body = [tag("p", *words, "."), told, _diagrams(metrics.get("reliability"), fitted=not fixed)]
    return Section("calibration", "Calibration", join(body))


def _diagrams(found: Mapping[str, Any] | None, fitted: bool) -> Html:
    if not found:
        return tag("p", "This run was evaluated before reliability diagrams were kept; evaluate it again to see them.", class_="note")
    shown = [("uncalibrated", "Before: uncalibrated"), ("calibrated", "After: calibrated")] if fitted else [("calibrated", "As they are")]
    drawn = [reliability(found[key], title) for key, title in shown if found.get(key)]
    caption = (
        "Bars: the share that is right among images of like confidence. On the dashed line both agree; larger dots stand for more images."
    )
    return join([tag("div", drawn, class_="drawings"), tag("p", caption, class_="note"), _bins(found)])


def _bins(found: Mapping[str, Any]) -> Html:
    head = tag("tr", [tag("th", text, scope="col") for text in ("Confidence, %", "Images", "Mean confidence", "Right")])
    rows = [
        tag(
            "tr",
            tag("th", f"{100 * bin_['low']:.0f} to {100 * bin_['high']:.0f}", scope="row"),
            tag("td", f"{bin_['n']:,}", class_="number"),
            tag("td", percent(bin_["confidence"]), class_="number"),
            tag("td", percent(bin_["accuracy"]), class_="number"),
        )
        for bin_ in found.get("calibrated", [])
        if bin_["n"]
    ]
    return more("The bins as a table", scrolling("Bins of the reliability diagram", tag("table", tag("thead", head), tag("tbody", rows))))


def sets_section(judged: Judged) -> Section | None:
    """Prediction sets and what they cover; None where there are none."""
    sets = judged.metrics.get("prediction_sets")
    if not sets:
        return None
    level = 100 * sets["level"]
    words = f"Where one answer is not enough, a set of classes is given that holds the true one at least {level:.0f} times in 100. "
    method = str(sets.get("method", "")).upper()
    body = [
        tag("p", words, f"Its thresholds were chosen on validation (split conformal, {method})." if method else None),
        tag("div", card("Sets that hold the true class", sets["coverage"]), _size_card(sets["mean_size"]), class_="cards"),
        _met(sets),
        tag("p", f"{str(sets['note'])[:1].upper()}{str(sets['note'])[1:]}.", class_="note") if sets.get("note") else None,
        _class_coverage(judged.metrics, sets),
    ]
    return Section("sets", "Prediction sets", join(body))


def _size_card(figure: Figure) -> Html:
    ends = "" if figure["low"] is None or figure["high"] is None else f"{figure['low']:.2f} to {figure['high']:.2f}"
    value = "–" if figure["value"] is None else f"{figure['value']:.2f}"
    return tag(
        "div",
        tag("p", "Classes in a set, mean", class_="label"),
        tag("p", value, class_="value"),
        tag("p", ends, class_="range"),
        class_="card",
    )


def _met(sets: Mapping[str, Any]) -> Content:
    """Whether the promise was kept on these images, as far as they can tell; a broken one is a warning."""
    value, low, high, level = sets["coverage"]["value"], sets["coverage"]["low"], sets["coverage"]["high"], sets["level"]
    empty = f" {count(sets['empty'], 'set is', 'sets are')} empty." if sets.get("empty") else ""
    if value is None or low is None or high is None:
        return tag("p", empty.strip(), class_="note") if empty else None
    if high < level:
        held = f"{share(sets['coverage'])} of the sets hold the true class where {100 * level:.0f} % was promised"
        words = f"The promise was not kept: {held}. "
        return tag("p", f"{words}These images differ from those of validation, on which it was made.{empty}", class_="told warning")
    if low > level:
        words = "The sets hold the true class more often than promised, at the cost of being larger than they need be."
    else:
        words = f"The promise of {100 * level:.0f} % lies inside the interval: these images do not speak against it."
    return tag("p", f"{words}{empty}", class_="note")


_HELD = "Sets that hold the true class, %"


def _class_coverage(metrics: Mapping[str, Any], sets: Mapping[str, Any]) -> Content:
    values = sets.get("per_class")
    if not values:
        return None
    head = tag("tr", [_sort_head("Class", False), _sort_head("Judged", True), _sort_head(_HELD, True)])
    rows = []
    for row, figure in zip(metrics["per_class"], values, strict=False):
        value = figure.get("value") if isinstance(figure, Mapping) else figure
        cell: Content = "–" if value is None else f"{100 * value:.1f} "
        if isinstance(figure, Mapping) and value is not None and figure.get("low") is not None:
            cell = [cell, tag("span", share_ends(figure), class_="ends"), interval(figure)]
        name = tag("th", name_of(row["name"]), scope="row")
        support = tag("td", f"{row['support']:,}", class_="number", data_v=row["support"], data_head="Judged")
        held = tag("td", cell, class_="number", data_v="" if value is None else f"{value:.6f}", data_head=_HELD)
        rows.append(tag("tr", name, support, held))
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="sortable stacked")
    return more("Each class", scrolling("Coverage of each class", table))


def _sort_head(text: str, numeric: bool) -> Html:
    return tag("th", tag("button", text, type="button"), scope="col", aria_sort="none", class_="number" if numeric else None)
