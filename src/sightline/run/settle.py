"""What is settled before an image is decoded: device, network, sizes; and what only the images tell: mean and std.

recipe = settle(config, table)              config as the user gave it, watched
view = choose_view(recipe, prepared)
values = settled_values(recipe, view)       no "auto" is left among these
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sightline.config import Config, Phase, show
from sightline.data.augment import View
from sightline.data.batches import mean_and_std
from sightline.data.table import ImageTable
from sightline.device import Device, choose
from sightline.errors import ModelError, SettingsError
from sightline.models.catalog import Built, native_size
from sightline.models.catalog import build as build_network
from sightline.models.freeze import freeze
from sightline.randomness import seed_torch
from sightline.run.decoding import choose_size, limits, store_size
from sightline.run.prepare import Prepared
from sightline.threads import available_cores, why_idle
from sightline.training.stage import Plan


@dataclass(frozen=True)
class Recipe:
    """All that is settled before an image is decoded."""

    config: Config  # as the user gave it, watched
    device: Device
    built: Built
    size: int
    side: int


def settle(config: Config, table: ImageTable, fetch: bool = True) -> Recipe:
    """The device and the network; `fetch` is False where a checkpoint replaces all weights anyway."""
    device = choose(config.device)
    seed_torch(config.train.seed, "weights")
    size = choose_size(config, table, native_size(config.model.name))
    if fetch:
        built = build_network(config.model, len(table.classes), size=size)
    else:
        kept = config.model.weights
        built = build_network(config.model.model_copy(update={"weights": "none"}), len(table.classes), size=size)
        built = replace(built, weights=kept)
    return Recipe(config, device, built, size, store_size(config, size))


def idle_cores(settled: Recipe) -> tuple[str, ...]:
    """That not all cores compute, where no setting says so."""
    used, cores = settled.device.threads, available_cores()
    if settled.config.device.threads != "auto" or used >= cores or settled.device.name != "cpu":
        return ()
    return (f"{used} of {cores} processor cores compute, since {why_idle()}. device.threads=N decides.",)


def read_the_rest(config: Config, table: ImageTable) -> None:
    """Reads, before any work, what is otherwise read later; so that what is inert is known now."""
    Plan.of(config.train)
    limits(config)
    _ = config.train.judge, config.train.report, config.train.find_lr, config.train.seeds, config.data.mean, config.data.std
    if config.train.tensorboard:
        _ = config.train.log_weights
    if config.data.corrections is not None:
        _ = config.data.correct_test
    split, given = config.split, set(table.frame["given"])
    _ = split.twins, split.folds
    if split.folds is not None:
        _ = split.fold
    if given - {"train", None}:
        _ = split.repair
    if given != {"train", "val", "test"} or split.folds is not None:
        _ = split.fractions, split.seed


def check_freeze(recipe: Recipe, phases: Sequence[Phase]) -> None:
    """What is wrong with `model.freeze` of any phase is known before an image is decoded.

    Raises:
        ModelError: there is no such layer, nothing would be left to train, or weights that could not be had would be kept.
    """
    first = phases[0].config.model
    if first.freeze not in ("none", ()) and first.weights == "auto" and recipe.built.weights == "none":
        why = " ".join(recipe.built.notes).partition("images and epochs. ")[2] or f"{first.name} has no published weights."
        raise ModelError(f"model.freeze={show(first.freeze)} would keep random weights. {why} model.weights=none keeps them knowingly.")
    for phase in phases:
        freeze(recipe.built.network, phase.config.model.freeze)


def check_first_size(size: int, phases: Sequence[Phase]) -> None:
    """Raises SettingsError where pictures would shrink while a network is trained."""
    for phase in phases:
        first = phase.config.train.first_size
        if isinstance(first, int) and first > size:
            raise SettingsError(
                f"train.first_size={first} is more than data.size={size}: pictures grow to it, so give {size} at most, or null."
            )


def class_counts(table: ImageTable) -> tuple[int, ...]:
    """Images of each class, before the split is known."""
    found = dict(table.usable["label"].value_counts().iter_rows())
    return tuple(int(found.get(name, 0)) for name in table.classes)


def choose_view(settled: Recipe, prepared: Prepared) -> View:
    """How pixels are normalised: as the settings say, as the pretrained weights want it, or as the train part is."""
    data, built = settled.config.data, settled.built
    mean, std = built.mean, built.std
    if (mean is None or std is None) and (data.mean == "auto" or data.std == "auto"):
        mean, std = mean_and_std(prepared.pixels, prepared.split.rows("train"))
    mean, std = data.mean if data.mean != "auto" else mean, data.std if data.std != "auto" else std
    assert mean is not None
    assert std is not None
    return View(settled.size, data.fit, mean, std)


def settled_values(settled: Recipe, view: View) -> dict[str, Any]:
    """The values of a whole run that are settled once, by dotted path."""
    limit, device = limits(settled.config), settled.device
    half_free = round(shutil.disk_usage(limit.cache).free / 2e9, 1)
    return {
        "data.size": settled.size,
        "data.store_size": settled.side,
        "data.mean": view.mean,
        "data.std": view.std,
        "data.store_gb": half_free if limit.store_gb is None else limit.store_gb,
        "data.workers": limit.workers,
        "model.weights": settled.built.weights,
        "device.name": device.name,
        "device.precision": device.precision,
        "device.threads": device.threads,
    }
