"""Writing files so that a reader never sees half of one, and knowing files by their content.

    write_json(path, value)                  whole or not at all, on the disk when it returns
    with scratch_folder(parent) as part:     fill a folder aside ...
        publish(part, final)                 ... and give it its name when it is complete
    digest(path)                             sha256 of a file
    quoted(path)                             as a word of a command

A new file is written beside its place, flushed to the disk, and renamed over it; then the folder is flushed too.
A scratch folder is locked while it is filled, so that what a killed process left behind is known from what another one
is filling now, in this container or the next. It gives up on file systems without atomic rename; where folders cannot
be locked (NFS), leftovers stay.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sightline.errors import DiskError

MANIFEST = "manifest.json"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EROFS, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG}


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns 'no room', 'read-only' and 'not allowed' into a DiskError that names the place; other errors pass."""
    try:
        yield
    except Exception as error:
        number = _error_number(error)
        if number in _FULL:
            raise DiskError(f"There is no room left for {path}. Free some disk space and run the same command again.") from error
        if number in _REFUSED:
            why = os.strerror(number)
            raise DiskError(f"{path} cannot be written: {why}. Choose another place or change its rights.") from error
        raise


def _error_number(error: Exception) -> int:
    """The system's number of an error; libraries in Rust (polars, safetensors) only have it in their message."""
    told = re.search(r"\(os error (\d+)\)", str(error))
    return getattr(error, "errno", None) or (int(told[1]) if told else 0)


def make_folder(path: Path) -> None:
    """`path` and all above it, where they are not there yet; raises DiskError where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror
        raise DiskError(f"The folder {path} cannot be made: {why}. Choose another place or change its rights.") from error


def write_atomic(path: Path, fill: Callable[[Path], None]) -> None:
    """Calls `fill` with a temporary path, then moves what it wrote to `path` durably; on any error nothing remains.

    Raises:
        DiskError: no room, no right to write there, or no such folder.
    """
    if not path.parent.is_dir():
        raise DiskError(f"There is no folder {path.parent}: make it, or choose another place for {path.name}.")
    part = path.with_name(f".{uuid.uuid4().hex[:12]}.part")
    with disk_errors(path):
        try:
            fill(part)
            flush(part)
            os.replace(part, path)
            flush(path.parent)
        finally:
            with contextlib.suppress(OSError):
                part.unlink()


def write_bytes(path: Path, data: bytes) -> None:
    """`data` as the whole content of `path`; see `write_atomic`."""

    def fill(part: Path) -> None:
        part.write_bytes(data)

    write_atomic(path, fill)


def write_text(path: Path, text: str) -> None:
    """`text` in UTF-8 as the whole content of `path`; see `write_atomic`."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """`value` as JSON; NaN is refused, since JSON has none."""
    write_bytes(path, _json(value, indent=1))


def _json(value: Any, indent: int | None = None) -> bytes:
    """In UTF-8; what UTF-8 cannot hold (a file name that is not Unicode) becomes JSON's own escape."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace")


def read_json(path: Path) -> Any:
    """What `write_json` wrote; raises OSError or ValueError."""
    return json.loads(path.read_text(encoding="utf-8"))


def append_line(path: Path, value: Any) -> None:
    """One JSON line at the end of `path`, on the disk when it returns; a torn last line is closed first."""
    line = _json(value)
    with disk_errors(path), path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[Any]:
    """The JSON lines of `path` that are whole."""
    values = []
    for line in path.read_bytes().split(b"\n"):
        with contextlib.suppress(ValueError):
            values.append(json.loads(line))
    return values


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process, or thread, at a time; the others wait. Where folders cannot be locked, all go in."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder in `parent` to fill and `publish`; what was not published is removed, whatever happened.

    Scratch folders that killed processes have left in `parent` are removed first.
    """
    make_folder(parent)
    with disk_errors(parent), contextlib.ExitStack() as held:
        part = parent / f".{uuid.uuid4().hex[:12]}.part"
        with locked(parent):  # nobody may take it for a leftover before it is locked itself
            _remove_leftovers(parent)
            part.mkdir()
            held.enter_context(locked(part))
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _remove_leftovers(parent: Path) -> None:
    for part in parent.glob(".*.part/"):
        if not _in_use(part):
            shutil.rmtree(part, ignore_errors=True)


def _in_use(part: Path) -> bool:
    handle = os.open(part, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by another, or nobody can know
        return True
    finally:
        os.close(handle)
    return False


def publish(part: Path, final: Path) -> None:
    """Gives a filled folder its name, durably. Where `final` is there already, it stays and `part` is left alone."""
    flush_all(part)
    try:
        os.rename(part, final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
    flush(final.parent)


def flush(path: Path) -> None:
    """Waits until what was written to a file, or renamed in a folder, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network folders cannot be flushed
            raise
    finally:
        os.close(handle)


def flush_all(folder: Path) -> None:
    """`flush` for every file below `folder` and for the folder."""
    for path in sorted(folder.rglob("*")):
        flush(path)
    flush(folder)


def digest(path: Path) -> str:
    """sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, about: dict[str, Any]) -> None:
    """Last file of a folder: `about` and the digest of every other file. Without it the folder counts as unfinished."""
    found = [p for p in sorted(folder.rglob("*")) if p.is_file() and p != folder / MANIFEST]
    files = {str(p.relative_to(folder)): digest(p) for p in found}
    write_json(folder / MANIFEST, {**about, "files": files})


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What `write_manifest` wrote, or None where the folder is unfinished or a file of it was changed."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        whole = all(digest(folder / name) == known for name, known in manifest["files"].items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return manifest if whole else None


def quoted(path: str | Path) -> str:
    """A path as a word of a command that can be copied, whatever spaces it has."""
    return shlex.quote(str(path))


def cache_folder() -> Path:
    """Where pixel stores and compiled C live: $SIGHTLINE_CACHE, else $XDG_CACHE_HOME/sightline, else ~/.cache/sightline."""
    own = os.environ.get("SIGHTLINE_CACHE")
    if own:
        return Path(own).expanduser()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sightline"
    except RuntimeError:  # a user without a home, as in some containers
        raise DiskError("There is no home folder to keep pixels in: set SIGHTLINE_CACHE to a folder.") from None
