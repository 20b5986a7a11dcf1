from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from sightline import files
from sightline.errors import DiskError


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# ---- one file --------------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    files.write_text(path, "Blüte\n")
    assert path.read_bytes() == "Blüte\n".encode()
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def fill(part: Path) -> None:
        part.write_text("half of the n")
        raise error

    with pytest.raises(error):
        files.write_atomic(path, fill)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path, whole = tmp_path / "a.txt", [c * 100_000 for c in "ab"]
    files.write_text(path, whole[0])
    writer = threading.Thread(target=lambda: [files.write_text(path, whole[i % 2]) for i in range(20)])
    writer.start()
    while writer.is_alive():
        assert path.read_text() in whole
    writer.join()


def test_what_is_renamed_is_on_the_disk_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    flush, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("flush"), flush(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("rename"), replace(*paths)))
    files.write_text(tmp_path / "a.txt", "x")
    assert done == ["flush", "rename", "flush"]


# ---- the disk says no ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fill",
    [
        lambda part: part.write_bytes(bytes(2_000_000)),
        lambda part: pl.DataFrame({"a": np.random.default_rng(0).random(200_000)}).write_parquet(part),
        lambda part: save_file({"a": np.zeros(200_000)}, part),
    ],
    ids=["python", "polars", "safetensors"],
)
def test_a_full_disk_is_one_sentence_and_nothing_is_left(small_disk: Path, fill: object) -> None:
    path = small_disk / "a.bin"
    with pytest.raises(DiskError) as caught:
        files.write_atomic(path, fill)  # type: ignore[arg-type]
    assert str(caught.value) == f"There is no room left for {path}. Free some disk space and run the same command again."
    assert names(small_disk) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_place_that_may_not_be_written_is_one_sentence(tmp_path: Path, number: int) -> None:
    with pytest.raises(DiskError) as caught, files.disk_errors(tmp_path):
        raise OSError(number, "the system's words")
    assert str(caught.value) == (f"{tmp_path} cannot be written: {os.strerror(number)}. Choose another place or change its rights.")


def test_a_folder_in_the_way_or_no_folder_at_all_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(DiskError, match=r"a\.csv cannot be written: Is a directory\."):
        files.write_text(tmp_path / "a.csv", "x")
    with pytest.raises(DiskError, match=r"There is no folder .*/none: make it, or choose another place for a\.csv\."):
        files.write_text(tmp_path / "none" / "a.csv", "x")
    (tmp_path / "file").touch()
    with (
        pytest.raises(DiskError, match=r"The folder .*/file/stores cannot be made: Not a directory\."),
        files.scratch_folder(tmp_path / "file" / "stores"),
    ):
        pass


def test_errors_that_are_not_of_the_disk_pass() -> None:
    for error in (KeyError("a"), FileNotFoundError(errno.ENOENT, "no such file"), ValueError("(os error 2)")):
        with pytest.raises(type(error)) as caught, files.disk_errors(Path("x")):
            raise error
        assert caught.value is error


# ---- JSON ------------------------------------------------------------------------------------------------------------

surrogates = st.sampled_from(["\ud800", "a\udcff"])  # parts of names of files that are not Unicode
texts = st.text() | surrogates
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.lists(values.map(lambda value: {"value": value}), min_size=1, max_size=4))
def test_json_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, written: list[object]) -> None:
    folder = tmp_path_factory.mktemp("json")
    files.write_json(folder / "a.json", written)
    assert files.read_json(folder / "a.json") == written
    for value in written:
        files.append_line(folder / "a.jsonl", value)
    assert files.read_lines(folder / "a.jsonl") == written


def test_json_is_readable_for_people(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"name": "Blüte"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n "name": "Blüte"\n}\n'


def test_not_a_number_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", float("nan"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.append_line(tmp_path / "a.json", float("inf"))
    assert names(tmp_path) == []


def test_a_torn_last_line_is_closed_and_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    files.append_line(path, {"n": 1})
    with path.open("ab") as file:
        file.write(b'{"n": 2, "text": "Bl\xc3')  # killed here, in the middle of a letter
    files.append_line(path, {"n": 3})
    assert files.read_lines(path) == [{"n": 1}, {"n": 3}]


# ---- folders ---------------------------------------------------------------------------------------------------------


def test_a_scratch_folder_becomes_the_final_one(tmp_path: Path) -> None:
    with files.scratch_folder(tmp_path / "new" / "stores") as part:
        (part / "a").write_text("x")
        files.publish(part, part.parent / "final")
    assert names(tmp_path / "new" / "stores") == ["final"]


def test_an_unfinished_scratch_folder_is_removed(tmp_path: Path) -> None:
    def stopped() -> None:
        with files.scratch_folder(tmp_path) as part:
            (part / "deep").mkdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert names(tmp_path) == []


def test_of_two_that_publish_the_first_stays(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with files.scratch_folder(tmp_path) as part:
            (part / "a").write_text(text)
            files.publish(part, tmp_path / "final")
    assert (tmp_path / "final" / "a").read_text() == "first"
    assert names(tmp_path) == ["final"]


FILL_AND_WAIT = """
import pathlib, sys, time
from sightline import files
with files.scratch_folder(pathlib.Path(sys.argv[1])) as part:
    (part / "a").touch()
    print(part, flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_fills_is_not(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", FILL_AND_WAIT, tmp_path], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        left = Path(other.stdout.readline().strip())
        with files.scratch_folder(tmp_path):
            assert (left / "a").exists()
        other.kill()
    assert names(tmp_path) == [left.name]
    with files.scratch_folder(tmp_path) as mine:
        assert names(tmp_path) == [mine.name]


def test_two_scratch_folders_of_one_process_do_not_disturb_each_other(tmp_path: Path) -> None:
    with files.scratch_folder(tmp_path) as one, files.scratch_folder(tmp_path) as two:
        assert one.exists()
        assert two.exists()
    assert names(tmp_path) == []


def test_only_one_at_a_time_is_in_a_locked_folder(tmp_path: Path) -> None:
    inside, most = 0, 0

    def visit() -> None:
        nonlocal inside, most
        with files.locked(tmp_path):
            inside += 1
            most = max(most, inside)
            time.sleep(0.01)
            inside -= 1

    threads = [threading.Thread(target=visit) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


# ---- digests ---------------------------------------------------------------------------------------------------------


def test_a_digest_is_the_sha256_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert files.digest(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def manifested(folder: Path) -> Path:
    (folder / "deep").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"12345")
    (folder / "deep" / "manifest.json").write_text("{}")
    files.write_manifest(folder, {"kind": "test"})
    return folder


def test_a_whole_folder_has_its_manifest_last(tmp_path: Path) -> None:
    manifest = files.read_manifest(manifested(tmp_path / "x"))
    assert manifest is not None
    assert manifest["kind"] == "test"
    assert sorted(manifest["files"]) == ["a.bin", "deep/manifest.json"]


@pytest.mark.parametrize("name", ["a.bin", "deep/manifest.json", "manifest.json"])
@pytest.mark.parametrize("harm", ["gone", "changed", "cut"])
def test_a_folder_with_a_damaged_file_counts_as_unfinished(tmp_path: Path, name: str, harm: str) -> None:
    path = manifested(tmp_path / "x") / name
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(b"12346" if harm == "changed" else path.read_bytes()[:-2])
    assert files.read_manifest(tmp_path / "x") is None


@pytest.mark.parametrize("text", ["[]", "7", '{"files": 1}', '{"files": {"..": "x"}}', '{"files": {"a\\u0000": "x"}}', "{}"])
def test_a_manifest_of_another_kind_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    assert files.read_manifest(tmp_path) is None


# ---- the cache -------------------------------------------------------------------------------------------------------


def test_the_cache_is_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("SIGHTLINE_CACHE", "~/pixels")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert files.cache_folder() == Path("/home/someone/pixels")
    monkeypatch.delenv("SIGHTLINE_CACHE")
    assert files.cache_folder() == Path("/xdg/sightline")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert files.cache_folder() == Path("/home/someone/.cache/sightline")


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("SIGHTLINE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(DiskError, match="set SIGHTLINE_CACHE to a folder"):
        files.cache_folder()


def test_the_file_room_is_light() -> None:
    loaded = "import sightline.files, sys; print([m for m in ('torch', 'numpy', 'polars') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.replace("'", '"')) == []
