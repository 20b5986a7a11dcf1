"""What has a part for each of a million pictures, and is needed for a while: in a file without a name, which is mapped.

    waves = on_disk(blocks, folder)        (M, ...) all blocks one after the other

Its pages belong to the system, which takes them back where memory is short; the process holds a block at a time. The file is
gone with the tensor, or with the process, whatever becomes of it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from sightline import files


def on_disk(blocks: Iterable[torch.Tensor], folder: Path) -> torch.Tensor:
    """(M, ...) the (B, ...) blocks, at least one row, as they come; to be read, and not written to.

    Args:
        folder: on the disk that has room; where nothing can be written to it, the system's folder for temporary files is taken.

    Raises:
        DiskError: no room.
    """
    place = folder if os.access(folder, os.W_OK) else Path(tempfile.gettempdir())
    with tempfile.TemporaryFile(dir=place) as file, files.disk_errors(place):
        for block in blocks:
            file.write(block.contiguous().view(torch.uint8).numpy().data)
        file.flush()
        mapped = np.memmap(file, dtype=np.uint8, mode="c")  # as in `shelf.map_pixels`
    return torch.from_numpy(mapped).view(block.dtype).view(-1, *block.shape[1:])
