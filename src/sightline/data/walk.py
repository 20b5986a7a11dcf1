"""All that lies below a folder: what may be an image, and what is passed over, counted by its reason.

    found = walk(root)                       found.images(): folder, name, bytes, changed
    paths, skipped = list_images(folder)     whatever the files are called there

Nothing is opened. Every file is named or counted. What is found lies in columns: of a million files each object would count.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from sightline.data.formats import SUFFIXES, passed_over

NOT_A_FILE = "not a regular file"
_SYSTEM_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information"})
_COLUMNS = {"folder": pl.UInt32, "name": pl.String, "bytes": pl.Int64, "changed": pl.Int64}
_PACKED = 65_536  # files whose objects become columns at once
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db"})


def list_images(folder: Path) -> tuple[list[Path], dict[str, int]]:
    """All images below a folder, whatever it is called there, in order; and what was left out, by reason."""
    found = walk(folder)
    rows = found.images().select("folder", "name").iter_rows()
    return [folder.joinpath(*parts) for parts in sorted((*found.folders[number], name) for number, name in rows)], counted(found.skipped)


@dataclass(slots=True)
class Found:
    """All that lies below a folder: folders that were read (as names from the root down), closed ones, the rest, and images."""

    folders: list[tuple[str, ...]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    _rows: list[tuple[int, str, int, int]] = field(default_factory=list)
    _packed: list[pl.DataFrame] = field(default_factory=list)

    def add(self, path: str, name: str) -> None:
        """One file of the last folder, wherever it belongs."""
        status = status_of(path)
        if status is not None and not stat.S_ISREG(status.st_mode):
            self.skipped[NOT_A_FILE] += 1
            return
        size, changed = (0, 0) if status is None else (status.st_size, last_change(status))  # of a broken link reading will say so
        self._rows.append((len(self.folders) - 1, name, size, changed))
        if len(self._rows) == _PACKED:
            self._pack()

    def _pack(self) -> None:
        self._packed.append(pl.DataFrame(self._rows, schema=_COLUMNS, orient="row"))
        self._rows = []

    def images(self) -> pl.DataFrame:
        """Files that may be images: `folder` (its number in `folders`), `name`, `bytes` and `changed`."""
        self._pack()
        return pl.concat(self._packed)


Folder = tuple[Path, tuple[str, ...], frozenset[tuple[int, int]]]  # its names from the root down, what lies above it


def walk(root: Path) -> Found:
    """Everything below `root`, in any order. Links are followed, but not to a folder above."""
    found = Found()
    waiting: list[Folder] = [(root, (), frozenset())]
    while waiting:
        folder = waiting.pop()
        try:
            _read(folder, found, waiting)
        except OSError:  # at once, or in the middle where the disk fails
            found.skipped["folder cannot be read"] += 1
            found.closed.append("/".join(folder[1]))
    return found


def _read(folder: Folder, found: Found, waiting: list[Folder]) -> None:
    """What lies in a folder is found; its folders wait."""
    place, parts, above = folder
    status = place.stat()
    here = status.st_dev, status.st_ino
    with os.scandir(place) as listing:
        if here in above:
            found.skipped["link back to a folder above"] += 1
            return
        if os.path.lexists(place / "ledger.jsonl"):  # its pictures are no training images
            found.skipped["in a run folder of sightline"] += sum(len(files) for _, _, files in os.walk(place))
            return
        found.folders.append(parts)
        for entry in listing:
            is_folder = _is_folder(entry)
            reason = _reason_to_skip(entry.name, is_folder)
            if reason:
                found.skipped[reason] += _count_files(entry) if is_folder else 1
            elif is_folder:
                waiting.append((Path(entry.path), (*parts, entry.name), above | {here}))
            else:
                found.add(entry.path, entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _reason_to_skip(name: str, is_folder: bool) -> str | None:
    system = _SYSTEM_FOLDERS if is_folder else _SYSTEM_FILES
    if name.startswith(".") or name.lower() in system:
        return "hidden or made by the system"
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "name is not valid Unicode"
    suffix = os.path.splitext(name)[1].lower()
    return None if is_folder or suffix in SUFFIXES else passed_over(suffix)


def _count_files(entry: os.DirEntry[str]) -> int:
    """Files below a folder that is left out; a link counts as one."""
    return 1 if entry.is_symlink() else sum(len(files) for _, _, files in os.walk(entry.path))


def status_of(path: str) -> os.stat_result | None:
    """None where there is no such file."""
    try:
        return os.stat(path)
    except (OSError, ValueError):  # not there, or a name that cannot be
        return None


def last_change(status: os.stat_result) -> int:
    """Of the content, or of the entry itself: another file that was moved here may be as old and as long."""
    return max(status.st_mtime_ns, status.st_ctime_ns)


def counted(skipped: Counter[str]) -> dict[str, int]:
    """Without what never happened, in order."""
    return {reason: n for reason, n in sorted(skipped.items()) if n}
