"""audit.html shows each finding with its pictures, twins side by side."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sightline.reporting.audit_page import PAIRS, SHOWN, audit_page, audit_pictures
from sightline.reporting.pictures import Pictures, make_pictures


def _image(path: str, other: str | None = None, why: str = "why") -> dict[str, Any]:
    found = {"path": path, "severity": 0.8, "label": "<i>cat</i>", "part": "train", "with": other, "why": why}
    return found | ({"with_label": "<i>dog</i>", "with_part": "test"} if other else {})


def _record(**findings: Any) -> dict[str, Any]:
    made = [
        {
            "name": name,
            "title": name.replace("_", " "),
            "level": "warning",
            "severity": 0.8,
            "sentence": f"{name} found.",
            "groups": [],
            **finding,
        }
        for name, finding in findings.items()
    ]
    return {
        "folder": "/data/photos",
        "n": 8,
        "found": 10,
        "used": 8,
        "quarantined": {"truncated": 2},
        "left_out": {},
        "passed_over": {"hidden": 3},
        "twins": {"images": 4, "groups": 2},
        "parts": {"train": 6, "val": 1, "test": 1},
        "classes": [{"name": "<i>cat</i>", "images": 8, "train": 6, "val": 1, "test": 1, "different": 7, "evaluable": "all"}],
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.2, 0.2],
        "notes": ["A note."],
        "findings": made,
    }


def test_the_counts_stand_first_and_add_up() -> None:
    html = audit_page(_record(dark={"count": 0, "images": []}), Pictures((), {}, {}))
    assert "10 found = 8 used + 2 quarantined" in html
    assert "Looked for and not found: dark." in html
    assert "4 images have a twin or share a group, in 2 groups." in html
    assert "Passed over, as no images to learn from: 3 hidden." in html
    dropped = _record() | {"used": 7, "left_out": {"dropped by corrections": 1}}
    assert "10 found = 7 used + 2 quarantined + 1 left out" in audit_page(dropped, Pictures((), {}, {}))
    wrong = _record() | {"used": 9}
    with pytest.raises(ValueError, match="not the 10 found"):
        audit_page(wrong, Pictures((), {}, {}))


def test_every_column_of_the_summary_has_a_heading_and_severity_is_explained() -> None:
    html = audit_page(_record(dark={"count": 2, "images": []}), Pictures((), {}, {}))
    assert '<th scope="col"></th>' not in html
    assert html.index("0 is not at all, 1 as far as can be") < html.index("severity up to 0.80 of 1")
    assert "0 is not at all" not in audit_page(_record(dark={"count": 0, "images": []}), Pictures((), {}, {}))


def test_twins_stand_side_by_side_and_each_pair_once(read_colour: Callable[[str], np.ndarray]) -> None:
    images = [_image("a.jpg", "b.jpg"), _image("b.jpg", "a.jpg"), _image("c.jpg", "d.jpg")]
    record = _record(near_twins={"count": 4, "images": images})
    wanted = audit_pictures(record)
    assert list(dict.fromkeys(wanted)) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    html = audit_page(record, make_pictures(wanted, read_colour))
    assert "<span>test</span>" in html
    boxes = re.findall(r'<div class="twins">(.*?)</section>', html, re.DOTALL)
    assert "&lt;i&gt;dog&lt;/i&gt;" in boxes[0]
    assert re.findall(r'data-path="(.*?)"', boxes[0]) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


def test_groups_of_three_or_more_are_shown_and_long_ones_cut(read_colour: Callable[[str], np.ndarray]) -> None:
    groups = [["a", "b"], [f"g{i}" for i in range(20)]]
    html = audit_page(_record(twins={"count": 22, "images": [], "groups": groups}), Pictures((), {}, {}))
    assert "20 images" in html
    assert "12 of 20 shown." in html


def test_of_many_a_part_is_shown_and_told() -> None:
    images = [_image(f"{i}.jpg") for i in range(200)]
    html = audit_page(_record(dark={"count": 987, "images": images}), Pictures((), {}, {}))
    assert f"{SHOWN} of 987 images shown, the worst first." in html
    assert html.count('<figure class="tile"') == SHOWN
    pairs = [_image(f"{i}.jpg", f"{i}b.jpg") for i in range(200)]
    html = audit_page(_record(leakage={"count": 987, "images": pairs}), Pictures((), {}, {}))
    assert html.count('<figure class="tile"') == 2 * PAIRS


def test_unreadable_files_are_a_list_with_reasons() -> None:
    record = _record(unreadable={"count": 1, "images": [_image("x<y>.jpg", why="not an image")]})
    assert audit_pictures(record) == []
    html = audit_page(record, Pictures((), {}, {}))
    assert "<code>x&lt;y&gt;.jpg</code>: not an image" in html


def test_names_are_escaped() -> None:
    html = audit_page(_record(dark={"count": 1, "images": [_image("<script>.jpg")]}), Pictures((), {}, {}))
    assert "<i>cat" not in html
    assert "&lt;i&gt;cat" in html
    assert "<script>.jpg" not in html
