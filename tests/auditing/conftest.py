"""A folder in memory: pictures, and what scanning, decoding and splitting would say of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch
from PIL import Image, ImageDraw

from sightline.auditing.material import Material
from sightline.auditing.measures import measure
from sightline.data.images import pixel_digest
from sightline.data.table import ImageTable
from sightline.data.twins import Twins

Picture = npt.NDArray[np.uint8]


class Squares:
    """Pixels that lie in memory."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self.side = max((max(picture.shape[:2]) for picture in pictures), default=8)
        self.extents = np.array([picture.shape[:2] for picture in pictures], dtype=np.int32).reshape(-1, 2)
        self.stored = torch.zeros(len(pictures), self.side, self.side, 3, dtype=torch.uint8)
        for square, picture in zip(self.stored, pictures, strict=True):
            square[: picture.shape[0], : picture.shape[1]] = torch.from_numpy(picture.copy())

    def read(self, rows: npt.NDArray[np.int64], into: torch.Tensor | None = None) -> torch.Tensor:
        return self.stored[torch.from_numpy(rows)]


def draw_scene(seed: int, height: int = 48, width: int = 64) -> Picture:
    """Coloured shapes with hard edges on a coloured ground, each scene another."""
    draws = np.random.default_rng(seed)
    image = Image.new("RGB", (width, height), tuple(draws.integers(60, 200, 3).tolist()))
    pen = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = draws.integers(0, width), draws.integers(0, height)
        box = (x, y, x + draws.integers(4, width // 2 + 5), y + draws.integers(4, height // 2 + 5))
        pen.ellipse(tuple(map(int, box)), fill=tuple(draws.integers(0, 256, 3).tolist()))
    noise = draws.normal(0, 4, (height, width, 3))
    return (np.asarray(image) + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture
def scenes() -> list[Picture]:
    """40 sound pictures."""
    return [draw_scene(seed) for seed in range(40)]


@pytest.fixture
def scene() -> Callable[..., Picture]:
    """`scene(seed, height=48, width=64)` is one sound picture."""
    return draw_scene


def _make(
    pictures: Sequence[Picture],
    labels: Sequence[str] | None = None,
    part: Sequence[str] | None = None,
    given: Sequence[str] | None = None,
    groups: Sequence[int] | None = None,
    twins: Sequence[tuple[int, int, float]] = (),
    notes: dict[int, str] | None = None,
    refused: Sequence[str] = (),
) -> Material:
    n = len(pictures)
    labels = labels or ["cat" if i % 2 else "dog" for i in range(n)]
    frame = pl.DataFrame(
        {
            "path": [f"{label}/{i:03d}.png" for i, label in enumerate(labels)] + [f"broken/{i:03d}.png" for i in range(len(refused))],
            "label": [*labels, *["cat"] * len(refused)],
            "given": [*(given or [None] * n), *[None] * len(refused)],
            "reason": [*[None] * n, *refused],
            "pixel_digest": [*(pixel_digest(picture).hex() for picture in pictures), *[None] * len(refused)],
            "height": [*(picture.shape[0] for picture in pictures), *[None] * len(refused)],
            "width": [*(picture.shape[1] for picture in pictures), *[None] * len(refused)],
            "notes": [*((notes or {}).get(i) for i in range(n)), *[None] * len(refused)],
        },
        schema_overrides=dict.fromkeys(("path", "label", "given", "reason", "pixel_digest", "notes"), pl.String)
        | {"height": pl.Int32, "width": pl.Int32},
    )
    table = ImageTable(Path("/photos"), frame, tuple(sorted(set(labels))), {})
    near = Twins(
        np.array([first for first, _, _ in twins], dtype=np.int64),
        np.array([second for _, second, _ in twins], dtype=np.int64),
        np.array([similarity for _, _, similarity in twins], dtype=np.float32),
    )
    parts = np.array(part or [("train", "train", "train", "val", "test", "test")[i % 7 % 6] for i in range(n)], dtype="<U5")
    own = np.array(groups if groups is not None else range(n), dtype=np.int64)
    return Material(table, parts, own, near, measure(Squares(pictures)))


@pytest.fixture
def make_material() -> Callable[..., Material]:
    """`make_material(pictures, labels=..., part=..., given=..., groups=..., twins=[(0, 1, 0.9)], notes={3: "animated"})`."""
    return _make


@pytest.fixture(scope="session")
def build_material() -> Callable[..., Material]:
    """The same, for hypothesis."""
    return _make


@pytest.fixture
def squares() -> type[Squares]:
    """Pixels that lie in memory."""
    return Squares
