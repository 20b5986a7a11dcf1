"""How good the classifier is: the headline figures, calibration, prediction sets, and repeats, each with its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sightline.evaluation.baseline import baseline_sentence, most_frequent
from sightline.evaluation.repeats import FEWEST_SEEDS
from sightline.reporting.charts import interval, reliability
from sightline.reporting.facts import Judged, RunFacts
from sightline.reporting.html import Content, Html, join, tag
from sightline.reporting.page import Section, more, scrolling
from sightline.reporting.words import count, decimal, decimal_ends, part_name, percent, share, share_ends

Figure = Mapping[str, float | None]

SHARES = {
    "accuracy": ("Accuracy", "images that are right"),
    "balanced_accuracy": ("Balanced accuracy", "mean recall of the classes, each counting alike"),
    "macro_f1": ("Macro F1", "mean F1 of the classes, each counting alike"),
    "macro_precision": ("Macro precision", "mean precision of the classes"),
    "macro_recall": ("Macro recall", "mean recall of the classes"),
    "weighted_f1": ("Weighted F1", "mean F1, classes counting by their images"),
    "top5_accuracy": ("Top-5 accuracy", "images whose class is among the five likeliest"),
    "ece": ("Calibration error", "mean gap between confidence and accuracy, bins of equal width"),
    "ece_uncalibrated": ("The same, uncalibrated", "what it would be at temperature 1"),
    "ece_equal_mass": ("Calibration error, equal mass", "the same with equally many images in each bin"),
    "ece_equal_mass_uncalibrated": ("The same, uncalibrated", "what it would be at temperature 1"),
}
LOSSES = {
    "log_loss": ("Log loss", "mean of -log p of the true class; lower is better"),
    "brier": ("Brier score", "mean squared error of the probabilities, 0 to 2; lower is better"),
}
_CARDS = ("accuracy", "macro_f1", "top5_accuracy", "ece")
_FEW = 100  # images below which the width of the intervals is worth a sentence


def headline(facts: RunFacts) -> Html:
    """The first sentences of the page: what it is, how good it is, and who says so."""
    judged = facts.judged
    if judged is None:
        return tag("p", _unfinished(facts), class_="told warning")
    metrics = judged.metrics
    said = [
        f"On {count(metrics['n'], part_name(judged.name) + ' image')} it is right in ",
        tag("strong", percent(metrics["accuracy"]["value"])),
    ]
    ends = share_ends(metrics["accuracy"])
    said.append(f" of the cases (95 % interval {ends}). " if ends else ". ")
    said.append(_standing(facts, judged.name))
    if told := baseline_sentence(metrics):
        baseline: Content = tag("p", told, class_="told warning")
    else:
        name, most = most_frequent(metrics)
        baseline = tag("p", f"To call every image {name} would be right in {percent(most)}.")
    return join([tag("p", said, class_="lead"), baseline, _leak_sentence(metrics), _few_sentence(metrics)])


def _unfinished(facts: RunFacts) -> str:
    if facts.card is not None:
        return f"This run is trained, but nothing has judged it yet: sightline evaluate {facts.place}"
    done = len(facts.history)
    where = f"{count(done, 'epoch')} are done" if done != 1 else "1 epoch is done"
    return f"This run has not finished: {where}, and there are no figures yet. Go on with: sightline train --resume {facts.place}"


def _standing(facts: RunFacts, name: str) -> str:
    if name == "val":
        return f"These images chose {_chosen_by_val(facts)}, so the figures flatter; no test part has judged the classifier."
    if name == "folds":
        return "Each was judged by the network of its fold, which had neither learned nor chosen from it; the run's own was trained alike."
    return "These images neither trained the classifier nor chose anything about it."


def _kept(facts: RunFacts) -> str | None:
    """Why the temperature was not chosen but kept at 1; None where it was chosen, or nobody knows."""
    card = facts.card or {}
    note: str | None = (card.get("about") or {}).get("temperature_note")
    return note if note and card.get("temperature") == 1 else None


def _chosen_by_val(facts: RunFacts) -> str:
    return "the epoch" if _kept(facts) else "the epoch and the temperature"


def _leak_sentence(metrics: Mapping[str, Any]) -> Content:
    rest = metrics.get("leak_free")
    if not rest:
        return None
    leaks = count(metrics["n"] - rest["n"], "image has a twin", "images have a twin")
    if not rest["n"]:
        return tag(
            "p",
            f"All {leaks} among those it learned or chose from, so that these figures say nothing about new images.",
            class_="told error",
        )
    words = [
        f"{leaks} among those it learned or chose from. On the other {rest['n']:,} it is right in ",
        tag("strong", share(rest["accuracy"])),
        ".",
    ]
    return tag("p", words, class_="told warning")


def _few_sentence(metrics: Mapping[str, Any]) -> Content:
    if metrics["n"] >= _FEW:
        return None
    return tag("p", f"{count(metrics['n'], 'image')} are few: the intervals are wide, and so is what may be true.", class_="told warning")


def figures_section(facts: RunFacts, judged: Judged) -> Section:
    """Cards with the main figures, the table of all, and the other parts that judged."""
    metrics = judged.metrics
    cards = [_card(SHARES[name][0], metrics[name]) for name in _CARDS if name in metrics]
    views = metrics.get("views", 1)
    body = [
        tag("div", cards, class_="cards"),
        tag("p", _chosen(facts), class_="note"),
        tag("p", f"Each answer is the mean of {views} views of its image.", class_="note") if views != 1 else None,
        more("All figures", _table(metrics), opened=bool(metrics.get("leak_free"))),
        _others(facts),
    ]
    return Section("figures", "How good it is", join(body), "Figures")


def _card(name: str, figure: Figure) -> Html:
    value = "–" if figure["value"] is None else f"{100 * figure['value']:.1f}"
    ends = share_ends(figure)
    shown = tag("p", value, tag("small", " %"), class_="value")
    return tag(
        "div", tag("p", name, class_="label"), shown, tag("p", ends, class_="range") if ends else None, interval(figure), class_="card"
    )


def _chosen(facts: RunFacts) -> str:
    """Which images had which voice."""
    monitor = next((row.value for row in facts.settings if row.name == "train.monitor"), None)
    parts = ["Ranges hold the true value 95 times in 100."]
    if facts.best is not None and facts.history:
        by = f" by {monitor.replace('_', ' ').replace('f1', 'F1')}" if monitor else ""
        parts.append(f"Validation chose epoch {facts.best} of {len(facts.history)}{by}{'' if _kept(facts) else ', and the temperature'}.")
    if facts.judged is not None and facts.judged.name == "folds":
        parts.append("That is of the run's own network; the networks of the folds chose each for itself.")
    if facts.judged is not None and facts.judged.name == "test":
        parts.append(_test_read(facts.events))
    return " ".join(parts)


def _test_read(events: Sequence[Mapping[str, Any]]) -> str:
    """How often the test part was read, and whether the run went on after it had been: what it then judges, it may have chosen."""
    reads = [k for k, event in enumerate(events) if event.get("event") == "evaluated" and event.get("split") == "test"]
    changes = [k for k, event in enumerate(events) if event.get("event") == "resumed" and (event.get("changed") or event.get("images"))]
    if reads and any(reads[0] < k < reads[-1] for k in changes):
        return f"The test part was read {len(reads)} times, and the run was changed in between: if for what test had said, test has chosen."
    return "The test part judged, and was read for nothing else."


def _table(metrics: Mapping[str, Any]) -> Html:
    rest = metrics.get("leak_free")
    columns: list[Mapping[str, Any]] = [metrics, *([rest] if rest and rest["n"] else [])]
    heads = [
        "Figure",
        f"All {metrics['n']:,} images",
        *([f"The {rest['n']:,} without twins"] if len(columns) > 1 and rest else []),
        "What it is",
    ]
    rows = [_figure_row(name, SHARES[name], columns, percent, share_ends) for name in SHARES if name in metrics]
    rows += [_figure_row(name, LOSSES[name], columns, decimal, decimal_ends) for name in LOSSES if name in metrics]
    head = tag("tr", [tag("th", text, scope="col") for text in heads])
    return scrolling("All figures", tag("table", tag("thead", head), tag("tbody", rows)))


def _figure_row(
    name: str,
    words: tuple[str, str],
    columns: Sequence[Mapping[str, Any]],
    form: Callable[[float | None], str],
    ends: Callable[[Figure], str],
) -> Html:
    cells = [tag("td", form(column[name]["value"]), " ", tag("span", ends(column[name]), class_="ends")) for column in columns]
    return tag("tr", tag("th", words[0], scope="row"), cells, tag("td", words[1], class_="note"))


def _others(facts: RunFacts) -> Content:
    if not facts.others:
        return None
    names = ("accuracy", "macro_f1", "ece")
    head = tag(
        "tr", [tag("th", text, scope="col") for text in ("Judged on", "Images", *(SHARES[name][0] for name in names), "Images from")]
    )
    rows = []
    for other in facts.others:
        cells = [tag("td", share(other.metrics[name]) if name in other.metrics else "–") for name in names]
        row = [tag("th", part_name(other.name), scope="row"), tag("td", _judged_of_found(other.metrics), class_="number"), cells]
        rows.append(tag("tr", row, tag("td", other.source or "this run", class_="note")))
    note = f"Validation chose {_chosen_by_val(facts)}: its figures flatter."
    return join(
        [
            tag("h3", "Other evaluations"),
            scrolling("Other evaluations", tag("table", tag("thead", head), tag("tbody", rows))),
            tag("p", note, class_="note") if any(other.name == "val" for other in facts.others) else None,
        ]
    )


def _judged_of_found(metrics: Mapping[str, Any]) -> str:
    found = metrics.get("found", {}).get("images", metrics["n"])
    return f"{metrics['n']:,}" + (f" of {found:,}" if found != metrics["n"] else "")


# ---- repeats -----------------------------------------------------------------------------------------------------------


def repeats_section(facts: RunFacts) -> Section | None:
    """The figures over several seeds, or over the folds; None where there is neither."""
    parts = [_seeds(facts.seeds) if facts.seeds else None, _folds(facts.folds) if facts.folds else None]
    if not any(parts):
        return None
    return Section("repeats", "Trained more than once", join(parts), "Repeats")


def _seeds(seeds: Mapping[str, Any]) -> Html:
    n = len(seeds["seeds"])
    told = ", ".join(str(seed) for seed in seeds["seeds"])
    head = tag(
        "tr", [tag("th", text, scope="col") for text in ("Figure", "Mean", "95 % interval of the mean", "Spread (standard deviation)")]
    )
    rows = [_seed_row(name, figure) for name, figure in seeds["figures"].items() if name in SHARES | LOSSES]
    words = f"Trained {n} times with the seeds {told}, judged on the same {part_name(seeds['split'])} images. "
    few = f"From {n} runs there is no interval to speak of: train with {FEWEST_SEEDS} seeds or more."
    words += (
        few if n < FEWEST_SEEDS else "The intervals say how much the seed matters; those above say how much the choice of the images does."
    )
    return join([tag("p", words), scrolling("Figures over seeds", tag("table", tag("thead", head), tag("tbody", rows)))])


def _seed_row(name: str, figure: Figure) -> Html:
    form, ends = (percent, share_ends) if name in SHARES else (decimal, decimal_ends)
    spread = "–" if figure["sd"] is None else (f"{100 * figure['sd']:.2f} points" if name in SHARES else f"{figure['sd']:.4f}")
    title = (SHARES | LOSSES)[name][0]
    return tag(
        "tr", tag("th", title, scope="row"), tag("td", form(figure["mean"])), tag("td", ends(figure), class_="ends"), tag("td", spread)
    )


def _folds(folds: Mapping[str, Any]) -> Html:
    k = folds.get("folds")
    of = f"{k} networks, each on the fold it was not trained on" if k else "networks that were not trained on them"
    words = f"Every one of {count(folds['n'], 'image')} was judged by {of}: "
    words += f"accuracy {share(folds['accuracy'])}, macro F1 {share(folds['macro_f1'])}."
    return join([tag("p", words), more("All figures over the folds", _table(folds))])


# ---- calibration and sets ------------------------------------------------------------------------------------------------


def calibration_section(facts: RunFacts, judged: Judged) -> Section:
    """What the probabilities are worth."""
    metrics = judged.metrics
    temperature = (facts.card or {}).get("temperature")
    note = ((facts.card or {}).get("about") or {}).get("temperature_note")
    kept = _kept(facts)
    words = ["Of the images that it is 80 % sure of, 80 % should be right. "]
    if kept:
        words.append("No temperature was fitted: it stays 1, which leaves the probabilities as they are. ")
    elif temperature is not None:
        words.append(f"The temperature {temperature:.3f}, chosen on validation, ")
        words.append("sharpens" if temperature < 1 else "softens" if temperature > 1 else "leaves")
        words.append(" the probabilities. " if temperature != 1 else " the probabilities as they are. ")
    words.append(f"The calibration error is {share(metrics['ece'])}")
    if "ece_uncalibrated" in metrics and not kept:
        words.append(f"; without the temperature it would be {share(metrics['ece_uncalibrated'])}")
    harm = metrics.get("calibration_note")
    told = [tag("p", text, class_="told warning") for text in (f"{note[:1].upper()}{note[1:]}." if note else None, harm) if text]
    body = [tag("p", *words, "."), told, _diagrams(metrics.get("reliability"), fitted=not kept)]
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
        tag("div", _card("Sets that hold the true class", sets["coverage"]), _size_card(sets["mean_size"]), class_="cards"),
        tag("p", _met(sets), class_="note"),
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


def _met(sets: Mapping[str, Any]) -> str:
    """Whether the promise was kept on these images, as far as they can tell."""
    value, low, high, level = sets["coverage"]["value"], sets["coverage"]["low"], sets["coverage"]["high"], sets["level"]
    empty = f" {count(sets['empty'], 'set is', 'sets are')} empty." if sets.get("empty") else ""
    if value is None or low is None or high is None:
        return empty.strip()
    if low <= level <= high:
        return f"The promise of {100 * level:.0f} % lies inside the interval: these images do not speak against it.{empty}"
    if low > level:
        return f"The sets hold the true class more often than promised, at the cost of being larger than they need be.{empty}"
    return f"The sets hold the true class less often than promised: these images differ from those of validation.{empty}"


def _class_coverage(metrics: Mapping[str, Any], sets: Mapping[str, Any]) -> Content:
    values = sets.get("per_class")
    if not values:
        return None
    head = tag("tr", [_sort_head("Class", False), _sort_head("Judged", True), _sort_head("Sets that hold the true class, %", True)])
    rows = []
    for row, figure in zip(metrics["per_class"], values, strict=False):
        value = figure.get("value") if isinstance(figure, Mapping) else figure
        cell: Content = "–" if value is None else f"{100 * value:.1f} "
        if isinstance(figure, Mapping) and value is not None and figure.get("low") is not None:
            cell = [cell, tag("span", share_ends(figure), class_="ends"), interval(figure)]
        name = tag("th", tag("bdi", row["name"], class_="name"), scope="row")
        support = tag("td", f"{row['support']:,}", class_="number", data_v=row["support"])
        rows.append(tag("tr", name, support, tag("td", cell, class_="number", data_v="" if value is None else f"{value:.6f}")))
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="sortable")
    return more("Each class", scrolling("Coverage of each class", table))


def _sort_head(text: str, numeric: bool) -> Html:
    return tag("th", tag("button", text, type="button"), scope="col", aria_sort="none", class_="number" if numeric else None)
