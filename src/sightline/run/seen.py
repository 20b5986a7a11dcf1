"""Which images of another folder a run has learned or chosen from: equal pictures and, where the run's pixels are there, near twins.

    seen, twins = seen_before(run, table, side, screen)         (N,) bool; {"looked_for": "near", "note": None}

The folder's pictures and the stored ones of train and val are searched together, as one folder is before it is divided. It
gives up near twins where the store of the run is gone: to decode all of its images again for a look at a few others would
take too long. What was looked for is said beside the figures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from sightline.config import Config
from sightline.data.groups import group_rows, join_twins
from sightline.data.known_twins import known_twins
from sightline.data.shelf import Shelf, map_pixels, read_rows
from sightline.data.store import Pixels, PixelStore, open_pixels
from sightline.data.table import ImageTable
from sightline.errors import RunError
from sightline.run.decoding import limits
from sightline.run.folder import RunFolder
from sightline.run.progress import Screen


def seen_before(root: Path, table: ImageTable, side: int, screen: Screen) -> tuple[npt.NDArray[np.bool_], dict[str, Any]]:
    """Which of the usable rows (N,) have a twin among the run's train and val images, and what was looked for.

    Args:
        root: the run folder; of a classifier folder nothing is known.
        side: of the run's stored pixels.

    Returns:
        (N,) bool; `looked_for`: "near", "equal" or None, and `note`: a sentence on what may be missing, or None.
    """
    try:
        run = RunFolder.open(root)
        images, config = run.read_images(), run.read_config()
    except RunError:
        unknown = f"Whether it has learned from any of these pictures is not known: {root} is no run folder."
        return np.zeros(len(table.usable), dtype=bool), {"looked_for": None, "note": unknown}
    told, pixels = open_pixels(replace(table, least=0), side, limits(config), screen.counter("decoding"))
    learned = images.filter(pl.col("split").is_in(["train", "val"]))
    both = pl.concat([learned.select(_ASKED), told.usable.select(_ASKED)])
    groups, count = group_rows([both["pixel_digest"]]), len(learned)
    stored = _stored(images, learned, config, side) if config.split.twins == "near" else None
    paired = np.zeros(len(both), dtype=bool)
    if stored is None:
        why = "the run's stored pixels are gone" if config.split.twins == "near" else f"split.twins={config.split.twins}"
        note: str | None = f"Only equal pictures were looked for among those that the run learned or chose from, no near twins: {why}."
    else:
        allowed = limits(config)
        joined = _Below(stored, pixels, np.concatenate([stored.extents, pixels.extents]))
        twins = known_twins(joined, both["digest"], allowed.cache, screen.counter("looking for near twins"), allowed.workers)
        groups = join_twins(groups, twins, both["label"]).numbers
        paired[twins.second[twins.first < count]] = True  # where a chain was cut too
        note = " ".join(twins.notes) or None
    seen = np.isin(groups[count:], groups[:count]) | paired[count:]
    found = table.usable["path"].is_in(told.usable["path"].filter(pl.Series(seen)).to_list())
    return found.to_numpy().astype(bool), {"looked_for": "equal" if stored is None else "near", "note": note}


_ASKED = ["label", "digest", "pixel_digest"]


def _stored(images: pl.DataFrame, rows: pl.DataFrame, config: Config, side: int) -> PixelStore | None:
    """The stored pixels of some rows of `images.parquet`; None where the run's store is gone or holds none."""
    shelf = Shelf(limits(config).cache / "stores", side, config.data.max_pixels)
    folder = shelf.find(images["digest"].drop_nulls(), keep=True)
    if folder is None:
        return None
    known = read_rows(folder, rows["digest"])
    extents = known.select("stored_height", "stored_width").to_numpy().astype(np.int32)
    return PixelStore(folder, side, extents, known["place"].to_numpy().astype(np.int64), torch.from_numpy(map_pixels(folder, side)))


@dataclass(frozen=True)
class _Below:
    """The pixels of two tables, the rows of the second after those of the first."""

    first: Pixels
    second: Pixels
    extents: npt.NDArray[np.int32]  # of both; each block that is searched asks for them

    @property
    def side(self) -> int:
        return self.first.side

    def read(self, rows: npt.NDArray[np.int64], into: torch.Tensor | None = None) -> torch.Tensor:
        """(B, S, S, 3) uint8 of these rows."""
        count = len(self.first.extents)
        out = torch.empty((len(rows), self.side, self.side, 3), dtype=torch.uint8) if into is None else into
        for pixels, which, start in ((self.first, rows < count, 0), (self.second, rows >= count, count)):
            out[torch.from_numpy(which)] = pixels.read(rows[which] - start)
        return out
