"""HTML that escapes by default: elements are made by calls, and only what a call made counts as markup.

    tag("p", "a < b ", tag("strong", name), class_="note")        <p class="note">a &lt; b <strong>...</strong></p>
    join(tag("li", text) for text in texts)

Names of classes and files come from strangers. There is no template in which one could be left unescaped: `Html` is made
by `tag`, `join` and a few constants of our own, and any other text is escaped where it is put in.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TypeAlias

Attribute: TypeAlias = "str | int | float | bool | None"
Content: TypeAlias = "str | int | float | Iterable[Content] | None"

_VOID = frozenset({"br", "hr", "img", "input", "link", "meta", "wbr"})


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def tag(name: str, /, *inside: Content, **attributes: Attribute) -> Html:
    """An element.

    Args:
        name: of the element.
        inside: what it holds; all but `Html` is escaped, None is nothing, and iterables are put in one after another.
        attributes: `class_` and `for_` lose their underscore, others have hyphens for underscores (`data_path`, `aria_label`).
            None and False leave an attribute out, True gives it without a value.
    """
    head = name + "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{head}>")
    return Html(f"<{head}>{join(inside)}</{name}>")


def join(contents: Iterable[Content]) -> Html:
    """Contents one after another."""
    return Html("".join(text(content) for content in contents))


def text(content: Content) -> Html:
    """Content as markup: escaped, where it is not `Html`."""
    if isinstance(content, Html):
        return content
    if content is None:
        return Html("")
    if isinstance(content, (str, int, float)):
        return Html(escape(_whole(str(content)), quote=True))
    return join(content)


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(_whole(str(value)), quote=True)}"'


def _whole(value: str) -> str:
    """A file name that is not Unicode has halves of characters, which no file in UTF-8 can hold: they are spelled out."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")
