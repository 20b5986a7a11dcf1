"""What the settings ask of decoding: the side of the stored pixels, and what may be used for it. Needs no torch.

side = store_size(config, choose_size(config, table, native))
table, pixels = open_pixels(table, side, limits(config))
"""

from __future__ import annotations

import math

import numpy as np

from sightline import files
from sightline.config import Config
from sightline.data.images import header_size
from sightline.data.store import Limits
from sightline.data.table import ImageTable
from sightline.errors import DataError
from sightline.threads import available_cores


def limits(config: Config) -> Limits:
    """What decoding may use."""
    data = config.data
    workers = available_cores() if data.workers == "auto" else data.workers
    return Limits(data.max_pixels, None if data.store_gb == "auto" else data.store_gb, workers, files.cache_folder())


def choose_size(config: Config, table: ImageTable, native: int | None) -> int:
    """`data.size`, or for auto: the network's own, or the median long side of a sample of the images, at most 128."""
    if config.data.size != "auto":
        return config.data.size
    return native or max(8, min(128, _typical_side(table)))


def _typical_side(table: ImageTable) -> int:
    """Median long side of 100 images spread over the table, from their headers."""
    paths = table.usable["path"]
    sides = []
    for i in np.unique(np.linspace(0, len(paths) - 1, 100).astype(int)):
        try:
            sides.append(max(header_size(table.root / paths[int(i)])))
        except (DataError, OSError):
            continue
    return int(np.median(sides)) if sides else 128


def store_size(config: Config, size: int) -> int:
    """`data.store_size`, or for auto: the size, and a third more where the centre is cut out."""
    if config.data.store_size != "auto":
        return config.data.store_size
    return side_for_crop(size) if config.data.fit == "crop" else size


def side_for_crop(size: int) -> int:
    """Stored long side for fit=crop: at 4:3 the central square then has about `size` pixels a side."""
    return math.ceil(size * 4 / 3)
