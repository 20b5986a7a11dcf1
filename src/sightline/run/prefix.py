"""Keeping what the frozen part of a network computes: built once, then an epoch costs only what is trained.

    kept = keep_prefix(task, planned)      None where it is not wanted, cannot be done or does not pay
    kept.batches, kept.suffix, kept.val_logits()

An image has V views over the whole run (`augment.views`); view v comes in the epochs v, v + V, ... Training without the
prefix and with the same V sees the same views. It gives up MixUp and CutMix, which mix pictures before the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sightline import files
from sightline.data.batches import Batch, Order, TrainBatches, plain_batches, view_numbers
from sightline.device import Device
from sightline.errors import SettingsError
from sightline.models.freeze import freeze
from sightline.models.inference import logits_of
from sightline.models.kept import KeptFeatures, keep, prefix_key
from sightline.models.prefix import Cut, cut
from sightline.run.evaluate import EVAL_BATCH
from sightline.run.phases import Planned, Task, train_batches

MOST_VIEWS = 8
"""augment.views=auto keeps a view for every five epochs of the phase, and no more than these."""

FEWEST_EPOCHS = 5
"""A shorter phase computes the frozen part each time: one kept view would take its augmentation away."""


@dataclass(frozen=True)
class KeptBatches:
    """The training batches of a phase, as features of the frozen part."""

    kept: KeptFeatures
    labels: npt.NDArray[np.int64]  # (n,) of the train rows
    order: Order
    device: torch.device

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """(B, ...) features and (B,) labels, from batch `start` on."""
        for positions, repeats in self.order.epoch(epoch)[start:]:
            features = self.kept.read(view_numbers(epoch, repeats, self.kept.views), positions)
            yield Batch(features.to(self.device), torch.from_numpy(self.labels[positions]).to(self.device))


@dataclass(frozen=True)
class Prefix:
    """What stands in for the network and its images while only the suffix is trained."""

    batches: KeptBatches
    suffix: nn.Module
    val: KeptFeatures
    device: Device

    def val_logits(self) -> npt.NDArray[np.float32]:
        """(N, K) for the val part."""
        positions = np.arange(self.val.values.shape[1])
        batches = (self.val.read(0, positions[i : i + EVAL_BATCH]) for i in range(0, len(positions), EVAL_BATCH))
        return logits_of(self.suffix, batches, self.device)


def keep_prefix(task: Task, planned: Planned) -> Prefix | None:
    """The kept prefix of a phase; where there is none and the user asked for it, an error says why.

    Raises:
        SettingsError: `train.prefix=on` and it cannot be kept.
        DiskError: there is no room for it.
    """
    config = planned.config
    if config.train.prefix == "off":
        return None
    wanted = config.train.prefix == "on"
    reason = _reason_against(task, planned, wanted)
    made = reason or _cut(task, planned)
    if isinstance(made, str):
        if wanted:
            raise SettingsError(f"train.prefix=on: {made}")
        task.say(f"The frozen part is computed each epoch: {made}")
        return None
    return _kept(task, planned, made)


def _reason_against(task: Task, planned: Planned, wanted: bool) -> str | None:
    config = planned.config
    if config.augment.mixup is not None or config.augment.cutmix is not None:
        return "augment.mixup and augment.cutmix mix pictures before the network."
    if task.pipeline is not None:
        return f"the views of {task.pipeline.name} are not kept."
    if not wanted and len(planned.epochs) <= max(FEWEST_EPOCHS - 1, views_of(planned)):
        return f"keeping {views_of(planned)} views an image would not pay within {len(planned.epochs)} epochs."
    return None


def views_of(planned: Planned) -> int:
    """V: as `augment.views` says, or for auto a view for every five epochs; one where views do not differ."""
    augment = planned.config.augment
    if augment.views != "auto":
        return augment.views
    return 1 if augment.policy == "none" else min(MOST_VIEWS, max(1, len(planned.epochs) // 5))


def _cut(task: Task, planned: Planned) -> Cut | str:
    example = next(plain_batches(task.prepared.pixels, task.rows[:2], task.view, 2, task.device.torch_device))
    with task.device.autocast():
        return cut(task.network, planned.config.model.freeze, example.to(memory_format=task.device.memory_format))


def _kept(task: Task, planned: Planned, made: Cut) -> Prefix:
    views = views_of(planned)
    batches = train_batches(task, planned, views)
    rows, val = task.rows, task.prepared.split.rows("val")
    train = _features(task, planned, made, batches, rows, views)
    judged = _features(task, planned, made, None, val, 1)
    _tell(task, train, judged, views)
    kept = KeptBatches(train, task.prepared.labels[rows], planned.order, task.device.torch_device)
    return Prefix(kept, made.suffix, judged, task.device)


def _features(
    task: Task, planned: Planned, made: Cut, batches: TrainBatches | None, rows: npt.NDArray[np.int64], views: int
) -> KeptFeatures:
    """Features of `rows` in `views` training views, or in the plain one where `batches` is None."""
    config, usable = planned.config, task.prepared.table.usable
    frozen = freeze(task.network, config.model.freeze)
    key = prefix_key(
        images=usable["pixel_digest"].gather(rows).to_list(),
        draws=task.prepared.keys[rows],
        side=task.prepared.pixels.side,
        weights=frozen.state(task.network),
        model=f"{config.model.name} {config.model.drop_path}",
        words=str(config.model.freeze),
        view=task.view,
        policy=None if batches is None else batches.policy,
        views=views,
        seed=config.train.seed,
        precision=task.device.precision,
    )
    shape = (views, len(rows), *made.shape)
    computed = _compute(task, made, batches, rows, views)
    return keep(files.cache_folder() / "prefix", key, computed, shape, made.dtype)


def _compute(task: Task, made: Cut, batches: TrainBatches | None, rows: npt.NDArray[np.int64], views: int) -> Iterator[torch.Tensor]:
    """Features batch by batch: all rows in view 0, then in view 1, ..."""
    pixels = task.prepared.pixels
    for number in range(views):
        for first in range(0, len(rows), EVAL_BATCH):
            part = rows[first : first + EVAL_BATCH]
            if batches is None:
                images = next(plain_batches(pixels, part, task.view, len(part), task.device.torch_device))
            else:
                images = batches.views_of(part, pixels.read(part), np.full(len(part), number), 0)
            with task.device.autocast():
                yield made.prefix(images.to(memory_format=task.device.memory_format))


def _tell(task: Task, train: KeptFeatures, val: KeptFeatures, views: int) -> None:
    """Views, megabytes, build time, and the epoch from which on it has paid."""
    images, judged = train.values.shape[1], val.values.shape[1]
    pays = -(-(views * images + judged) // (images + judged))  # each plain epoch computes all images once
    task.say(
        f"The frozen part is kept: {views} {'view' if views == 1 else 'views'} an image, {train.megabytes + val.megabytes:,.0f} MB, "
        f"computed in {train.seconds + val.seconds:.1f} s, which pays from epoch {pays + 1} on (train.prefix=off computes it each epoch)."
    )
