"""The phases of a run with everything settled that depends on the images: remedies, rates, orders, schedules.

    task = Task(network, pretrained, prepared, view, device, say)
    planned = plan_phases(given, task)            nothing is trained or computed yet
    batches = train_batches(task, planned[0], views=None)

Class counts come from the train part alone. A schedule spans all phases up to the next that changes or restarts it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sightline.config import Config, Phase, build, phases_of, show
from sightline.data.augment import View
from sightline.data.batches import Mixing, Order, Piped, TrainBatches
from sightline.data.pipelines import Pipeline
from sightline.data.policy import POLICIES, choose_policy
from sightline.device import Device
from sightline.models.head import Network
from sightline.run.prepare import Prepared
from sightline.training.imbalance import contradictions, extra_phases, settle, too_short
from sightline.training.optim import automatic_lr
from sightline.training.sampling import build_sampling

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
        return not _restarts_schedule(self.phase)

    @property
    def keeps_optimizer(self) -> bool:
        """Whether the optimizer's state of the phase before is carried over."""
        return "optimizer" not in self.phase.restart and "train.optimizer" not in self.phase.changed


def plan_phases(given: Mapping[str, Any], task: Task) -> list[Planned]:
    """The phases of a run with everything settled that depends on the images.

    Args:
        given: the user's settings by dotted path, whole-run values such as the size and the device already settled.
    """
    phases = phases_of(with_remedy(given, task.counts))
    settled = [_settled(phase, task) for phase in phases]
    orders = [_order(config, task) for config in settled]
    firsts = [phase.first - 1 for phase in phases]
    lasts = [*firsts[1:], settled[0].train.epochs]
    updates = [-(-len(order) // config.train.accumulate) for order, config in zip(orders, settled, strict=True)]
    steps = [u * (last - first) for u, first, last in zip(updates, firsts, lasts, strict=True)]
    origins = [i for i, phase in enumerate(phases) if i == 0 or _restarts_schedule(phase)]
    planned = []
    for i, phase in enumerate(phases):
        origin = max(o for o in origins if o <= i)
        end = min([o for o in origins if o > i], default=len(phases))
        schedule = (sum(steps[:origin]), sum(steps[origin:end]))
        planned.append(Planned(phase, settled[i], orders[i], range(firsts[i], lasts[i]), schedule))
    return planned


def with_remedy(given: Mapping[str, Any], counts: Sequence[int]) -> dict[str, Any]:
    """The settings with the phases that the remedy against imbalance brings (`ldam`, `crt`)."""
    base = build({path: value for path, value in given.items() if path != "phases"})
    remedy = settle(base, counts)["imbalance"]
    more = extra_phases(remedy, base.train.epochs)
    if not more:
        return dict(given)
    by_epoch: dict[Any, dict[str, Any]] = {}
    for raw in (*more, *given.get("phases", ())):  # where both begin with the same epoch, the user's values hold
        by_epoch[raw.get("from")] = {**by_epoch.get(raw.get("from"), {}), **raw}
    return {**given, "imbalance": remedy, "phases": tuple(sorted(by_epoch.values(), key=lambda raw: raw["from"]))}


def _restarts_schedule(phase: Phase) -> bool:
    return "schedule" in phase.restart or bool(_SCHEDULE & set(phase.changed))


def _settled(phase: Phase, task: Task) -> Config:
    config = phase.config
    values = settle(config, task.counts)
    if config.train.lr == "auto":
        values["train.lr"] = automatic_lr(config.train.optimizer, task.pretrained)
    return config.with_values(values)


def _order(config: Config, task: Task) -> Order:
    sampling = build_sampling(config.train, task.prepared.labels[task.rows], config.train.seed)
    return Order(len(task.rows), config.train.batch_size, config.train.seed, sampling)


def notes_of(planned: Sequence[Planned]) -> tuple[str, ...]:
    """What the user should know of the phases."""
    first = planned[0].config
    found = [note for note in [too_short(first.imbalance, first.train.epochs)] if note]
    for one in planned:
        found += contradictions(one.config)
        if one.phase.first > 1:
            changes = ", ".join(f"{path}={show(value)}" for path, value in one.phase.changed.items()) or "a restart"
            found.append(f"Phase {planned.index(one) + 1} begins with epoch {one.phase.first}: {changes}.")
    return tuple(dict.fromkeys(found))


def train_batches(task: Task, planned: Planned, views: int | None) -> TrainBatches:
    """The training views of a phase; `views` different ones an image, None: a new one each epoch."""
    config, prepared = planned.config, task.prepared
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
    )
