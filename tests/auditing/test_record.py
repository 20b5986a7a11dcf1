from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.auditing.checks import run_checks
from sightline.auditing.material import Material
from sightline.auditing.record import WORST, as_record
from sightline.auditing.text import summary

Make = Callable[..., Material]
PARTS = st.sampled_from(["train", "val", "test", ""])


def record_of(material: Material) -> dict[str, object]:
    return as_record(material, run_checks(material), ["A note."])


@given(
    rows=st.lists(st.tuples(PARTS, st.integers(0, 3), st.sampled_from("abc")), max_size=12),
    refused=st.lists(st.sampled_from(["cut", "empty"])),
)
def test_counts_add_up(build_material: Make, rows: list[tuple[str, int, str]], refused: list[str]) -> None:
    flat = [np.full((4, 4, 3), 60 * kind, dtype=np.uint8) for _, kind, _ in rows]
    parts, groups, labels = [part for part, _, _ in rows], [kind for _, kind, _ in rows], [label for _, _, label in rows]
    record = record_of(build_material(flat, labels=labels, part=parts, groups=groups, refused=refused))
    assert record["found"] == len(rows) + len(refused)
    assert record["found"] == record["used"] + sum(record["quarantined"].values()) + sum(record["left_out"].values())
    assert sum(record["quarantined"].values()) == len(refused)
    sizes = [groups.count(group) for group in groups]
    assert record["twins"] == {
        "images": sum(size > 1 for size in sizes),
        "groups": len({g for g, n in zip(groups, sizes, strict=True) if n > 1}),
    }
    assert sum(record["parts"].values()) == sum(one["images"] for one in record["classes"]) == record["used"] == record["n"]
    assert all(one["different"] <= one["images"] == one["train"] + one["val"] + one["test"] for one in record["classes"])
    for finding in record["findings"]:
        assert len(finding["images"]) == min(finding["count"], WORST)
        assert finding["severity"] == max((image["severity"] for image in finding["images"]), default=0)
    json.dumps(record, allow_nan=False)
    assert summary(record)


def test_the_worst_come_first_and_bring_what_belongs_beside_them(make_material: Make, scenes: list[np.ndarray]) -> None:
    record = record_of(make_material(scenes, twins=[(1, 2, 0.8), (5, 9, 0.95)]))
    near = next(one for one in record["findings"] if one["name"] == "near-twins")
    assert [(image["path"], image["with"]) for image in near["images"]] == [
        ("cat/005.png", "cat/009.png"),
        ("cat/009.png", "cat/005.png"),
        ("cat/001.png", "dog/002.png"),
        ("dog/002.png", "cat/001.png"),
    ]
    assert (near["images"][2]["with_label"], near["images"][2]["with_part"]) == ("dog", near["images"][3]["part"])
    assert sorted(map(sorted, near["groups"])) == [["cat/001.png", "dog/002.png"], ["cat/005.png", "cat/009.png"]]
    assert near["sentence"] == f"{near['found']} {near['advice']}"


def test_images_that_the_split_leaves_out_are_counted_with_its_reason(make_material: Make, scenes: list[np.ndarray]) -> None:
    material = make_material(scenes, part=["train"] * 20 + ["val"] * 10 + ["test"] * 5 + [""] * 5)
    record = record_of(Material(material.table, material.part, material.groups, material.twins, material.measures, "twin in test or val"))
    assert (record["used"], record["quarantined"], record["left_out"]) == (35, {}, {"twin in test or val": 5})
    assert "40 images: 35 used (20 train, 10 val, 5 test), 0 quarantined, 5 left out." in summary(record)
    assert "left out: 5 twin in test or val" in summary(record)


@pytest.mark.parametrize("width", [72, 100, 160])
def test_the_summary_fits_the_terminal_and_names_every_check(make_material: Make, scenes: list[np.ndarray], width: int) -> None:
    long = "a_class_whose_name_is_far_longer_than_any_column_of_a_terminal_should_be"
    material = make_material([*scenes, scenes[0], scenes[1] // 50], labels=["cat"] * 20 + [long] * 22, refused=["empty file"])
    record = record_of(material)
    text = summary(record, width)
    assert max(map(len, text.splitlines())) <= width
    for finding in record["findings"]:
        assert finding["title"].split()[0] in text
    assert "43 images: 42 used" in text
    assert "quarantined: 1 empty file" in text


def test_names_are_not_taken_for_markup(make_material: Make, scenes: list[np.ndarray]) -> None:
    material = make_material([*scenes, scenes[0]], labels=["[red]cat[/red]"] * 20 + [":smile:"] * 21)
    text = summary(record_of(material), 160)
    assert "[red]cat[/red]" in text
    assert ":smile:" in text
