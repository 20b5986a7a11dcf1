"""What proposes the trials: Optuna's samplers, made anew for each trial with a seed of its own.

    study.sampler = make_sampler(tune, space, objectives, number=7)

All of them look up what was tried in the storage, so none has to be kept; and a study that goes on, or has several
workers, never draws the same numbers twice.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sightline.errors import SettingsError
from sightline.randomness import key
from sightline.settings import TuneSettings
from sightline.tuning.objective import Objective
from sightline.tuning.space import Choice, Space

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


PROPOSES = {
    "tpe": "The tree-structured Parzen estimator (tpe) proposed the trials: the first at random, the others where those before did well",
    "gp": "A Gaussian process (gp) proposed the trials: the first at random, the others where its model of the figure expects most",
    "cmaes": "An evolution strategy (cmaes) proposed the trials: a cloud of them that moves to where they do well",
    "random": "The trials were drawn at random",
    "grid": "The trials are all combinations of the values, in a drawn order",
}
"""What each sampler does, in words."""


def make_sampler(tune: TuneSettings, space: Space, objectives: Sequence[Objective], number: int) -> BaseSampler:
    """The sampler of the trial with this number.

    tpe: Bergstra et al. 2011, multivariate as in Falkner et al. 2018; gp: a Gaussian process with expected improvement;
    cmaes: Hansen 2016, `cmaes`.
    """
    from optuna import samplers

    seed = key(tune.seed, "sampler", number) % 2**32
    with warnings.catch_warnings():  # of Optuna's words about what is experimental
        warnings.simplefilter("ignore")
        match tune.sampler:
            case "tpe":
                together = tune.multivariate and len(objectives) == 1
                return samplers.TPESampler(
                    n_startup_trials=tune.startup, seed=seed, multivariate=together, group=together and space.conditional
                )
            case "gp":
                return samplers.GPSampler(seed=seed, n_startup_trials=tune.startup)
            case "cmaes":
                return samplers.CmaEsSampler(seed=seed, n_startup_trials=tune.startup, warn_independent_sampling=False)
            case "random":
                return samplers.RandomSampler(seed=seed)
            case "grid":
                return _grid(space, key(tune.seed, "grid") % 2**32)


def _grid(space: Space, seed: int) -> BaseSampler:
    from optuna.samplers import GridSampler

    class Grid(GridSampler):
        """Ends nothing by itself, which Optuna's can only inside `optimize`; the number of its trials is known (`combinations`)."""

        def after_trial(self, study: Any, trial: Any, state: Any, values: Any) -> None:
            pass

    return Grid(space.grid(), seed=seed)


def check_sampler(tune: TuneSettings, space: Space, objectives: Sequence[Objective]) -> list[str]:
    """What the user should know of a sampler and this space.

    Raises:
        SettingsError: they do not go together.
    """
    if tune.sampler == "grid":
        space.grid()
    if tune.sampler != "cmaes":
        return []
    if len(objectives) > 1:
        raise SettingsError("tune.sampler=cmaes knows one objective: use tpe or gp for several.")
    moved = [one.path for one in space if isinstance(one.domain, Choice) or one.needs]
    if len(space) - len(moved) < 2:
        raise SettingsError("tune.sampler=cmaes needs two ranges or more without conditions: use tpe, gp or random.")
    return [f"cmaes moves ranges only; these are drawn at random: {', '.join(moved)}."] if moved else []


def combinations(space: Space) -> int:
    """How many trials a grid has."""
    total = 1
    for points in space.grid().values():
        total *= len(points)
    return total
