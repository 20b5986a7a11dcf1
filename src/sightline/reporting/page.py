"""The one page that all reports are: a self-contained HTML file with its style, its script, its data and its pictures inside.

    sections = [Section("classes", "Classes", tag("p", "..."))]
    html = page("flowers", sections, lead=tag("p", "..."), data={"pictures": pictures.table})

The browser is told (Content-Security-Policy) to load nothing from anywhere and to run no script but ours, known by its
digest: even a name that got past the escaping could do nothing. `page.css` has the look, in light, dark and print.
`page.js` has what moves, and acts on markup alone:

    <img data-picture="3">                          shows data.pictures[3] once it comes into view (see pictures.tile)
    <table class="sortable">                        <th><button>..</button></th> sorts by the cells' data-v, else their text
    <table class="matrix">, <... class="cell-panel">  the confusion matrix and the images of its cell (see confusions.py)

A page of another room gives a `script` of its own; it finds `window.sightline`, see page.js. It gives up what does not work without
JavaScript: pictures, sorting and the matrix; all text and figures are there without it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from sightline.reporting.html import Content, Html, join, tag


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page under a heading.

    Attributes:
        name: its anchor, a word.
        title: the heading.
        body: what follows it.
        short: what the list of contents calls it; None: the title.
    """

    name: str
    title: str
    body: Html
    short: str | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"{self.name!r} is not a word that could be an anchor")


_UNSCRIPTED = tag(
    "noscript",
    tag(
        "p", "JavaScript is off: the text and the figures are here, but pictures, sorting and what opens on a click are not.", class_="told"
    ),
)


def page(title: str, sections: Sequence[Section], *, data: Mapping[str, Any] | None = None, lead: Content = None, script: str = "") -> str:
    """The whole file.

    Args:
        title: of the page; the first heading too.
        sections: in order; each is in the list of contents.
        data: for the script, as JSON; `pictures` holds the table of `Pictures`. NaN is refused.
        lead: between the title and the first section.
        script: JavaScript of ours that runs after page.js; never text from data.
    """
    scripts = [source for source in (_packaged("page.js"), script) if source]
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Html(_packaged("page.css"))),
    ]
    body = [
        tag("a", "Skip to the content", class_="skip", href="#content"),
        _contents(title, sections),
        tag("main", tag("header", tag("h1", tag("bdi", title)), _UNSCRIPTED, lead), map(_section, sections), id="content"),
        tag("script", _json(data or {}), type="application/json", id="page-data"),
        *(tag("script", Html(source)) for source in scripts),
    ]
    return "<!doctype html>\n" + tag("html", tag("head", head), "\n", tag("body", join(body)), lang="en") + "\n"


def scrolling(label: str, *inside: Content, tall: bool = False) -> Html:
    """A box for what may be wider than the screen, or (`tall`) higher; it can be scrolled with the keyboard."""
    return tag("div", *inside, class_="scroll tall" if tall else "scroll", tabindex=0, role="region", aria_label=label)


def more(summary: Content, *inside: Content, opened: bool = False, **attributes: str) -> Html:
    """What is shown on request."""
    return tag("details", tag("summary", summary), *inside, open=opened, **attributes)


def name_of(what: str) -> Html:
    """A name from a stranger, kept apart from the direction of the text around it; it may be broken after an underscore."""
    first, *others = what.split("_")
    return tag("bdi", first, [["_", tag("wbr"), part] for part in others], class_="name")


def coded(sentence: str) -> Html:
    """A sentence in which what stands between backticks is code."""
    return join(tag("code", part) if k % 2 else part for k, part in enumerate(sentence.split("`")))


def _section(section: Section) -> Html:
    heading = tag("h2", section.title, id=f"{section.name}-title")
    return tag("section", heading, section.body, id=section.name, aria_labelledby=f"{section.name}-title")


def _contents(title: str, sections: Sequence[Section]) -> Html:
    links = (tag("li", tag("a", section.short or section.title, href=f"#{section.name}")) for section in sections)
    return tag("nav", tag("p", tag("bdi", title), aria_hidden="true"), tag("ul", links), aria_label="Contents", class_="contents")


def _policy(scripts: Sequence[str]) -> str:
    """Nothing from outside, and only these scripts."""
    known = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'" for source in scripts)
    return f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {known}; base-uri 'none'; form-action 'none'"


def _json(data: Mapping[str, Any]) -> Html:
    """For a script element, which ends at the first `</script`, so that no `<` may be in it."""
    plain = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Html(plain.encode("utf-8", "backslashreplace").decode("utf-8").replace("<", "\\u003c"))


@cache
def _packaged(name: str) -> str:
    return files("sightline.reporting").joinpath(name).read_text(encoding="utf-8")
