"""Which pictures of another folder a run has seen: their twins, or equal pictures only, and then it says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sightline.config import Config, to_yaml
from sightline.data.table import scan
from sightline.run.folder import RunFolder
from sightline.run.prepare import prepare
from sightline.run.progress import Screen
from sightline.run.seen import seen_before

SIDE = 64


def scene(seed: int) -> Image.Image:
    """Clouds of several sizes, others for each seed."""
    draws, total = np.random.default_rng(seed), np.zeros((SIDE, SIDE, 3))
    for cells in (3, 6, 12, 24):
        noise = draws.normal(size=(cells, cells, 3)).astype(np.float32)
        total += np.stack([np.asarray(Image.fromarray(one).resize((SIDE, SIDE))) for one in noise.transpose(2, 0, 1)], -1) / cells**0.5
    return Image.fromarray(((total - total.mean()) / total.std() * 45 + 128).clip(0, 255).astype(np.uint8))


def run_of(place: Path, *words: str) -> RunFolder:
    """A run on twelve pictures of two classes, as it is when its data is ready."""
    for k in range(12):
        path = place / "photos" / ("cat", "dog")[k % 2] / f"{k:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        scene(k).save(path)
    run = RunFolder.create(place / "run", place / "photos")
    run.note("started", folder=str(place / "photos"), given={})
    config = Config.load(None, [f"data.size={SIDE}", f"data.store_size={SIDE}", *words])
    prepare(place / "photos", config).images().write_parquet(run.images)
    run.config.write_text(to_yaml(config))
    return run


def others(run: RunFolder) -> Path:
    """A copy of a picture of val, one of train with another encoding, one of test, a new one and a broken one."""
    images, folder = run.read_images(), run.root.parent / "others"
    first = {part: run.root.parent / "photos" / images.filter(split=part)["path"][0] for part in ("train", "val", "test")}
    (folder / "cat").mkdir(parents=True)
    shutil.copy(first["val"], folder / "cat" / "val.png")
    shutil.copy(first["test"], folder / "cat" / "test.png")
    with Image.open(first["train"]) as picture:
        picture.save(folder / "cat" / "train.jpg", quality=40)
    scene(99).save(folder / "cat" / "new.png")
    (folder / "cat" / "broken.png").write_bytes(b"x")
    return folder


def seen(run: RunFolder) -> tuple[list[str], str, str | None]:
    table = scan(others(run), least=1, learn=False)
    rows, twins = seen_before(run.root, table, SIDE, Screen())
    return table.usable["path"].filter(pl.Series(rows)).to_list(), twins["looked_for"], twins["note"]


def test_near_twins_of_what_it_learned_or_chose_from_are_found(tmp_path: Path) -> None:
    assert seen(run_of(tmp_path)) == (["cat/train.jpg", "cat/val.png"], "near", None)


def test_where_the_run_asked_for_equal_pictures_only_it_is_said(tmp_path: Path) -> None:
    found, looked_for, note = seen(run_of(tmp_path, "split.twins=exact"))
    assert (found, looked_for) == (["cat/val.png"], "equal")
    assert str(note).endswith("no near twins: split.twins=exact.")


def test_where_the_pixels_of_the_run_are_gone_equal_ones_are_found_and_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(tmp_path)
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cleared"))
    found, looked_for, note = seen(run)
    assert (found, looked_for) == (["cat/val.png"], "equal")
    assert str(note).endswith("no near twins: the run's stored pixels are gone.")


def test_of_a_classifier_alone_nothing_is_known(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    run.ledger.unlink()
    assert seen(run) == ([], None, f"Whether it has learned from any of these pictures is not known: {run.root} is no run folder.")
