"""What the training loop is given: how long to train, and what holds from one epoch on.

stage = Stage(batches=..., forward=network, loss=..., optimizer=..., ...)
phases = [Phase(0, lambda begins: stage)]
plan = Plan.of(config.train)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from sightline.data.batches import Batch
from sightline.models.freeze import Frozen
from sightline.settings import TrainSettings
from sightline.training.losses import Loss
from sightline.training.schedule import Schedule

Row = dict[str, Any]  # of history.csv


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to train, and which epoch is best."""

    epochs: int
    monitor: str  # a column of the history, such as "val_macro_f1"
    patience: int | None
    restore_best: bool
    seed: int
    checkpoint_seconds: float
    ema: float | None

    @classmethod
    def of(cls, settings: TrainSettings) -> Plan:
        """The plan that the settings describe."""
        return cls(
            settings.epochs,
            f"val_{settings.monitor}",
            settings.patience,
            settings.restore_best,
            settings.seed,
            settings.checkpoint_minutes * 60,
            None if settings.ema == "auto" else settings.ema,  # settled where something is trained
        )

    def gives_up(self, epoch: int, best: int | None) -> bool:
        """Whether patience ends training before this epoch (from 0), with the best one so far."""
        return self.patience is not None and best is not None and epoch - 1 - best >= self.patience


class Batches(Protocol):
    """What an epoch is made of."""

    def __len__(self) -> int:
        """Batches an epoch."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from `start` on."""


@dataclass
class Stage:
    """All that holds from one epoch on.

    Attributes:
        batches: what is trained on.
        forward: turns the batches' inputs into logits: the network, or what comes after its kept prefix.
        names: the network's names of the optimizer's parameters, in its order.
        lr: the highest rate; each group of the optimizer may scale it (`lr_scale`).
        first_step: the step with which the schedule begins.
        frozen: what stays in evaluation mode.
        validate: figures of the network on val, as columns `val_...`.
        sync_norm: whether batch norm is over the parts of all processes, or each over its own.
    """

    batches: Batches
    forward: nn.Module
    loss: Loss
    optimizer: torch.optim.Optimizer
    names: Sequence[str]
    lr: float
    schedule: Schedule
    first_step: int
    frozen: Frozen
    accumulate: int
    clip_norm: float | None
    validate: Callable[[], Row]
    sync_norm: bool = True


@dataclass(frozen=True)
class Phase:
    """A part of a run: its first epoch, from 0, and how its stage is opened.

    Attributes:
        open: makes the stage; the argument says whether the phase begins (True) or goes on from a checkpoint (False).
        keeps_optimizer: whether the optimizer's state of the phase before is carried over.
        keeps_schedule: whether the schedule of the phase before goes on.
        resets_head: whether `open` makes a new head where the phase begins.
    """

    first: int
    open: Callable[[bool], Stage]
    keeps_optimizer: bool = True
    keeps_schedule: bool = True
    resets_head: bool = False
