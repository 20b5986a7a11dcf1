"""What a person sees while a command works: a bar on a terminal, one line a step or epoch elsewhere. All of it on stderr.

with Screen() as screen:
    prepare(..., progress=screen.counter("decoding"))
    with screen.step("laying out 1,000 images"): ...
    trainer.fit(validate, screen.reporter(epochs=30), should_stop)
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from sightline import processes

REDRAW = 0.1
"""Seconds between two moves of the training bar: each asks for the loss, which a GPU has to be waited for."""


class Screen:
    """Standard error, with a live bar where it is a terminal."""

    def __init__(self) -> None:
        self.console = Console(file=sys.stderr, highlight=False, soft_wrap=True, quiet=not processes.is_main())
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal or not processes.is_main(),
        )

    def __enter__(self) -> Screen:
        self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bars.stop()

    def say(self, text: str) -> None:
        """One line for the person; markup is not interpreted."""
        self.console.print(text, markup=False)

    def counter(self, what: str) -> Callable[[int, int], None]:
        """A (done, all) callback that draws a bar; without a terminal it says once what is being done, where that takes long."""
        task: list[TaskID] = []

        def update(done: int, whole: int) -> None:
            if not task:
                task.append(self.bars.add_task(what, total=whole, note=""))
                if self.bars.disable and done < whole:
                    self.say(f"{what} ...")
            self.bars.update(task[0], completed=done, visible=done < whole)

        return update

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Something long that cannot be counted: a bar that waits, or without a terminal a line."""
        task = self.bars.add_task(what, total=None, note="")
        if self.bars.disable:
            self.say(f"{what} ...")
        try:
            yield
        finally:
            self.bars.update(task, visible=False)

    def reporter(self, epochs: int, batches: int) -> TrainingScreen:
        """Hears of training."""
        return TrainingScreen(self, epochs, batches)


class TrainingScreen:
    """A `training.loop.Reporter` that draws."""

    def __init__(self, screen: Screen, epochs: int, batches: int) -> None:
        self.screen, self.epochs = screen, epochs
        self.task = screen.bars.add_task("training", total=epochs * batches, note="")
        self.started, self.first_seen = time.perf_counter(), 0
        self.last = ""  # the figures of the epoch before
        self.drawn = 0.0  # when the bar was last moved

    def end_with(self, epochs: int, batches: int) -> None:
        """There are more epochs than planned, or fewer."""
        self.epochs = epochs
        self.screen.bars.update(self.task, total=epochs * batches)

    def batch(self, epoch: int, done: int, batches: int, images: int, loss: Callable[[], float]) -> None:
        """Moves the bar: loss and images a second of this epoch."""
        if done == 1 or images < self.first_seen:
            self.started, self.first_seen = time.perf_counter(), images
        now = time.perf_counter()
        if not self.screen.bars.disable and (now - self.drawn > REDRAW or done == batches):
            self.drawn, rate = now, (images - self.first_seen) / max(1e-9, now - self.started)
            note = f"epoch {epoch + 1}/{self.epochs}  loss {loss():.3f}{self.last}  {rate:,.0f} images/s"
            self.screen.bars.update(self.task, completed=epoch * batches + done, note=note)

    def epoch(self, row: dict[str, Any]) -> None:
        """One line, kept."""
        self.last = f"  val macro F1 {row['val_macro_f1']:.3f}"
        words = [f"epoch {row['epoch']:>3}/{self.epochs}", f"loss {row['train_loss']:.3f}", f"val loss {row['val_loss']:.3f}"]
        words += [f"val accuracy {row['val_accuracy']:.3f}", f"val macro F1 {row['val_macro_f1']:.3f}"]
        words += [f"{row['seconds']:.1f} s", "best" if row["best"] else ""]
        self.screen.say("  ".join(words).rstrip())
