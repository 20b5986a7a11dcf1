"""Folders of links: the same images, and the same split, for everybody who is measured."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from sightline.config import Config
from sightline.data.table import scan
from sightline.run.prepare import prepare


def some_of(folder: Path, place: Path, most: int | None) -> Path:
    """The folder itself, or links in `place` to at most so many of its images, evenly over the sorted paths."""
    if most is None:
        return folder
    table = scan(folder)
    paths = table.usable["path"]
    for i in np.unique(np.linspace(0, len(paths) - 1, min(most, len(paths))).astype(int)):
        _link(table.root / paths[int(i)], place / paths[int(i)])
    return place


def split_folders(folder: Path, place: Path, side: int, seed: int = 0, most: int | None = None) -> Path:
    """Links `place/{train,val,test}/CLASS/image`, divided as sightline divides (near twins together), and `place/split.csv`.

    Args:
        most: at most so many images are divided, evenly over the sorted paths.
    """
    source = some_of(folder, place.with_name(f"{place.name}-some"), most)
    prepared = prepare(source, Config.load(None, [f"data.size={side}", f"split.seed={seed}"]))
    images = prepared.images().drop_nulls("split").select("path", "label", "split")
    for path, label, part in images.iter_rows():
        _link(prepared.table.root / path, place / part / label / path.replace("/", "__"))
    images.write_csv(place / "split.csv")
    return place


def read_all(folder: Path) -> list[Path]:
    """All images; each has been read once, so that nobody pays for the disk."""
    table = scan(folder)
    paths = [table.root / path for path in table.usable["path"]]
    for path in paths:
        path.read_bytes()
    return paths


def _link(image: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(image.resolve(), place)
