from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sightline.data import native
from sightline.data.native import NotCompiledError, compiled

compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")


@pytest.fixture(autouse=True)
def _of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("SIGHTLINE_NATIVE", raising=False)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "native"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "answer.c"
    path.write_text("int answer(void) { return 42; }\n")
    return path


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@compiler
def test_functions_can_be_called_and_the_compiler_is_named(source: Path, cache: Path) -> None:
    library = compiled(source)
    assert library.functions.answer() == 42
    assert any(letter.isdigit() for letter in library.made_by)


@compiler
def test_what_was_compiled_is_not_compiled_again_until_the_source_changes(source: Path, cache: Path) -> None:
    compiled(source)
    (first,) = cache.iterdir()
    changed = (first / "library.so").stat().st_mtime_ns
    compiled(source)
    assert [*cache.iterdir()] == [first]
    assert (first / "library.so").stat().st_mtime_ns == changed
    source.write_text("int answer(void) { return 43; }\n")
    assert compiled(source).functions.answer() == 43
    assert len([*cache.iterdir()]) == 2


@compiler
def test_several_may_compile_at_once(source: Path, cache: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        libraries = [*pool.map(compiled, [source] * 4)]
    assert [library.functions.answer() for library in libraries] == [42] * 4
    assert len([*cache.iterdir()]) == 1


@compiler
@pytest.mark.parametrize("left", [b"", b"half of a", None], ids=["empty", "torn", "gone"])
def test_a_damaged_library_is_compiled_again(source: Path, cache: Path, left: bytes | None) -> None:
    compiler, version = native._compiler(), native._output([*native._compiler(), "--version"]).partition("\n")[0]
    folder = cache / native._digest(source, compiler, version)
    native._compile(source, compiler, folder)  # not loaded: a library that is in use may not be overwritten
    (folder / "library.so").unlink()
    if left is not None:
        (folder / "library.so").write_bytes(left)
    assert compiled(source).functions.answer() == 42


@compiler
def test_a_folder_that_others_may_write_to_is_not_trusted(source: Path, cache: Path) -> None:
    compiled(source)
    (folder,) = cache.iterdir()
    folder.chmod(0o777)
    compiled(source)
    assert folder.stat().st_mode & 0o077 == 0  # made anew


@compiler
def test_a_library_of_somebody_else_is_not_loaded(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled(source)
    monkeypatch.setattr(native.os, "geteuid", lambda: 12345)
    with pytest.raises(NotCompiledError, match="is not this user's alone"):
        compiled(source)


@compiler
def test_a_cache_that_cannot_be_written_is_told(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "a file"))
    with pytest.raises(NotCompiledError, match="cannot be made"):
        compiled(source)


@compiler
def test_an_error_in_the_source_is_told_and_leaves_nothing(source: Path, cache: Path) -> None:
    source.write_text("int answer(void) { return nonsense; }\n")
    with pytest.raises(NotCompiledError, match="failed"):
        compiled(source)
    assert [*cache.iterdir()] == []


def test_without_a_compiler_it_says_so(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native.shutil, "which", lambda name: None)
    with pytest.raises(NotCompiledError, match="no C compiler was found"):
        compiled(source)
    assert not cache.exists()


def test_a_compiler_that_fails_does_not_run_or_makes_no_library_is_told(
    source: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command, said in (
        (script(tmp_path / "fails", '[ "$1" = --version ] || { echo out of tune >&2; exit 1; }'), "failed: out of tune"),
        ("/nowhere/cc", "did not run: FileNotFoundError"),
        (script(tmp_path / "lazy", "echo lazy 1.0"), "."),  # nothing was written, so nothing can be loaded
    ):
        monkeypatch.setenv("CC", command)
        with pytest.raises(NotCompiledError, match=said):
            compiled(source)


@compiler
def test_the_variable_cc_names_another_compiler_and_its_options(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source.write_text("int answer(void) { return ANSWER; }\n")
    monkeypatch.setenv("CC", "cc -DANSWER=7")
    assert compiled(source).functions.answer() == 7


def test_it_can_be_switched_off(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_NATIVE", "0")
    with pytest.raises(NotCompiledError, match="SIGHTLINE_NATIVE=0"):
        compiled(source)
