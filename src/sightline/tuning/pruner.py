"""What ends trials early: Optuna's pruners.

    name = choose_pruner(tune, objectives)             "median"
    study.pruner = make_pruner(name, tune, epochs=30)

Steps are epochs, or folds where trials are judged by folds: there the mean of the folds so far is compared, and by wilcoxon
each fold with the same fold of the best trial.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sightline.errors import SettingsError
from sightline.settings import TuneSettings
from sightline.tuning.objective import Objective

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

FIRST = 5
"""So many finished trials come before median and percentile end any."""


ENDS = {
    "none": "No trial was ended early",
    "median": "The median pruner ends a trial that is worse, at an epoch, than the median of the trials before it",
    "percentile": "The percentile pruner ends a trial that is not, at an epoch, among the best of the trials before it",
    "halving": "Successive halving lets the best third of the trials go on from each of a few epochs",
    "hyperband": "Hyperband lets the best third of the trials go on from each of a few epochs, sooner in some rounds than in others",
    "wilcoxon": "A signed-rank test (wilcoxon) ends a trial whose folds are worse than the same folds of the best trial",
}
"""What each pruner does, in words."""


def choose_pruner(tune: TuneSettings, objectives: Sequence[Objective]) -> str:
    """What `tune.pruner` stands for.

    Raises:
        SettingsError: it cannot serve these objectives.
    """
    early = len(objectives) == 1 and objectives[0].of_an_epoch
    if tune.pruner == "auto":
        return "none" if not early else "wilcoxon" if tune.folds is not None else "median"
    if tune.pruner == "none":
        return "none"
    if len(objectives) > 1:
        raise SettingsError(f"tune.pruner={tune.pruner} compares one figure; with several objectives leave it out.")
    if not early:
        raise SettingsError(f"tune.pruner={tune.pruner} compares epochs, which have no {objectives[0].name}: leave it out.")
    if tune.pruner == "wilcoxon" and tune.folds is None:
        raise SettingsError("tune.pruner=wilcoxon compares folds: give tune.folds=5 too, or take another pruner.")
    return tune.pruner


def make_pruner(name: str, tune: TuneSettings, epochs: int) -> BasePruner:
    """The pruner.

    median: worse than the median of the trials at that step; percentile: not among its best share; halving: Jamieson and
    Talwalkar 2016, Li et al. 2020 (asynchronous); hyperband: Li et al. 2018; wilcoxon: signed ranks against the best trial.

    Args:
        name: what `choose_pruner` gave.
        epochs: the most steps that a trial has; they count from 1.
    """
    from optuna import pruners

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        match name:
            case "median":
                return pruners.MedianPruner(n_startup_trials=FIRST, n_warmup_steps=tune.warmup + 1)
            case "percentile":
                return pruners.PercentilePruner(tune.percentile, n_startup_trials=FIRST, n_warmup_steps=tune.warmup + 1)
            case "halving":
                return pruners.SuccessiveHalvingPruner(min_resource=max(1, epochs // 9), reduction_factor=3)
            case "hyperband":
                return pruners.HyperbandPruner(min_resource=max(1, epochs // 9), max_resource=epochs, reduction_factor=3)
            case "wilcoxon":
                return pruners.WilcoxonPruner(p_threshold=0.1)
    return pruners.NopPruner()
