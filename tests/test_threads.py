"""The number of threads: measured where nobody named it."""

from __future__ import annotations

import pytest

from sightline.device import choose
from sightline.settings import DeviceSettings
from sightline.threads import WORTHWHILE, asked, choice, fastest


@pytest.fixture(autouse=True)
def _nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")


def test_the_fastest_of_all_a_half_a_quarter_and_so_on_is_taken() -> None:
    assert choice(12, {12: 4.0, 6: 1.0, 3: 2.0, 1: 3.0}.__getitem__) == 6


def test_all_are_taken_unless_fewer_are_clearly_faster() -> None:
    assert choice(2, {2: 1.0, 1: 0.99 / WORTHWHILE}.__getitem__) == 1
    assert choice(2, {2: 1.0, 1: 1.01 / WORTHWHILE}.__getitem__) == 2


def test_one_slow_moment_does_not_decide() -> None:
    found = iter([50.0, 2.0, 1.0, 2.0, 1.0, 2.0])
    assert choice(2, lambda threads: next(found)) == 2


def test_it_is_measured_once_a_process_and_not_at_all_for_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    fastest.cache_clear()
    first = fastest(2)

    def never() -> None:
        raise AssertionError

    monkeypatch.setattr("sightline.threads._convolution", never)
    assert first in (1, 2)
    assert fastest(2) == first
    assert fastest(1) == 1


@pytest.mark.parametrize(("text", "threads"), [("1", 1), ("3,2", 3), ("64", 64), ("0", None), ("many", None), ("", None)])
def test_what_the_environment_asks_for_is_taken(text: str, threads: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert asked() == threads


def test_under_torchrun_which_always_sets_it_the_environment_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("sightline.processes.world", lambda: 2)
    assert asked() is None


def test_a_setting_goes_before_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert choose(DeviceSettings(name="cpu", threads=2)).threads == 2
    assert choose(DeviceSettings(name="cpu")).threads == 1
