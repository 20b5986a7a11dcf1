"""A study without networks: what trials are worth is a formula; and a PostgreSQL of our own, where it is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sightline.settings import TuneSettings
from sightline.tuning.objective import read_objectives
from sightline.tuning.search import Search, go_on_from
from sightline.tuning.space import read_space
from sightline.tuning.storage import Storage, open_storage

SPACE = {"train.lr": {"from": 1e-4, "to": 0.1, "log": True}, "augment.policy": ["light", "standard"]}


@pytest.fixture
def open_search(tmp_path: Path) -> Iterator[Callable[..., Search]]:
    """`open_search(url=None, space=SPACE, objective="val_macro_f1", epochs=10, **tune)` opens the study in tmp_path/study."""
    opened: list[Storage] = []

    def make(url: str | None = None, space: Any = None, objective: Any = "val_macro_f1", epochs: int = 10, **tune: Any) -> Search:
        folder = tmp_path / "study"
        (folder / "workers").mkdir(parents=True, exist_ok=True)
        storage = open_storage(url, folder, print, go_on_from)
        opened.append(storage)
        settings = TuneSettings(**{"startup": 3, **tune})
        return Search.open(
            storage, "study", folder, settings, read_space(space or SPACE), read_objectives(objective, "auto"), epochs, print
        )

    yield make
    for storage in opened:
        storage.close()


def _postgres_programs() -> Path | None:
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return places[-1].parent if places else None


@pytest.fixture
def postgres(_server: str) -> str:
    """The address of an empty database; skipped where PostgreSQL is not installed."""
    import psycopg

    name = f"study_{uuid.uuid4().hex}"
    with psycopg.connect(f"{_server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{_server}/{name}"


@pytest.fixture(scope="session")
def _server() -> Iterator[str]:
    programs = _postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="the driver is not installed (sightline[tune-postgres])")
    user: dict[str, Any] = {}
    if os.getuid() == 0:  # it refuses to run as root
        try:
            user = {"user": pwd.getpwnam("postgres").pw_uid, "group": pwd.getpwnam("postgres").pw_gid}
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = Path(tempfile.mkdtemp(prefix="sightline-pg-"))
    try:
        if user:
            os.chown(place, user["user"], user["group"])
        run: dict[str, Any] = {"check": True, "capture_output": True, "cwd": place, **user}
        subprocess.run([programs / "initdb", "-D", place / "data", "-U", "tester", "--auth=trust", "--no-sync"], **run)
        options = f"-p {port} -k {place} -c listen_addresses=127.0.0.1 -c fsync=off"
        # Its own output goes to a file: the pipe of a program that stays would never end.
        subprocess.run([programs / "pg_ctl", "-D", place / "data", "-l", place / "log", "-w", "-o", options, "start"], **run)
        yield f"postgresql://tester:secret@127.0.0.1:{port}"
        subprocess.run([programs / "pg_ctl", "-D", place / "data", "-m", "immediate", "stop"], **run)
    finally:
        shutil.rmtree(place, ignore_errors=True)
