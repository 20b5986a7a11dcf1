"""`torchrun -m sightline`: several processes make one run, one writes and speaks, and a killed one costs no more than a step back."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

WORDS = ["model.name=sightline_tiny", "train.epochs=2", "train.batch_size=16", "device.precision=float32", "train.schedule=constant"]
WORDS += ["train.optimizer=sgd", "train.lr=0.02"]  # adamw divides rounding errors by themselves, in layers whose gradient is none
FEW = ["train.report=false", "train.tensorboard=false"]


def torchrun(count: int, *words: object, agent: tuple[str, ...] = ("--standalone",)) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", *agent, f"--nproc-per-node={count}"]
    return [*launcher, "-m", "--", "sightline", *map(str, words)]  # -- or torchrun takes --run for its own


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
    print(done.stdout, done.stderr)
    return done


def one(*words: object) -> list[str]:
    return [sys.executable, "-m", "sightline", *map(str, words)]


def history(place: Path) -> list[dict[str, float]]:
    with (place / "history.csv").open() as file:
        return [{k: float(v) for k, v in row.items() if k not in ("seconds", "best")} for row in csv.DictReader(file)]


def events(place: Path) -> list[str]:
    return [json.loads(line)["event"] for line in (place / "ledger.jsonl").read_text().splitlines()]


@pytest.fixture
def photos(make_folder: Callable[..., Path]) -> Path:
    return make_folder("photos", {"blue": 41, "green": 30, "red": 20})


def assert_alike(many: Path, one: Path) -> None:
    """The same data, the same course and the same network, within the order of additions."""
    columns = ["path", "split", "group_number", "digest", "pixel_digest"]
    some, others = (pl.read_parquet(place / "images.parquet", columns=columns) for place in (many, one))
    assert some.equals(others)
    rows, others = history(many), history(one)
    assert rows[0] == pytest.approx(others[0], rel=1e-5)
    for row, other in zip(rows, others, strict=True):  # rounding errors grow where a maximum or a rectifier changes its mind
        assert row == pytest.approx(other, rel=2e-2)
    network, same = (load_file(place / "classifier" / "model.safetensors") for place in (many, one))
    for name, value in network.items():
        np.testing.assert_allclose(value, same[name], rtol=2e-2, atol=2e-3, err_msg=name)
    for part in ("val", "test"):
        answers, same_answers = (pl.read_parquet(place / "evaluation" / part / "predictions.parquet") for place in (many, one))
        assert answers[:, 0].equals(same_answers[:, 0])  # each image once, in the same order
        assert answers.height == answers[:, 0].n_unique()
        figures, same_figures = (json.loads((place / "evaluation" / part / "metrics.json").read_text()) for place in (many, one))
        assert figures["n"] == same_figures["n"]
        assert figures["log_loss"]["value"] == pytest.approx(same_figures["log_loss"]["value"], rel=1e-2)


def test_two_processes_make_the_run_that_one_makes(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(torchrun(2, "train", photos, *WORDS, *FEW, "--run", tmp_path / "two"))
    assert done.returncode == 0
    assert done.stdout.count("Run  ") == 1
    assert done.stderr.count("91 images in 3 classes") == 1
    assert done.stderr.count("epoch   1/2") == 1
    assert events(tmp_path / "two") == ["started", "trained", "evaluated", "finished"]
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "another cache"))  # the stores of both are compared by their digests
    assert run(one("train", photos, *WORDS, *FEW, "device.threads=1", "--run", tmp_path / "one")).returncode == 0
    assert_alike(tmp_path / "two", tmp_path / "one")


def test_what_the_user_can_mend_is_told_once(photos: Path, tmp_path: Path) -> None:
    done = run(torchrun(2, "train", tmp_path / "none", "--run", tmp_path / "run"))
    assert done.returncode != 0
    assert done.stderr.count("There is no folder") == 1
    assert "exitcode  : 2" in done.stderr
    assert 'sightline/cli.py", line' not in done.stderr


# ---- slow ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["augment.mixup=0.3", "imbalance=weights"], ["model.freeze=trunk", "model.weights=none", "train.prefix=on"]]
)
def test_four_processes_make_the_run_that_one_makes(photos: Path, tmp_path: Path, words: list[str]) -> None:
    assert run(torchrun(4, "train", photos, *WORDS, *words, "--run", tmp_path / "four")).returncode == 0
    assert run(one("train", photos, *WORDS, *words, "device.threads=1", "--run", tmp_path / "one")).returncode == 0
    assert_alike(tmp_path / "four", tmp_path / "one")
    assert (tmp_path / "four" / "report.html").exists()


@pytest.mark.slow
def test_evaluate_and_predict_count_each_image_once(photos: Path, tmp_path: Path) -> None:
    run(one("train", photos, *WORDS, *FEW, "--run", tmp_path / "run"))
    (photos / "red" / "red-007.png").write_bytes(b"no picture")
    for name, command in (("one", one), ("many", lambda *words: torchrun(3, *words))):
        assert run(command("evaluate", tmp_path / "run", photos, "--out", tmp_path / name)).returncode == 0
        run(command("predict", tmp_path / "run", photos, "--out", tmp_path / f"{name}.csv"))
    metrics, same = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("many", "one"))
    assert (metrics["n"], metrics["accuracy"]) == (90, same["accuracy"])
    answers, same_answers = (pl.read_csv(tmp_path / f"{name}.csv") for name in ("many", "one"))
    assert answers["path"].equals(same_answers["path"])
    assert answers["reason"].equals(same_answers["reason"])
    assert answers["predicted"].equals(same_answers["predicted"])
    few = run(torchrun(2, "predict", tmp_path / "run", photos / "red" / "red-001.png"))  # fewer images than processes
    assert few.returncode == 0
    assert few.stdout.count("red-001") == 1


@pytest.mark.slow
def test_more_processes_than_images_are_refused(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    few = make_folder("few", {"blue": 1, "red": 2})
    done = run(torchrun(4, "train", few, "--run", tmp_path / "run"))
    assert done.stderr.count("torchrun started 4 processes for 3 images") == 1
    assert not (tmp_path / "run").exists()
    other = run(torchrun(2, "doctor"))
    assert other.stderr.count("torchrun is for train, evaluate, predict") == 1


@pytest.fixture
def started() -> Iterator[Callable[[list[str], Path], subprocess.Popen[str]]]:
    """Starts a command in the background; none outlives the test."""
    running: list[subprocess.Popen[str]] = []

    def start(command: list[str], log: Path, **options: Any) -> subprocess.Popen[str]:
        with log.open("w") as file:
            running.append(subprocess.Popen(command, stderr=file, text=True, start_new_session=True, **options))
        return running[-1]

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(there: Callable[[], bool], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.05)


def workers(agent: subprocess.Popen[str]) -> dict[str, int]:
    """The processes of an agent by their rank."""
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    found = {}
    for child in children:
        environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        rank = next((word.removeprefix(b"RANK=").decode() for word in environment if word.startswith(b"RANK=")), None)
        if rank is not None:
            found[rank] = int(child)
    return found


LONG = ["train.epochs=6", "augment.policy=strong"]


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_killed_worker_is_started_again_and_the_run_goes_on(photos: Path, tmp_path: Path, started: Any, rank: str) -> None:
    command = torchrun(2, "train", photos, *WORDS, *LONG, *FEW, "--run", tmp_path / "run", agent=("--standalone", "--max-restarts=2"))
    agent = started(command, tmp_path / "log")
    wait_for(lambda: (tmp_path / "run" / "history.csv").exists())
    os.kill(workers(agent)[rank], signal.SIGKILL)
    assert agent.wait(240) == 0, (tmp_path / "log").read_text()
    assert "resumed" in events(tmp_path / "run")
    run(one("train", photos, *WORDS, *LONG, *FEW, "device.threads=1", "--run", tmp_path / "one"))
    assert_alike(tmp_path / "run", tmp_path / "one")


@pytest.mark.slow
def test_stopped_by_its_agent_it_saves_and_goes_on_with_another_number(photos: Path, tmp_path: Path, started: Any) -> None:
    agent = started(torchrun(2, "train", photos, *WORDS, *LONG, *FEW, "--run", tmp_path / "run"), tmp_path / "log")
    wait_for(lambda: (tmp_path / "run" / "history.csv").exists())
    agent.send_signal(signal.SIGINT)
    agent.wait(60)
    assert (tmp_path / "log").read_text().count("everything is saved") == 1
    assert events(tmp_path / "run")[-1] == "interrupted"
    assert run(torchrun(3, "train", "--resume", tmp_path / "run")).returncode == 0
    run(one("train", photos, *WORDS, *LONG, *FEW, "device.threads=1", "--run", tmp_path / "one"))
    assert_alike(tmp_path / "run", tmp_path / "one")


def _hosts(count: int) -> Iterator[tuple[list[str], str]]:
    """Network namespaces on one bridge: what starts a command in each, and its address."""

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    name = f"sl{os.getpid() % 10000}"
    try:
        ip("link", "add", name, "type", "bridge")
        ip("link", "set", name, "up")
        for i in range(count):
            ip("netns", "add", f"{name}-{i}")
            ip("link", "add", f"{name}v{i}", "type", "veth", "peer", "name", "eth0", "netns", f"{name}-{i}")
            ip("link", "set", f"{name}v{i}", "master", name, "up")
            inside = ("netns", "exec", f"{name}-{i}", "ip")
            ip(*inside, "addr", "add", f"10.99.77.{i + 1}/24", "dev", "eth0")
            ip(*inside, "link", "set", "eth0", "up")
            ip(*inside, "link", "set", "lo", "up")
            yield ["ip", "netns", "exec", f"{name}-{i}"], f"10.99.77.{i + 1}"
    finally:
        for i in range(count):
            subprocess.run(["ip", "netns", "del", f"{name}-{i}"], capture_output=True)
        subprocess.run(["ip", "link", "del", name], capture_output=True)


@pytest.fixture
def hosts() -> Iterator[list[tuple[list[str], str]]]:
    """Two hosts that only have a network in common, and the disk; skipped where namespaces may not be made."""
    made = _hosts(2)
    try:
        yield [next(made), next(made)]
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"network namespaces cannot be made here: {error}")
    finally:
        made.close()


@pytest.mark.slow
def test_two_hosts_make_the_run_that_one_process_makes(photos: Path, tmp_path: Path, started: Any, hosts: Any) -> None:
    running = []
    for number, (inside, address) in enumerate(hosts):
        meeting = ("--rdzv-backend=c10d", f"--rdzv-endpoint={hosts[0][1]}:29611", f"--rdzv-conf=is_host={'false' if number else 'true'}")
        agent = ("--nnodes=2", "--rdzv-id=a-test", *meeting, f"--local-addr={address}")
        command = [*inside, *torchrun(2, "train", photos, *WORDS, *FEW, "--run", tmp_path / "run", agent=agent)]
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": "eth0", "SIGHTLINE_CACHE": str(tmp_path / f"cache of host {number}")}
        running.append(started(command, tmp_path / f"log {number}", env=environment))
    for number, agent in enumerate(running):
        assert agent.wait(240) == 0, (tmp_path / f"log {number}").read_text()
    assert all(list((tmp_path / f"cache of host {number}" / "stores").glob("16-*")) for number in (0, 1))
    run(one("train", photos, *WORDS, *FEW, "device.threads=1", "--run", tmp_path / "one"))
    assert_alike(tmp_path / "run", tmp_path / "one")
