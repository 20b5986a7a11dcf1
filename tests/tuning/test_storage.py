"""Storages: a journal that was torn, a database that is down, and one that is there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sightline.errors import DiskError, SettingsError, StudyError
from sightline.tuning import storage as storages
from sightline.tuning.search import Search
from sightline.tuning.storage import Beating, mend, open_storage, shown, whole_lines


def run_one(search: Search, value: float = 0.5) -> None:
    ticket = search.take(100)
    assert ticket is not None
    search.finish(ticket, [value], {})


@pytest.mark.parametrize("url", [None, "journal"])
def test_a_study_is_found_again(open_search: Callable[..., Search], url: str | None) -> None:
    run_one(open_search(url), 0.25)
    assert [trial.values for trial in open_search(url).records()] == [(0.25,)]


def test_workers_that_make_the_file_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from sightline.tuning.storage import open_storage; import optuna.storages\n"
        "print('ready', flush=True); sys.stdin.readline(); open_storage(None, Path(sys.argv[1]), print)"
    )
    said = []
    for place in ("a", "b", "c"):
        (tmp_path / place).mkdir()
        words = [sys.executable, "-c", code, str(tmp_path / place)]
        both = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        for process in both:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in both:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        said += [process.communicate(timeout=100)[0] for process in both]
        assert all(process.returncode == 0 for process in both)
    assert said == [""] * 9


# ---- a torn journal --------------------------------------------------------------------------------------------------


def test_a_line_torn_by_a_killed_worker_is_cut_off_before_the_next(open_search: Callable[..., Search], tmp_path: Path) -> None:
    journal = tmp_path / "study" / "study.journal"
    living = open_search("journal")
    run_one(living)
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"worker_id":"dead","study_')
    run_one(living, 0.75)  # a worker that was there all the time
    assert journal.read_bytes().startswith(whole)
    assert all(json.loads(line) for line in journal.read_bytes().splitlines())
    assert [trial.values for trial in open_search("journal").records()] == [(0.5,), (0.75,)]


def test_a_line_torn_at_the_end_is_mended_when_the_study_goes_on(
    open_search: Callable[..., Search], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_one(open_search("journal"))
    journal = tmp_path / "study" / "study.journal"
    torn = journal.read_bytes()[:-9]
    journal.write_bytes(torn)
    search = open_search("journal")
    assert "1 torn line of the journal" in capsys.readouterr().out
    assert (tmp_path / "study" / "study.journal.torn").read_bytes() == torn
    assert [trial.state for trial in search.records()] == ["running"]  # what the lost line said is lost; the rest is not


def test_a_whole_line_behind_a_torn_one_is_given_back(tmp_path: Path) -> None:
    journal = tmp_path / "j"
    journal.write_bytes(b'{"op_code":0}\n{"op_code":1,"na{"op_code":2}\n{"op_code":3}\nrubbish\n')
    told = mend(journal)
    assert told is not None
    assert "2 torn lines" in told
    assert journal.read_bytes() == b'{"op_code":0}\n{"op_code":2}\n{"op_code":3}\n'
    assert mend(journal) is None


@pytest.mark.parametrize(("content", "length"), [(b"", 0), (b"abc", 0), (b"abc\n", 4), (b"abc\nde", 4), (b"x" * 70_000 + b"\nde", 70_001)])
def test_whole_lines_are_counted_from_the_end(tmp_path: Path, content: bytes, length: int) -> None:
    (tmp_path / "file").write_bytes(content)
    assert whole_lines(tmp_path / "file") == length


def test_a_journal_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DiskError, match="cannot be written"):
        open_storage(f"journal:{tmp_path / 'folder'}", tmp_path, print)


# ---- databases -------------------------------------------------------------------------------------------------------


def test_a_storage_that_is_down_is_asked_again_and_then_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storages, "WAITS", (0.01, 0.01))
    said: list[str] = []
    with pytest.raises(StudyError, match=r"postgresql://me:\*\*\*@127\.0\.0\.1:9/none cannot be reached") as error:
        open_storage("postgresql://me:secret@127.0.0.1:9/none", tmp_path, said.append)
    assert "secret" not in str(error.value) + "".join(said)
    assert len(said) == 1


def test_a_storage_that_comes_back_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from optuna.exceptions import StorageInternalError

    monkeypatch.setattr(storages, "WAITS", (0.01, 0.01))
    answers = [StorageInternalError("down"), StorageInternalError("down"), "there"]

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert storages.patiently(ask, "it", lambda text: None) == "there"


def test_a_damaged_file_is_told_at_once(open_search: Callable[..., Search], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storages, "WAITS", (600,))
    run_one(open_search())
    (tmp_path / "study" / "study.db").write_bytes(b"rubbish" * 1000)
    with pytest.raises(StudyError, match=r"not a database\. Bring a copy of it back, or begin another study with --study NAME"):
        open_search()


@pytest.mark.parametrize(
    ("why", "advice"),
    [
        ("database or disk is full", "Free some disk space"),
        ("attempt to write a readonly database", "right to write there"),
        ("connection refused", "Start it"),
    ],
)
def test_what_to_do_depends_on_what_is_wrong(monkeypatch: pytest.MonkeyPatch, why: str, advice: str) -> None:
    from optuna.exceptions import StorageInternalError

    monkeypatch.setattr(storages, "WAITS", (0.01,))

    def ask() -> None:
        raise StorageInternalError(why)

    with pytest.raises(StudyError, match=advice):
        storages.patiently(ask, "it", lambda text: None)


@pytest.mark.parametrize("url", ["nonsense", "journal2", "nothing://x/y", "/some/file"])
def test_what_is_no_storage_is_a_sentence(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError):
        open_storage(url, tmp_path, print)


def test_passwords_are_not_shown() -> None:
    assert shown("postgresql://me:p@ss@host/db") == "postgresql://me:***@host/db"
    assert shown("postgresql://me@host/db") == "postgresql://me@host/db"
    assert shown("sqlite:///a.db") == "sqlite:///a.db"


def test_signs_of_life_go_on_where_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setattr(storages, "BEAT", 0.005)
    beats, enough = [], threading.Event()

    def beat() -> None:
        beats.append(1)
        if len(beats) > 3:
            enough.set()
        raise OSError("down")

    with Beating(beat):
        assert enough.wait(10)


@pytest.mark.slow
def test_a_real_postgresql_keeps_a_study(open_search: Callable[..., Search], postgres: str) -> None:
    search = open_search(postgres)
    run_one(search, 0.5)
    ticket = search.take(100)
    assert ticket is not None
    assert ticket.tell(1, 0.25) is False
    search.storage.kept.record_heartbeat(ticket.trial._trial_id)  # type: ignore[attr-defined]
    assert [trial.state for trial in open_search(postgres).records()] == ["complete", "running"]
    assert "***" in search.storage.name
