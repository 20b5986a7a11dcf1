"""Shared by all tests: a cache of their own, one thread, and tiny folders of images."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # two tests at once on two cores: spinning threads would slow each other
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # the commands that tests start would compile torch each time

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

# A slow minute of a shared machine is no failure; and what passes once passes each time. Examples that nobody tried yet:
# `uv run pytest --hypothesis-profile=explore`.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=500)
settings.register_profile("repeatable", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.load_profile("repeatable")

COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (200, 50, 40)}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path_factory.mktemp("cache")))


def _write_images(folder: Path, counts: dict[str, int], side: int = 16, seed: int = 0) -> Path:
    """A folder a class of noisy single-coloured PNG files, each different."""
    draws = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            noise = draws.normal(0, 40, (side, side, 3)) + np.array(COLOURS.get(name, (128, 128, 128)))
            Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(folder / name / f"{name}-{i:03d}.png")
    return folder


@pytest.fixture(scope="session")
def write_images() -> Callable[..., Path]:
    """`write_images(folder, {"red": 10, "blue": 8}, side=16, seed=0)` writes a folder of images and gives its path."""
    return _write_images


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """`make_folder("photos", {"red": 10, "blue": 8})` writes a folder of images and gives its path."""

    def make(name: str, counts: dict[str, int], side: int = 16, seed: int = 0) -> Path:
        return _write_images(tmp_path / name, counts, side, seed)

    return make


@pytest.fixture
def folder(make_folder: Callable[..., Path]) -> Path:
    """Three classes, 20, 14 and 8 images."""
    return make_folder("photos", {"blue": 20, "green": 14, "red": 8})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def in_processes() -> Callable[..., list[Any]]:
    """`in_processes(4, work, argument)` runs `work(argument)` in 4 processes as torchrun would start them; gives what each returns."""
    context = multiprocessing.get_context("fork")  # what is imported already need not be imported again

    def run(count: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        pipes = [context.Pipe(duplex=False) for _ in range(count)]
        started = []
        for rank, (_, answer) in enumerate(pipes):
            words = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1"}
            environment = {name: str(value) for name, value in (words | {"MASTER_PORT": port}).items()}
            started.append(context.Process(target=_one_of_many, args=(environment, answer, work, arguments), daemon=True))
            started[-1].start()
        answers = [heard.recv() if heard.poll(60) else "no answer in a minute" for heard, _ in pipes]
        for process in started:
            process.join(10)
            process.kill()
        return answers

    return run


def _one_of_many(environment: dict[str, str], answer: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    import torch

    torch.set_num_threads(1)  # a fork has none of its parent's OpenMP threads, and would wait for them for ever
    os.environ.update(environment)
    try:
        answer.send(work(*arguments))
    except BaseException as error:
        answer.send(error)
    os._exit(0)
