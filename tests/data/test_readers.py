"""Helpers read what one process would, whatever becomes of them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline import processes
from sightline.data import readers, shelf
from sightline.data.readers import Chunk, Reader, Row, helped
from sightline.data.store import Limits, PixelStore, open_pixels
from sightline.data.table import scan

SIDE = 24


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Helpers for a few files."""
    monkeypatch.setattr(readers, "FILES_A_HELPER", 5)


@pytest.fixture
def odd(folder: Path) -> Path:
    """Files that cannot be read, and names that are not Unicode or have more than a line."""
    (folder / "red" / "broken.png").write_bytes(b"no picture")
    (folder / "red" / "empty.jpg").write_bytes(b"")
    one = next((folder / "blue").iterdir())
    (folder / "blue" / "two\nlines.png").write_bytes(one.read_bytes())
    Path(os.fsdecode(os.fsencode(folder / "blue") + b"/caf\xe9.png")).write_bytes(one.read_bytes())
    return folder


def stored(folder: Path, cache: Path, workers: int) -> tuple[list[object], np.ndarray]:
    table, pixels = open_pixels(scan(folder), SIDE, Limits(64_000_000, None, workers, cache))
    assert isinstance(pixels, PixelStore)
    return table.frame.rows(), pixels.read(np.arange(len(pixels.rows))).numpy()


def chunks_of(folder: Path) -> list[Chunk]:
    paths = scan(folder).usable["path"].to_list()
    return [[(path, place) for place, path in enumerate(paths)][first : first + 7] for first in range(0, len(paths), 7)]


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The helpers that are started from now on."""
    found: list[subprocess.Popen[bytes]] = []
    real = processes.start

    def start(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        found.append(real(*args, **options))
        return found[-1]

    monkeypatch.setattr(processes, "start", start)
    return found


def test_a_store_of_helpers_is_that_of_threads(odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helpers = started(monkeypatch)
    rows, pixels = stored(odd, tmp_path / "threads", 3)
    assert helpers == []
    monkeypatch.setattr(readers, "FILES_A_HELPER", 5)
    again, same = stored(odd, tmp_path / "helpers", 3)
    assert len(helpers) == 3
    assert again == rows
    assert np.array_equal(same, pixels)
    assert not any(alive(helper.pid) for helper in helpers)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("harm", ["killed", "killed at work", "cannot start"])
def test_what_helpers_leave_undone_is_read_here(odd: Path, monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    helpers, chunks = started(monkeypatch), chunks_of(odd)
    reader = Reader(str(odd), SIDE, 64_000_000, None)
    if harm == "cannot start":
        monkeypatch.setattr(sys, "executable", str(odd / "none"))
    rows: list[Row] = []
    with helped(reader, 2, 42) as read:
        for number, chunk in enumerate(chunks):
            if harm.startswith("killed") and number == 2:
                for helper in helpers:
                    helper.kill()
                    if harm == "killed":
                        helper.wait()
            rows += read(chunk)
    assert rows == [reader.read(path, place) for chunk in chunks for path, place in chunk]
    assert len(helpers) == (0 if harm == "cannot start" else 2)


@pytest.mark.usefixtures("few")
def test_a_helper_imports_nothing_from_where_the_user_is(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path and Path(path) != tmp_path])
    helpers, reader = started(monkeypatch), Reader(str(folder), SIDE, 64_000_000, None)
    with helped(reader, 2, 42) as read:
        assert len(read(chunks_of(folder)[0])) == 7
        assert len(helpers) == 2
        assert all(helper.poll() is None for helper in helpers)


@pytest.mark.usefixtures("few")
def test_a_map_that_cannot_be_written_is_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "map").touch()
    with (tmp_path / "map").open("rb") as file:
        reader = Reader(str(folder), SIDE, 64_000_000, file.fileno())
        with helped(reader, 2, 42) as read, pytest.raises(OSError, match="Bad file descriptor") as told:
            read(chunks_of(folder)[0])
        assert told.value.errno == errno.EBADF


def test_few_files_or_one_worker_need_no_helper(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helpers, reader = started(monkeypatch), Reader(str(folder), SIDE, 64_000_000, None)
    for workers, files in ((8, 1999), (1, 10**6)):
        with helped(reader, workers, files) as read:
            assert len(read(chunks_of(folder)[0])) == 7
    assert helpers == []
    with helped(reader, 8, 3500):
        assert len(helpers) == 3


SCRIPT = """
import sys, time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from sightline import processes
from sightline.data import readers, shelf
from sightline.data.store import Limits, open_pixels
from sightline.data.table import scan
readers.FILES_A_HELPER = 5
start = processes.start
def told(*args, **options):
    process = start(*args, **options)
    print(process.pid, flush=True)
    return process
processes.start = told
if len(sys.argv) > 3:  # stands still while helpers run
    say = lambda done, whole: time.sleep(60)
else:
    say = None
table, pixels = open_pixels(scan(sys.argv[1]), 24, Limits(64_000_000, None, 2, Path(sys.argv[2])), say)
print("done", len(pixels.extents), flush=True)
"""


def test_a_script_needs_no_guard(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"  # a file: what starts processes anew would run it again in each
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script, folder, tmp_path / "cache"], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    assert done.stdout.splitlines()[2:] == ["done 42"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_helpers_end_with_the_process_that_started_them(folder: Path, tmp_path: Path, how: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, folder, tmp_path / "cache", "wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    helpers = [int(process.stdout.readline()) for _ in range(2)]
    time.sleep(0.5)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal sends it: to the helpers too
    else:
        process.kill()
    _, errors = process.communicate(timeout=60)
    until = time.monotonic() + 20
    while any(map(alive, helpers)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(alive, helpers))
    assert errors.count("KeyboardInterrupt") == (how == signal.SIGINT)


def test_a_helper_is_light() -> None:
    code = "import sys, sightline.data.readers; print(sorted({'torch', 'polars', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("related", [True, False])
def test_helpers_read_a_folder_that_an_earlier_store_has_nothing_of(
    make_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, related: bool
) -> None:
    monkeypatch.setattr(shelf, "_MANY", 10)
    monkeypatch.setattr(shelf, "_SAMPLE", 5)
    stored(make_folder("before", {"red": 10, "blue": 10}), tmp_path / "cache", 1)
    helpers = started(monkeypatch)
    after = make_folder("after", {"red": 10, "blue": 11}, seed=0 if related else 1)
    found = stored(after, tmp_path / "cache", 2)
    assert len(helpers) == (0 if related else 2)
    rows, pixels = stored(after, tmp_path / "another", 1)
    assert found[0] == rows
    assert np.array_equal(found[1], pixels)
