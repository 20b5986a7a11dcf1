"""What turns files into rows of a store and squares of its map: in this process, or in helpers.

    reader = Reader(root, side=128, max_pixels=64_000_000, map=handle)
    row = reader.read("rose/1.jpg", place=0)
    with helped(reader, workers=8, files=50_000) as read:
        rows = read([("rose/1.jpg", 0), ...])             from any thread

Threads alone come to an end soon: a photograph of 128 pixels is decoded in 0.3 ms, and for half of them Pillow's Python holds the
interpreter's lock. So where there are many files each worker is a process of its own, which has numpy and Pillow and nothing
else, writes to the same map, and is told over a pipe what to read. It needs no guard in the user's script. What a helper that
cannot start, or is killed, leaves undone is read here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from sightline import processes
from sightline.data.images import decode, pixel_digest, shrink
from sightline.errors import UnreadableImage

FILES_A_HELPER = 1000
"""Files for which it pays to start another process: 0.2 s of a processor, against 0.3 s for reading them."""

Squares = npt.NDArray[np.uint8]  # (M, S, S, 3)
Chunk = Sequence[tuple[str, int]]  # paths, and their places in the map
Result = TypeVar("Result")
Name = TypeVar("Name", str, Path)


@dataclass(frozen=True, slots=True)
class Row:
    """What one file turned out to be; the fields are the columns of `rows.parquet`."""

    digest: str | None
    pixel_digest: str | None = None
    height: int | None = None
    width: int | None = None
    stored_height: int | None = None
    stored_width: int | None = None
    notes: str | None = None
    unreadable: str | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """Turns files into rows; shared by the threads that do it.

    Attributes:
        root: the folder that paths are relative to.
        side: S, of the squares.
        map: handle of the file of pixels; None: they are not kept.
    """

    root: str
    side: int
    max_pixels: int
    map: int | None

    def read(self, path: str, place: int) -> Row:
        """What a file is; its shrunk pixels go to their place in the map."""
        data, reason = self.open(path)
        if data is None:
            return Row(None, unreadable=reason)
        row, small = self.decode(data, hashlib.sha256(data).hexdigest())
        self.keep(small, place)
        return row

    def open(self, path: str) -> tuple[bytes | None, str | None]:
        """The content of a file, or why it cannot be opened."""
        return try_to_open(os.path.join(self.root, path), _content)

    def decode(self, data: bytes, digest: str) -> tuple[Row, Squares | None]:
        """What a file with this content is, and its shrunk pixels."""
        try:
            decoded = decode(data, max_pixels=self.max_pixels, side=self.side)
        except UnreadableImage as error:
            return Row(digest, unreadable=error.reason), None
        (height, width), small = decoded.size, shrink(decoded, self.side)
        notes, same = " ".join(decoded.notes) or None, pixel_digest(decoded.pixels).hex()
        return Row(digest, same, height, width, small.shape[0], small.shape[1], notes), small

    def keep(self, small: Squares | None, place: int) -> None:
        """Writes a picture, if there is one, to its place in the map, if there is one."""
        if self.map is None or small is None:
            return
        square = np.zeros((self.side, self.side, 3), dtype=np.uint8)
        square[: small.shape[0], : small.shape[1]] = small
        left, at = square.data.cast("B"), place * square.nbytes
        while left:  # the system may write less than it was given
            written = os.pwrite(self.map, left, at)
            left, at = left[written:], at + written


def _content(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # pathlib's way takes 20 us more a file, of 130
        return file.readall()


def try_to_open(path: Name, read: Callable[[Name], Result]) -> tuple[Result | None, str | None]:
    """What `read` gives, or why it cannot."""
    try:
        return read(path), None
    except OSError as error:
        return None, f"cannot be opened: {error.strerror}"
    except ValueError:  # a zero byte in its name
        return None, "cannot be opened: no file can have this name"
    except MemoryError:
        return None, "cannot be opened: larger than the free memory"


# ---- helpers ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def helped(reader: Reader, workers: int, files: int) -> Iterator[Callable[[Chunk], list[Row]]]:
    """What reads some files, called from up to `workers` threads: by helpers where the files are many enough, else in the thread."""

    def here(chunk: Chunk) -> list[Row]:
        return [reader.read(path, place) for path, place in chunk]

    count = min(workers, files // FILES_A_HELPER)
    if count < 2:
        yield here
        return
    with contextlib.ExitStack() as running:
        idle: SimpleQueue[_Helper | None] = SimpleQueue()
        for number in range(workers):
            idle.put(running.enter_context(_started(reader)) if number < count else None)

        def read(chunk: Chunk) -> list[Row]:
            helper = idle.get()
            try:
                rows = None if helper is None else helper.read(chunk)
            finally:
                idle.put(helper)
            return here(chunk) if rows is None else rows

        yield read


@contextlib.contextmanager
def _started(reader: Reader) -> Iterator[_Helper | None]:
    """A helper, until it is not needed any more; None where none can start."""
    handles = () if reader.map is None else (reader.map,)
    try:
        process = processes.start(__name__, asdict(reader), stdin=subprocess.PIPE, pass_fds=handles)
    except OSError:
        yield None
        return
    try:
        yield _Helper(process)
    finally:
        process.kill()  # what it was told to do is done, or nobody waits for it any more
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # what could not be written to a helper that is gone
                assert pipe is not None
                pipe.close()


@dataclass(frozen=True)
class _Helper:
    """The other end of `_serve`."""

    process: subprocess.Popen[bytes]

    def read(self, chunk: Chunk) -> list[Row] | None:
        """The rows of some files; None where the helper is gone. Raises OSError where it could not write to the map."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(chunk).encode() + b"\n")
            self.process.stdin.flush()
            told: Any = json.loads(self.process.stdout.readline())
        except (OSError, ValueError):
            return None
        if isinstance(told, int):
            raise OSError(told, os.strerror(told))
        return [Row(*row) for row in told]


def _serve(reader: Reader) -> None:
    """A chunk a line in, its rows a line out, or the number of the system's error; until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started it decides what Ctrl-C means
    for line in sys.stdin:
        try:
            told: Any = [astuple(reader.read(path, place)) for path, place in json.loads(line)]
        except OSError as error:
            told = error.errno
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve(Reader(**json.loads(sys.argv[1])))
