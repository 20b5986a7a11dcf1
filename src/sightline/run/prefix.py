"""Keeping what the frozen part of a network computes: built once, then an epoch costs only what is trained.

    values = settle_prefix(task, config, epochs)      whether it is kept, and how many views
    kept = keep_prefix(task, planned, frozen)
    kept.batches, kept.suffix, kept.val_logits()

An image has V views over the whole run (`augment.views`); view v comes in the epochs v, v + V, ... Training without the
prefix and with the same V sees the same views. It gives up MixUp and CutMix, which mix pictures before the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sightline import files, processes
from sightline.config import Config, Phase
from sightline.data.batches import Batch, Order, TrainBatches, plain_batches, view_numbers
from sightline.data.upright import standing
from sightline.device import Device
from sightline.errors import SettingsError
from sightline.models.freeze import Frozen
from sightline.models.head import Network
from sightline.models.inference import EVAL_BATCH, logits_of
from sightline.models.kept import KeptFeatures, keep, prefix_key, weights_digest
from sightline.models.prefix import Cut, cut
from sightline.processes import Share
from sightline.run.task import Planned, Task, train_batches

MOST_VIEWS = 8
"""augment.views=auto keeps a view for every five epochs of the phase, and no more than these."""

BUILD_BATCH = 32
"""Images that go through the frozen part at once; see EVAL_BATCH."""

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
        count = self.val.values.shape[1]
        positions = np.arange(count)[processes.share().of(count)]
        batches = (self.val.read(0, positions[i : i + EVAL_BATCH]) for i in range(0, len(positions), EVAL_BATCH))
        return processes.rows(logits_of(self.suffix, batches, self.device), count)


def settle_prefix(task: Task, config: Config, epochs: int) -> dict[str, Any]:
    """`train.prefix` (on or off) and `augment.views` of a phase with so many epochs.

    Raises:
        SettingsError: `train.prefix=on` and it cannot be kept.
    """
    given = None if config.augment.views == "auto" else config.augment.views
    if config.model.freeze in ("none", ()):
        return {"augment.views": given}
    views = _views_to_keep(config, epochs)
    reason = None if config.train.prefix == "off" else _reason_against(task, config, epochs, views)
    if reason and config.train.prefix == "on":
        raise SettingsError(f"train.prefix=on: {reason}")
    if reason:
        task.say(f"The frozen part is computed each epoch: {reason}")
    kept = not reason and config.train.prefix != "off"
    return {"augment.views": views if kept else given, "train.prefix": "on" if kept else "off"}


def check_prefix(phases: Sequence[Phase], network: Network, size: int, piped: bool) -> None:
    """Refuses `train.prefix=on` before an image is decoded, where it is known by then that it cannot be had.

    Raises:
        SettingsError: a phase asks for what cannot be kept.
    """
    for config in (phase.config for phase in phases):
        if config.model.freeze in ("none", ()) or config.train.prefix != "on":
            continue
        reason = _reason_in_settings(config, "the transform" if piped else config.augment.albumentations)
        made = reason or cut(network, config.model.freeze, torch.zeros(2, 3, size, size))
        if isinstance(made, str):
            raise SettingsError(f"train.prefix=on: {made}")


def _views_to_keep(config: Config, epochs: int) -> int:
    """V: as `augment.views` says, or for auto a view for every five epochs; one where views do not differ."""
    if isinstance(config.augment.views, int):
        return config.augment.views
    return 1 if config.augment.policy == "none" else min(MOST_VIEWS, max(1, epochs // 5))


def _reason_against(task: Task, config: Config, epochs: int, views: int) -> str | None:
    """Why the prefix cannot be kept, or would not pay where it is not asked for."""
    reason = _reason_in_settings(config, task.pipeline.name if task.pipeline else None)
    if reason:
        return reason
    if config.train.prefix == "auto" and epochs <= max(FEWEST_EPOCHS - 1, views):
        return f"keeping {views} {'view' if views == 1 else 'views'} an image would not pay in so few epochs ({epochs})."
    made = _cut(task, config)
    return made if isinstance(made, str) else None


def _reason_in_settings(config: Config, pipeline: str | None) -> str | None:
    if config.augment.mixup is not None or config.augment.cutmix is not None:
        return "augment.mixup and augment.cutmix mix pictures before the network."
    if config.train.first_size not in ("auto", None):
        return "train.first_size shows pictures of several sizes."
    if pipeline is not None:
        return f"the views of {pipeline} are not kept."
    return "augment.views=null asks for a new view of each image in each epoch." if config.augment.views is None else None


def _cut(task: Task, config: Config) -> Cut | str:
    example = next(plain_batches(task.prepared.pixels, task.rows[:2], task.view, 2, task.device.torch_device))
    with task.device.autocast():
        return cut(task.network, config.model.freeze, example.to(memory_format=task.device.memory_format))


def keep_prefix(task: Task, planned: Planned, frozen: Frozen) -> Prefix:
    """The kept prefix of a phase whose settings ask for it; built where it is not there yet.

    Args:
        frozen: what the phase froze of the network.

    Raises:
        DiskError: there is no room for it.
    """
    made, views = _cut(task, planned.config), planned.config.augment.views
    assert not isinstance(made, str), made
    assert isinstance(views, int)
    return _kept(task, planned, made, weights_digest(frozen.state(task.network)), views)


def _kept(task: Task, planned: Planned, made: Cut, weights: str, views: int) -> Prefix:
    batches = train_batches(task, planned)
    rows, val = task.rows, task.prepared.split.rows("val")
    train = _features(task, planned, made, weights, batches, rows, views)
    judged = _features(task, planned, made, weights, None, val, 1)
    _tell(task, train, judged, views)
    kept = KeptBatches(train, task.prepared.labels[rows], planned.order, task.device.torch_device)
    return Prefix(kept, made.suffix, judged, task.device)


def _features(
    task: Task, planned: Planned, made: Cut, weights: str, batches: TrainBatches | None, rows: npt.NDArray[np.int64], views: int
) -> KeptFeatures:
    """Features of `rows` in `views` training views, or in the plain one where `batches` is None."""
    config, usable = planned.config, task.prepared.table.usable
    key = prefix_key(
        images=usable["pixel_digest"].gather(rows).to_list(),
        draws=task.prepared.keys[rows],
        side=task.prepared.pixels.side,
        weights=weights,
        model=f"{config.model.name} {config.model.drop_path}",
        words=str(config.model.freeze),
        view=task.view,
        policy=None if batches is None else (batches.policy, processes.from_main(lambda: standing(task.device.torch_device))),
        views=views,
        seed=config.train.seed,
        precision=task.device.precision,
    )
    shape = (views, len(rows), *made.shape)
    blocks = [(number, first) for number in range(views) for first in range(0, len(rows), BUILD_BATCH)]

    def compute(share: Share) -> tuple[int, Iterator[torch.Tensor]]:
        own = blocks[share.of(len(blocks))]  # whole batches: the features do not depend on the number of processes
        return (own[0][0] * len(rows) + own[0][1] if own else 0), _compute(task, made, batches, rows, own)

    return keep(files.cache_folder() / "prefix", key, compute, shape, made.dtype)


def _compute(
    task: Task, made: Cut, batches: TrainBatches | None, rows: npt.NDArray[np.int64], blocks: Sequence[tuple[int, int]]
) -> Iterator[torch.Tensor]:
    """Features batch by batch, each of a view and of the rows from one on."""
    pixels = task.prepared.pixels
    for number, first in blocks:
        part = rows[first : first + BUILD_BATCH]
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
