from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch
from PIL import Image, ImageOps

from sightline import files
from sightline.data import readers, shelf, store, walk
from sightline.data.images import decode, shrink
from sightline.data.store import Limits, PixelFiles, PixelStore, open_pixels
from sightline.data.table import ImageTable, scan
from sightline.errors import DataError, DiskError

Folder = Callable[..., Path]
SIDE = 24


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all files were older than two seconds."""
    monkeypatch.setattr(store, "_SETTLED_NS", 0)


def limits(cache: Path, **changes: Any) -> Limits:
    return Limits(**{"max_pixels": 64_000_000, "store_gb": None, "workers": 2, "cache": cache, **changes})


def opened(source: Path, cache: Path, side: int = SIDE, **changes: Any) -> tuple[ImageTable, PixelStore | PixelFiles]:
    return open_pixels(scan(source), side, limits(cache, **changes))


def everything(pixels: PixelStore | PixelFiles) -> npt.NDArray[np.uint8]:
    return pixels.read(np.arange(len(pixels.extents))).numpy()


def expected(table: ImageTable, side: int = SIDE) -> npt.NDArray[np.uint8]:
    """Each usable file through the one decoder, in the upper left of black squares."""
    squares = np.zeros((len(table.usable), side, side, 3), dtype=np.uint8)
    for square, path in zip(squares, table.usable["path"], strict=True):
        small = shrink(decode((table.root / path).read_bytes()), side)
        square[: small.shape[0], : small.shape[1]] = small
    return squares


def stores(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "stores").iterdir())


def save(path: Path, height: int, width: int, seed: int = 0, mode: str = "RGB", **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    Image.fromarray(noise, "RGBA").convert(mode).save(path, **options)
    return path


class Watch:
    """Which files of a folder are opened, as the interpreter itself reports it, and how many are decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root: Path | None = None
        self.files: list[str] = []
        self.decoded = 0
        sys.addaudithook(self._hear)

        def count(data: bytes, **options: Any) -> Any:
            self.decoded += 1
            return decode(data, **options)

        monkeypatch.setattr(readers, "decode", count)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and self.root is not None and str(args[0]).startswith(f"{self.root}/"):
            self.files.append(str(Path(args[0]).relative_to(self.root)))

    def during(self, root: Path, cache: Path, **changes: Any) -> tuple[ImageTable, PixelStore | PixelFiles]:
        table = scan(root)
        self.root, self.files, self.decoded = root, [], 0
        try:
            return open_pixels(table, SIDE, limits(cache, **changes))
        finally:
            self.root = None


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


# ---- what is stored --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store_gb", [None, 0.0], ids=["stored", "from files"])
def test_pixels_are_those_of_the_decoder_shrunk(tmp_path: Path, cache: Path, store_gb: float | None) -> None:
    root = tmp_path / "photos"
    for i, (height, width) in enumerate([(100, 60), (60, 100), (24, 24), (5, 7), (1, 1), (25, 3), (1, 500)]):
        save(root / "sizes" / f"{i}.png", height, width, i)
    for mode, name in [("RGBA", "a.png"), ("L", "b.jpg"), ("P", "c.gif"), ("CMYK", "d.tif"), ("1", "e.bmp")]:
        save(root / "modes" / name, 40, 30, 9, mode)
    turned = Image.Exif()
    turned[274] = 6
    save(root / "modes" / "turned.jpg", 20, 40, exif=turned)
    table, pixels = opened(root, cache, store_gb=store_gb)
    assert isinstance(pixels, PixelStore if store_gb is None else PixelFiles)
    assert pixels.side == SIDE
    assert np.array_equal(everything(pixels), expected(table))
    sizes = dict(zip(table.frame["path"], pixels.extents.tolist(), strict=True))
    assert sizes["sizes/0.png"] == [24, 14]
    assert sizes["sizes/3.png"] == [5, 7]
    assert sizes["sizes/6.png"] == [1, 24]
    row = table.frame.filter(path="modes/turned.jpg").row(0, named=True)
    assert (row["height"], row["width"], row["notes"]) == (40, 20, "rotated")
    assert row["digest"] == files.digest(root / "modes/turned.jpg")


@pytest.mark.parametrize("store_gb", [None, 0.0], ids=["stored", "from files"])
def test_rows_are_read_in_the_order_asked_for_and_into_what_is_there(folder: Path, cache: Path, store_gb: float | None) -> None:
    table, pixels = opened(folder, cache, store_gb=store_gb)
    rows, wanted = np.array([41, 0, 7, 7, 20]), expected(table)
    assert np.array_equal(pixels.read(rows).numpy(), wanted[rows])
    into = torch.full((5, SIDE, SIDE, 3), 77, dtype=torch.uint8)
    assert pixels.read(rows, into) is into
    assert np.array_equal(into.numpy(), wanted[rows])
    assert pixels.read(np.array([], dtype=np.int64)).shape == (0, SIDE, SIDE, 3)


def test_twins_have_the_same_pixels_whatever_the_file_is(tmp_path: Path, cache: Path) -> None:
    for name in ("a/1.png", "a/2.bmp", "b/3.tif"):
        save(tmp_path / "photos" / name, 10, 12, 5)
    shutil.copy(tmp_path / "photos/a/1.png", tmp_path / "photos/b/4.png")
    save(tmp_path / "photos/b/5.png", 12, 10, 5)
    table, _ = opened(tmp_path / "photos", cache)
    assert table.frame["pixel_digest"].n_unique() == 2
    assert table.frame["digest"].n_unique() == 4


def test_progress_goes_up_to_all(folder: Path, cache: Path) -> None:
    heard: list[tuple[int, int]] = []
    open_pixels(scan(folder), SIDE, limits(cache), lambda done, whole: heard.append((done, whole)))
    assert heard == sorted(heard)
    assert heard[-1] == (42, 42)


def test_the_users_folder_is_not_written_to(folder: Path, cache: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in [folder, *folder.rglob("*")]}
    opened(folder, cache)
    assert {p: p.stat().st_mtime_ns for p in [folder, *folder.rglob("*")]} == before


# ---- opened once, ever -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("settled")
def test_each_file_is_opened_once_and_never_again(folder: Path, cache: Path, watch: Watch) -> None:
    first, _ = watch.during(folder, cache)
    assert sorted(watch.files) == first.frame["path"].to_list()
    assert watch.decoded == 42
    second, pixels = watch.during(folder, cache)
    assert (watch.files, watch.decoded) == ([], 0)
    assert second.frame.equals(first.frame)
    assert np.array_equal(everything(pixels), expected(second))


def test_files_that_may_still_change_are_read_again_but_not_decoded(folder: Path, cache: Path, watch: Watch) -> None:
    watch.during(folder, cache)
    for _ in range(2):
        table, pixels = watch.during(folder, cache)
        assert len(watch.files) == 42
        assert watch.decoded == 0
        assert np.array_equal(everything(pixels), expected(table))


@pytest.mark.usefixtures("settled")
def test_a_folder_that_was_moved_renamed_or_copied_finds_its_store(
    folder: Path, tmp_path: Path, cache: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_FEW", 0)  # a large folder
    _, before = opened(folder, cache)
    shutil.copytree(folder, tmp_path / "copy")
    folder.rename(tmp_path / "moved")
    (tmp_path / "copy/red").rename(tmp_path / "copy/crimson")
    (tmp_path / "copy/blue/blue-000.png").rename(tmp_path / "copy/blue/other.png")
    for name in ("moved", "copy"):
        table, pixels = watch.during(tmp_path / name, cache)
        assert len(watch.files) == 42
        assert watch.decoded == 0
        assert isinstance(pixels, PixelStore)
        assert isinstance(before, PixelStore)
        assert pixels.folder == before.folder
        assert np.array_equal(everything(pixels), expected(table))
        watch.during(tmp_path / name, cache)
        assert watch.files == []
    assert len(stores(cache)) == 1


@pytest.mark.usefixtures("settled")
def test_a_changed_folder_decodes_only_what_is_new(folder: Path, cache: Path, watch: Watch) -> None:
    opened(folder, cache)
    (folder / "red/red-000.png").unlink()
    save(folder / "red/new.png", 30, 40)
    table, pixels = watch.during(folder, cache)
    assert set(watch.files) == {"red/new.png"}
    assert watch.decoded == 1
    assert np.array_equal(everything(pixels), expected(table))
    watch.during(folder, cache)
    assert watch.files == []


def test_a_folder_that_was_moved_and_changed_opens_each_file_once_and_decodes_what_is_new(
    folder: Path, tmp_path: Path, cache: Path, watch: Watch
) -> None:
    opened(folder, cache)
    moved = folder.rename(tmp_path / "moved")
    save(moved / "red/new.png", 30, 40)
    table, pixels = watch.during(moved, cache)
    assert sorted(watch.files) == table.frame["path"].to_list()
    assert watch.decoded == 1
    assert np.array_equal(everything(pixels), expected(table))


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("how", ["written", "moved over"])
def test_a_changed_file_is_noticed_though_its_size_and_time_are_the_same(tmp_path: Path, cache: Path, watch: Watch, how: str) -> None:
    root = tmp_path / "photos"
    for i in range(6):
        save(root / "ab"[i % 2] / f"{i}.bmp", 16, 16, i)
    path, other = root / "a/0.bmp", save(tmp_path / "other.bmp", 16, 16, 99)
    for one in (path, other):
        os.utime(one, ns=(10**18, 10**18))
    assert path.stat().st_size == other.stat().st_size
    watch.during(root, cache)
    if how == "written":
        path.write_bytes(other.read_bytes())
        os.utime(path, ns=(10**18, 10**18))
    else:
        other.replace(path)
    table, pixels = watch.during(root, cache)
    assert watch.decoded == 1
    assert np.array_equal(everything(pixels), expected(table))
    assert table.frame["digest"][0] == files.digest(path)


@pytest.mark.usefixtures("settled")
def test_two_tables_of_one_folder_do_not_forget_each_other(folder: Path, cache: Path, watch: Watch) -> None:
    both = scan(folder).frame.select("path", "label")
    for name, part in (("one", both[:30]), ("two", both[20:])):
        part.write_csv(folder / f"{name}.csv")
        opened(folder / f"{name}.csv", cache)
    watch.root, watch.files = folder, []
    for name in ("one", "two"):
        opened(folder / f"{name}.csv", cache)
    watch.root = None
    assert {path for path in watch.files if path.endswith(".png")} == set()


@pytest.mark.usefixtures("settled")
def test_images_of_a_class_that_train_lacks_are_not_read(make_folder: Folder, cache: Path, watch: Watch) -> None:
    root = make_folder("own/train", {"red": 4, "blue": 4}).parent
    make_folder("own/test", {"red": 2, "green": 2})
    for opens in (10, 0):
        table, pixels = watch.during(root, cache)
        assert len(watch.files) == opens
        assert table.frame.filter(label="green")["digest"].to_list() == [None, None]
        assert len(pixels.extents) == len(table.usable) == 10
    shutil.rmtree(root / "train/red")
    with pytest.raises(DataError, match="only one class"):
        opened(root, cache)


@pytest.mark.usefixtures("settled")
def test_a_file_of_a_class_that_train_has_lost_does_not_hide_the_store(make_folder: Folder, cache: Path, watch: Watch) -> None:
    root = make_folder("own/train", {"red": 4, "blue": 4, "green": 1}).parent
    make_folder("own/test", {"red": 2, "green": 2})
    opened(root, cache)
    shutil.rmtree(root / "train/green")
    for _ in range(2):
        table, pixels = watch.during(root, cache)
        assert watch.files == []
        assert np.array_equal(everything(pixels), expected(table))


def test_another_side_budget_or_version_is_another_store(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(folder, cache)
    opened(folder, cache, side=16)
    opened(folder, cache, max_pixels=1000)
    monkeypatch.setattr(shelf, "VERSION", 10**6)
    opened(folder, cache)
    assert len(stores(cache)) == 4


def test_a_store_whose_manifest_lacks_what_it_has_today_is_passed_over(folder: Path, cache: Path) -> None:
    opened(folder, cache)
    (manifest,) = (cache / "stores").glob("*/manifest.json")
    older = json.loads(manifest.read_text())
    del older["max_pixels"], older["version"]
    manifest.write_text(json.dumps(older))
    assert list(shelf.Shelf(cache / "stores", SIDE, limits(cache).max_pixels).whole()) == []


# ---- quarantine ------------------------------------------------------------------------------------------------------


@pytest.fixture
def broken(folder: Path) -> Path:
    """A folder with files of every bad kind; some come first in the order of rows."""
    whole = (folder / "blue/blue-000.png").read_bytes()
    (folder / "blue/aaa.png").write_bytes(whole[:-40])
    (folder / "green/bbb.jpg").write_bytes(b"rubbish")
    (folder / "green/ccc.png").write_bytes(b"")
    (folder / "red/gone.png").symlink_to("nowhere.png")
    save(folder / "red/large.png", 200, 200)
    return folder


REASONS = {
    "blue/aaa.png": "truncated",
    "green/bbb.jpg": "not an image of a supported format",
    "green/ccc.png": "empty file",
    "red/gone.png": "cannot be opened: No such file or directory",
    "red/large.png": "too large: 200 x 200",
}


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("store_gb", [None, 0.0], ids=["stored", "from files"])
def test_what_cannot_be_read_is_quarantined_with_its_reason_each_time(
    broken: Path, cache: Path, watch: Watch, store_gb: float | None
) -> None:
    for decoded in (46, 0, 0):
        table, pixels = watch.during(broken, cache, max_pixels=30_000, store_gb=store_gb)
        bad = table.frame.filter(pl.col("reason").is_not_null())
        assert bad["path"].to_list() == list(REASONS)
        for reason, start in zip(bad["reason"], REASONS.values(), strict=True):
            assert reason.startswith(start)
        assert len(table) == 47
        assert len(table.usable) == len(pixels.extents) == 42
        assert watch.decoded == decoded
        assert np.array_equal(everything(pixels), expected(table))


def refuse_to_open(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The tests may run as a user who may read everything."""

    def refusing(plain_open: Callable[..., Any]) -> Callable[..., Any]:
        def refuse(path: Any, *args: Any, **options: Any) -> Any:
            if os.path.basename(os.fspath(path)) == name:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return plain_open(path, *args, **options)

        return refuse

    monkeypatch.setattr(Path, "open", refusing(Path.open))
    monkeypatch.setattr(readers, "open", refusing(open), raising=False)


@pytest.mark.usefixtures("settled")
def test_a_file_without_the_right_to_read_is_told_and_used_once_it_may_be_read(folder: Path, cache: Path, watch: Watch) -> None:
    with pytest.MonkeyPatch.context() as patch:
        refuse_to_open(patch, "green-003.png")
        for opens in (41, 0):
            table, pixels = watch.during(folder, cache)
            bad = table.frame.filter(pl.col("reason").is_not_null())
            assert bad.select("path", "reason").rows() == [("green/green-003.png", "cannot be opened: Permission denied")]
            assert len(watch.files) == opens
            assert np.array_equal(everything(pixels), expected(table))
    table, pixels = watch.during(folder, cache)
    assert set(watch.files) == {"green/green-003.png"}
    assert table.frame["reason"].null_count() == 42
    assert np.array_equal(everything(pixels), expected(table))


def test_a_name_that_no_file_can_have_is_quarantined(folder: Path, cache: Path) -> None:
    frame = scan(folder).frame.select("path", "label")
    frame = pl.concat([frame, pl.DataFrame({"path": ["a\0b.png"], "label": ["red"]})])
    frame.write_parquet(folder / "photos.parquet")
    table, _ = opened(folder / "photos.parquet", cache)
    assert table.frame.filter(path="a\0b.png")["reason"].to_list() == ["cannot be opened: no file can have this name"]


def test_a_class_without_any_readable_image_leaves(folder: Path, cache: Path) -> None:
    for path in (folder / "red").iterdir():
        path.write_bytes(b"rubbish")
    table, pixels = opened(folder, cache)
    assert table.classes == ("blue", "green")
    assert table.notes == ("No usable image, so left out: red.",)
    assert len(pixels.extents) == 34
    assert np.array_equal(everything(pixels), expected(table))


def test_a_folder_without_any_readable_image_is_refused_each_time(folder: Path, cache: Path) -> None:
    for path in folder.rglob("*.png"):
        path.write_bytes(b"rubbish")
    for store_gb in (None, None, 0.0):
        with pytest.raises(DataError, match="holds no usable image"):
            opened(folder, cache, store_gb=store_gb)
    for path in folder.rglob("*.png"):
        path.unlink()
        path.symlink_to("nowhere.png")
    with pytest.raises(DataError, match="holds no usable image"):
        opened(folder, cache)


# ---- damage, interruption, company -----------------------------------------------------------------------------------


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


HARMS: dict[str, Callable[[Path], object]] = {
    "rows changed": lambda s: flip(s / "rows.parquet", 100),
    "rows gone": lambda s: (s / "rows.parquet").unlink(),
    "pixels cut": lambda s: os.truncate(s / "pixels.u8", 5000),
    "pixels gone": lambda s: (s / "pixels.u8").unlink(),
    "manifest gone": lambda s: (s / "manifest.json").unlink(),
    "manifest rubbish": lambda s: (s / "manifest.json").write_text("[1, 2]"),
    "all gone": lambda s: [path.unlink() for path in s.iterdir()],
}


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_store_is_built_again(folder: Path, cache: Path, watch: Watch, harm: str) -> None:
    _, before = opened(folder, cache)
    assert isinstance(before, PixelStore)
    HARMS[harm](before.folder)
    table, pixels = watch.during(folder, cache)
    assert watch.decoded == 42
    assert np.array_equal(everything(pixels), expected(table))
    watch.during(folder, cache)
    assert (watch.files, watch.decoded) == ([], 0)
    assert stores(cache) == [before.folder.name]


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("at", [0, 40, -1, None])
def test_a_damaged_index_is_not_believed(folder: Path, cache: Path, watch: Watch, at: int | None) -> None:
    opened(folder, cache)
    (index,) = (cache / "index").iterdir()
    if at is None:
        index.write_bytes(b"")
    else:
        flip(index, at)
    watch.during(folder, cache)
    assert len(watch.files) == 42
    assert watch.decoded == 0
    watch.during(folder, cache)
    assert watch.files == []


BUILD = """
import sys, time
from pathlib import Path
import polars as pl
from sightline import files
from sightline.data import readers, shelf
from sightline.processes import Share
from sightline.data.table import scan
root, stores, go, wait = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])
decode = readers.decode
def slowly(*args, **options):
    time.sleep(wait)
    return decode(*args, **options)
readers.decode = slowly
todo = scan(root).usable
print("ready", flush=True)
while not go.exists():
    time.sleep(0.005)
one, nothing = shelf.Shelf(stores, 24, 64_000_000), pl.repeat(None, len(todo), dtype=pl.String, eager=True)
with files.scratch_folder(stores) as part:
    shelf.fill(one, part, Share(), root, todo, nothing, keep=True, workers=1, say=lambda done, whole: None)
    folder, _, _ = shelf.finish(one, part, todo, keep=True)
print(folder, shelf.map_pixels(folder, 24).sum(), flush=True)
"""


def test_builds_at_once_end_well_and_a_killed_one_leaves_nothing_behind(folder: Path, tmp_path: Path, cache: Path) -> None:
    go = tmp_path / "go"
    commands = [[sys.executable, "-c", BUILD, folder, cache / "stores", go, wait] for wait in ("60", "0.01", "0.01")]
    with contextlib.ExitStack() as running:
        processes = []
        for command in commands:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            processes.append(running.enter_context(process))
            running.callback(process.kill)
        outputs = [process.stdout for process in processes if process.stdout is not None]
        assert [output.readline() for output in outputs] == ["ready\n"] * 3
        go.touch()
        said = [output.readline() for output in outputs[1:]]
        slow = processes[0]
        slow.kill()
        slow.wait()
    assert [name.endswith(".part") for name in stores(cache)] == [True, False]
    table, pixels = opened(folder, cache)
    assert isinstance(pixels, PixelStore)
    assert said == [f"{pixels.folder} {expected(table).sum()}\n"] * 2
    assert np.array_equal(everything(pixels), expected(table))
    opened(folder, cache, side=16)  # the next build
    assert [name.partition("-")[0] for name in stores(cache)] == ["16", "24"]


def test_threads_that_build_at_once_share_one_store(folder: Path, cache: Path) -> None:
    found: list[PixelStore | PixelFiles] = []
    barrier = threading.Barrier(4)

    def go() -> None:
        barrier.wait()
        found.append(opened(folder, cache)[1])

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores(cache)) == 1
    assert len({everything(pixels).tobytes() for pixels in found}) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_build_leaves_nothing(folder: Path, cache: Path, error: type[BaseException]) -> None:
    def stop(done: int, whole: int) -> None:
        raise error

    with pytest.raises(error):
        open_pixels(scan(folder), SIDE, limits(cache), stop)
    assert stores(cache) == []
    assert not (cache / "index").exists()
    assert threading.active_count() < 10


# ---- room ------------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_one_sentence_and_nothing_is_left(folder: Path, small_disk: Path) -> None:
    with pytest.raises(DiskError) as caught:
        opened(folder, small_disk, side=128, store_gb=1.0)
    assert str(caught.value) == (
        f"There is no room left for {small_disk / 'stores'}. Free some disk space and run the same command again. "
        "Decoded pixels are kept there: SIGHTLINE_CACHE names another place."
    )
    assert stores(small_disk) == []


def test_by_default_half_of_the_free_disk_is_not_passed(folder: Path, small_disk: Path) -> None:
    assert isinstance(opened(folder, small_disk, side=66)[1], PixelFiles)  # 549 of 1,049 kB
    assert isinstance(opened(folder, small_disk, side=64)[1], PixelStore)


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite", "fsync"])
def test_a_disk_that_fills_up_on_the_way_leaves_nothing(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    plain, calls = getattr(os, call), 0

    def fill_up(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > (0 if call == "posix_fallocate" else 3):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return plain(*args)

    monkeypatch.setattr(os, call, fill_up)
    with pytest.raises(DiskError, match="There is no room left for"):
        opened(folder, cache)
    assert stores(cache) == []


def test_a_cache_that_may_not_be_written_is_read_and_else_refused_in_a_sentence(
    folder: Path, make_folder: Folder, small_disk: Path
) -> None:
    cache = small_disk / "cache"
    opened(folder, cache)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    table, pixels = opened(folder, cache)
    assert isinstance(pixels, PixelStore)
    assert np.array_equal(everything(pixels), expected(table))
    other = make_folder("other", {"red": 3, "blue": 3}, seed=5)
    for store_gb in (None, 0.0):
        with pytest.raises(DiskError, match=r"/stores cannot be written: Read-only file system.*SIGHTLINE_CACHE names"):
            opened(other, cache, store_gb=store_gb)
    with pytest.raises(DiskError, match=r"/none cannot be made: Read-only file system.*SIGHTLINE_CACHE names"):
        opened(other, small_disk / "none")


def test_a_file_in_the_place_of_the_cache_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(DiskError, match=r"taken cannot be made: File exists\. .*SIGHTLINE_CACHE names another place"):
        opened(folder, tmp_path / "taken")
    with pytest.raises(DiskError, match=r"deep cannot be made: Not a directory\. .*SIGHTLINE_CACHE names"):
        opened(folder, tmp_path / "taken" / "deep")


@pytest.mark.usefixtures("settled")
def test_a_store_over_the_budget_is_not_kept_until_the_budget_grows(folder: Path, cache: Path, watch: Watch) -> None:
    need = 42 * SIDE**2 * 3 / 1e9
    for decoded in (42, 0):
        table, pixels = watch.during(folder, cache, store_gb=need * 0.99)
        assert isinstance(pixels, PixelFiles)
        assert watch.decoded == decoded
        assert np.array_equal(everything(pixels), expected(table))
    assert sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) < 42 * SIDE**2
    _, pixels = watch.during(folder, cache, store_gb=need)
    assert isinstance(pixels, PixelStore)
    assert watch.decoded == 42
    _, pixels = watch.during(folder, cache, store_gb=0.0)  # it is there already
    assert isinstance(pixels, PixelStore)
    assert watch.files == []


def test_pixels_from_files_that_are_gone_or_have_changed_are_refused(folder: Path, cache: Path) -> None:
    _, pixels = opened(folder, cache, store_gb=0.0)
    (folder / "blue/blue-000.png").unlink()
    save(folder / "blue/blue-001.png", 10, 16)
    (folder / "blue/blue-002.png").write_bytes(b"rubbish")
    with Image.open(folder / "blue/blue-003.png") as picture:
        ImageOps.invert(picture.convert("RGB")).save(folder / "blue/blue-003.png")  # of the same size
    for row, words in enumerate(["could be read when the run began", *["has changed since"] * 3]):
        with pytest.raises(DataError, match=f"blue-00{row}.png {words}"):
            pixels.read(np.array([row]))


def test_a_system_that_writes_in_pieces_or_cannot_reserve_room_is_served(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*args: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    pwrite = os.pwrite
    monkeypatch.setattr(os, "posix_fallocate", cannot)
    monkeypatch.setattr(os, "pwrite", lambda handle, data, at: pwrite(handle, data[:700], at))
    table, pixels = opened(folder, cache)
    assert np.array_equal(everything(pixels), expected(table))


def test_memory_does_not_hold_the_images(tmp_path: Path, cache: Path) -> None:
    """60 pictures of 3 megabytes pass through; a handful of them are in the memory at a time."""
    for i in range(60):
        (tmp_path / "photos" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (1000, 1000), (i, 2, 7)).save(tmp_path / "photos" / "ab"[i % 2] / f"{i}.bmp")
    table = scan(tmp_path / "photos")
    tracemalloc.start()
    try:
        open_pixels(table, SIDE, limits(cache))
        assert tracemalloc.get_traced_memory()[1] < 40e6
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("settled")
def test_what_is_kept_in_columns_does_not_depend_on_how_much_is_packed_at_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(folder / "red" / "red-000.png", folder / "blue" / "again.png")
    (folder / "green" / "broken.png").write_bytes(b"no image")
    whole, pixels = opened(folder, tmp_path / "one")
    monkeypatch.setattr(walk, "_PACKED", 5)
    monkeypatch.setattr(shelf, "_PACKED", 7)
    for _ in range(2):  # built, and found again
        table, parts = opened(folder, tmp_path / "two")
        assert table.frame.equals(whole.frame)
        rows = np.arange(len(table.usable))
        assert torch.equal(parts.read(rows), pixels.read(rows))
    assert [place.name for place in (tmp_path / "one" / "stores").iterdir()] == [f.name for f in (tmp_path / "two" / "stores").iterdir()]
