"""What the phases of a run share, one phase with everything settled, and its training batches.

task = Task(network, pretrained, prepared, view, device, say)
batches = train_batches(task, planned)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from sightline.config import Config, Phase
from sightline.data.augment import View
from sightline.data.batches import Growth, Mixing, Order, Piped, TrainBatches
from sightline.data.pipelines import Pipeline
from sightline.data.policy import POLICIES, choose_policy
from sightline.data.resident import reside
from sightline.device import Device
from sightline.models.head import Network
from sightline.run.prepare import Prepared

_SCHEDULE = frozenset(
    f"train.{name}" for name in ("schedule", "lr", "optimizer", "warmup", "onecycle_rise", "step_epochs", "factor", "plateau_patience")
)


@dataclass(frozen=True)
class Task:
    """What all phases of a run share."""

    network: Network
    pretrained: bool
    prepared: Prepared
    view: View
    device: Device
    say: Callable[[str], None]
    pipeline: Pipeline | None = None  # in place of the policy
    workers: int = 0  # processes that run the pipeline

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """The rows trained on."""
        return self.prepared.split.rows("train")

    @property
    def counts(self) -> tuple[int, ...]:
        """Images of each class in the train part."""
        found = np.bincount(self.prepared.labels[self.rows], minlength=len(self.prepared.classes))
        return tuple(int(n) for n in found)


def on_device(prepared: Prepared, device: Device) -> Prepared:
    """The same images; the pixels of train and val lie on the GPU that trains, if there is one with room for them."""
    rows = np.concatenate([prepared.split.rows("train"), prepared.split.rows("val")])
    return replace(prepared, pixels=reside(prepared.pixels, rows, device.torch_device))


@dataclass(frozen=True)
class Planned:
    """A phase, its settings settled.

    Attributes:
        config: no "auto" is left that a phase can settle.
        order: which images an epoch shows.
        epochs: those of the phase, from 0.
        schedule: the step with which the schedule begins, and how many it spans.
    """

    phase: Phase
    config: Config
    order: Order
    epochs: range
    schedule: tuple[int, int]

    @property
    def keeps_schedule(self) -> bool:
        """Whether the schedule of the phase before goes on."""
        return not restarts_schedule(self.phase)

    @property
    def keeps_optimizer(self) -> bool:
        """Whether the optimizer's state of the phase before is carried over."""
        return "optimizer" not in self.phase.restart and not {"train.optimizer", "train.amsgrad"} & set(self.phase.changed)

    @property
    def resets_head(self) -> bool:
        """Whether it begins with a new head."""
        return "train.reset_head" in self.phase.changed and self.config.train.reset_head


def restarts_schedule(phase: Phase) -> bool:
    """Whether the learning rate's schedule begins anew with a phase."""
    return "schedule" in phase.restart or bool(_SCHEDULE & set(phase.changed))


def train_batches(task: Task, planned: Planned) -> TrainBatches:
    """The training views of a phase."""
    config, prepared, views = planned.config, task.prepared, planned.config.augment.views
    assert views != "auto"
    assert config.train.first_size != "auto"
    return TrainBatches(
        prepared.pixels,
        task.rows,
        prepared.labels,
        prepared.keys,
        task.view,
        POLICIES["none"] if task.pipeline else choose_policy(config.augment, config.data.fit),
        planned.order,
        config.train.seed,
        task.device.torch_device,
        getattr(torch, task.device.precision),
        views,
        Mixing(config.augment.mixup, config.augment.cutmix),
        None if task.pipeline is None else Piped(task.pipeline, prepared.table.usable["path"].to_list(), task.workers),
        None if config.train.first_size is None else Growth(config.train.first_size, config.train.epochs),
    )
