"""A setting that does nothing is an error before any work is done: every phase reads here what it would read later.

refuse_what_does_nothing(given, reads, counts)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from sightline.config import Config, build, phases_of
from sightline.data.policy import choose_policy
from sightline.models.head import Network
from sightline.run.phases import with_remedy
from sightline.run.stages import shift_of
from sightline.training.imbalance import settle
from sightline.training.losses import build_loss
from sightline.training.optim import automatic_optimizer, plan_optimizer
from sightline.training.sampling import build_sampling
from sightline.training.schedule import build_schedule
from sightline.watched import refuse_inert, watch


def refuse_what_does_nothing(
    given: Mapping[str, Any], reads: set[str], counts: Sequence[int], piped: bool = False, only: Iterable[str] | None = None
) -> None:
    """Raises SettingsError where a setting of the run or of a phase is read by no code; `reads` grows by what is read.

    Args:
        given: the user's settings by dotted path.
        reads: what was read before the phases.
        counts: images of each class, about: they decide what imbalance=auto stands for.
        piped: whether a Python callable makes the training views.
        only: of the settings, those to be checked; by default all.
    """
    own = {first: set(changed) for first, changed in _changes(given)}
    for phase in phases_of(with_remedy(given, counts)):
        here: set[str] = set()
        _read(phase.config, here, counts, piped)
        here |= {"train.reset_head"} & set(phase.changed)
        if phase.first in own:
            refuse_inert(_with_optimizer(phase.config), own[phase.first], here)
        reads |= here
    checked = set(given if only is None else only) & set(given) - {"phases"}
    refuse_inert(_with_optimizer(build(given)), sorted(checked), reads)


def _with_optimizer(config: Config) -> Config:
    """With what train.optimizer=auto stands for, which other settings depend on."""
    auto = config.train.optimizer == "auto"
    return config.with_values({"train.optimizer": automatic_optimizer(config.model)}) if auto else config


def _changes(given: Mapping[str, Any]) -> list[tuple[int, Iterable[str]]]:
    """The first epoch and the changed settings of each of the user's phases."""
    return [(phase.first, phase.changed) for phase in phases_of(given)[1:]]


def _read(plain: Config, reads: set[str], counts: Sequence[int], piped: bool) -> None:
    """Reads what a phase with these settings reads."""
    values = settle(watch(plain, reads), counts)
    plain = _with_optimizer(plain)
    config = watch(plain.with_values(values), reads)
    augment, train = config.augment, config.train
    if not piped and augment.albumentations is None:
        choose_policy(augment, config.data.fit)
    _ = augment.mixup, augment.cutmix, augment.views
    build_loss(train, counts)
    shift_of(config, counts)
    build_sampling(train, np.repeat(np.arange(len(counts)), counts), 0)
    build_schedule(train, 1)
    plan_optimizer(Network(nn.Sequential(nn.Linear(1, 1)), nn.Linear(1, 1)), train, 1.0, fused=False)
    _ = train.lr, train.first_size, train.batch_size, train.accumulate, train.clip_norm, train.sync_batch_norm, train.compile
    if config.model.freeze not in ("none", ()):
        _ = train.prefix
