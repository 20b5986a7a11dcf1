"""embedding.html: the plane of images to look around in. A report can show the same plane as one of its sections.

    html = embedding_page(embedding, pictures, "flowers: test images as the network sees them")

    section = embedding_section(embedding, pictures)                       in a page of others:
    page(..., [..., section], data={"pictures": ..., "embedding": embedding_data(embedding, pictures)}, script=embedding_script())

Pointing at an image shows it; the legend hides and lights classes; a field finds names and files; all of it goes by
keyboard. `embedding_page.js` has what moves. Without JavaScript there is the legend alone: the picture beside the page
(embedding.png) has both.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from sightline.evaluation.embedding import Embedding
from sightline.evaluation.looks import Look, class_anchors, looks
from sightline.reporting.html import Html, join, tag
from sightline.reporting.page import Section, page
from sightline.reporting.pictures import Pictures

NAMED = 25
"""So many classes have their names in the plane; more have numbers, which the legend explains."""

_MEANING = (
    "Each point is an image. Images that are alike to the network lie near each other; how far groups are apart, and how large they are, "
    "means little. A point is coloured by its true class."
)
_HELP = (
    "Point at an image to see it, click to keep it there. Click a class to hide it, with Shift to see it alone. "
    "By keyboard: in the plane the arrow keys go from image to image, + and - zoom, 0 shows the whole, Enter keeps the card, "
    "Escape closes it; on a class, Enter hides it and o shows it alone. The wheel zooms once the plane was clicked, or with Ctrl. "
    "By touch: tap an image to see it and the ground beside it to close the card; two fingers zoom, and one moves the plane when zoomed in."
)

# The marks of evaluation.looks.MARKS, about a circle of radius 5 at (7, 7); embedding_page.js draws the same.
_SHAPES = (
    '<circle cx="7" cy="7" r="5"/>',
    '<path d="M2.7 2.7h8.6v8.6H2.7z"/>',
    '<path d="M7 .5l5.8 10.2H1.2z"/>',
    '<path d="M7 .8L13.2 7 7 13.2.8 7z"/>',
    '<path d="M7 13.5L1.2 3.3h11.6z"/>',
    '<path d="M4.9 1.5h4.2v3.4h3.4v4.2H9.1v3.4H4.9V9.1H1.5V4.9h3.4z"/>',
    '<path transform="rotate(45 7 7)" d="M4.9 1.5h4.2v3.4h3.4v4.2H9.1v3.4H4.9V9.1H1.5V4.9h3.4z"/>',
    '<path d="M7 1.2l5.5 4-2.1 6.4H3.6L1.5 5.2z"/>',
    '<path d="M.5 7l10.2-5.8v11.6z"/>',
    '<path d="M7 0l1.8 4.5 4.9.3-3.8 3.1 1.2 4.8L7 10.1l-4.1 2.6 1.2-4.8L.3 4.8l4.9-.3z"/>',
)


def embedding_page(embedding: Embedding, pictures: Pictures, title: str) -> str:
    """The whole file.

    Args:
        pictures: of the images; those it lacks say so.
    """
    data = {"pictures": pictures.table, "embedding": embedding_data(embedding, pictures)}
    return page(title, [embedding_section(embedding, pictures, "Each point is an image")], data=data, script=embedding_script())


def embedding_section(embedding: Embedding, pictures: Pictures, title: str = "The images as the network sees them") -> Section:
    """The plane and its legend, to go with `embedding_data` and `embedding_script`."""
    shown, wrong = int(np.isfinite(embedding.places[:, 0]).sum()), int((embedding.labels != embedding.predicted).sum())
    about = f"{embedding.method} of {shown:,} images"
    about += f", a sample of {embedding.of:,}" if embedding.of > len(embedding.paths) else ""
    taken = f"{wrong:,} {'was' if wrong == 1 else 'were'} taken for another class."
    key = tag("span", "", class_="map-key", aria_hidden="true")
    body = [
        tag("style", Html(_packaged("embedding_page.css"))),
        tag("p", f"{about}. {_MEANING} ", key, f"Ringed: {taken} ", " ".join(embedding.notes)),
        tag(
            "div",
            _tools(),
            tag("div", _stage(), _legend(embedding), class_="map-body"),
            tag("p", _HELP, class_="note map-help"),
            class_="map",
        ),
        tag("noscript", tag("p", "The plane needs JavaScript; embedding.png shows it without.")),
    ]
    return Section("embedding", title, join(body), "Embedding")


def embedding_script() -> str:
    """What moves in the plane; runs after page.js."""
    return _packaged("embedding_page.js")


def embedding_data(embedding: Embedding, pictures: Pictures) -> dict[str, Any]:
    """What the script draws: a column a fact, of the images that have a place, and of the classes."""
    kept = np.flatnonzero(np.isfinite(embedding.places[:, 0]))
    k = len(embedding.classes)
    styles, anchors = looks(embedding.places, embedding.labels, k), class_anchors(embedding.places, embedding.labels, k)
    sizes = np.bincount(embedding.labels, minlength=k)
    return {
        "path": [embedding.paths[i] for i in kept],
        "label": embedding.labels[kept].tolist(),
        "predicted": embedding.predicted[kept].tolist(),
        "confidence": [round(float(c), 4) for c in embedding.confidence[kept]],
        "x": [round(float(x), 4) for x in embedding.places[kept, 0]],
        "y": [round(float(y), 4) for y in embedding.places[kept, 1]],
        "picture": [pictures.of(embedding.paths[i]) for i in kept],
        "classes": list(embedding.classes),
        "colours": [style.colour for style in styles],
        "marks": [style.mark for style in styles],
        "short": _short(embedding.classes, sizes),
        "anchors": [[round(float(v), 4) for v in anchor] if np.isfinite(anchor[0]) else None for anchor in anchors],
        "bySize": np.argsort(-sizes, kind="stable").tolist(),
    }


def _short(classes: Sequence[str], sizes: np.ndarray) -> list[str]:
    """What stands in the plane: names where they are few or short, else numbers."""
    named = int((sizes > 0).sum()) <= NAMED or max(map(len, classes)) <= 4
    return list(classes) if named else [str(i + 1) for i in range(len(classes))]


# ---- markup ----------------------------------------------------------------------------------------------------------


def _tools() -> Html:
    find = tag("input", type="search", class_="field", placeholder="class or file", aria_label="Find a class or a file", autocomplete="off")
    count = tag("span", "", class_="map-count note", role="status")
    return tag(
        "div",
        find,
        _toggle("wrong", "Mistakes only"),
        _toggle("pictures", "Pictures"),
        _toggle("names", "Names", True),
        _zoom(),
        count,
        class_="controls",
    )


def _toggle(name: str, words: str, pressed: bool = False) -> Html:
    return tag("button", words, type="button", class_="button", data_map=name, aria_pressed="true" if pressed else "false")


def _zoom() -> Html:
    """Among the tools, not in the plane, where they would lie over images."""
    buttons = [
        tag("button", words, type="button", class_="button", data_map=name, aria_label=label)
        for name, words, label in (("in", "+", "Zoom in"), ("out", "−", "Zoom out"), ("whole", "Whole", "Show the whole"))
    ]
    return tag("span", buttons, class_="map-zoom")


def _stage() -> Html:
    canvas = tag("canvas", "", tabindex=0, role="application", aria_label="The images; the arrow keys go from one to the next")
    said = tag("p", "", class_="map-said unseen", aria_live="polite")
    return tag("div", canvas, tag("div", "", class_="map-card", hidden=True), said, class_="map-stage")


def _legend(embedding: Embedding) -> Html:
    k = len(embedding.classes)
    sizes = np.bincount(embedding.labels, minlength=k)
    missed = np.bincount(embedding.labels[embedding.labels != embedding.predicted], minlength=k)
    styles, short = looks(embedding.places, embedding.labels, k), _short(embedding.classes, sizes)
    numbered = list(embedding.classes) != short
    rows = [
        _class(int(i), embedding.classes[i], short[i] if numbered else None, styles[i], int(sizes[i]), int(missed[i]))
        for i in np.flatnonzero(sizes)
    ]
    buttons = [tag("button", words, type="button", class_="button", data_map=name) for name, words in (("all", "All"), ("none", "None"))]
    head = tag("div", buttons, tag("span", "images"), tag("span", "wrong"), class_="map-head")
    return tag("div", tag("div", head, tag("ul", rows, aria_label="Classes"), class_="map-classes"), class_="map-legend")


def _class(i: int, name: str, number: str | None, style: Look, images: int, wrong: int) -> Html:
    mark = tag("svg", Html(_SHAPES[style.mark]), viewBox="0 0 14 14", aria_hidden="true", style=f"--class: {style.colour}")
    label = f"{name}, {images:,} images, {wrong:,} wrong"
    inside = [mark, tag("b", number) if number else None, tag("bdi", name, class_="name", title=name), tag("small", f"{images:,}")]
    inside += [tag("small", f"{wrong:,}" if wrong else "", class_="wrong-ink")]
    return tag("li", tag("button", inside, type="button", data_class=i, aria_pressed="true", aria_label=label))


def _packaged(name: str) -> str:
    return files("sightline.reporting").joinpath(name).read_text(encoding="utf-8")
