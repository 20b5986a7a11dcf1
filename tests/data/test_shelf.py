"""What the tests of the store do not reach: see also test_store.py."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from sightline.data import shelf as module
from sightline.data.shelf import Shelf, column, in_threads, lines, read_manifest


def test_threads_give_their_results_in_order() -> None:
    def work(item: int) -> int:
        time.sleep(0.01 * (item % 3 == 0))
        return item * item

    assert list(in_threads(work, range(40), 4)) == [item * item for item in range(40)]
    assert list(in_threads(work, [], 4)) == []


def test_threads_are_only_a_few_items_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    for done, _ in enumerate(in_threads(lambda item: item, items(), 2), 1):
        assert len(taken) <= done + 8


def test_after_an_error_no_further_item_is_begun() -> None:
    begun = 0

    def work(item: int) -> None:
        nonlocal begun
        begun += 1
        time.sleep(0.02)
        if item == 2:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        list(in_threads(work, range(1000), 2))
    assert begun < 8


def test_the_name_of_a_store_depends_on_the_contents_alone(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 24, 1000)
    name = shelf.place(pl.Series(["a", "b", None]), True)
    assert name == shelf.place(pl.Series(["b", "a", "a"]), True)
    assert name.parent == tmp_path
    others = [
        shelf.place(pl.Series(["a"]), True),
        shelf.place(pl.Series(["a", "b"]), False),
        Shelf(tmp_path, 25, 1000).place(pl.Series(["a", "b"]), True),
        Shelf(tmp_path, 24, 1001).place(pl.Series(["a", "b"]), True),
    ]
    assert len({name, *others}) == 5


def test_an_empty_shelf_has_no_stores(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "none", 24, 1000)
    assert list(shelf.whole()) == []
    assert shelf.find(pl.Series(["a"]), True) is None
    assert read_manifest(tmp_path / "none") is None


def test_texts_are_packed_and_joined_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PACKED", 2)
    texts = ["a", None, "ä", "", "b"]
    packed = column(text for text in texts)
    assert packed.dtype == pl.String
    assert packed.to_list() == texts
    assert column([]).to_list() == []
    parts = list(lines(packed.drop_nulls()))
    assert b"".join(parts) == "a\nä\n\nb".encode()
    assert len(parts) == 2
