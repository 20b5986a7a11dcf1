"""Where a study is kept, so that several workers share it and none of them can lose it.

    storage = open_storage(None, folder, say)                          FOLDER/study.db, SQLite
    storage = open_storage("journal", folder, say)                     FOLDER/study.journal, for network disks without locks
    storage = open_storage("postgresql://user@host/name", folder, say)     workers on many machines

What is down is asked again for a while, then said (`patiently`). A line of the journal that a killed worker left half
written is cut off before the next one is written: Optuna's own journal would put the next line behind it and could
never be read again. A running trial gives a sign of life every half minute (`Beating`): in the database where there is
one, and in a file of the study's folder, which a journal needs as Optuna has no heartbeat for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from sightline import files
from sightline.errors import DiskError, SettingsError, StudyError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

BEAT, GRACE = 30, 120
"""Seconds between signs of life, and without one until a trial counts as dead."""

WAITS = (1, 2, 4, 8, 15)
"""Seconds before a storage that is down is asked again."""

_DAMAGED = ("malformed", "not a database")
"""What SQLite says of a file that no waiting mends."""

Result = TypeVar("Result")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Storage:
    """What a study is kept in.

    Attributes:
        kept: Optuna's storage.
        name: what people are told, without a password.
        database: whether it keeps the heartbeat itself.
    """

    kept: BaseStorage
    name: str
    database: bool

    def close(self) -> None:
        """Lets go of the database."""
        if self.database:
            self.kept.remove_session()
            self.kept.engine.dispose()  # type: ignore[attr-defined]


def open_storage(url: str | None, folder: Path, say: Say, stale: Callable[[Any, Any], None] | None = None) -> Storage:
    """Opens a study's storage, or makes it.

    Args:
        url: None for SQLite in the folder; "journal" or "journal:FILE"; or a database's address.
        stale: called with (study, trial) for a trial whose worker gave no sign of life.

    Raises:
        SettingsError: no such kind of storage, or its driver is not installed.
        StudyError: it cannot be reached.
    """
    quiet()
    if url is None:
        url = f"sqlite:///{(folder / 'study.db').resolve()}"
    kind, colon, rest = url.partition(":")
    if kind == "journal":
        path = Path(rest).expanduser() if rest else folder / "study.journal"
        return Storage(_journal(path, say), f"the journal {path}", False)
    if not colon or not rest.startswith("//"):
        raise SettingsError(f"--storage takes journal, journal:FILE, or an address such as postgresql://user@host/name, not {shown(url)}.")
    with files.locked(folder) if url.startswith("sqlite") else contextlib.nullcontext():  # two that make it at once disturb each other
        return Storage(patiently(lambda: _database(url, stale), shown(url), say), shown(url), True)


def quiet() -> None:
    """Optuna tells each trial on standard error by itself; we do that."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", "Heartbeat of storage is supposed")  # `Beating` gives the signs of life


def shown(url: str) -> str:
    """An address without its password."""
    head, at, host = url.rpartition("@")
    user, colon, _ = head.partition("://")[2].partition(":")
    return f"{head.partition('://')[0]}://{user}:***@{host}" if at and colon else url


def _database(url: str, stale: Callable[[Any, Any], None] | None) -> BaseStorage:
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    engine: dict[str, Any] = {"pool_pre_ping": True}
    if url.startswith("sqlite"):
        engine = {"connect_args": {"timeout": 60}}  # seconds that a worker waits for another's write
    elif url.startswith(("postgresql://", "postgres://")):
        url = "postgresql+psycopg://" + url.partition("://")[2]
        engine["connect_args"] = {"connect_timeout": 10}
    try:
        return RDBStorage(url, engine, heartbeat_interval=BEAT, grace_period=GRACE, heartbeat_stale_trial_callback=stale)
    except (ImportError, NoSuchModuleError) as error:
        hint = "pip install 'sightline[tune-postgres]'" if url.startswith("postgres") else "install its driver"
        raise SettingsError(f"The driver for {shown(url)} is not installed ({error}): {hint}.") from None
    except (ArgumentError, ValueError) as error:
        raise SettingsError(f"--storage {shown(url)} is no address of a database: {str(error).splitlines()[0]}") from None


def patiently(ask: Callable[[], Result], name: str, say: Say) -> Result:
    """What `ask` gives; where the storage is down, after some waiting.

    Raises:
        StudyError: it stays down.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    for number, wait in enumerate((*WAITS, None)):
        try:
            return ask()
        except (StorageInternalError, SQLAlchemyError) as error:
            why = _reason(error)
            if wait is None or any(word in why for word in _DAMAGED):
                raise StudyError(f"The study's storage {name} cannot be reached: {why}. {_advice(why)}") from None
            if number == 0:
                say(f"The study's storage {name} does not answer ({why}); it is asked again for {sum(WAITS)} s.")
            time.sleep(wait)
    raise AssertionError


def _advice(why: str) -> str:
    """What to do about it."""
    if any(word in why for word in _DAMAGED):
        return "Bring a copy of it back, or begin another study with --study NAME; trials.csv has what was found so far."
    known = {"full": "Free some disk space", "readonly": "Give yourself the right to write there"}
    what = next((do for word, do in known.items() if word in why), "Start it, or correct --storage")
    return f"{what}; then the same command goes on."


def _reason(error: BaseException) -> str:
    """The first line of what the driver said."""
    deepest: BaseException = error
    while deepest.__cause__ is not None:
        deepest = deepest.__cause__
    told = str(getattr(deepest, "orig", None) or deepest).strip().splitlines()
    return told[0].rstrip(".:") if told else type(error).__name__


# ---- the journal -------------------------------------------------------------------------------------------------------


def _journal(path: Path, say: Say) -> BaseStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    class Mending(JournalFileBackend):
        """Cuts a torn last line off before it writes: its writer is dead, and nobody has read it."""

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
            with _held(self._lock), files.disk_errors(path), path.open("r+b") as file:
                file.seek(whole_lines(path))
                file.truncate()
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        backend = Mending(str(path))
        with _held(backend._lock):
            told = mend(path)
    except OSError as error:
        raise DiskError(f"The journal {path} cannot be written: {error.strerror}.") from None
    if told:
        say(told)
    return JournalStorage(backend)


@contextlib.contextmanager
def _held(lock: Any) -> Iterator[None]:
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def whole_lines(path: Path) -> int:
    """Bytes of a file up to the end of its last whole line."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            last = file.read(end - start).rfind(b"\n")
            if last >= 0:
                return start + last + 1
            end = start
    return 0


def mend(path: Path) -> str | None:
    """Takes lines that are no JSON out of a journal, and says how many; what was there is kept beside it.

    A torn line with a whole one behind it, as a worker without our care would have written, gives the whole one back.
    """
    lines = path.read_bytes().splitlines(keepends=True)
    mended = [_mended(line) for line in lines]
    if mended == lines:
        return None
    torn = sum(new != old for new, old in zip(mended, lines, strict=True))
    kept = path.with_name(f"{path.name}.torn")
    kept.write_bytes(b"".join(lines))
    files.write_bytes(path, b"".join(mended))
    what = "1 torn line" if torn == 1 else f"{torn} torn lines"
    return f"{what} of the journal {path} mended; as it was before: {kept.name}."


def _mended(line: bytes) -> bytes:
    if line.endswith(b"\n"):
        for start in (0, line.rfind(b'{"op_code"')):
            with contextlib.suppress(ValueError):
                if start >= 0 and isinstance(json.loads(line[start:]), dict):
                    return line[start:]
    return b""


# ---- signs of life -----------------------------------------------------------------------------------------------------


class Beating:
    """While it is entered, a thread gives a sign of life; a storage that is down for a while does not stop it."""

    def __init__(self, beat: Callable[[], None]) -> None:
        self.beat = beat
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Beating:
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop.set()
        self.thread.join(timeout=BEAT)

    def _run(self) -> None:
        while True:
            with contextlib.suppress(Exception):
                self.beat()
            if self.stop.wait(BEAT):
                return
