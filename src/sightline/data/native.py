"""C that is compiled once at the user's, where a compiler is: loops that no library has ready.

    library = compiled(Path("upright.c"))       Library(functions, made_by="gcc (Debian 12.2.0-14) 12.2.0")

The compiler is what the variable `CC` says, else cc, gcc or clang. What it makes stays in the cache folder ($SIGHTLINE_CACHE,
see files.py) under a name that tells source, compiler, flags and processor, so that a home folder that several machines share
holds one for each. A library is loaded only where it is as it was written and nobody else could have written it.

SIGHTLINE_NATIVE=0 switches all of it off. It gives up wheels with compiled parts, and macOS without `CC`, where asking for a
compiler that is not installed opens a window.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sightline import files
from sightline.device import processor_name
from sightline.errors import DiskError

FLAGS = ("-std=c11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-shared", "-fPIC")
SLOWEST = 60.0
"""Seconds after which a compiler is given up; it takes half of one."""

_NAME = "library.so"


class NotCompiledError(Exception):
    """There is no library; the message, a clause, says why. Whoever asks has another way."""


@dataclass(frozen=True, slots=True)
class Library:
    """Functions to call, and the first line of what the compiler says of itself."""

    functions: ctypes.CDLL
    made_by: str


def compiled(source: Path) -> Library:
    """The functions of a C file, compiled now or before; raises NotCompiledError."""
    if os.environ.get("SIGHTLINE_NATIVE") == "0":
        raise NotCompiledError("SIGHTLINE_NATIVE=0")
    compiler = _compiler()
    version = _output([*compiler, "--version"]).partition("\n")[0]
    try:
        folder = files.cache_folder() / "native" / _digest(source, compiler, version)
        if not _sound(folder):
            shutil.rmtree(folder, ignore_errors=True)
            _compile(source, compiler, folder)
        if not _sound(folder):
            raise NotCompiledError(f"{folder} is not this user's alone")
        return Library(ctypes.CDLL(str(folder / _NAME)), version)
    except (OSError, DiskError) as error:  # no room, no right to write, or none to run what lies there
        raise NotCompiledError(str(error)) from error


def _compiler() -> list[str]:
    own = shlex.split(os.environ.get("CC", ""))
    if own:
        return own
    named = ("cc", "gcc", "clang") if sys.platform == "linux" else ()
    found = next((path for path in map(shutil.which, named) if path), None)
    if found is None:
        raise NotCompiledError("no C compiler was found")
    return [found]


def _digest(source: Path, compiler: list[str], version: str) -> str:
    """Of all that the library depends on: it holds instructions that another processor may not have."""
    parts = (source.read_text(encoding="utf-8"), *compiler, version, *FLAGS, platform.machine(), processor_name(), _features())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _features() -> str:
    """The processor's instructions, as Linux lists them; virtual machines of one processor may differ in them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.lower().startswith(("flags", "features")))
    except (OSError, StopIteration):
        return ""


def _compile(source: Path, compiler: list[str], folder: Path) -> None:
    """Fills `folder` with the library and its manifest, or leaves it away."""
    with files.scratch_folder(folder.parent) as part:
        part.chmod(0o700)
        _output([*compiler, *FLAGS, str(source), "-o", str(part / _NAME), "-lm"])
        files.write_manifest(part, {"source": source.name, "compiler": compiler})
        files.publish(part, folder)


def _sound(folder: Path) -> bool:
    """Whether the library is as it was written, and this user's alone."""
    if files.read_manifest(folder) is None:
        return False
    about = folder.stat()
    return about.st_uid == os.geteuid() == (folder / _NAME).stat().st_uid and about.st_mode & 0o077 == 0


def _output(command: list[str]) -> str:
    """What a command prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SLOWEST, stdin=subprocess.DEVNULL)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise NotCompiledError(f"{command[0]} did not run: {type(error).__name__}") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        raise NotCompiledError(f"{command[0]} failed: {said}")
    return done.stdout
