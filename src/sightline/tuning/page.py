"""tune.html: what was searched, what was found, who judged, and every trial; one file that opens anywhere.

    html = study_page(facts)

The pictures are those of `pictures.py`, put into the page. Its first sentences say that validation chose among so many
trials, and that test judged once.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.config import show
from sightline.reporting.html import Content, Html, join, tag
from sightline.reporting.page import Section, more, name_of, page, scrolling
from sightline.reporting.words import NONE, count, duration, listing, percent, share_ends
from sightline.tuning.objective import Objective
from sightline.tuning.record import Trial, best_of, finished, front_of
from sightline.tuning.space import Space

TOLD = {
    "history.png": ("Trial after trial", "Each trial's figure, and the best so far. A cross was ended early."),
    "front.png": ("The front", "No trial is better than those of the green line in every figure; their numbers stand beside them."),
    "importance.png": (
        "What mattered",
        "How much of the difference between complete trials each setting explains. Of few trials, and of settings that were searched in "
        "a narrow range, it says little.",
    ),
    "slices.png": ("Setting by setting", "Each setting against the figure; the green ring is the best trial."),
    "parallel.png": ("All settings together", "Each line is a complete trial."),
    "steps.png": ("While they ran", "The figure as it grew; what was ended early ends with a cross."),
}
"""The title and the explanation of each picture, in the order of the page."""

_FEW = 20  # complete trials below which importances are mostly chance


@dataclass(frozen=True)
class StudyFacts:
    """All that the page shows.

    Attributes:
        metrics: of the best trial, trained again; empty where it was not.
        recipe: the settings of the best trial, as a recipe writes them.
        command: what goes on with the study.
        notes: sentences that the user should have seen.
    """

    name: str
    source: str
    storage: str
    space: Space
    objectives: Sequence[Objective]
    trials: Sequence[Trial]
    metrics: Mapping[str, Any]
    recipe: str
    command: str
    pictures: Sequence[Path]
    searched_by: str
    notes: Sequence[str] = ()


def study_page(facts: StudyFacts) -> str:
    """The whole file."""
    sections = [_best_section(facts), _space_section(facts), *_picture_sections(facts), _trials_section(facts), _again_section(facts)]
    return page(f"Study {facts.name}", sections, lead=_lead(facts))


# ---- what was found ----------------------------------------------------------------------------------------------------


def _lead(facts: StudyFacts) -> Html:
    best = best_of(facts.trials, facts.objectives)
    said: list[Content] = [f"{_tally(facts.trials)} "]
    if best is not None and best.values is not None:
        figures = [f"{one.title} {_figure(one, value)}" for one, value in zip(facts.objectives, best.values, strict=True)]
        said += [_who_is_best(facts, best), tag("strong", ", ".join(figures)), "."]
    return join([tag("p", said, class_="lead"), _judged(facts), [tag("p", note, class_="told") for note in facts.notes]])


def _tied(facts: StudyFacts, best: Trial) -> list[Trial]:
    """The complete trials with the very figures of the best, itself among them."""
    return [trial for trial in finished(facts.trials) if trial.values == best.values]


def _who_is_best(facts: StudyFacts, best: Trial) -> str:
    tied = _tied(facts, best)
    if len(tied) == 1:
        return f"Trial {best.number} is the best: "
    numbers = listing([str(trial.number) for trial in tied])
    return f"{len(tied)} trials tie for the best ({numbers}), and the first of them, trial {best.number}, was taken: "


def _figure(objective: Objective, value: float) -> str:
    """A figure as other pages write it."""
    if objective.share:
        return percent(value)
    return duration(value) if objective.name == "seconds" else f"{value:,.0f}" if objective.name == "parameters" else f"{value:.4g}"


def _tally(trials: Sequence[Trial]) -> str:
    states = [trial.state for trial in trials if trial.state != "lost"]
    words = {"complete": "complete", "pruned": "ended early", "failed": "failed", "running": "running", "waiting": "waiting"}
    told = ", ".join(f"{states.count(state)} {word}" for state, word in words.items() if state in states)
    return f"{count(len(states), 'trial')}: {told}."


def _judged(facts: StudyFacts) -> Html:
    """Who chose, and who judged."""
    tried = count(sum(trial.state in ("complete", "pruned") for trial in facts.trials), "trial")
    chose = f"Validation chose among {tried}, so the best of its figures flatters."
    test = facts.metrics.get("test")
    if test is None:
        return tag("p", f"{chose} No test part has judged yet.", class_="told warning")
    figures = [f"macro F1 {percent(test['macro_f1']['value'])} ({share_ends(test['macro_f1'])})"]
    figures += [f"accuracy {percent(test['accuracy']['value'])} ({share_ends(test['accuracy'])})"]
    judged = f" {count(test['n'], 'test image')}, which chose nothing, judged once what validation had chosen: "
    return tag("p", chose, judged, tag("strong", ", ".join(figures)), ".", class_="told")


def _best_section(facts: StudyFacts) -> Section:
    shown = front_of(facts.trials, facts.objectives) if len(facts.objectives) > 1 else []
    best = best_of(facts.trials, facts.objectives)
    if best is None:
        return Section("best", "The best trial", tag("p", "No trial has been finished.", class_="told warning"))
    body: list[Content] = [_chosen_table(facts, shown or [best])]
    body += [_seeds(facts), tag("p", "As a recipe, for ", tag("code", "sightline train FOLDER -c RECIPE.yaml"), ":")]
    body.append(tag("pre", facts.recipe.strip()))
    title = f"{count(len(shown), 'trial')} that no other one beats" if shown else f"Trial {best.number}, {_rank(facts, best)}"
    return Section("best", title, join(body), "The best")


def _rank(facts: StudyFacts, best: Trial) -> str:
    tied = len(_tied(facts, best))
    return "the best" if tied == 1 else f"the first of {tied} that tie"


def _chosen_table(facts: StudyFacts, shown: Sequence[Trial]) -> Html:
    """A column a trial: its figures, then its settings."""
    head = tag("tr", tag("th", "", scope="col"), [tag("th", f"trial {trial.number}", scope="col", class_="number") for trial in shown])
    rows = [
        tag("tr", tag("th", one.title, scope="row"), [tag("td", _figure(one, (trial.values or ())[k]), class_="number") for trial in shown])
        for k, one in enumerate(facts.objectives)
    ]
    for path in facts.space.names:
        cells = [tag("td", _shown(trial.chosen, path), class_="number") for trial in shown]
        rows.append(tag("tr", tag("th", tag("code", path), scope="row"), cells))
    return scrolling("The best trials", tag("table", tag("thead", head), tag("tbody", rows)))


def _shown(chosen: Mapping[str, Any], path: str) -> str:
    return show(chosen[path]) if path in chosen else NONE


def _seeds(facts: StudyFacts) -> Html | None:
    """How much of it is chance."""
    seeds = facts.metrics.get("seeds")
    if seeds is None:
        return None
    figure = seeds["figures"]["macro_f1"]
    told = f"Trained {len(seeds['seeds'])} times with different seeds, it has a macro F1 on {seeds['split']} of {percent(figure['mean'])} "
    return tag("p", told + f"in the mean, with a standard deviation of {100 * figure['sd']:.1f} points.")


# ---- what was searched -------------------------------------------------------------------------------------------------


def _space_section(facts: StudyFacts) -> Section:
    head = tag("tr", [tag("th", text, scope="col") for text in ("Setting", "Between", "Only with")])
    rows = []
    for one in facts.space:
        needs = "; ".join(f"{name}={' or '.join(show(value) for value in values)}" for name, values in one.needs)
        plain = one.domain.plain()
        between = ", ".join(show(value) for value in plain) if isinstance(plain, list) else _range(plain)
        rows.append(tag("tr", tag("th", tag("code", one.path), scope="row"), tag("td", between), tag("td", needs)))
    body = [
        tag("p", ["Images of ", tag("code", name_of(facts.source)), f". {facts.searched_by} Kept in ", tag("code", facts.storage), "."]),
        scrolling("The space", tag("table", tag("thead", head), tag("tbody", rows))),
    ]
    return Section("space", "What was searched", join(body), "The space")


def _range(plain: Mapping[str, Any]) -> str:
    words = f"{show(plain['from'])} to {show(plain['to'])}"
    return words + (", by its logarithm" if plain.get("log") else "") + (f", in steps of {show(plain['step'])}" if "step" in plain else "")


# ---- pictures ----------------------------------------------------------------------------------------------------------


def _picture_sections(facts: StudyFacts) -> list[Section]:
    there = {path.name: path for path in facts.pictures}
    found = []
    for name, (title, told) in TOLD.items():
        if name not in there:
            continue
        few = len(finished(facts.trials)) < _FEW and name == "importance.png"
        words = [tag("p", told), tag("p", f"Here there are fewer than {_FEW} complete trials.", class_="told warning") if few else None]
        found.append(Section(name.partition(".")[0], title, join([*words, _image(there[name], title)])))
    return found


def _image(path: Path, title: str) -> Html:
    code = base64.b64encode(path.read_bytes()).decode("ascii")
    drawn = tag("img", src=f"data:image/png;base64,{code}", alt=f"{title}; the table of trials has its numbers")
    return tag("figure", scrolling(title, drawn), class_="drawing plot")


# ---- trials --------------------------------------------------------------------------------------------------------------


def _trials_section(facts: StudyFacts) -> Section:
    names = [*(one.title for one in facts.objectives), "epochs", "time", *facts.space.names, "why"]
    head = tag("tr", [tag("th", tag("button", text), scope="col") for text in ("trial", "state", *names)])
    rows = [_row(trial, facts) for trial in facts.trials]
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="sortable")
    body = [tag("p", "trials.csv has the same, and each trial's run folder is in trials/."), scrolling("Trials", table, tall=True)]
    reasons: dict[str, int] = {}
    for trial in facts.trials:
        if trial.state == "failed":
            reasons[trial.reason or "unknown"] = reasons.get(trial.reason or "unknown", 0) + 1
    if reasons:
        told = [tag("li", f"{n:,} × {why}") for why, n in sorted(reasons.items(), key=lambda item: -item[1])]
        body.append(more("Why trials failed", tag("ul", told), opened=True))
    return Section("trials", "All trials", join(body), "Trials")


def _row(trial: Trial, facts: StudyFacts) -> Html:
    cells = [tag("th", trial.number, scope="row"), tag("td", trial.state)]
    values = (trial.values or ()) if trial.state in ("complete", "pruned") else ()
    for k, one in enumerate(facts.objectives):
        known = k < len(values)
        cells.append(tag("td", _figure(one, values[k]) if known else "", class_="number", data_v=values[k] if known else ""))
    cells.append(tag("td", trial.facts.get("epochs", max(trial.steps, default="")), class_="number"))
    seconds = float(trial.facts.get("seconds", 0))
    cells.append(tag("td", duration(seconds) if seconds else "", class_="number", data_v=seconds))
    cells += [tag("td", show(trial.chosen[path]) if path in trial.chosen else "", class_="number") for path in facts.space.names]
    return tag("tr", cells, tag("td", trial.reason or "", class_="note"))


def _again_section(facts: StudyFacts) -> Section:
    body = [
        tag(
            "p",
            "The same command goes on with the study, with more trials where --trials is larger; started elsewhere too, it shares them:",
        ),
        tag("pre", facts.command),
        tag("p", "optuna-dashboard shows the same storage, live."),
    ]
    return Section("again", "Going on", join(body))
