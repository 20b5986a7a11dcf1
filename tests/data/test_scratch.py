"""What is too much for memory lies on the disk while it is needed, and not a moment longer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sightline.data.scratch import on_disk
from sightline.data.twins import find_twins
from sightline.errors import DiskError


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32])
def test_blocks_come_back_one_after_the_other_and_no_file_is_there(tmp_path: Path, dtype: torch.dtype) -> None:
    whole = torch.arange(7 * 3 * 5).view(7, 3, 5).to(dtype)
    kept = on_disk((block for block in torch.split(whole, 2)), tmp_path)
    assert kept.dtype == dtype
    assert torch.equal(kept, whole)
    assert list(tmp_path.iterdir()) == []


def test_blocks_need_not_be_contiguous(tmp_path: Path) -> None:
    whole = torch.arange(24).view(4, 6)
    assert torch.equal(on_disk(iter([whole[:, :3], whole[:, 3:]]), tmp_path), torch.cat([whole[:, :3], whole[:, 3:]]))


def test_where_the_folder_is_not_there_another_place_is_found(tmp_path: Path) -> None:
    assert on_disk(iter([torch.ones(3)]), tmp_path / "gone").tolist() == [1, 1, 1]


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def blocks() -> Iterator[torch.Tensor]:
        yield torch.ones(1000)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        on_disk(blocks(), tmp_path)
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True)
class Noise:
    """More pictures than a megabyte holds glances of."""

    count: int = 2000
    side: int = 16

    @property
    def extents(self) -> npt.NDArray[np.int32]:
        return np.full((self.count, 2), 16, dtype=np.int32)

    def read(self, rows: npt.NDArray[np.int64], into: torch.Tensor | None = None) -> torch.Tensor:
        return torch.randint(0, 256, (len(rows), 16, 16, 3), dtype=torch.uint8)


def test_a_full_disk_is_told_in_a_sentence_and_leaves_nothing(small_disk: Path) -> None:
    with pytest.raises(DiskError, match=r"^There is no room left for .*small\. Free some disk space"):
        find_twins(Noise(), folder=small_disk)
    assert list(small_disk.iterdir()) == []
