"""The PixelStore: every image decoded once, ever; after that it is bytes in a memory map.

    table, pixels = open_pixels(table, side=128, limits=Limits())
    pixels.read(rows)          (B, S, S, 3) uint8, the picture in the upper left `pixels.extents[rows]`
    pixels.read(rows, into)    the same, into a tensor that is there already

An image whose long side is above S is shrunk to S, the aspect kept; a smaller one is kept as it is; the rest of its
square is unused. The store is keyed by the content of the files and S: renaming, moving or copying the folder finds it
again. `index/` remembers the content of a file by (path, size, time of change), as git does, so an unchanged folder is
opened without reading it. A store is filled aside and renamed when whole; two builds at once are safe (the second
finds the first's). Where a store would not fit the disk budget, `PixelFiles` decodes the files each time: same pixels.

Threads do the decoding: Pillow and sha256 release the interpreter's lock for nearly all of their time, and threads need
no start-up and no guard in the user's script. It gives up reuse across different S.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from sightline import files
from sightline.data.images import decode, pixel_digest, shrink
from sightline.data.table import ImageTable
from sightline.errors import DataError, UnreadableImage

VERSION = 1  # of the decoder and the layout; another one, other stores
_NO_PIXELS = "-rows"  # ending of a store that only knows what the files hold
_GONE = "cannot be opened"
_CHUNK = 32  # files a task: long enough to hide the hand-over, short enough for a smooth progress bar
_SETTLED_NS = 2_000_000_000  # a file changed within the last two seconds may change again without its time showing it
_ROWS = {
    "digest": pl.String,
    "pixel_digest": pl.String,
    "height": pl.Int32,
    "width": pl.Int32,
    "stored_height": pl.Int32,
    "stored_width": pl.Int32,
    "notes": pl.String,
    "unreadable": pl.String,
}
Progress = Callable[[int, int], None]


class Pixels(Protocol):
    """Where batches get their pixels from."""

    @property
    def side(self) -> int:
        """S, the side of the stored squares."""
        ...

    @property
    def extents(self) -> npt.NDArray[np.int32]:
        """(N, 2) height and width of the used part."""
        ...

    def read(self, rows: npt.NDArray[np.int64], into: torch.Tensor | None = None) -> torch.Tensor:
        """(B, S, S, 3) uint8 of these table rows."""
        ...


@dataclass(frozen=True)
class Limits:
    """What decoding may use.

    Attributes:
        max_pixels: larger pictures are quarantined before they are decoded.
        store_gb: largest store in gigabytes; None: half of the free disk.
        workers: decoding threads.
        cache: where stores live.
    """

    max_pixels: int
    store_gb: float | None
    workers: int
    cache: Path


@dataclass(frozen=True)
class PixelStore:
    """Stored pixels of one table; row i belongs to row i of the table's usable rows."""

    folder: Path
    side: int
    extents: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int64]  # place of each table row in the map
    pixels: torch.Tensor  # (M, S, S, 3) uint8, memory-mapped

    def read(self, rows: npt.NDArray[np.int64], into: torch.Tensor | None = None) -> torch.Tensor:
        """(B, S, S, 3) uint8 of these table rows."""
        return torch.index_select(self.pixels, 0, torch.from_numpy(self.rows[rows]), out=into)


@dataclass(frozen=True)
class PixelFiles:
    """The same pixels as a store's, decoded from the files each time they are read."""

    root: Path
    paths: tuple[str, ...]
    side: int
    extents: npt.NDArray[np.int32]
    limits: Limits
    pool: ThreadPoolExecutor

    def read(self, rows: npt.NDArray[np.int64], into: torch.Tensor | None = None) -> torch.Tensor:
        """(B, S, S, 3) uint8 of these table rows."""
        out = torch.zeros((len(rows), self.side, self.side, 3), dtype=torch.uint8) if into is None else into
        view = out.numpy()
        for slot, small in enumerate(self.pool.map(self._one, rows.tolist())):
            view[slot, : small.shape[0], : small.shape[1]] = small
        return out

    def _one(self, row: int) -> npt.NDArray[np.uint8]:
        path = self.root / self.paths[row]
        try:
            return shrink(decode(path.read_bytes(), max_pixels=self.limits.max_pixels).pixels, self.side)
        except (OSError, UnreadableImage) as error:
            raise DataError(f"{path} could be read when the run began and cannot be now: {error}.") from None


def open_pixels(
    table: ImageTable, side: int, limits: Limits, progress: Progress | None = None
) -> tuple[ImageTable, PixelStore | PixelFiles]:
    """Decodes what is not decoded yet; unreadable images are quarantined with their reason.

    Args:
        side: S, the long side of the stored pixels.
        progress: called with (done, all) while files are decoded.

    Returns:
        The table with the columns `digest`, `pixel_digest`, `height`, `width`, `notes` (null for rows that were not
        read), and the pixels of its usable rows, in their order.

    Raises:
        DiskError: no room. Nothing half-built is left behind.
    """
    table, known = _hash_the_few(table, _known_digests(table, limits.cache))
    folder = _find(known, side, limits)
    if folder is None:
        folder, known = _build(table, side, limits, progress or (lambda done, whole: None))
    contents = _contents(folder, known)
    table = _apply(table, contents)
    contents = contents.filter(table.frame["reason"].is_null())
    extents = contents.select("stored_height", "stored_width").to_numpy().astype(np.int32)
    if folder.name.endswith(_NO_PIXELS):
        pool = ThreadPoolExecutor(limits.workers, thread_name_prefix="decode")
        return table, PixelFiles(table.root, tuple(table.usable["path"]), side, extents, limits, pool)
    mapped = np.memmap(folder / "pixels.u8", dtype=np.uint8, mode="c").reshape(-1, side, side, 3)
    return table, PixelStore(folder, side, extents, contents["place"].to_numpy().astype(np.int64), torch.from_numpy(mapped))


# ---- finding a store -------------------------------------------------------------------------------------------------


def _index_path(root: Path, cache: Path) -> Path:
    return cache / "index" / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}.parquet"


def _known_digests(table: ImageTable, cache: Path) -> list[str | None]:
    """Digest of each row whose path, size and time of change are those of an earlier build."""
    try:
        index = pl.read_parquet(_index_path(table.root, cache))
        found = table.frame.join(index, on=["path", "bytes", "changed"], how="left", maintain_order="left")["digest"]
    except (OSError, pl.exceptions.PolarsError):
        return [None] * len(table)
    return found.to_list()


def _hash_the_few(table: ImageTable, known: list[str | None]) -> tuple[ImageTable, list[str | None]]:
    """Reads files of unknown content, where they are so few that this beats decoding all; notes which cannot be opened."""
    pending = [i for i, reason in enumerate(table.frame["reason"]) if known[i] is None and reason is None]
    if len(pending) > max(1000, len(known) // 10):
        return table, known
    refused: dict[str, str] = {}
    for i in pending:
        path = table.frame["path"][i]
        try:
            known[i] = files.digest(table.root / path)
        except OSError as error:
            refused[path] = _cannot_open(error)
    return (table.quarantine(refused) if refused else table), known


def _cannot_open(error: OSError) -> str:
    return f"cannot be opened: {error.strerror}"


def _store_key(known: Sequence[str | None], side: int, max_pixels: int) -> str:
    text = "\n".join([str(VERSION), str(side), str(max_pixels), *sorted({d for d in known if d})])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _find(known: list[str | None], side: int, limits: Limits) -> Path | None:
    name = f"{side}-{_store_key(known, side, limits.max_pixels)}"
    wanted = [name] if _fits(len(known), side, limits) else [name, name + _NO_PIXELS]
    return next((f for f in (limits.cache / "stores" / n for n in wanted) if _is_whole(f)), None)


def _is_whole(folder: Path) -> bool:
    """The manifest is there and agrees with the table of rows and with the size of the map."""
    try:
        manifest = files.read_json(folder / files.MANIFEST)
        rows_agree = files.digest(folder / "rows.parquet") == manifest["rows"]
        return rows_agree and (folder / "pixels.u8").stat().st_size == manifest["bytes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _fits(n: int, side: int, limits: Limits) -> bool:
    """Whether n squares fit the budget; by default half of the free disk."""
    limits.cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(limits.cache).free
    budget = free / 2 if limits.store_gb is None else limits.store_gb * 1e9
    return n * side * side * 3 <= budget


# ---- building --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Read:
    """What one file turned out to be; the fields are the columns of `rows.parquet`."""

    digest: str | None
    pixel_digest: str | None
    height: int | None
    width: int | None
    stored_height: int | None
    stored_width: int | None
    notes: str | None
    unreadable: str | None


def _build(table: ImageTable, side: int, limits: Limits, progress: Progress) -> tuple[Path, list[str | None]]:
    """Decodes every row without a reason against it into a new store; gives its folder and the digest of each row."""
    stores = limits.cache / "stores"
    todo = table.usable
    keep = _fits(len(todo), side, limits)
    started = time.time_ns()
    with files.scratch_folder(stores) as part:
        reads = _decode_all(table.root, todo["path"].to_list(), side, limits, part / "pixels.u8", keep, progress)
        rows = pl.DataFrame({name: [getattr(r, name) for r in reads] for name in _ROWS}, schema=_ROWS)
        rows.write_parquet(part / "rows.parquet")
        about = {"version": VERSION, "side": side, "bytes": (part / "pixels.u8").stat().st_size}
        files.write_json(part / files.MANIFEST, {**about, "rows": files.digest(part / "rows.parquet")})
        digests = rows["digest"].to_list()
        folder = stores / f"{side}-{_store_key(digests, side, limits.max_pixels)}{'' if keep else _NO_PIXELS}"
        files.publish(part, folder)
    _remember(table.root, todo, digests, limits.cache, started)
    by_path = dict(zip(todo["path"], digests, strict=True))
    return folder, [by_path.get(path) for path in table.frame["path"]]


def _decode_all(
    root: Path, paths: list[str], side: int, limits: Limits, pixels: Path, keep: bool, progress: Progress
) -> list[_Read]:
    reads: list[_Read] = []
    with pixels.open("wb") as file, ThreadPoolExecutor(limits.workers, thread_name_prefix="decode") as pool:
        handle = file.fileno() if keep else None
        if handle is not None and hasattr(os, "posix_fallocate") and paths:
            os.posix_fallocate(handle, 0, len(paths) * side**2 * 3)  # a full disk is told now, before hours of decoding
        waiting: deque[Future[list[_Read]]] = deque()
        try:
            for first in range(0, len(paths), _CHUNK):
                chunk = paths[first : first + _CHUNK]
                waiting.append(pool.submit(_read_chunk, root, chunk, first, side, limits.max_pixels, handle))
                while len(waiting) > 4 * limits.workers or (waiting and first + _CHUNK >= len(paths)):
                    reads += waiting.popleft().result()
                    progress(len(reads), len(paths))
        finally:
            for future in waiting:
                future.cancel()
    return reads


def _read_chunk(root: Path, paths: list[str], first: int, side: int, max_pixels: int, handle: int | None) -> list[_Read]:
    return [_read_one(root / path, first + i, side, max_pixels, handle) for i, path in enumerate(paths)]


def _read_one(path: Path, place: int, side: int, max_pixels: int, handle: int | None) -> _Read:
    """Opens a file, the only time; its shrunk pixels go to their place in the map."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return _Read(None, None, None, None, None, None, None, _cannot_open(error))
    digest = hashlib.sha256(data).hexdigest()
    try:
        decoded = decode(data, max_pixels=max_pixels)
    except UnreadableImage as error:
        return _Read(digest, None, None, None, None, None, None, error.reason)
    height, width = decoded.pixels.shape[:2]
    small = shrink(decoded.pixels, side)
    if handle is not None:
        square = np.zeros((side, side, 3), dtype=np.uint8)
        square[: small.shape[0], : small.shape[1]] = small
        os.pwrite(handle, square.data, place * square.nbytes)
    notes = " ".join(decoded.notes) or None
    return _Read(digest, pixel_digest(decoded.pixels).hex(), height, width, small.shape[0], small.shape[1], notes, None)


def _remember(root: Path, todo: pl.DataFrame, digests: list[str | None], cache: Path, started: int) -> None:
    """The content of each file that had settled when it was read, for the next time."""
    index = todo.select("path", "bytes", "changed").with_columns(digest=pl.Series(digests, dtype=pl.String))
    index = index.filter(pl.col("digest").is_not_null() & (pl.col("changed") < started - _SETTLED_NS))
    path = _index_path(root, cache)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(path, index.write_parquet)


# ---- using a store ---------------------------------------------------------------------------------------------------


def _contents(folder: Path, known: list[str | None]) -> pl.DataFrame:
    """What the store knows of each row of the table: its row of `rows.parquet` and its `place` in the map."""
    rows = pl.read_parquet(folder / "rows.parquet").with_row_index("place").filter(pl.col("digest").is_not_null())
    rows = rows.unique("digest", keep="first", maintain_order=True)
    wanted = pl.DataFrame({"digest": known}, schema={"digest": pl.String})
    return wanted.join(rows, on="digest", how="left", maintain_order="left")


def _apply(table: ImageTable, contents: pl.DataFrame) -> ImageTable:
    frame = pl.concat([table.frame, contents.select("digest", "pixel_digest", "height", "width", "notes")], how="horizontal")
    reasons = contents["unreadable"].to_list()
    unopened = [why or (_GONE if digest is None else None) for why, digest in zip(reasons, contents["digest"], strict=True)]
    bad = {path: why for path, why in zip(frame["path"], unopened, strict=True) if why}
    return replace(table, frame=frame).quarantine(bad)
