"""Pixels on the device that trains: the same pixels, by the same row numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sightline.data.resident import ResidentPixels, copied, reside

CPU = torch.device("cpu")


class FakePixels:
    """Six hundred pictures, each of one value of its own."""

    side = 4
    extents = np.full((600, 2), 4, dtype=np.int32)

    def read(self, rows: npt.NDArray[np.int64], into: torch.Tensor | None = None) -> torch.Tensor:
        values = torch.from_numpy(rows % 251).to(torch.uint8)
        return values[:, None, None, None].expand(-1, 4, 4, 3).clone()


ROWS = np.random.default_rng(0).permutation(600)[:550]


def test_rows_that_are_held_read_as_before() -> None:
    held = copied(FakePixels(), ROWS, CPU)
    wanted = ROWS[[5, 549, 5, 300, 0]]
    assert torch.equal(held.read(wanted), FakePixels().read(wanted))
    assert (held.side, held.extents.shape) == (4, (600, 2))


def test_they_are_read_into_a_tensor_that_is_there() -> None:
    held = copied(FakePixels(), ROWS, CPU)
    into = torch.zeros(3, 4, 4, 3, dtype=torch.uint8)
    assert held.read(ROWS[:3], into) is into
    assert torch.equal(into, FakePixels().read(ROWS[:3]))


def test_a_row_that_is_not_held_is_refused() -> None:
    held = copied(FakePixels(), ROWS, CPU)
    (missing,) = np.setdiff1d(np.arange(600), ROWS)[:1]
    with pytest.raises(IndexError, match=f"row {missing} "):
        held.read(np.array([ROWS[0], missing]))


def test_only_a_gpu_with_room_holds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels: Any = FakePixels()
    assert reside(pixels, ROWS, CPU) is pixels
    gpu = torch.device("cuda")
    monkeypatch.setattr("sightline.data.resident.copied", lambda pixels, rows, device: copied(pixels, rows, CPU))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4 * 550 * 48 - 1, 10**9))
    assert reside(pixels, ROWS, gpu) is pixels
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4 * 550 * 48, 10**9))
    assert isinstance(reside(pixels, ROWS, gpu), ResidentPixels)
