"""How good the classifier is: the headline figures, the other parts that judged, and repeats, each figure with its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sightline.evaluation.baseline import baseline_sentence, most_frequent
from sightline.evaluation.repeats import FEWEST_SEEDS
from sightline.files import quoted
from sightline.reporting.charts import interval
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
        return f"This run is trained, but nothing has judged it yet: sightline evaluate {quoted(facts.place)}"
    done = len(facts.history)
    where = f"{count(done, 'epoch')} are done" if done != 1 else "1 epoch is done"
    return f"This run has not finished: {where}, and there are no figures yet. Go on with: sightline train --resume {quoted(facts.place)}"


def _standing(facts: RunFacts, name: str) -> str:
    if name == "val":
        return f"These images chose {_chosen_by_val(facts)}, so the figures flatter; no test part has judged the classifier."
    if name == "folds":
        return "Each was judged by the network of its fold, which had neither learned nor chosen from it; the run's own was trained alike."
    return "These images neither trained the classifier nor chose anything about it."


def kept(facts: RunFacts) -> str | None:
    """Why the temperature was not chosen but kept at 1; None where it was chosen, or nobody knows."""
    saved = facts.card or {}
    note: str | None = (saved.get("about") or {}).get("temperature_note")
    return note if note and saved.get("temperature") == 1 else None


def _chosen_by_val(facts: RunFacts) -> str:
    return "the epoch" if kept(facts) else "the epoch and the temperature"


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
    cards = [card(SHARES[name][0], metrics[name]) for name in _CARDS if name in metrics]
    views = metrics.get("views", 1)
    body = [
        tag("div", cards, class_="cards"),
        tag("p", _chosen(facts), class_="note"),
        tag("p", f"Each answer is the mean of {views} views of its image.", class_="note") if views != 1 else None,
        more("All figures", _table(metrics), opened=bool(metrics.get("leak_free"))),
        _others(facts),
    ]
    return Section("figures", "How good it is", join(body), "Figures")


def card(name: str, figure: Figure) -> Html:
    """A share, large, with its interval in words and as a band."""
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
        parts.append(f"Validation chose epoch {facts.best} of {len(facts.history)}{by}{'' if kept(facts) else ', and the temperature'}.")
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
    named = dict(zip(heads[1:], columns, strict=False))
    rows = [_figure_row(name, SHARES[name], named, percent, share_ends) for name in SHARES if name in metrics]
    rows += [_figure_row(name, LOSSES[name], named, decimal, decimal_ends) for name in LOSSES if name in metrics]
    head = tag("tr", [tag("th", text, scope="col") for text in heads])
    return scrolling("All figures", tag("table", tag("thead", head), tag("tbody", rows), class_="stacked"))


def _figure_row(
    name: str,
    words: tuple[str, str],
    columns: Mapping[str, Mapping[str, Any]],
    form: Callable[[float | None], str],
    ends: Callable[[Figure], str],
) -> Html:
    cells = [
        tag(
            "td",
            form(column[name]["value"]),
            " ",
            tag("span", ends(column[name]), class_="ends"),
            data_head=head if len(columns) > 1 else None,
        )
        for head, column in columns.items()
    ]
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
        cells = [tag("td", share(other.metrics[name]) if name in other.metrics else "–", data_head=SHARES[name][0]) for name in names]
        images = tag("td", _judged_of_found(other.metrics), class_="number", data_head="Images")
        source = tag("td", other.source or "this run", class_="note", data_head="Images from")
        rows.append(tag("tr", tag("th", part_name(other.name), scope="row"), images, cells, source))
    return join(
        [
            tag("h3", "Other evaluations"),
            scrolling("Other evaluations", tag("table", tag("thead", head), tag("tbody", rows), class_="stacked")),
            [tag("p", _of_validation(facts, other), class_="note") for other in facts.others if other.name == "val"],
        ]
    )


def _judged_of_found(metrics: Mapping[str, Any]) -> str:
    found = metrics.get("found", {}).get("images", metrics["n"])
    return f"{metrics['n']:,}" + (f" of {found:,}" if found != metrics["n"] else "")


def _of_validation(facts: RunFacts, val: Judged) -> str:
    """What its figures are worth: they flatter, and where they are lower all the same, the parts are not alike."""
    chose = f"Validation chose {_chosen_by_val(facts)}"
    judged = facts.judged
    pairs = [(val.metrics.get(name), judged.metrics.get(name)) for name in ("accuracy", "macro_f1")] if judged is not None else []
    known = [(own, other) for own, other in pairs if own and other and None not in (own["value"], other["value"])]
    if judged is None or not any(own["value"] < other["value"] for own, other in known):
        return f"{chose}: its figures flatter."
    apart = any(own["high"] is not None and other["low"] is not None and own["high"] < other["low"] for own, other in known)
    why = "so the two parts differ, by more than chance" if apart else "by chance, or because the two parts differ"
    return f"{chose}, so quote the {part_name(judged.name)} figures. Its own are lower here, {why}."


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
