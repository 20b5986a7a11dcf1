"""How long this machine takes for an image: a few real steps of training and of judging, for a budget to plan with.

    costs = [measure(size, given, recipe, prepared) for size in sizes_to_try(recipe.size)]

Network, views, loss and update are those that training will use; the weights that the steps leave are thrown away. Where
the frozen part is kept, what it costs is spread over the epochs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, repeat
from typing import Any

import torch

from sightline.config import build
from sightline.data.batches import Batch, plain_batches
from sightline.models.freeze import freeze
from sightline.models.inference import EVAL_BATCH, logits_of
from sightline.models.small_maps import speed_up
from sightline.run.budget import Cost
from sightline.run.phases import plan_phases
from sightline.run.prepare import Prepared
from sightline.run.settle import Recipe, choose_view, settle, settled_values
from sightline.run.task import Planned, Task, train_batches
from sightline.training.losses import build_loss
from sightline.training.optim import build_optimizer

SECONDS = 1.5
"""Of steps, a size. The first step is not counted: it settles memory and kernels."""

KEPT_SHARE = 0.25
"""A kept prefix computes a view an image for every five epochs, forward only: with the rest that is trained, so much of judging."""


def measure(size: int, given: Mapping[str, Any], recipe: Recipe, prepared: Prepared) -> Cost:
    """The cost of an image of this size.

    Args:
        given: the user's settings by dotted path.
        recipe: settled for any size of the same network.
    """
    config = build({**given, "data.size": size, "data.store_size": recipe.side})
    settled = settle(config, prepared.table, fetch=False)
    view, device = choose_view(settled, prepared), settled.device
    network = settled.built.network.to(device.torch_device).to(memory_format=device.memory_format)
    speed_up(network)
    task = Task(network, recipe.built.weights != "none", prepared, view, device, lambda line: None)
    planned = plan_phases({**given, **settled_values(settled, view)}, task)[0]
    rows = prepared.split.rows("val")[:EVAL_BATCH]

    def judged() -> Iterator[int]:
        while True:
            logits_of(network, plain_batches(prepared.pixels, rows, view, EVAL_BATCH, device.torch_device), device)
            yield len(rows)

    judge, shown = _seconds_an_image(judged()), sum(len(positions) for positions, _ in planned.order.epoch(0))
    batch = min(shown, planned.config.train.batch_size)
    if config.model.freeze not in ("none", ()) and planned.config.train.prefix == "on":
        return Cost(size, shown, judge * KEPT_SHARE, judge * KEPT_SHARE, judge * KEPT_SHARE, batch)
    full = _seconds_an_image(_trained(task, planned, planned.epochs.stop - 1))
    first = full if planned.config.train.first_size is None else _seconds_an_image(_trained(task, planned, 0))
    return Cost(size, shown, first, full, judge, batch)


def _trained(task: Task, planned: Planned, epoch: int) -> Iterator[int]:
    """Steps of training as in an epoch, without an end; the images of each."""
    config, network, device = planned.config, task.network, task.device
    held = freeze(network, config.model.freeze)
    assert config.train.lr != "auto"
    optimizer = build_optimizer(network, config.train, config.train.lr, device.fused())
    loss_of = build_loss(config.train, task.counts)
    network.train()
    held.hold(network)
    batches: Iterable[Batch] = chain.from_iterable(train_batches(task, planned).epoch(epoch) for _ in repeat(None))
    for batch in batches:
        with device.autocast():
            logits = network(batch.inputs.to(memory_format=device.memory_format))
        optimizer.zero_grad(set_to_none=True)
        loss_of(logits.float(), batch.labels, batch.partner, batch.share).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield len(batch.labels)


def _seconds_an_image(steps: Iterator[int], clock: Callable[[], float] = time.perf_counter) -> float:
    next(steps)
    _settle_device()
    began, images = clock(), 0
    while clock() - began < SECONDS:
        images += next(steps)
    _settle_device()
    return (clock() - began) / images


def _settle_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
