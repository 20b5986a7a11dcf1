"""Decoding ahead: the cache holds what training would have put there, or nothing; and nothing is told by it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline import files, processes
from sightline.config import Config
from sightline.data.store import open_pixels
from sightline.data.table import scan
from sightline.run.ahead import NOT_BEGUN, decoding_ahead
from sightline.run.decoding import choose_size, limits, store_size
from sightline.run.train import train

SMALL = ["model.name=sightline_tiny", "train.epochs=1", "data.size=16", "train.tensorboard=false", "train.report=false"]


def stores() -> dict[str, str]:
    """The files of the cache that count, and digests of what they hold; but for a whole library of compiled code, which may stay."""
    found = sorted(path for path in files.cache_folder().rglob("*") if path.is_file())
    found = [path for path in found if path.parent.parent.name != "native" or path.parent.suffix]
    return {str(path.relative_to(files.cache_folder())): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def decode(folder: Path, words: list[str], recipe: str | None = None) -> list[tuple[int, int]]:
    """Decodes ahead, to the end, and gives what it said."""
    heard: list[tuple[int, int]] = []
    with decoding_ahead(str(folder), words, recipe) as ahead:
        ahead.wait(lambda done, whole: heard.append((done, whole)))
    return heard


def not_called(*args: object, **named: object) -> None:
    raise AssertionError("something was decoded")


@pytest.mark.parametrize("words", [[], ["data.size=24", "data.fit=crop"], ["data.store_gb=0"]])
def test_what_was_decoded_ahead_is_what_training_would_have_decoded(
    folder: Path, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "red" / "broken.png").write_bytes(b"no picture")
    config = Config.load(None, words)
    table = scan(folder)
    side = store_size(config, choose_size(config, table, None))
    plain, pixels = open_pixels(table, side, limits(config))
    without = stores()
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "another"))
    assert decode(folder, words)[-1] == (43, 43)
    assert {name for name in stores() if "index" not in name} == {name for name in without if "index" not in name}
    monkeypatch.setattr("sightline.data.store.fill", not_called)
    found, ahead = open_pixels(table, side, limits(config))
    assert found.frame.equals(plain.frame)
    rows = np.arange(42)
    assert bool((ahead.read(rows) == pixels.read(rows)).all())


@pytest.mark.parametrize(
    ("words", "recipe"),
    [
        (["model.name=resnet10t"], None),  # its size is known once it is built
        (["data.sise=16"], None),
        ([], "there is no such recipe.yaml"),
    ],
)
def test_nothing_is_decoded_where_the_side_is_not_known_or_settings_are_wrong(folder: Path, words: list[str], recipe: str | None) -> None:
    assert decode(folder, words, recipe) == []
    assert stores() == {}


def test_a_network_of_timm_is_decoded_for_where_the_size_is_given(folder: Path) -> None:
    assert decode(folder, ["model.name=resnet10t", "data.size=16"])[-1] == (42, 42)


def test_a_recipe_counts(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("data: {size: 20}\n")
    assert decode(folder, [], str(tmp_path / "recipe.yaml"))
    assert any(name.startswith("stores/20-") for name in stores())


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_without_images_is_told_by_training_alone(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert decode(tmp_path / name, []) == []
    assert capfd.readouterr() == ("", "")
    assert stores() == {}


def test_of_several_processes_none_decodes_ahead(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "world", lambda: 2)
    with decoding_ahead(str(folder), [], None) as ahead:
        assert ahead is NOT_BEGUN


def test_on_a_single_core_nothing_is_gained(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.run.ahead.available_cores", lambda: 1)
    with decoding_ahead(str(folder), [], None) as ahead:
        assert ahead is NOT_BEGUN


def test_training_takes_what_was_decoded_ahead_and_tells_of_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.data.store.fill", not_called)
    with decoding_ahead(str(folder), SMALL, None) as ahead:
        result = train(folder, SMALL, run=tmp_path / "run", ahead=ahead)
    assert "test" in result.metrics
    assert capsys.readouterr().err.count("decoding ...") == 1


def test_training_decodes_by_itself_where_that_was_killed(folder: Path, tmp_path: Path) -> None:
    with decoding_ahead(str(folder), SMALL, None) as ahead:
        assert ahead.process is not None
        ahead.process.kill()
        assert "test" in train(folder, SMALL, run=tmp_path / "run", ahead=ahead).metrics


# ---- ending --------------------------------------------------------------------------------------------------------------


def running() -> list[int]:
    """The processes that use this test's cache; one that has ended and was not waited for has no environment."""
    own, found = f"SIGHTLINE_CACHE={files.cache_folder()}".encode(), []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if own in (place / "environ").read_bytes().split(b"\0"):
                found.append(int(place.name))
    return found


def scratch() -> list[Path]:
    return list(files.cache_folder().glob("stores/.*.part"))


def wait_for(there: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not there():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """A folder that takes half a minute to decode, by helpers."""
    for name in ("blue", "red"):
        (tmp_path / "long" / name).mkdir(parents=True)
    first = tmp_path / "long" / "blue" / "0.jpg"
    Image.effect_noise((1200, 1200), 50).save(first)
    for number in range(1, 3000):
        os.link(first, tmp_path / "long" / ("blue", "red")[number % 2] / f"{number}.jpg")
    return tmp_path / "long"


def command(folder: Path, run: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "sightline", "train", str(folder), *SMALL, *words, "--run", str(run)]


def test_a_wrong_setting_ends_it_and_leaves_nothing(long: Path, tmp_path: Path) -> None:
    done = subprocess.run(command(long, tmp_path / "run", "train.momentum=0.5"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("sightline: train.momentum has no effect")
    assert done.stderr.count("\n") == 1
    assert (running(), scratch(), stores(), (tmp_path / "run").exists()) == ([], [], {}, False)


@pytest.mark.parametrize("moment", ["importing", "waiting"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_leaves_nothing(long: Path, tmp_path: Path, number: signal.Signals, moment: str, status: int) -> None:
    run = tmp_path / "run"
    with subprocess.Popen(command(long, run), stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        wait_for(lambda: scratch() and (moment == "importing" or (run / "ledger.jsonl").exists()))
        assert len(running()) > 1
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert said.decode().splitlines()[-1].startswith("sightline: ")
    assert "Traceback" not in said.decode()
    assert (running(), scratch(), stores()) == ([], [], {})


def test_it_ends_with_a_command_that_is_killed(long: Path, tmp_path: Path) -> None:
    with subprocess.Popen(command(long, tmp_path / "run")) as process:
        wait_for(scratch)
        process.kill()
    wait_for(lambda: not running())
    assert scratch() == []


def test_it_stands_still_while_something_is_measured(long: Path) -> None:
    with decoding_ahead(str(long), SMALL, None) as ahead:
        wait_for(scratch)
        with ahead.paused():
            wait_for(lambda: set(map(state, running())) == {"T"})
        wait_for(lambda: "T" not in set(map(state, running())))


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
