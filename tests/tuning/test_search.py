"""Workers and trials: taken, told, ended, set aside, and taken over from workers that died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import StudyError
from sightline.tuning import search as searching
from sightline.tuning.record import best_of, write_csv
from sightline.tuning.search import Search, refuse_difference
from sightline.tuning.space import Range

STORAGES = [None, "journal"]

# A worker as a process of its own; it needs no torch, so it starts at once.
WORKER = """
import sys, time
from pathlib import Path
from sightline.settings import TuneSettings
from sightline.tuning.objective import read_objectives
from sightline.tuning.search import Search, go_on_from
from sightline.tuning.space import read_space
from sightline.tuning.storage import open_storage

url, folder, what, most = sys.argv[1] or None, Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
space = read_space({"train.lr": {"from": 1e-4, "to": 0.1, "log": True}, "augment.policy": ["light", "standard"]})
storage = open_storage(url, folder, print, go_on_from)
search = Search.open(storage, "study", folder, TuneSettings(startup=3), space, read_objectives("val_macro_f1", "auto"), 10, print)
while (ticket := search.take(most)) is not None:
    with ticket.running():
        ticket.tell(1, 0.5)
        (folder / f"took-{ticket.number}").touch()
        if what == "hang":
            time.sleep(600)
        time.sleep(0.02)
        search.finish(ticket, [ticket.chosen["train.lr"]], {"seconds": 1.0})
"""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """`worker(url, "work" or "hang", most)` starts a process on the study in tmp_path/study."""
    started: list[subprocess.Popen[bytes]] = []

    def start(url: str | None, what: str, most: int) -> subprocess.Popen[bytes]:
        (tmp_path / "study" / "workers").mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-c", WORKER, url or "", str(tmp_path / "study"), what, str(most)]
        started.append(subprocess.Popen(words, stdout=subprocess.DEVNULL))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, "the worker ended by itself"
        assert time.monotonic() < until
        time.sleep(0.02)


# ---- one worker ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", STORAGES)
def test_trials_are_taken_until_there_are_enough(open_search: Callable[..., Search], url: str | None) -> None:
    search = open_search(url)
    values = []
    while (ticket := search.take(5)) is not None:
        values.append(ticket.chosen["train.lr"])
        search.finish(ticket, [values[-1]], {"seconds": 2.5})
    assert len(values) == 5
    assert open_search(url).take(5) is None
    assert open_search(url).take(6) is not None  # more are asked for
    best = best_of(search.records(), search.objectives)
    assert best is not None
    assert best.values == (max(values),)
    assert best.facts["seconds"] == 2.5


def test_the_same_study_proposes_the_same_trials(open_search: Callable[..., Search], tmp_path: Path) -> None:
    def chosen(name: str) -> list[dict[str, Any]]:
        search = open_search(f"journal:{tmp_path / name}", startup=4)
        found = []
        for _ in range(8):
            ticket = search.take(8)
            assert ticket is not None
            found.append(ticket.chosen)
            search.finish(ticket, [ticket.chosen["train.lr"]], {})
        return found

    first = chosen("a")
    assert chosen("b") == first
    assert len({one["train.lr"] for one in first}) == 8


def test_the_first_trial_is_the_recipes_own(open_search: Callable[..., Search]) -> None:
    search = open_search()
    search.begin_with({"train.lr": 0.01})
    search.begin_with({"train.lr": 0.02})  # a worker that came later
    first = search.take(9)
    assert first is not None
    assert first.chosen["train.lr"] == 0.01
    assert search.take(1) is None


def test_a_trial_that_promises_little_is_ended(open_search: Callable[..., Search]) -> None:
    search = open_search(pruner="median", warmup=0)
    for k in range(7):
        ticket = search.take(7)
        assert ticket is not None
        ended = ticket.tell(1, 0.9 if k < 6 else 0.1)
        assert ended == (k == 6)
        if ended:
            search.prune(ticket, {"seconds": 0.5})
        else:
            search.finish(ticket, [0.9], {})
    assert [trial.state for trial in search.records()] == ["complete"] * 6 + ["pruned"]
    assert search.records()[-1].values == (0.1,)


def test_a_failed_trial_keeps_its_reason_and_the_study_goes_on(open_search: Callable[..., Search], tmp_path: Path) -> None:
    search = open_search()
    ticket = search.take(2)
    assert ticket is not None
    search.fail(ticket, "train.momentum has no effect")
    assert search.take(2) is not None
    assert search.records()[0].reason == "train.momentum has no effect"
    write_csv(search.records(), search.objectives, search.space.names, tmp_path / "t.csv")
    assert "train.momentum has no effect" in (tmp_path / "t.csv").read_text()


@pytest.mark.parametrize("url", STORAGES)
def test_a_trial_set_aside_is_taken_up_where_it_was(open_search: Callable[..., Search], url: str | None) -> None:
    search = open_search(url)
    ticket = search.take(3)
    assert ticket is not None
    ticket.tell(1, 0.5)
    search.set_aside(ticket)
    again = open_search(url).take(3)
    assert again is not None
    assert (again.number, again.place, again.chosen, again.told) == (ticket.number, ticket.place, ticket.chosen, {1})
    assert again.tell(1, 0.25) is False  # told already
    search.finish(again, [0.75], {})
    assert [(trial.state, trial.steps) for trial in search.records()] == [("complete", {1: 0.5})]


def test_a_grid_ends_by_itself_and_repeats_nothing(open_search: Callable[..., Search]) -> None:
    search = open_search(space={"model.depth": {"from": 2, "to": 3}, "augment.policy": ["light", "strong"]}, sampler="grid")
    seen = []
    while (ticket := search.take(100)) is not None:
        seen.append(tuple(ticket.chosen.values()))
        search.finish(ticket, [0.5], {})
    assert sorted(seen) == [(2, "light"), (2, "strong"), (3, "light"), (3, "strong")]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "random"])
def test_every_sampler_finds_its_way_on_a_hill(open_search: Callable[..., Search], sampler: str) -> None:
    space = {"model.dropout": {"from": 0.0, "to": 0.9}, "train.label_smoothing": {"from": 0.0, "to": 0.9}}
    search = open_search("journal", space=space, sampler=sampler, startup=6, pruner="none")
    while (ticket := search.take(14 if sampler == "gp" else 22)) is not None:
        x, y = ticket.chosen.values()
        search.finish(ticket, [1 - (x - 0.6) ** 2 - (y - 0.2) ** 2], {})
    best = best_of(search.records(), search.objectives)
    assert best is not None
    assert best.values is not None
    assert best.values[0] > (0.9 if sampler == "random" else 0.97)


def test_several_objectives_are_told_at_the_end(open_search: Callable[..., Search]) -> None:
    search = open_search(objective=["val_macro_f1", "seconds"])
    for values in ([0.9, 10.0], [0.8, 5.0], [0.7, 7.0]):
        ticket = search.take(3)
        assert ticket is not None
        search.finish(ticket, values, {})
    assert [trial.values for trial in search.records()] == [(0.9, 10.0), (0.8, 5.0), (0.7, 7.0)]


def test_importances_name_what_decided(open_search: Callable[..., Search]) -> None:
    search = open_search("journal", sampler="random")
    assert search.importances() == {}
    while (ticket := search.take(30)) is not None:
        search.finish(ticket, [ticket.chosen["train.lr"] ** 0.5], {})
    assert next(iter(search.importances())) == "train.lr"


def test_importances_are_of_being_good_with_conditions_too(open_search: Callable[..., Search]) -> None:
    space = {
        "train.lr": {"from": 0.1, "to": 1.0},
        "train.label_smoothing": {"from": 0.0, "to": 0.5},
        "train.optimizer": ["adamw", "sgd"],
        "train.momentum": {"from": 0.5, "to": 0.99, "if": {"train.optimizer": "sgd"}},
    }
    found = []
    for objective, url, sign in (("val_macro_f1", None, 1), ("val_loss", "journal", -1)):
        search = open_search(url, space=space, objective=objective, sampler="random")
        while (ticket := search.take(60)) is not None:
            bad = ticket.chosen["train.label_smoothing"] > 0.4  # what is worst depends on this, what is best on the rate
            search.finish(ticket, [sign * (ticket.chosen["train.lr"] - 10 * bad)], {})
        found.append(search.importances())
    assert found[0] == pytest.approx(found[1])
    assert next(iter(found[0])) == "train.lr"


# ---- several, and dead ones --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", STORAGES)
def test_two_workers_share_a_study(open_search: Callable[..., Search], worker: Callable[..., Any], url: str | None) -> None:
    both = [worker(url, "work", 12) for _ in range(2)]
    assert [process.wait(timeout=240) for process in both] == [0, 0]
    records = open_search(url).records()
    assert [trial.state for trial in records] == ["complete"] * 12
    assert len({trial.chosen["train.lr"] for trial in records}) == 12
    assert len({trial.facts["worker"]["process"] for trial in records}) == 2


@pytest.mark.parametrize("url", STORAGES)
def test_a_worker_killed_leaves_no_trial_running(
    open_search: Callable[..., Search], worker: Callable[..., Any], tmp_path: Path, url: str | None
) -> None:
    dead = worker(url, "hang", 3)
    wait_for(tmp_path / "study" / "took-0", dead)
    search = open_search(url)
    search.take_over()
    assert [trial.state for trial in search.records()] == ["running"]  # it lives
    os.kill(dead.pid, signal.SIGKILL)
    dead.wait()
    ticket = search.take(1)
    assert ticket is not None
    lost, again = search.records()
    assert (lost.state, lost.reason) == ("lost", "its worker was killed")
    assert (again.number, again.place, again.chosen, again.steps) == (1, 0, lost.chosen, {1: 0.5})
    search.finish(ticket, [0.5], {})
    assert search.take(1) is None  # both are one trial of those that were asked for
    assert not list((tmp_path / "study" / "workers").glob("*.lock"))


def test_a_trial_that_kills_its_workers_is_given_up(open_search: Callable[..., Search], monkeypatch: pytest.MonkeyPatch) -> None:
    search = open_search()
    monkeypatch.setattr(searching, "_is_free", lambda lock: True)  # whoever has a trial is dead
    for _ in range(searching.DEATHS):
        assert search.take(1) is not None
    assert search.take(1) is None
    assert [trial.state for trial in search.records()] == ["lost", "lost", "failed"]
    assert search.records()[-1].reason == "its worker was killed 3 times or more"


def test_a_worker_of_another_machine_is_dead_when_its_file_grows_old(open_search: Callable[..., Search], tmp_path: Path) -> None:
    search = open_search("journal")
    ticket = search.take(1)
    assert ticket is not None
    os.close(ticket.lock)
    ticket.trial.set_user_attr("worker", {"host": "another", "folder": "/there", "process": 1})
    assert search.take(1) is None
    old = time.time() - 1000
    os.utime(tmp_path / "study" / "workers" / "0000.lock", (old, old))
    assert search.take(1) is not None


# ---- another study under the same name -------------------------------------------------------------------------------


def test_what_a_study_was_begun_with_is_kept(open_search: Callable[..., Search]) -> None:
    own = {"space": {"train.lr": [1, 2]}, "folds": None}
    assert open_search().identity(own) == own
    assert open_search().identity({"space": {}}) == own


def test_the_difference_is_told() -> None:
    begun = {"space": {"train.lr": [0.1, 0.2], "model.depth": [2, 3]}, "folds": None, "setting": {"train.epochs": 3}}
    now = {"space": {"train.lr": [0.1, 0.3]}, "folds": 5, "setting": {"train.epochs": 3}}
    with pytest.raises(StudyError) as error:
        refuse_difference(begun, now, "flowers")
    told = str(error.value)
    assert "space train.lr was [0.1,0.2], now it is [0.1,0.3]" in told
    assert "space model.depth was [2,3], now it is not there" in told
    assert "folds was null, now it is 5" in told
    assert "epochs" not in told
    refuse_difference(begun, begun, "flowers")


def test_ranges_are_what_they_say() -> None:
    assert Range(1, 4, whole=True).points() == (1, 2, 3, 4)
    assert Range(1, 400, whole=True).points() is None


# ---- a real database ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_workers_share_a_real_postgresql_and_outlive_each_other(
    open_search: Callable[..., Search], worker: Callable[..., Any], tmp_path: Path, postgres: str
) -> None:
    dead = worker(postgres, "hang", 8)
    wait_for(tmp_path / "study" / "took-0", dead)
    os.kill(dead.pid, signal.SIGKILL)
    dead.wait()
    both = [worker(postgres, "work", 8) for _ in range(2)]
    assert [process.wait(timeout=240) for process in both] == [0, 0]
    records = open_search(postgres).records()
    assert [trial.state for trial in records] == ["lost"] + ["complete"] * 8
    assert records[-1].place == 0 or any(trial.place == 0 for trial in records[1:])
