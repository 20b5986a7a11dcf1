"""The PixelStore: every image decoded once, ever; after that it is bytes in a memory map.

    table, pixels = open_pixels(table, side=128, limits=Limits())
    decode_all(table, side=128, limits=Limits())               the same for the cache alone; torch is not imported
    pixels.read(rows)          (B, S, S, 3) uint8, the picture in the upper left `pixels.extents[rows]`
    pixels.read(rows, into)    the same, into a tensor that is there already

An image whose long side is above S is shrunk to S, the aspect kept; a smaller one is kept as it is; the rest of its
square is unused. The store is keyed by the content of the files and S: renaming, moving or copying the folder finds it
again, and a folder that has changed takes from the earlier store what it still has. `index/` remembers the content of a
file by (path, size, time of change), as git does, so an unchanged folder is opened without reading it. A store is
filled aside and renamed when whole; two builds at once are safe (the second finds the first's). Of torchrun's processes
each decodes its share into the same map. Where a store would not fit the disk budget, `PixelFiles` decodes the files each
time: same pixels.

It gives up reuse across different S; clearing up: stores stay until the user removes them; and finding out that a failing
disk has changed pixels later: the length of the map is checked, its content is not.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline import files
from sightline.data.crew import fill_together
from sightline.data.images import decode, shrink
from sightline.data.readers import Squares, try_to_open
from sightline.data.shelf import (
    NO_PIXELS,
    Digests,
    Progress,
    Shelf,
    column,
    fill,
    finish,
    in_threads,
    map_pixels,
    read_rows,
)
from sightline.data.table import ImageTable
from sightline.errors import DataError, DiskError
from sightline.processes import Share

if TYPE_CHECKING:
    import torch

_FEW = 1000  # changed files of a known folder that are read, to look for its store before anything is decoded
_SETTLED_NS = 2_000_000_000  # a file changed within the last two seconds may change again without its time showing it
_TOLD = ["digest", "pixel_digest", "height", "width", "notes"]


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
        workers: decoding threads, or processes where files are many.
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
        import torch

        return torch.index_select(self.pixels, 0, torch.from_numpy(self.rows[rows]), out=into)


@dataclass(frozen=True)
class PixelFiles:
    """The same pixels as a store's, decoded from the files each time they are read."""

    root: Path
    paths: tuple[str, ...]
    side: int
    extents: npt.NDArray[np.int32]
    digests: pl.Series
    limits: Limits
    pool: ThreadPoolExecutor

    def read(self, rows: npt.NDArray[np.int64], into: torch.Tensor | None = None) -> torch.Tensor:
        """(B, S, S, 3) uint8 of these table rows; raises DataError where a file is gone or has changed."""
        import torch

        out = torch.empty((len(rows), self.side, self.side, 3), dtype=torch.uint8) if into is None else into
        view = out.zero_().numpy()
        for slot, small in enumerate(self.pool.map(self._one, rows.tolist())):
            view[slot, : small.shape[0], : small.shape[1]] = small
        return out

    def _one(self, row: int) -> Squares:
        path = self.root / self.paths[row]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} could be read when the run began and cannot be now: {error}.") from None
        if hashlib.sha256(data).hexdigest() != self.digests[row]:
            raise DataError(f"{path} has changed since the run began. Restore it, or start again.")
        return shrink(decode(data, max_pixels=self.limits.max_pixels, side=self.side), self.side)


def open_pixels(
    table: ImageTable, side: int, limits: Limits, progress: Progress | None = None
) -> tuple[ImageTable, PixelStore | PixelFiles]:
    """Decodes what is not decoded yet; unreadable images are quarantined with their reason.

    Args:
        side: S, the long side of the stored pixels.
        progress: called with (done, all) while files are read.

    Returns:
        The table with the columns `digest`, `pixel_digest`, `height`, `width`, `notes` (null for rows that were not
        read), and the pixels of its usable rows, in their order.

    Raises:
        DiskError: no room, or the cache cannot be written. Nothing half-built is left behind.
        DataError: fewer than two classes have images that can be read.
    """
    known, folder = decode_all(table, side, limits, progress)
    contents = read_rows(folder, known.digests)  # a row for each usable row of the table
    told = _tell(table, contents, known.refused)
    contents = contents.filter(told.frame["reason"].is_null().filter(table.frame["reason"].is_null()))
    return told, _pixels(told, contents, folder, side, limits)


def decode_all(table: ImageTable, side: int, limits: Limits, progress: Progress | None = None) -> tuple[Known, Path]:
    """What `open_pixels` does before it opens anything: the store, found or built, and what is known of the files."""
    shelf = Shelf(limits.cache / "stores", side, limits.max_pixels)
    with _cache_errors(limits.cache):
        known = Known(shelf, table, limits, progress or (lambda done, whole: None))
        folder = fill_together(shelf.folder, known.find, known.fill, known.finish)
        if not known.leads:  # the first process of the disk has: what it found or built is there now
            known = Known(shelf, table, limits, known.say)
            known.find()
    return known, folder


class Known:
    """What is known of the contents of a table's files, while their store is looked for or built.

    Attributes:
        digests: of each usable row; null where nothing is known yet.
        refused: a reason against each path that cannot be opened.
        leads: whether this process has looked itself, and not waited for another.
    """

    def __init__(self, shelf: Shelf, table: ImageTable, limits: Limits, say: Progress) -> None:
        self.shelf, self.root, self.todo, self.limits, self.say = shelf, table.root, table.usable, limits, say
        self.started, self.leads = time.time_ns(), False
        self.keep = _fits(len(self.todo), shelf.side, limits)
        self.remembered = self.digests = _remembered(self.root, self.todo, limits.cache)
        self.refused: dict[str, str] = {}

    def find(self) -> Path | None:
        """The store of these contents, if there is one."""
        self.leads = True
        self.digests, self.refused = _hash_where_it_pays(self.shelf, self.root, self.todo, self.remembered, self.limits.workers, self.say)
        found = self.shelf.find(self.digests, self.keep) if self.digests.null_count() == len(self.refused) else None
        if found is not None:
            self._remember()
        return found

    def fill(self, part: Path, share: Share) -> None:
        """Reads a share of the files into the scratch folder."""
        workers = self.limits.workers
        fill(self.shelf, part, share, self.root, self.todo, self.digests, keep=self.keep, workers=workers, say=self.say)

    def finish(self, part: Path) -> Path:
        """The store, complete."""
        folder, self.digests, self.refused = finish(self.shelf, part, self.todo, keep=self.keep)
        self._remember()
        return folder

    def _remember(self) -> None:
        if not self.digests.equals(self.remembered):
            with contextlib.suppress(DiskError):  # it only saves time, and the cache may be somebody else's
                _remember(self.root, self.todo, self.digests, self.limits.cache, self.started)


@contextlib.contextmanager
def _cache_errors(cache: Path) -> Iterator[None]:
    """Makes the cache's folder; a disk that says no is told with what to set."""
    try:
        files.make_folder(cache)
        with files.disk_errors(cache):
            yield
    except DiskError as error:
        raise DiskError(f"{error} Decoded pixels are kept there: SIGHTLINE_CACHE names another place.") from error


def _tell(table: ImageTable, contents: pl.DataFrame, refused: dict[str, str]) -> ImageTable:
    """The table with what is known of each usable file, and with reasons against those that cannot be used."""
    bad = contents["unreadable"].is_not_null()
    unreadable = dict(zip(table.usable["path"].filter(bad), contents["unreadable"].filter(bad), strict=True))
    frame = table.frame.drop(_TOLD, strict=False).hstack(table.spread(contents.select(_TOLD)))
    return replace(table, frame=frame).quarantine(unreadable | refused)


def _pixels(table: ImageTable, used: pl.DataFrame, folder: Path, side: int, limits: Limits) -> PixelStore | PixelFiles:
    extents = used.select("stored_height", "stored_width").to_numpy().astype(np.int32)
    if folder.name.endswith(NO_PIXELS):
        pool = ThreadPoolExecutor(limits.workers, thread_name_prefix="decode")
        return PixelFiles(table.root, tuple(table.usable["path"]), side, extents, table.usable["digest"], limits, pool)
    places = used["place"].to_numpy().astype(np.int64)
    import torch

    return PixelStore(folder, side, extents, places, torch.from_numpy(map_pixels(folder, side)))


# ---- knowing files without decoding them -----------------------------------------------------------------------------


def _index_path(root: Path, cache: Path) -> Path:
    return cache / "index" / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}.index"


def _read_index(path: Path) -> pl.DataFrame | None:
    """path, bytes, changed and digest of files that were read before; a digest in front of the table guards it."""
    try:
        with path.open("rb") as file:
            guard, data = file.read(32), file.read()
    except OSError:
        return None
    return pl.read_parquet(io.BytesIO(data)) if hashlib.sha256(data).digest() == guard else None


def _remembered(root: Path, todo: pl.DataFrame, cache: Path) -> Digests:
    """Digest of each row whose path, size and time of change are those of an earlier build."""
    index = _read_index(_index_path(root, cache))
    if index is None:
        return pl.repeat(None, len(todo), dtype=pl.String, eager=True)
    asked = ["path", "bytes", "changed"]
    if index.select(asked).equals(todo.select(asked)):  # nothing has changed
        return index["digest"]
    return todo.select(asked).join(index, on=asked, how="left", maintain_order="left")["digest"]


def _remember(root: Path, todo: pl.DataFrame, known: Digests, cache: Path, started: int) -> None:
    """The content of each file that had settled when it was read, for the next time."""
    path = _index_path(root, cache)
    index = todo.select("path", "bytes", "changed").with_columns(digest=known)
    index = index.filter(pl.col("digest").is_not_null() & (pl.col("changed") < started - _SETTLED_NS))
    before = _read_index(path)
    if before is not None:  # another table of the same folder may have written it
        index = pl.concat([index, before.join(index, on="path", how="anti")])
    data = io.BytesIO()
    index.write_parquet(data)
    files.make_folder(path.parent)
    guard = hashlib.sha256(data.getbuffer()).digest()

    def fill(part: Path) -> None:
        with part.open("wb") as file:
            file.writelines([guard, data.getbuffer()])

    files.write_atomic(path, fill)


def _hash_where_it_pays(
    shelf: Shelf, root: Path, todo: pl.DataFrame, remembered: Digests, workers: int, say: Progress
) -> tuple[Digests, dict[str, str]]:
    """Reads files of unknown content where a few of a folder have changed, or where a store may be theirs.

    Returns:
        The digest of each row, and a reason against each path that cannot be opened.
    """
    unknown = remembered.is_null()
    pending, refused = int(unknown.sum()), {}
    few = pending < len(unknown) and pending <= max(_FEW, len(unknown) // 10)
    if not pending or (not few and not shelf.may_hold(todo)):
        return remembered, {}
    paths = todo["path"].filter(unknown)

    def digests() -> Iterator[str | None]:
        opened = in_threads(lambda path: try_to_open(root / path, files.digest), paths, workers)
        for done, (path, (digest, reason)) in enumerate(zip(paths, opened, strict=True), 1):
            if reason is not None:
                refused[path] = reason
            if done % 32 == 0 or done == pending:
                say(done, pending)
            yield digest

    found = column(digests()).gather(pl.select(pl.when(unknown).then(unknown.cum_sum() - 1)).to_series())
    return pl.select(pl.coalesce(remembered, found)).to_series(), refused


def _fits(n: int, side: int, limits: Limits) -> bool:
    """Whether n squares fit the budget; by default half of the free disk."""
    free = shutil.disk_usage(limits.cache).free
    budget = free / 2 if limits.store_gb is None else limits.store_gb * 1e9
    return n * side * side * 3 <= budget
