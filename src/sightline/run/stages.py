"""A phase of a run as the training loop runs it, opened when its first epoch comes.

    phases = [loop_phase(task, planned) for planned in plan_phases(given, task)]
    trainer = Trainer(network, phases, plan, device, checkpoints)

Where the first part of the network is frozen, what it computes is kept (see `run.prefix`) and the stage trains the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from sightline import processes
from sightline.config import Config
from sightline.data.batches import plain_batches
from sightline.evaluation import counts as figures
from sightline.models.freeze import freeze
from sightline.models.inference import EVAL_BATCH, logits_of
from sightline.randomness import seed_torch
from sightline.run.prefix import keep_prefix
from sightline.run.task import Planned, Task, train_batches
from sightline.training.compiled import Compiled
from sightline.training.losses import build_loss, posthoc_shift
from sightline.training.optim import build_optimizer, parameter_names
from sightline.training.schedule import build_schedule
from sightline.training.stage import Batches, Phase, Row, Stage


def loop_phase(task: Task, planned: Planned) -> Phase:
    """The phase as the training loop wants it."""
    return Phase(
        planned.epochs.start,
        lambda begins: _open(task, planned, begins),
        planned.keeps_optimizer,
        planned.keeps_schedule,
        planned.resets_head,
    )


def _open(task: Task, planned: Planned, begins: bool) -> Stage:
    config, train = planned.config, planned.config.train
    if begins and planned.resets_head:
        reset(task.network.head, train.seed, planned.phase.first)
    frozen = freeze(task.network, config.model.freeze)
    kept = keep_prefix(task, planned, frozen) if config.model.freeze not in ("none", ()) and train.prefix == "on" else None
    batches: Batches = train_batches(task, planned) if kept is None else kept.batches
    compute = (lambda: plain_logits(task)) if kept is None else kept.val_logits
    forward = task.network if kept is None else kept.suffix
    if train.compile:
        steps = len(batches) * len(planned.epochs)
        forward = Compiled(forward, task.device, lambda payback: task.say(payback.sentence(steps)))
    lr = train.lr
    assert lr != "auto"
    optimizer = build_optimizer(task.network, train, lr, task.device.fused())
    first_step, total = planned.schedule
    return Stage(
        batches=batches,
        forward=forward,
        loss=build_loss(train, task.counts),
        optimizer=optimizer,
        names=parameter_names(task.network, optimizer),
        lr=lr,
        schedule=build_schedule(train, -(-len(planned.order) // train.accumulate), total),
        first_step=first_step,
        frozen=frozen,
        accumulate=train.accumulate,
        clip_norm=train.clip_norm,
        validate=_validator(task, compute, shift_of(config, task.counts)),
        sync_norm=train.sync_batch_norm,
    )


def reset(head: torch.nn.Module, seed: int, first: int) -> None:
    """New weights for a head, from (seed, "head", epoch)."""
    seed_torch(seed, "head", first)
    for layer in head.modules():
        if callable(again := getattr(layer, "reset_parameters", None)):
            again()


def shift_of(config: Config, counts: Sequence[int]) -> npt.NDArray[np.float32] | None:
    """What is added to the trained network's logits: the post-hoc adjustment for class frequencies."""
    tau = config.train.posthoc_adjustment
    assert tau != "auto"
    return posthoc_shift(tau, counts) if tau else None


def plain_logits(task: Task) -> npt.NDArray[np.float32]:
    """(N, K) of the network for the val part; of several processes each computes its share, and all get the whole."""
    rows = task.prepared.split.rows("val")
    own = rows[processes.share().of(len(rows))]
    batches = plain_batches(task.prepared.pixels, own, task.view, EVAL_BATCH, task.device.torch_device)
    return processes.rows(logits_of(task.network, batches, task.device), len(rows))


def _validator(task: Task, compute: Callable[[], npt.NDArray[np.float32]], shift: npt.NDArray[np.float32] | None) -> Callable[[], Row]:
    """The figures on val that an epoch's row holds."""
    labels, k = task.prepared.labels[task.prepared.split.rows("val")], len(task.prepared.classes)

    def validate() -> Row:
        logits = compute() if shift is None else compute() + shift
        predicted = logits.argmax(1)
        loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)).item()
        return {
            "val_loss": loss,
            "val_accuracy": figures.accuracy(labels, predicted),
            "val_balanced_accuracy": figures.balanced_accuracy(labels, predicted, k),
            "val_macro_f1": figures.macro_f1(labels, predicted, k),
        }

    return validate
