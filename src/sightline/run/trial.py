"""A trial of a study: a training run that shares with all others what does not differ.

    bench = Bench.of("photos", fixed, study, screen)
    outcome = bench.try_out(fixed | chosen, place, heard, screen, objectives)

Scan, pixels, twins and split are had once; another `data.size` opens another pixel store and keeps the split. What a frozen
trunk computes is kept by `run.prefix` and found again by its key. A trial is judged on val only: no classifier is saved, nothing
is drawn, test is not read. It is a run folder all the same, so that one that was killed goes on from its checkpoint.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from sightline import files
from sightline.config import build, phases_of
from sightline.data.batches import mean_and_std
from sightline.data.split import Split, choosing_folds
from sightline.data.store import Pixels, open_pixels
from sightline.data.table import ImageTable, scan
from sightline.data.upright import standing
from sightline.device import environment
from sightline.errors import StudyError
from sightline.evaluation.calibration import softmax
from sightline.evaluation.metrics import evaluate as measure
from sightline.evaluation.predictions import Predictions
from sightline.run.changes import given_of
from sightline.run.decoding import limits
from sightline.run.fit import Fit, Fitted
from sightline.run.folder import RunFolder
from sightline.run.inert import refuse_what_does_nothing
from sightline.run.phases import with_remedy
from sightline.run.prefix import check_prefix
from sightline.run.prepare import Prepared, divide
from sightline.run.progress import Screen
from sightline.run.reopen import as_recorded, changed_images
from sightline.run.settle import Recipe, check_freeze, class_counts, read_the_rest, settle
from sightline.run.study import StudyFolder, digest_of
from sightline.training.checkpoint import Checkpoints
from sightline.training.stage import Row
from sightline.tuning.objective import OF_THE_END, Objective
from sightline.watched import watch

CHEAP: dict[str, Any] = {"train.judge": False, "train.report": False, "train.tensorboard": False}
"""What a trial does without."""

Heard = Callable[[Row], None]


class Pruned(Exception):
    """Raised by what listens to a trial: it is to be ended."""


@dataclass(frozen=True)
class Outcome:
    """A finished trial: the values of the objectives, and what else is known of it."""

    values: tuple[float, ...]
    facts: dict[str, Any]


@dataclass
class Bench:
    """What the trials of a study share.

    Attributes:
        table: as it was scanned.
        prepared: the images, decoded at the side that the fixed settings ask for, and divided.
        fixed: the settings that no trial changes.
    """

    source: Path
    table: ImageTable
    prepared: Prepared
    fixed: dict[str, Any]
    study: StudyFolder
    pixels: dict[int, Pixels] = field(default_factory=dict)  # by side
    looks: dict[tuple[int, int], tuple[Any, Any]] = field(default_factory=dict)  # mean and std of the train part, by side and fold
    folds: tuple[Split, ...] = ()

    @classmethod
    def of(cls, source: Path, fixed: Mapping[str, Any], study: StudyFolder, screen: Screen) -> Bench:
        """Scans, decodes and divides; where the study has a table of images, the images must be those, and so is the split.

        Raises:
            StudyError: the images are not those that the study began with.
        """
        table = scan(source)
        config = build(fixed)
        settled = settle(config, table)
        decoded = open_pixels(table, settled.side, limits(config), screen.counter("decoding"))
        if not study.description.exists():  # an images.parquet may be there, of a call with other settings that failed
            prepared = divide(*decoded, config, screen.counter("looking for twins"))
            with files.locked(study.root):
                if not study.description.exists():  # another worker may have been faster
                    study.as_run.note("started", folder=str(source.expanduser().resolve()), given=dict(fixed))
                    files.write_atomic(study.images, prepared.images().write_parquet)
        prepared = _as_begun(study, *decoded)
        return cls(source, table, prepared, dict(fixed), study, {settled.side: prepared.pixels})

    def fold(self, count: int) -> None:
        """Trials are judged by so many folds of train and val."""
        seed = build(self.fixed).split.seed
        self.folds = choosing_folds(self.prepared.split, self.prepared.table.usable, self.prepared.groups, seed, count)

    @property
    def digest(self) -> str:
        """Of the images and their split."""
        return digest_of(self.study.as_run.read_images())

    # ---- a training --------------------------------------------------------------------------------------------------

    def settled(self, given: Mapping[str, Any], fetch: bool = True) -> tuple[Recipe, set[str]]:
        """The settings with device and network; what is wrong with them is known before anything is done.

        Raises:
            SightlineError: a setting does nothing, the network cannot be had, ...
        """
        phases = phases_of(given)
        reads: set[str] = set()
        config = watch(build(given), reads)
        settled = settle(config, self.table, fetch)
        check_freeze(settled if fetch else replace(settled, built=replace(settled.built, weights="kept")), phases)
        read_the_rest(config, self.table)
        counts = class_counts(self.table)
        refuse_what_does_nothing(given, reads, counts)
        check_prefix(phases_of(with_remedy(given, counts)), settled.built.network, settled.size, False)
        return settled, reads

    def fit(self, given: dict[str, Any], place: Path, screen: Screen, listen: Heard | None, fold: int = 0) -> Fit:
        """A training that is ready to begin, or to go on from its checkpoint.

        Args:
            fold: which of the folds judges, from 1; 0: val does.
        """
        goes_on = (place / "config.yaml").exists()
        run = RunFolder(place) if goes_on else RunFolder.create(place, self.source)
        given = given_of(run) if goes_on else given
        fetch = not goes_on or Checkpoints(run.checkpoints).newest() is None
        settled, reads = self.settled(given, fetch)
        prepared = self._at(settled, fold)
        if settled.built.mean is None and settled.config.data.mean == "auto" and settled.config.data.std == "auto":
            mean, std = self._look((settled.side, fold), prepared)
            given = given | {"data.mean": mean, "data.std": std}
            settled = replace(settled, config=watch(build(given), reads))
        if goes_on:
            run.note("resumed", changed={}, epoch=0, given=given, images=[])
        else:
            run.note("started", folder=str(self.source.expanduser().resolve()), given=given, transform=None)
            files.write_json(run.environment, environment(settled.device, views=standing(settled.device.torch_device)))
            self._lay_images(run, prepared if fold else None)
        return Fit(run, given, reads, settled, prepared, screen, None, listen)

    def _at(self, settled: Recipe, fold: int) -> Prepared:
        """The images at the side that a trial wants; the split is the same, or that of a fold."""
        if settled.side not in self.pixels:
            _, self.pixels[settled.side] = open_pixels(self.table, settled.side, limits(settled.config), None)
        split = self.folds[fold - 1] if fold else self.prepared.split
        return replace(self.prepared, pixels=self.pixels[settled.side], split=split)

    def _look(self, place: tuple[int, int], prepared: Prepared) -> tuple[Any, Any]:
        if place not in self.looks:
            self.looks[place] = mean_and_std(prepared.pixels, prepared.split.rows("train"))
        return self.looks[place]

    def _lay_images(self, run: RunFolder, own: Prepared | None) -> None:
        """The table of images: of a fold its own; else a second name for the one that all share, where the disk knows such."""
        if own is not None:
            files.write_atomic(run.images, own.images().write_parquet)
            return
        try:
            os.link(self.study.images, run.images)
        except OSError:
            shutil.copyfile(self.study.images, run.images)

    # ---- a trial -----------------------------------------------------------------------------------------------------

    def try_out(self, chosen: Mapping[str, Any], place: Path, heard: Heard, screen: Screen, objectives: Sequence[Objective]) -> Outcome:
        """Trains with these settings, and judges on val.

        Args:
            heard: is told the row of each epoch.

        Raises:
            Pruned: `heard` wanted no more of it.
            Interrupted: the user stopped; the checkpoint is there.
            SightlineError: it cannot be trained.
        """
        return self._train(chosen, place, heard, screen, objectives, 0)

    def try_folds(self, chosen: Mapping[str, Any], place: Path, heard: Heard, screen: Screen, objectives: Sequence[Objective]) -> Outcome:
        """Trains once a fold, each judged on its own; the values are the means, the seconds their sum.

        Args:
            heard: is told {"fold", and the objectives by name} after each.
        """
        found: list[Outcome] = []
        for fold in range(1, len(self.folds) + 1):
            kept = place / f"fold-{fold}.json"
            if kept.exists():  # the worker that had this trial came so far
                known = files.read_json(kept)
                found.append(Outcome(tuple(known["values"]), known["facts"]))
            else:
                found.append(self._train(chosen, place / f"fold-{fold}", lambda row: None, screen, objectives, fold))
                files.write_json(kept, {"values": found[-1].values, "facts": found[-1].facts})
            heard({"fold": fold} | {one.name: value for one, value in zip(objectives, found[-1].values, strict=True)})
        values = tuple(sum(column) / len(found) for column in zip(*(one.values for one in found), strict=True))
        facts = {name: sum(one.facts[name] for one in found) for name in ("seconds", "epochs")}
        return Outcome(values, facts | {"parameters": found[0].facts["parameters"], "folds": len(found)})

    def _train(
        self, chosen: Mapping[str, Any], place: Path, heard: Heard, screen: Screen, objectives: Sequence[Objective], fold: int
    ) -> Outcome:
        given = {path: value for path, value in self.fixed.items() if path != "train.log_weights"} | dict(chosen) | CHEAP
        fit = self.fit(given, place, screen, heard, fold)
        with fit.folder.locked():
            fitted = fit.fit()
            outcome = Outcome(_values(fitted, objectives), facts_of(fitted.history, fitted))
            fit.folder.note("finished")
        clear_up(place)
        return outcome


def _as_begun(study: StudyFolder, table: ImageTable, pixels: Pixels) -> Prepared:
    """The images as the study has them, which must be these."""
    changed = changed_images(study.as_run, table)
    if changed:
        shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3:,} more" if len(changed) > 3 else "")
        raise StudyError(
            f"The images of {table.root} are not those that the study {study.name} began with; gone, new, changed or labelled otherwise: "
            f"{shown}. Restore them, or begin another study with --study NAME."
        )
    return as_recorded(study.as_run, table, pixels)


def _values(fitted: Fitted, objectives: Sequence[Objective]) -> tuple[float, ...]:
    row = fitted.history[fitted.kept]
    known = {**row, **facts_of(fitted.history, fitted)}
    if any(one.name in OF_THE_END and one.name not in known for one in objectives):
        known |= _figures(fitted)
    return tuple(float(known[one.name]) for one in objectives)


def _figures(fitted: Fitted) -> dict[str, float]:
    """The figures of val that no epoch has, before any calibration."""
    from sightline.run.stages import plain_logits

    task = fitted.task
    task.network.eval()
    logits = plain_logits(task) if fitted.shift is None else plain_logits(task) + fitted.shift
    rows = task.prepared.split.rows("val")
    ids = tuple(task.prepared.table.usable["path"].gather(rows))
    found = measure(Predictions(ids, softmax(logits), task.prepared.classes, task.prepared.labels[rows]), resamples=1)
    return {f"val_{name}": figure["value"] for name, figure in found.items() if isinstance(figure, dict) and "value" in figure}


def facts_of(history: Sequence[Row], fitted: Fitted | None = None) -> dict[str, Any]:
    """What the table of trials tells: seconds of training, epochs, and the size of the network."""
    facts: dict[str, Any] = {"seconds": round(sum(float(row["seconds"]) for row in history), 3), "epochs": len(history)}
    if fitted is not None:
        facts["parameters"] = sum(parameter.numel() for parameter in fitted.task.network.parameters())
        facts["kept_epoch"] = fitted.kept + 1
    return facts


def clear_up(place: Path) -> None:
    """The weights of a trial that is over are not needed: the best is trained again."""
    for weights in ("checkpoints", "failed_batch", "fold-*/checkpoints", "fold-*/failed_batch"):
        for folder in place.glob(weights):
            shutil.rmtree(folder, ignore_errors=True)


def short_of_memory(error: BaseException) -> bool:
    """Whether there was too little memory, of the device or of the machine."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "alloc" in str(error).lower() and "memory" in str(error).lower()
