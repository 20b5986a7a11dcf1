"""All that lies below a folder: what may be an image, and what is passed over, counted by its reason.

    found = walk(root)                       found.images: parts, bytes, changed
    paths, skipped = list_images(folder)     whatever the files are called there

Nothing is opened. Every file is named or counted.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sightline.data.formats import SUFFIXES

NOT_A_FILE = "not a regular file"
_SYSTEM_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information"})
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db"})


def list_images(folder: Path) -> tuple[list[Path], dict[str, int]]:
    """All images below a folder, whatever it is called there, in order; and what was left out, by reason."""
    found = walk(folder)
    return [folder.joinpath(*parts) for parts in sorted(image.parts for image in found.images)], counted(found.skipped)


@dataclass(frozen=True, slots=True)
class File:
    """A file that may be an image; `parts` are the names from the root down, its own the last."""

    parts: tuple[str, ...]
    bytes: int
    changed: int


@dataclass(frozen=True, slots=True)
class Found:
    """All that lies below a folder: images, folders (as names from the root down), closed folders, and the rest."""

    images: list[File] = field(default_factory=list)
    folders: set[tuple[str, ...]] = field(default_factory=set)
    closed: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, path: str, parts: tuple[str, ...]) -> None:
        """One file, wherever it belongs."""
        status = status_of(path)
        if status is None:  # a broken link: reading it will say so
            self.images.append(File(parts, 0, 0))
        elif stat.S_ISREG(status.st_mode):
            self.images.append(File(parts, status.st_size, last_change(status)))
        else:
            self.skipped[NOT_A_FILE] += 1


def walk(root: Path) -> Found:
    """Everything below `root`, in any order. Links are followed, but not to a folder above."""
    found = Found()
    waiting: list[tuple[Path, tuple[str, ...], frozenset[tuple[int, int]]]] = [(root, (), frozenset())]
    while waiting:
        folder, parts, above = waiting.pop()
        try:
            status = folder.stat()
            with os.scandir(folder) as listing:
                entries = list(listing)
        except OSError:
            found.skipped["folder cannot be read"] += 1
            found.closed.append("/".join(parts))
            continue
        here = status.st_dev, status.st_ino
        if here in above:
            found.skipped["link back to a folder above"] += 1
            continue
        if any(entry.name == "ledger.jsonl" for entry in entries):  # its pictures are no training images
            found.skipped["in a run folder of sightline"] += sum(len(files) for _, _, files in os.walk(folder))
            continue
        found.folders.add(parts)
        for entry in entries:
            is_folder = _is_folder(entry)
            reason = _reason_to_skip(entry.name, is_folder)
            if reason:
                found.skipped[reason] += _count_files(entry) if is_folder else 1
            elif is_folder:
                waiting.append((Path(entry.path), (*parts, entry.name), above | {here}))
            else:
                found.add(entry.path, (*parts, entry.name))
    return found


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
    if not is_folder and os.path.splitext(name)[1].lower() not in SUFFIXES:
        return "not an image"
    return None


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
