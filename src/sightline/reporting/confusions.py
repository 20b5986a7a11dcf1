"""The confusion matrix whose cells open to their images, and the pairs of classes that are taken for each other.

    section = matrix_section(judged, support)       a table: true classes in rows, predicted ones in columns
    data = matrix_data(judged, pictures)            what page.js needs to show the images of a cell

The matrix is a table with headings, so that it is read aloud, printed and used by keyboard like one. Where there are more
than 160 classes it holds the 160 with most mistakes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sightline.evaluation.weakness import Mistake, Pair, confused_pairs
from sightline.reporting.facts import Judged, RunFacts, chosen
from sightline.reporting.html import Html, join, tag
from sightline.reporting.page import Section, more, name_of
from sightline.reporting.pictures import Pictures, gallery, tile
from sightline.reporting.words import count, percent

MOST_CLASSES = 160
MOST_PAIRS = 12
PAIR_PICTURES = 12
HOT = 79
"""Percent of the hot colour above which white is read better on it than black (both meet WCAG AA there)."""


def matrix_section(facts: RunFacts, judged: Judged, pictures: Pictures) -> Section:
    """The matrix, the panel for a cell's images, and the pairs."""
    table, shown = np.array(judged.metrics["confusion"]), shown_classes(judged.metrics)
    left_out = len(table) - len(shown)
    body = [
        tag(
            "p",
            "Each row is a true class, each column what its images were called. ",
            tag("span", "Choose a cell to see its images: with the pointer, or with the arrow keys and Enter.", class_="on-screen"),
        ),
        _keys(),
        tag("p", f"Of {len(table):,} classes the {len(shown):,} with most mistakes are shown.", class_="note") if left_out else None,
        _controls(),
        tag("p", class_="readout", role="status"),
        tag("div", tag("div", _matrix(judged.metrics, table, shown), class_="matrix-box"), _panel(), class_="matrix-area"),
        _pairs(facts, judged, pictures),
    ]
    return Section("confusions", "What is taken for what", join(body), "Confusions")


def matrix_data(judged: Judged, pictures: Pictures) -> dict[str, Any]:
    """`classes`, `matrix` (numbers of the classes in its rows) and `images`, column by column, in the order they are shown in."""
    found: dict[str, Any] = {"classes": list(judged.metrics["classes"]), "matrix": shown_classes(judged.metrics).tolist()}
    names = ("path", "label", "predicted", "confidence", "chance", "picture")
    images: dict[str, list[Any]] = {name: [] for name in names}
    predictions = judged.predictions
    if predictions is not None and predictions.labels is not None:
        rows = chosen(predictions)
        labels, predicted = predictions.labels[rows], predictions.predicted()[rows]
        confidence, chance = predictions.probabilities[rows, predicted], predictions.probabilities[rows, labels]
        order = np.lexsort((np.where(labels == predicted, confidence, -confidence), predicted, labels))
        paths = [predictions.ids[row] for row in rows[order]]
        columns = (paths, labels[order], predicted[order], confidence[order].round(4), chance[order].round(4))
        images = {name: list(column) if name == "path" else column.tolist() for name, column in zip(names[:-1], columns, strict=True)}
        images["picture"] = [pictures.of(path) for path in paths]
    return found | {"images": images}


def shown_classes(metrics: Mapping[str, Any]) -> npt.NDArray[np.int64]:
    """Numbers of the classes in the matrix, in their order."""
    table = np.array(metrics["confusion"])
    wrong = table.sum(0) + table.sum(1) - 2 * np.diag(table)
    kept: npt.NDArray[np.int64] = np.sort(np.argsort(-wrong, kind="stable")[:MOST_CLASSES])
    return kept


def _keys() -> Html:
    """What the colours mean."""
    right = tag("li", "right: 0 %", tag("span", class_="scale hit"), "100 % of the row")
    wrong = tag("li", "wrong: 0 %", tag("span", class_="scale miss"), "100 %, few stand out (root scale)")
    return tag("ul", right, wrong, class_="key")


def _controls() -> Html:
    buttons = [
        tag("button", "−", class_="button", type="button", data_zoom="out", aria_label="Smaller cells"),
        tag("button", "+", class_="button", type="button", data_zoom="in", aria_label="Larger cells"),
        tag("button", "Fit", class_="button", type="button", data_zoom="fit", aria_label="Fit the whole matrix"),
    ]
    return tag("div", buttons, class_="controls")


def _matrix(metrics: Mapping[str, Any], table: npt.NDArray[np.int64], shown: npt.NDArray[np.int64]) -> Html:
    names = [metrics["classes"][k] for k in shown]
    flat = len(names) <= 3 and all(len(name) <= 9 for name in names)
    corner = tag("th", "true class ↓", tag("br"), "called →", class_="corner", scope="col")
    heads = [tag("th", tag("span", tag("bdi", name), title=name), scope="col") for name in names]
    rows = [_row(names[i], table[k][shown], i, int(table[k].sum())) for i, k in enumerate(shown)]
    return tag(
        "table",
        tag("caption", "Confusion matrix: images by true class (rows) and predicted class (columns)", class_="unseen"),
        tag("thead", tag("tr", corner, heads)),
        tag("tbody", rows),
        class_="matrix flat" if flat else "matrix",
        role="grid",
        style=f"--k:{len(names) + 4}",
    )


def _row(name: str, cells: npt.NDArray[np.int64], own: int, support: int) -> Html:
    head = tag("th", tag("span", tag("bdi", name), title=name), tag("small", f"{support:,}"), scope="row")
    none = support == 0
    return tag("tr", head, [_cell(int(n), support, j == own, none) for j, n in enumerate(cells)], data_support=support)


def _cell(n: int, support: int, right: bool, none: bool) -> Html:
    """A cell; an empty one is as short as can be, there are thousands."""
    if not n:
        return Html('<td class="none"></td>') if none else Html("<td></td>")
    strength = 100 * (n / support if right else max(0.15, (n / support) ** 0.5))  # a single mistake can be seen too
    far = strength > 50
    kind = ("hit" if right else "miss") + (" far" if far else "") + (" hot" if strength > HOT else "")
    return tag("td", n, class_=kind, data_n=n, style=f"--s:{2 * strength - (100 if far else 0):.0f}", tabindex=-1)


def _panel() -> Html:
    """Where page.js shows the images of a cell."""
    inside = [tag("h3"), tag("p", class_="note"), tag("div", class_="gallery", tabindex=0, aria_label="Images of the cell")]
    return tag("div", inside, class_="cell-panel", aria_live="polite")


# ---- pairs -----------------------------------------------------------------------------------------------------------


def _pairs(facts: RunFacts, judged: Judged, pictures: Pictures) -> Html:
    if judged.predictions is None:
        return tag("p", "The predictions of the images are no longer there, so that no cell can show its images.", class_="told warning")
    pairs = confused_pairs(judged.predictions, MOST_PAIRS, facts.suspects)
    heading = tag("h3", "Most confused pairs")
    if not pairs:
        return join([heading, tag("p", "No image was taken for another class.")])
    return join([heading, *(_pair(pair, pictures, k < 3) for k, pair in enumerate(pairs))])


def _pair(pair: Pair, pictures: Pictures, opened: bool) -> Html:
    shown = pair.mistakes[:PAIR_PICTURES]
    names = [name_of(pair.first), " and ", name_of(pair.second)]
    head = tag("strong", names, f": {count(pair.forth + pair.back, 'mistake')}, {percent(pair.share)} of their images")
    part = f" {len(shown)} of {len(pair.mistakes)} shown, the surest first." if len(shown) < len(pair.mistakes) else ""
    tiles = [mistake_tile(mistake, pictures) for mistake in shown]
    return more(head, tag("p", pair.sentence, ".", part, class_="note"), gallery(tiles), opened=opened, class_="one")


def mistake_tile(mistake: Mistake, pictures: Pictures) -> Html:
    """A picture with what it was called, and what it is labelled."""
    called = [tag("strong", name_of(mistake.predicted)), f" {percent(mistake.confidence)}"]
    labelled = ["labelled ", name_of(mistake.label), f" {percent(mistake.chance)}"]
    return tile(pictures, mistake.id, called, labelled, "label in doubt" if mistake.suspect else None, kind="wrong")
