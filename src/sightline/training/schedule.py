"""How the learning rate goes: a factor of the highest rate, from the number of steps done alone.

    schedule = build_schedule(config.train, steps_per_epoch=100)
    rate = lr * schedule.factor(step)
    schedule.plateau.update(value)         after each epoch, for train.schedule=plateau

Because the factor is a function of the step, nothing but the plateau's three numbers has to be kept for a resume.
Steps count from where the schedule begins: with the run, or with the phase that restarts it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sightline.settings import TrainSettings

PLATEAU_EPS = 1e-8
"""Of the rate: the smallest drop that a plateau makes, as torch's ReduceLROnPlateau has it."""


@dataclass
class Plateau:
    """Counts epochs without progress and multiplies the rate with `factor` after more than `patience` of them.

    As torch's ReduceLROnPlateau(mode, factor, patience, threshold=1e-4, threshold_mode="rel"); `least` is its eps as a share of
    the highest rate: no smaller drop is made, so that a rate ends near 1e-8 and not at 1e-24.
    """

    factor: float
    patience: int
    larger_is_better: bool
    least: float = 0.0
    best: float | None = None
    bad: int = 0
    scale: float = 1.0

    def update(self, value: float) -> None:
        """Hears the monitored value of an epoch."""
        if self.best is None or self._better(value, self.best):
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        if self.bad > self.patience:
            self.bad = 0
            if self.scale * (1 - self.factor) > self.least:
                self.scale *= self.factor

    def _better(self, value: float, best: float) -> bool:
        return value > best * (1 + 1e-4) if self.larger_is_better else value < best * (1 - 1e-4)


@dataclass(frozen=True)
class Schedule:
    """The rate's factor as a function of the step; `total` and `warmup` are in steps."""

    kind: str
    total: int
    warmup: int = 0
    rise: float = 0.25
    every: int = 1
    drop: float = 0.1
    plateau: Plateau | None = field(default=None)

    def factor(self, step: int) -> float:
        """What the highest rate is multiplied with in step `step` (from 0)."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        done = (step - self.warmup) / max(1, self.total - self.warmup)
        if self.kind == "cosine":
            return (1 + math.cos(math.pi * min(done, 1.0))) / 2
        if self.kind == "onecycle":
            return _one_cycle(done, self.rise)
        if self.kind == "step":
            return self.drop ** (step // self.every)
        return self.plateau.scale if self.plateau is not None else 1.0

    def state(self) -> list[Any] | None:
        """What `load` goes on from; None where the step is enough."""
        return None if self.plateau is None else [self.plateau.best, self.plateau.bad, self.plateau.scale]

    def load(self, state: Sequence[Any] | None) -> None:
        """Goes on from what `state` gave; nothing happens where there is no plateau."""
        if self.plateau is not None and state is not None:
            self.plateau.best, self.plateau.bad, self.plateau.scale = state


def _one_cycle(done: float, rise: float) -> float:
    """From 1/25 up to 1 and down to 1/25,000, both along a half cosine (Smith 2018; torch's OneCycleLR)."""
    low, end = 1 / 25, 1 / 25 / 1e4
    if done < rise:
        return 1 + (low - 1) * (1 + math.cos(math.pi * done / rise)) / 2
    return end + (1 - end) * (1 + math.cos(math.pi * min((done - rise) / (1 - rise), 1.0))) / 2


def build_schedule(settings: TrainSettings, steps_per_epoch: int, total: int | None = None) -> Schedule:
    """The schedule that the settings name; only those that it uses are read.

    Args:
        total: steps that it spans; by default those of all epochs.
    """
    kind, total = settings.schedule, settings.epochs * steps_per_epoch if total is None else total
    if kind == "onecycle":
        return Schedule(kind, total, rise=settings.onecycle_rise)
    warmup = round(settings.warmup * steps_per_epoch)
    if kind == "step":
        return Schedule(kind, total, warmup, every=settings.step_epochs * steps_per_epoch, drop=settings.factor)
    if kind == "plateau":
        least = 0.0 if settings.lr == "auto" else PLATEAU_EPS / settings.lr
        plateau = Plateau(settings.factor, settings.plateau_patience, settings.monitor != "loss", least)
        return Schedule(kind, total, warmup, plateau=plateau)
    return Schedule(kind, total, warmup)
