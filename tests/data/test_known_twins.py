"""Twins that were found before are not looked for again, and nothing else is taken for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sightline.data import known_twins as module
from sightline.data.known_twins import known_twins
from sightline.data.twins import Twins, find_twins
from sightline.run.prepare import prepare


@dataclass(frozen=True)
class Squares:
    """Blobs of 32 pixels, the last one like the first."""

    count: int = 5
    side: int = 32

    @property
    def extents(self) -> npt.NDArray[np.int32]:
        return np.full((self.count, 2), 32, dtype=np.int32)

    def read(self, rows: npt.NDArray[np.int64], into: torch.Tensor | None = None) -> torch.Tensor:
        coarse = np.random.default_rng(0).integers(0, 256, (self.count, 4, 4, 3), dtype=np.uint8)
        coarse[-1] = coarse[0]
        return torch.from_numpy(coarse.repeat(8, 1).repeat(8, 2)[rows])


DIGESTS = list("abcde")


def same(one: Twins, other: Twins) -> bool:
    pairs = zip((one.first, one.second, one.similarity), (other.first, other.second, other.similarity), strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs) and one.notes == other.notes


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each search."""
    found: list[int] = []

    def search(pixels: Squares, *rest: object) -> Twins:
        found.append(len(pixels.extents))
        return replace(find_twins(pixels), notes=("Many look alike. Ähnlich.",))

    monkeypatch.setattr(module, "find_twins", search)
    return found


def test_a_second_call_gives_what_the_first_found(tmp_path: Path, searches: list[int]) -> None:
    first, second = (known_twins(Squares(), DIGESTS, tmp_path) for _ in range(2))
    assert searches == [5]
    assert len(first) == 1
    assert same(first, second)


def test_no_twins_are_remembered_too(tmp_path: Path, searches: list[int]) -> None:
    lone = Squares(count=1)
    first, second = (known_twins(lone, ["a"], tmp_path) for _ in range(2))
    assert searches == [1]
    assert len(first) == len(second) == 0


def test_other_pictures_another_order_another_search_are_looked_through(
    tmp_path: Path, searches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    known_twins(Squares(), DIGESTS, tmp_path)
    known_twins(Squares(), ["A", *DIGESTS[1:]], tmp_path)
    known_twins(Squares(), DIGESTS[::-1], tmp_path)
    known_twins(Squares(count=4), DIGESTS[:4], tmp_path)
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    known_twins(Squares(), DIGESTS, tmp_path)
    assert searches == [5, 5, 5, 4, 5]


@pytest.mark.parametrize("place", [0, 31, 40, -1])
def test_what_is_damaged_is_not_believed(tmp_path: Path, searches: list[int], place: int) -> None:
    first = known_twins(Squares(), DIGESTS, tmp_path)
    (path,) = (tmp_path / "twins").iterdir()
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert same(known_twins(Squares(), DIGESTS, tmp_path), first)
    path.write_bytes(b"")
    assert same(known_twins(Squares(), DIGESTS, tmp_path), first)
    assert searches == [5, 5, 5]


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, searches: list[int]) -> None:
    (tmp_path / "twins").write_text("a file where the folder should be")
    first, second = (known_twins(Squares(), DIGESTS, tmp_path) for _ in range(2))
    assert searches == [5, 5]
    assert same(first, second)


def test_preparing_a_folder_again_looks_for_no_twins(folder: Path, searches: list[int]) -> None:
    first, second = prepare(folder), prepare(folder)
    assert len(searches) == 1
    assert first.twins is not None
    assert second.twins is not None
    assert same(first.twins, second.twins)
