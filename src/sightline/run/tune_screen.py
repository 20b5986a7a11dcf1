"""What a person sees of a study: a live table on a terminal, one line a trial elsewhere. All of it on stderr.

with StudyScreen("flowers-lr", objectives, most=30, epochs=20) as screen:
    screen.update(search.records())
    with screen.trial(7, chosen) as quiet: bench.try_out(..., screen=quiet)
    screen.ended(record, search.records())
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sightline.config import show
from sightline.reporting.words import count, duration
from sightline.run.progress import Screen
from sightline.tuning.objective import Objective
from sightline.tuning.record import Trial, best_of, front_of

ROWS = 12
"""Trials that the table shows, the newest last."""

_STYLES = {"complete": "green", "pruned": "yellow", "failed": "red", "lost": "red", "running": "cyan", "waiting": "dim"}


class Quiet(Screen):
    """What a trial says is kept for its folder; of its epochs the table tells."""

    def __init__(self, whole: StudyScreen) -> None:
        super().__init__()
        self.whole = whole

    def say(self, text: str) -> None:
        """Nobody can read the notes of thirty trainings."""

    def reporter(self, epochs: int, batches: int) -> Any:
        """Hears of training."""
        self.whole.running["epochs"] = epochs
        return self

    def batch(self, epoch: int, done: int, batches: int, images: int, loss: Callable[[], float]) -> None:
        """A step."""
        self.whole.running |= {"epoch": epoch + 1, "share": done / batches}
        self.whole.refresh()

    def epoch(self, row: Mapping[str, Any]) -> None:
        """An epoch."""
        self.whole.running |= {"value": row.get(self.whole.objectives[0].name)}
        self.whole.refresh(now=True)


class StudyScreen:
    """Standard error, with a live table where it is a terminal."""

    def __init__(self, name: str, objectives: Sequence[Objective], most: int) -> None:
        self.name, self.objectives, self.most = name, objectives, most
        self.plain = Screen()
        self.live = Live(console=self.plain.console, auto_refresh=False, transient=False) if self.plain.console.is_terminal else None
        self.records: list[Trial] = []
        self.running: dict[str, Any] = {}
        self.began = time.monotonic()
        self.drawn = 0.0
        self.at_first: int | None = None  # trials that were over when this worker began

    def __enter__(self) -> StudyScreen:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.running = {}
        self.refresh(now=True)
        if self.live is not None:
            self.live.stop()

    def say(self, text: str) -> None:
        """One line for the person."""
        self.plain.say(text)

    def update(self, records: Sequence[Trial]) -> None:
        """What is known of all trials."""
        self.records = list(records)
        if self.at_first is None:
            self.at_first = self._over()
        self.refresh(now=True)

    @contextlib.contextmanager
    def trial(self, number: int, chosen: Mapping[str, Any]) -> Iterator[Quiet]:
        """What one trial may speak to."""
        self.running = {"number": number, "chosen": dict(chosen), "since": time.monotonic()}
        self.refresh(now=True)
        try:
            yield Quiet(self)
        finally:
            self.running = {}

    def ended(self, trial: Trial, records: Sequence[Trial]) -> None:
        """A trial is over."""
        self.update(records)
        if self.live is None:
            self.say(self.line(trial))

    # ---- words -------------------------------------------------------------------------------------------------------

    def line(self, trial: Trial) -> str:
        """One trial in a line."""
        words = [f"trial {trial.number:>3}", f"{trial.state:<8}", self.figures(trial)]
        words += [self.best(), duration(float(trial.facts.get("seconds", 0))), _settings(trial.chosen)]
        words += [trial.reason] if trial.reason else []
        return "  ".join(word for word in words if word)

    def figures(self, trial: Trial) -> str:
        """The values of a trial, or the last step that it came to."""
        if trial.values is not None and trial.state == "complete":
            return "  ".join(f"{one.name} {value:.4g}" for one, value in zip(self.objectives, trial.values, strict=True))
        if trial.steps:
            step, value = max(trial.steps.items())
            return f"{self.objectives[0].name} {value:.4g} at step {step}"
        return ""

    def best(self) -> str:
        """The best so far."""
        if len(self.objectives) > 1:
            return f"{len(front_of(self.records, self.objectives))} on the front"
        best = best_of(self.records, self.objectives)
        return "" if best is None or best.values is None else f"best {best.values[0]:.4g} (trial {best.number})"

    def time_left(self) -> str:
        """By the pace of all workers since this one began."""
        over = self._over()
        done, todo = over - (self.at_first or 0), self.most - over
        return f"about {duration((time.monotonic() - self.began) / done * todo)} left" if done > 0 and todo > 0 else ""

    def _over(self) -> int:
        return sum(trial.state in ("complete", "pruned", "failed") for trial in self.records)

    # ---- the table ---------------------------------------------------------------------------------------------------

    def refresh(self, now: bool = False) -> None:
        """Draws the table anew, four times a second at most."""
        if self.live is None or (not now and time.monotonic() - self.drawn < 0.25):
            return
        self.drawn = time.monotonic()
        self.live.update(self.drawing(), refresh=True)

    def drawing(self) -> Group:
        """The table and the line below it."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("trial", "state", *(one.name for one in self.objectives), "time", "settings"):
            table.add_column(name, no_wrap=True, overflow="ellipsis", justify="right" if name in ("trial", "time") else "left")
        for trial in [one for one in self.records if one.number != self.running.get("number")][-ROWS:]:
            table.add_row(*self._row(trial))
        if self.running:
            table.add_row(*self._running_row())
        states = [trial.state for trial in self.records]
        words = [self.name, f"{self._over()} of {count(self.most, 'trial')}"]
        words += [f"{states.count(state)} {state}" for state in ("pruned", "failed", "running") if states.count(state)]
        return Group(table, Text("  ".join([*words, self.best(), self.time_left()]).rstrip(), style="bold"))

    def _row(self, trial: Trial) -> list[Any]:
        values = [f"{value:.4g}" for value in trial.values or ()] if trial.state == "complete" else [self._last(trial)]
        values += [""] * (len(self.objectives) - len(values))
        told = trial.reason if trial.state == "failed" and trial.reason else _settings(trial.chosen)
        best = best_of(self.records, self.objectives)
        number = f"{trial.number}*" if best is not None and best.number == trial.number else str(trial.number)
        return [number, Text(trial.state, style=_STYLES[trial.state]), *values, duration(float(trial.facts.get("seconds", 0))), Text(told)]

    def _last(self, trial: Trial) -> str:
        return f"{trial.steps[max(trial.steps)]:.4g} at {max(trial.steps)}" if trial.steps else ""

    def _running_row(self) -> list[Any]:
        own = self.running
        state = f"epoch {own['epoch']}/{own['epochs']}" if "epoch" in own else "begins"
        value = own.get("value")
        values = ["" if value is None else f"{value:.4g}", *[""] * (len(self.objectives) - 1)]
        spent = duration(time.monotonic() - own["since"])
        return [str(own["number"]), Text(state, style="cyan"), *values, spent, Text(_settings(own["chosen"]))]


def _settings(chosen: Mapping[str, Any]) -> str:
    """The settings of a trial, short."""
    return " ".join(f"{path.partition('.')[2] or path}={_short(value)}" for path, value in chosen.items())


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else show(value)
