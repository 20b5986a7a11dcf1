"""The page is one file that loads nothing, runs only our scripts, and can be read in the dark."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files

import pytest

from sightline.reporting.confusions import HOT
from sightline.reporting.html import tag
from sightline.reporting.page import Section, page

CSS = files("sightline.reporting").joinpath("page.css").read_text()


def _scripts(html: str) -> list[str]:
    return re.findall(r"<script>(.*?)</script>", html, re.DOTALL)


def _data(html: str) -> object:
    return json.loads(re.findall(r'<script type="application/json" id="page-data">(.*?)</script>', html, re.DOTALL)[0])


def test_sections_are_in_the_list_of_contents_under_their_short_names() -> None:
    html = page("run", [Section("one", "The first", tag("p", "x"), "First"), Section("two", "Second", tag("p", "y"))])
    assert re.findall(r'<a href="#(\w+)">(.*?)</a>', html) == [("one", "First"), ("two", "Second")]
    assert '<section id="one" aria-labelledby="one-title"><h2 id="one-title">The first</h2>' in html


def test_only_scripts_of_known_digest_may_run_and_nothing_may_be_loaded() -> None:
    html = page("run", [], script="console.log('more')")
    policy = re.findall(r'Content-Security-Policy" content="(.*?)"', html)[0].replace("&#x27;", "'")
    for script in _scripts(html):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert len(_scripts(html)) == 2
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]


def test_nothing_in_the_page_points_to_a_network() -> None:
    html = page("run", [Section("one", "One", tag("p", "x"))], data={"pictures": []})
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", html)
    assert not re.findall(r"url\(|@import|fetch\(|XMLHttpRequest|https?://", html)


@pytest.mark.parametrize("name", ["</script><script>alert(1)</script>", "<!-- <script>", "\u2028", "\udce9", "]]>"])
def test_data_cannot_leave_its_place_and_comes_back_as_it_was(name: str) -> None:
    html = page(name, [], data={"classes": [name]})
    assert len(_scripts(html)) == 1
    assert _data(html) == {"classes": [name]}
    html.encode("utf-8")


def test_numbers_that_json_has_not_are_refused() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        page("run", [], data={"x": float("nan")})


def test_a_section_needs_a_word_for_its_anchor() -> None:
    with pytest.raises(ValueError, match="anchor"):
        Section("two words", "x", tag("p"))


# ---- colours -----------------------------------------------------------------------------------------------------------


def _palette(dark: bool) -> dict[str, str]:
    light, night = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)[:2])
    return light | night if dark else light


def _rgb(colour: str) -> list[float]:
    return [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]


def _luminance(rgb: list[float]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(a: list[float], b: list[float]) -> float:
    """WCAG 2.2, 1.4.3."""
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["ground", "card", "faint"])
@pytest.mark.parametrize("ink", ["ink", "soft", "accent", "right-ink", "wrong-ink", "phase", "good"])
def test_text_meets_aa_on_every_ground(ink: str, ground: str, dark: bool) -> None:
    palette = _palette(dark)
    assert _contrast(_rgb(palette[ink]), _rgb(palette[ground])) >= 4.5


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("hot", ["hot-right", "hot-wrong"])
def test_counts_meet_aa_on_every_shade_of_a_cell(hot: str, dark: bool) -> None:
    palette = _palette(dark)
    card, middle, far = (_rgb(palette[name]) for name in ("card", hot.replace("hot", "mid"), hot))
    for percent in range(101):
        start, end, share = (card, middle, percent / 50) if percent <= 50 else (middle, far, percent / 50 - 1)
        mixed = [share * b + (1 - share) * a for a, b in zip(start, end, strict=True)]
        ink = palette["on-hot" if percent > HOT else "on-cold"]
        assert _contrast(_rgb(ink), mixed) >= 4.5, percent
