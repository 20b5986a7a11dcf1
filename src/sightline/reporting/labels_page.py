"""labels.html: suspected labels, one at a time, with pictures and keys; the decisions are saved as corrections.csv.

    html = labels_page("flowers", key, classes, suspects, samples, pictures, false_alarms(0.8), notes)

No server: decisions are kept by the browser (localStorage, under `key`) and leave it as a download. Suspects of the test
part have a list of their own, behind a warning: to correct them changes the judge. `labels_page.js` has what moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from sightline.reporting.html import Html, join, tag
from sightline.reporting.page import Section, coded, more, page
from sightline.reporting.pictures import Pictures

KEYS = (
    ("k", "keep the label"),
    ("r", "relabel to the likely class"),
    ("1 to 5", "relabel to the numbered class"),
    ("c", "choose any other class by name or number"),
    ("d", "drop the image"),
    ("n or →", "next, undecided for now"),
    ("p or ←", "previous"),
    ("u", "undo the last decision"),
    ("s", "save corrections.csv"),
)
"""What `labels_page.js` listens to, in the words of the page."""

ABLE = 0.7
"""Agreement with the labels below which most flags were false alarms (planted errors, simpsons-28px and its long tail)."""


def false_alarms(agreement: float) -> str:
    """How many of the flags to expect to be false, from the share of the judged labels that the network agrees with.

    Northcutt, Athalye and Mueller 2021 (NeurIPS): of what was flagged in ten public sets, people confirmed 51 %.
    """
    if agreement >= ABLE:
        return (
            "About half of such flags are false alarms: hard pictures with the right label. "
            "Look at each; keep what you would call as the folder does."
        )
    return (
        f"Expect most flags to be false alarms: the network agrees with only {100 * agreement:.1f} % of the labels, "
        "so it is often wrong itself. The worst come first: stop when they turn out right."
    )


@dataclass(frozen=True, slots=True)
class Suspect:
    """One image whose label is doubted.

    Attributes:
        path: of the image.
        split: train, val or test.
        label, likely: numbers of the class that it has and of the one that it looks like.
        score: severity, 0..1.
        top: class numbers and probabilities, likeliest first.
    """

    path: str
    split: str
    label: int
    likely: int
    score: float
    top: tuple[tuple[int, float], ...]


def labels_page(
    title: str,
    key: str,
    classes: Sequence[str],
    suspects: Sequence[Suspect],
    samples: Mapping[int, Sequence[str]],
    pictures: Pictures,
    trust: str,
    notes: Sequence[str] = (),
) -> str:
    """The whole file.

    Args:
        title: of the data.
        key: names the run, so that two runs do not share decisions.
        suspects: worst first.
        samples: {class number: paths of images that fit it}.
        pictures: of the suspects and the samples.
        trust: how far to trust the flags, see `false_alarms`.
        notes: sentences on what was judged, and what was not.
    """
    tests = sum(one.split == "test" for one in suspects)
    review = _desk(bool(tests)) if suspects else tag("p", "No label is suspected.")
    sections = [Section("review", "Review", join([tag("style", Html(_packaged("labels_page.css"))), review]))]
    sections.append(Section("about", "What this is", _about(notes)))
    data = {
        "pictures": pictures.table,
        "labels": {
            "key": key,
            "classes": list(classes),
            "suspects": [_suspect(one, pictures) for one in suspects],
            "samples": {str(number): [_picture(path, pictures) for path in paths] for number, paths in samples.items()},
        },
    }
    return page(f"Labels of {title}", sections, data=data, lead=_lead(suspects, tests, trust), script=_packaged("labels_page.js"))


def _lead(suspects: Sequence[Suspect], tests: int, trust: str) -> Html:
    count = len(suspects)
    shown = "1 label looks wrong" if count == 1 else f"{count:,} labels look wrong"
    apart = f", {tests:,} of them in the test part, which has a list of its own" if tests else ""
    return join([tag("p", tag("strong", shown), f"{apart}."), tag("p", trust)] if suspects else [tag("p", "No label looks wrong.")])


def _suspect(suspect: Suspect, pictures: Pictures) -> dict[str, Any]:
    return {
        **_picture(suspect.path, pictures),
        "split": suspect.split,
        "label": suspect.label,
        "likely": suspect.likely,
        "score": round(suspect.score, 4),
        "top": [[number, round(chance, 4)] for number, chance in suspect.top],
    }


def _picture(path: str, pictures: Pictures) -> dict[str, int | str]:
    """The path, and the number of its picture or why there is none."""
    return {"path": path, "picture": pictures.of(path)}


# ---- the desk ----------------------------------------------------------------------------------------------------------


def _desk(with_tests: bool) -> Html:
    """What `labels_page.js` fills."""
    return tag(
        "div",
        tag("noscript", tag("p", "This page needs JavaScript; suspects.csv beside it has the same list.")),
        _bar(with_tests),
        tag(
            "p",
            "Test split: a correction here changes the judge. It is applied only with ",
            tag("code", "data.correct_test=true"),
            ", and figures from before and after it do not compare.",
            id="labels-warning",
            class_="labels-warning told warning",
            role="alert",
            hidden=True,
        ),
        tag("div", _stage(), _verdict(), class_="labels-card"),
        tag("div", _shelf("label"), _shelf("likely"), class_="labels-shelves"),
        tag("p", id="labels-said", class_="labels-said", role="status", aria_live="polite"),
        id="labels",
        class_="labels",
        data_js=True,
    )


def _bar(with_tests: bool) -> Html:
    parts = tag(
        "select",
        tag("option", "train and val", value="rest"),
        tag("option", "test", value="test"),
        id="labels-part",
        aria_label="Part of the split",
    )
    return tag(
        "div",
        tag("progress", id="labels-progress", value=0, max=1, aria_label="Decided"),
        tag("span", id="labels-count"),
        tag("span", parts, hidden=not with_tests),
        tag("button", "Save corrections.csv", type="button", id="labels-save", class_="button labels-save", disabled=True, title="s"),
        class_="labels-bar",
    )


def _stage() -> Html:
    picture = tag("div", id="labels-picture", class_="labels-picture")
    return tag("figure", picture, tag("figcaption", id="labels-path", class_="labels-path"), class_="labels-stage")


def _verdict() -> Html:
    names = tag(
        "dl",
        tag("dt", "Labelled"),
        tag("dd", id="labels-label", class_="labels-name"),
        tag("dt", "Looks like"),
        tag("dd", id="labels-likely", class_="labels-name"),
    )
    choose = tag(
        "div",
        tag("label", "Class, by name or number", for_="labels-wanted"),
        tag("input", id="labels-wanted", class_="field", type="text", autocomplete="off", spellcheck="false"),
        tag("ul", id="labels-matches", class_="labels-matches"),
        id="labels-choose",
        class_="labels-choose",
        hidden=True,
    )
    return tag(
        "div",
        tag("p", id="labels-place", class_="labels-place"),
        names,
        tag("p", id="labels-decision", class_="labels-decision"),
        tag("ol", id="labels-top", class_="labels-top", aria_label="What the network says"),
        choose,
        tag("div", *(_button(*one) for one in _BUTTONS), class_="labels-buttons"),
        class_="labels-verdict",
    )


_BUTTONS = (
    ("keep", "Keep", "Keep", "k"),
    ("relabel", "Relabel", "Relabel", "r"),
    ("other", "Other class", "Other", "c"),
    ("drop", "Drop", "Drop", "d"),
    ("previous", "Previous", "‹", "p"),
    ("next", "Next", "›", "n"),
    ("undo", "Undo", "↶", "u"),
)


def _button(name: str, words: str, short: str, key: str) -> Html:
    """A button; on a phone, where all must fit one row, with its short name."""
    shown = [tag("span", words, class_="labels-long"), tag("span", short, class_="labels-short", aria_hidden="true"), " ", tag("kbd", key)]
    return tag("button", shown, type="button", id=f"labels-{name}", class_=f"button labels-{name}", title=words, aria_label=words)


def _shelf(which: str) -> Html:
    heading = tag("h3", id=f"labels-{which}-title")
    return tag("div", heading, tag("div", id=f"labels-{which}-samples", class_="labels-samples"))


# ---- the words -----------------------------------------------------------------------------------------------------------


def _about(notes: Sequence[str]) -> Html:
    keys = tag("dl", *(join([tag("dt", tag("kbd", key)), tag("dd", what)]) for key, what in KEYS), class_="labels-keys")
    return join(
        [
            tag("p", *([coded(note), " "] for note in notes)) if notes else "",
            tag(
                "p",
                "Networks that were not trained on these pictures judged their labels. As many are listed as there are pictures of which "
                "a network is as sure that they are of another class as it usually is of that class's own (confident learning, Northcutt "
                "2021): those whose label is least probable, the worst first. The score is one minus the probability of the label: "
                "at 1 the network rules it out.",
            ),
            tag(
                "p",
                "Decisions stay in this browser until you save them. Train with the saved file: ",
                tag("code", "sightline train FOLDER data.corrections=corrections.csv"),
                "; no file of yours is changed. ",
                tag("code", "sightline compare RUN NEW_RUN"),
                " says whether it helped.",
            ),
            more("Keys", keys, opened=True),
        ]
    )


def _packaged(name: str) -> str:
    return files("sightline.reporting").joinpath(name).read_text(encoding="utf-8")
