"""The shelf of pixel stores: what a store's folder holds, finding one by the content of files, and filling a new one.

    shelf = Shelf(cache / "stores", side=128, max_pixels=64_000_000)
    folder = shelf.find(digests, keep=True)                              None where there is none
    fill(shelf, part, share, root, todo, known, keep=True, workers=8, say=progress)
    folder, digests, refused = finish(shelf, part, todo, keep=True)

A store is a folder: `pixels.u8`, a square of side S an image; `rows.parquet`, what each file turned out to be; and
`manifest.json`, written last. Its name is a digest of the contents it was made from. What an earlier store of the same
side already holds is copied from there, not decoded again.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

from sightline import files
from sightline.data.readers import Reader, Row, Squares, helped
from sightline.processes import Share

VERSION = 3  # of the decoder and the layout; another one, other stores
NO_PIXELS = "-rows"  # ending of a store that only knows what the files hold
_MANY, _SAMPLE = 1000, 50  # files of unknown content: whether an earlier store has any of them is asked of some
_PACKED = 65_536  # texts, or rows, that are objects at once
_CHUNK = 32  # files a task: long enough to hide the hand-over, short enough for a smooth progress bar
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
Digests = pl.Series  # texts, null where nothing is known
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Shelf:
    """The stores in a folder that were made with one side S and one pixel budget."""

    folder: Path
    side: int
    max_pixels: int

    def place(self, digests: Digests, keep: bool) -> Path:
        """Where the store of files with these contents belongs; `keep`: with their pixels."""
        key = hashlib.sha256("\n".join([str(VERSION), str(self.side), str(self.max_pixels)]).encode())
        for first in "0123456789abcdef":  # in order, and only a part of them is sorted at once
            some = digests.filter(digests.str.starts_with(first)).unique().sort()
            if len(some):
                key.update(b"\n")
                for part in lines(some):
                    key.update(part)
        return self.folder / f"{self.side}-{key.hexdigest()[:24]}{'' if keep else NO_PIXELS}"

    def find(self, digests: Digests, keep: bool) -> Path | None:
        """The whole store of these contents; where pixels need not be kept, one without them will do."""
        wanted = [self.place(digests, True)] if keep else [self.place(digests, True), self.place(digests, False)]
        return next((folder for folder in wanted if read_manifest(folder)), None)

    def whole(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """All whole stores and their manifests, the newest first."""
        found = sorted(self.folder.glob(f"{self.side}-*"), key=lambda f: f.stat().st_mtime_ns, reverse=True)
        for folder in found:
            manifest = read_manifest(folder)
            if manifest and (manifest.get("version"), manifest.get("max_pixels")) == (VERSION, self.max_pixels):
                yield folder, manifest

    def may_hold(self, todo: pl.DataFrame) -> bool:
        """Whether a store was made of as many files with as many bytes: the same folder, moved or copied?"""
        size = {"files": len(todo), "file_bytes": int(todo["bytes"].sum())}
        return any(size.items() <= manifest.items() for _, manifest in self.whole())


def lines(texts: Sequence[str] | pl.Series) -> Iterator[bytes]:
    """The texts with line breaks between them, in parts; never are all of them objects."""
    for start in range(0, len(texts), _PACKED):
        yield (("\n" if start else "") + "\n".join(texts[start : start + _PACKED])).encode()


def column(texts: Iterable[str | None]) -> pl.Series:
    """The texts as a column; never are all of them objects."""
    texts = iter(texts)
    parts = [pl.Series(dtype=pl.String)]
    while some := list(islice(texts, _PACKED)):
        parts.append(pl.Series(some, dtype=pl.String))
    return pl.concat(parts)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a whole store: it agrees with the table of rows and with the size of the map."""
    try:
        manifest: dict[str, Any] = files.read_json(folder / files.MANIFEST)
        rows_agree = files.digest(folder / "rows.parquet") == manifest["rows"]
        whole = rows_agree and (folder / "pixels.u8").stat().st_size == manifest["bytes"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if whole else None


def read_rows(folder: Path, digests: Digests) -> pl.DataFrame:
    """What a store knows of each content, null where nothing: the columns of its rows, and the `place` in its map."""
    table, known = folder / "rows.parquet", digests.is_not_null()
    if pl.read_parquet(table, columns=["digest"])["digest"].equals(digests):  # made from these files: nothing is looked up
        rows = pl.read_parquet(table, columns=[name for name in _ROWS if name != "digest"]).with_row_index("place")
        rows = rows if known.all() else rows.select(pl.when(known).then(pl.all()))
        return rows.with_columns(digest=digests)
    rows = pl.read_parquet(table).with_row_index("place").filter(pl.col("digest").is_not_null())
    rows = rows.unique("digest", keep="first", maintain_order=True)
    return digests.alias("digest").to_frame().join(rows, on="digest", how="left", maintain_order="left")


def map_pixels(folder: Path, side: int) -> Squares:
    """(M, S, S, 3) on the disk; copied on write, which never happens, because torch warns of what cannot be written."""
    return np.memmap(folder / "pixels.u8", dtype=np.uint8, mode="c").reshape(-1, side, side, 3)


# ---- reading files ---------------------------------------------------------------------------------------------------


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """`work` of every item, in order; a few items ahead, so that memory does not grow with their number."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="read") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 4 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@dataclass(frozen=True, slots=True)
class _Earlier:
    """What an earlier store holds; `places` are its contents by digest."""

    places: dict[str, int]
    rows: pl.DataFrame
    pixels: Squares | None

    @classmethod
    def empty(cls) -> _Earlier:
        return cls({}, pl.DataFrame(), None)

    @classmethod
    def nearest(cls, shelf: Shelf, known: Digests, keep: bool) -> _Earlier:
        """The store that shares most contents; of equal ones, such as where nothing is known yet, the newest."""
        nearest, most, wanted = None, -1, known.drop_nulls().unique().alias("digest").to_frame()
        for folder, _ in shelf.whole():
            shared = len(wanted.join(pl.read_parquet(folder / "rows.parquet", columns=["digest"]), on="digest", how="semi"))
            if shared > most and not (keep and folder.name.endswith(NO_PIXELS)):
                nearest, most = folder, shared
        if nearest is None:
            return cls.empty()
        rows = pl.read_parquet(nearest / "rows.parquet")
        places = {digest: place for place, digest in enumerate(rows["digest"]) if digest}
        return cls(places, rows, map_pixels(nearest, shelf.side) if keep else None)

    def holds_any(self, reader: Reader, paths: pl.Series, known: Digests) -> bool:
        """Whether it shares anything with these files, as far as is known, or any of `paths` where nothing is known."""
        if not self.places or any(digest in self.places for digest in known.drop_nulls()):
            return bool(self.places)
        opened = (reader.open(path)[0] for path in paths)
        return any(hashlib.sha256(data).hexdigest() in self.places for data in opened if data is not None)

    def find(self, digest: str | None) -> tuple[Row, Squares | None] | None:
        place = self.places.get(digest) if digest else None
        if place is None:
            return None
        row = Row(*self.rows.row(place))
        return row, None if self.pixels is None or row.unreadable is not None else self.pixels[place]

    def read(self, reader: Reader, path: str, place: int, digest: str | None) -> Row:
        """Opens a file only where its content is unknown, or new; its shrunk pixels go to their place in the map."""
        found = self.find(digest)
        if found is None:
            data, reason = reader.open(path)
            if data is None:
                return Row(None, unreadable=reason)
            digest = hashlib.sha256(data).hexdigest()
            found = self.find(digest) or reader.decode(data, digest)
        row, small = found
        reader.keep(small, place)
        return row


# ---- building --------------------------------------------------------------------------------------------------------


def fill(
    shelf: Shelf, part: Path, share: Share, root: Path, todo: pl.DataFrame, known: Digests, *, keep: bool, workers: int, say: Progress
) -> None:
    """Reads a share of the files into the scratch folder of a new store; `finish` comes when all shares are there.

    Args:
        root: the folder that the column `path` of `todo` is relative to.
        known: what is known of the contents already.
        keep: whether pixels are stored.

    Raises:
        OSError: no room, or no right to write there.
    """
    (part / "rows").mkdir(exist_ok=True)
    with (part / "pixels.u8").open("ab") as file:  # whoever comes first makes it
        pass
    with (part / "pixels.u8").open("r+b") as file:
        if keep:
            _reserve(file.fileno(), len(todo) * shelf.side**2 * 3)
        reader = Reader(str(root), shelf.side, shelf.max_pixels, file.fileno() if keep else None)
        earlier, paths = _Earlier.nearest(shelf, known, keep), todo["path"]
        if len(paths) >= _MANY and not earlier.holds_any(reader, paths.gather_every(len(paths) // _SAMPLE), known):
            earlier = _Earlier.empty()
        rows = _read_all(reader, earlier, paths, share, known, workers, say)
    rows.write_parquet(part / "rows" / f"{share.part:06d}.parquet")


def _read_all(
    reader: Reader, earlier: _Earlier, paths: pl.Series, share: Share, known: Digests, workers: int, say: Progress
) -> pl.DataFrame:
    own = range(len(paths))[share.of(len(paths))]
    chunks = (own[first : first + _CHUNK] for first in range(0, len(own), _CHUNK))
    packed: list[pl.DataFrame] = []
    rows: list[Row] = []
    done = 0
    with helped(reader, workers, 0 if earlier.places else len(own)) as decoded:

        def read(places: range) -> list[Row]:
            own_paths, digests = (column[places.start : places.stop].to_list() for column in (paths, known))
            if not earlier.places:
                return decoded(list(zip(own_paths, places, strict=True)))
            return [earlier.read(reader, *what) for what in zip(own_paths, places, digests, strict=True)]

        for some in in_threads(read, chunks, workers):
            rows += some
            done += len(some)
            if len(rows) >= _PACKED:
                packed.append(_as_columns(rows))
                rows = []
            say(min(done * share.parts, len(paths)), len(paths))  # the others are about as far
    return pl.concat([*packed, _as_columns(rows)])


def _as_columns(rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame({name: [getattr(row, name) for row in rows] for name in _ROWS}, schema=_ROWS)


def finish(shelf: Shelf, part: Path, todo: pl.DataFrame, *, keep: bool) -> tuple[Path, Digests, dict[str, str]]:
    """Gives a store that is filled its name, when it is whole and on the disk.

    Returns:
        The store, the digest of each file, and a reason against each path that cannot be opened.
    """
    rows = pl.concat([pl.read_parquet(path) for path in sorted((part / "rows").iterdir())])
    shutil.rmtree(part / "rows")
    _complete(part, rows, shelf, int(todo["bytes"].sum()))
    digests = rows["digest"]
    folder = shelf.place(digests, keep)
    with files.locked(shelf.folder):  # two that find the same damaged store: no whole one is ever removed
        if not read_manifest(folder):
            shutil.rmtree(folder, ignore_errors=True)
        files.publish(part, folder)
    unopened = rows["digest"].is_null()
    return folder, digests, dict(zip(todo["path"].filter(unopened), rows["unreadable"].filter(unopened), strict=True))


def _reserve(handle: int, size: int) -> None:
    """A full disk is told now, before hours of decoding."""
    os.ftruncate(handle, size)
    if hasattr(os, "posix_fallocate") and size:
        try:
            os.posix_fallocate(handle, 0, size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that cannot promise room
                raise


def _complete(part: Path, rows: pl.DataFrame, shelf: Shelf, file_bytes: int) -> None:
    """The table of rows, and last the manifest; all of it on the disk."""
    rows.write_parquet(part / "rows.parquet")
    about = {"version": VERSION, "side": shelf.side, "max_pixels": shelf.max_pixels, "file_bytes": file_bytes}
    about |= {"files": len(rows), "bytes": (part / "pixels.u8").stat().st_size}
    files.write_json(part / files.MANIFEST, {**about, "rows": files.digest(part / "rows.parquet")})
    files.flush_all(part)
