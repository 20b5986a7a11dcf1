"""Torchrun's processes: every thing is somebody's once, words and numbers arrive, and an error is told by one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sightline import processes
from sightline.data.crew import fill_together
from sightline.errors import DataError, Elsewhere
from sightline.processes import Share

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forked with threads, from Python 3.12 on

InProcesses = Callable[..., list[Any]]


@given(st.integers(0, 1000), st.integers(1, 40))
def test_each_thing_is_in_one_share_and_shares_are_of_one_size_but_for_one(count: int, parts: int) -> None:
    shares = [range(count)[Share(part, parts).of(count)] for part in range(parts)]
    assert [i for share in shares for i in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_share_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="part 2 of 2"):
        Share(2, 2)


def test_one_process_is_all_there_is(tmp_path: Path) -> None:
    assert (processes.world(), processes.rank(), processes.is_main(), processes.job()) == (1, 0, True, None)
    assert processes.gathered("a") == ["a"]
    assert processes.told("a") == processes.from_main(lambda: "a") == "a"
    assert processes.sharing(tmp_path) == (Share(), 0)
    numbers = np.arange(3)
    assert processes.rows(numbers, 3) is numbers
    assert not torch.distributed.is_initialized()


def _exchanged(count: int) -> dict[str, Any]:
    rank = processes.rank()
    total, more = torch.full((2, 2), float(rank)), torch.tensor([1.0])
    processes.sum_over([total, more])
    own = np.arange(count, dtype=np.float32)[processes.share().of(count)]
    return {
        "ranks": processes.gathered(rank),
        "told": processes.told(f"of {rank}"),
        "made": processes.from_main(processes.world),
        "any": [processes.any_of(lambda: rank == 2)(), processes.any_of(lambda: False)()],
        "sum": (total.tolist(), more.tolist()),
        "rows": processes.rows(np.stack([own, -own], axis=1), count).tolist(),
        "one column": processes.rows(own.astype(np.float64), count).tolist(),
    }


@pytest.mark.parametrize("count", [2, 3, 7])
def test_words_and_numbers_arrive_at_all(in_processes: InProcesses, count: int) -> None:
    answers = in_processes(3, _exchanged, count)
    assert answers[0] == answers[1] == answers[2]
    assert answers[0] == {
        "ranks": [0, 1, 2],
        "told": "of 0",
        "made": 1,  # alone, while the others wait
        "any": [True, False],
        "sum": ([[3.0, 3.0], [3.0, 3.0]], [3.0]),
        "rows": [[float(i), float(-i)] for i in range(count)],
        "one column": [float(i) for i in range(count)],
    }


def _failing(*who: int) -> str:
    with processes.together():
        with processes.together():
            if processes.rank() in who:
                raise DataError(f"a bad file, says {processes.rank()}")
        processes.gathered("the others would wait here for ever")
    return "done"


@pytest.mark.parametrize(("who", "speaker"), [((1,), 1), ((2, 1), 1), ((0, 1, 2), 0), ((0,), 0)])
def test_an_error_ends_all_and_is_told_by_one(in_processes: InProcesses, who: tuple[int, ...], speaker: int) -> None:
    answers = in_processes(3, _failing, *who)
    assert str(answers[speaker]) == f"a bad file, says {speaker}"
    others = [answer for rank, answer in enumerate(answers) if rank != speaker]
    assert all(isinstance(answer, Elsewhere) and answer.exit_status == 2 for answer in others)


def test_without_an_error_all_go_on(in_processes: InProcesses) -> None:
    assert in_processes(2, _failing) == ["done", "done"]


def _dying() -> Any:
    with processes.together():
        processes.gathered(None)
        if processes.rank() == 1:
            with processes.untold():
                raise DataError("gone in the middle of the sums")
        time.sleep(0.2)
        processes.sum_over([torch.zeros(1000)])


def test_who_finds_another_gone_stops_without_a_word(in_processes: InProcesses) -> None:
    answers = in_processes(2, _dying)
    assert isinstance(answers[0], Elsewhere)
    assert str(answers[1]) == "gone in the middle of the sums"


def _filled(parent: Path) -> tuple[Path, str]:
    def fill(part: Path, share: Share) -> None:
        (part / str(share.part)).write_text(f"{share.part} of {share.parts}")

    def finish(part: Path) -> Path:
        text = " ".join(sorted(path.read_text() for path in part.iterdir()))
        (parent / "whole").write_text(text)
        return parent / "whole"

    def find() -> Path | None:
        return parent / "whole" if (parent / "whole").exists() else None

    place = fill_together(parent, find, fill, finish)
    again = fill_together(parent, find, lambda part, share: pytest.fail("filled again"), finish)
    assert again == place
    return place, place.read_text()


def test_a_folder_is_filled_by_all_and_finished_once(in_processes: InProcesses, tmp_path: Path) -> None:
    expected = (tmp_path / "whole", "0 of 3 1 of 3 2 of 3")
    assert in_processes(3, _filled, tmp_path) == [expected] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def _filled_on_own_disks(parent: Path) -> tuple[Path, str]:
    return _filled(parent / "ab"[processes.rank() // 2])


def test_machines_with_disks_of_their_own_fill_one_each(in_processes: InProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "local", lambda: Share(processes.rank() % 2, 2))  # two machines of two processes
    answers = in_processes(4, _filled_on_own_disks, tmp_path)
    for name, pair in (("a", answers[:2]), ("b", answers[2:])):
        assert pair == [(tmp_path / name / "whole", "0 of 2 1 of 2")] * 2


def _partly_failing(parent: Path) -> Any:
    def fill(part: Path, share: Share) -> None:
        if share.part == 1:
            raise DataError("its share cannot be read")

    return fill_together(parent, lambda: None, fill, lambda part: part)


def test_a_share_that_fails_leaves_nothing_behind(in_processes: InProcesses, tmp_path: Path) -> None:
    answers = in_processes(2, _partly_failing, tmp_path)
    assert isinstance(answers[0], Elsewhere)
    assert "its share cannot be read" in str(answers[1])
    assert list(tmp_path.iterdir()) == []
