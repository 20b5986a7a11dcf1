"""HTML escapes what strangers wrote, and only that."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.reporting.html import Html, join, tag


class _Reader(HTMLParser):
    """What a browser would see: text, and the attributes of all elements."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.said = ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_data(self, data: str) -> None:
        self.said += data

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attributes)))


def _read(markup: str) -> _Reader:
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    return reader


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r")),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r")),
)
def test_any_text_comes_out_as_it_went_in_and_makes_no_element(inside: str, attribute: str) -> None:
    seen = _read(tag("p", inside, title=attribute))
    assert seen.said == inside
    assert seen.tags == [("p", {"title": attribute})]


def test_what_a_call_made_is_markup_and_lists_are_put_in_one_after_another() -> None:
    assert tag("ul", [tag("li", "<1>"), tag("li", 2)], None) == "<ul><li>&lt;1&gt;</li><li>2</li></ul>"
    assert join(["a", Html("<b>"), None, ["c", "&"]]) == "a<b>c&amp;"


def test_joining_markup_to_text_by_hand_does_not_make_text_markup() -> None:
    assert tag("p", tag("b", "x") + "<i>") == "<p>&lt;b&gt;x&lt;/b&gt;&lt;i&gt;</p>"


def test_attributes_have_hyphens_and_may_be_left_out() -> None:
    made = tag("td", "5", class_="number", data_v=0.5, hidden=True, title=None, disabled=False)
    assert made == '<td class="number" data-v="0.5" hidden>5</td>'


def test_elements_without_an_end_have_none() -> None:
    assert tag("br") == "<br>"
    assert tag("p") == "<p></p>"


@pytest.mark.parametrize("name", ["not \udce9 unicode.jpg", "a\0b"])
def test_names_that_no_utf8_file_can_hold_are_spelled_out(name: str) -> None:
    tag("p", name, title=name).encode("utf-8")
    assert "\0" not in tag("p", name)
