"""What `sightline tune` was asked for, read and checked before an image is looked at.

order = read_order("photos", ["tune.sampler=gp"], "recipe.yaml", trials=30, study="flowers", storage=None, timeout="2h")
order.space, order.objectives, order.fixed
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.config import build, gather, show
from sightline.data.table import scan
from sightline.errors import SettingsError
from sightline.run.budget import seconds_of
from sightline.run.study import StudyFolder
from sightline.settings import TuneSettings
from sightline.tuning.objective import Objective, read_objectives
from sightline.tuning.pruner import choose_pruner, make_pruner
from sightline.tuning.sampler import check_sampler, make_sampler
from sightline.tuning.space import Space, read_space
from sightline.tuning.storage import shown
from sightline.watched import refuse_inert, watch


@dataclass(frozen=True)
class Order:
    """What was asked for, read and checked.

    Attributes:
        given: the settings for all trials, and for the first one those that are searched.
        space: None: the default for the network, which is not known yet.
        command: the words that go on with the study.
    """

    source: Path
    folder: StudyFolder
    given: dict[str, Any]
    tune: TuneSettings
    space: Space | None
    objectives: tuple[Objective, ...]
    trials: int
    storage: str | None
    deadline: float | None
    command: str

    @property
    def fixed(self) -> dict[str, Any]:
        """The settings that no trial changes."""
        found = {path: value for path, value in self.given.items() if self.space is None or path not in self.space.names}
        first = self.objectives[0].name
        return found if "train.monitor" in found or not self.objectives[0].of_an_epoch else found | {"train.monitor": first[4:]}

    @property
    def epochs(self) -> int:
        """The most that a trial has."""
        return self.tune.folds or int(build(self.fixed).train.epochs)


def read_order(
    folder: str | Path,
    settings: Sequence[str] | Mapping[str, Any],
    recipe: str | Path | dict[str, Any] | None,
    trials: int,
    study: str | None,
    storage: str | None,
    timeout: str | float | None,
) -> Order:
    """All that can be known to be wrong before an image is read.

    Raises:
        SettingsError: what is wrong.
    """
    if trials < 1:
        raise SettingsError(f"--trials must be 1 or more, not {trials}.")
    given = gather(recipe, settings)
    if isinstance(given.get("data.corrections"), str):
        given["data.corrections"] = str(Path(given["data.corrections"]).expanduser().resolve())
    config = build(given)
    for path, instead in (
        ("train.seeds", "tune.seeds, how often the best is trained"),
        ("split.folds", "tune.folds, which keeps test apart"),
    ):
        if path in given:
            raise SettingsError(f"A study has no {path}: give {instead}.")
    reads: set[str] = set()
    tune = watch(config, reads).tune
    objectives = read_objectives(tune.objective, tune.direction, config.train.monitor)
    space = read_space(tune.space) if tune.space else None
    drawn = space or Space(())
    check_sampler(tune, drawn, objectives) if space else None
    make_sampler(tune, drawn, objectives, 0)  # both read the settings that they use, and no others
    make_pruner(choose_pruner(tune, objectives), tune, tune.folds or config.train.epochs)
    if tune.refit:
        _ = tune.seeds
    refuse_inert(config, sorted(path for path in given if path.startswith("tune.")), reads)
    rest = {path: value for path, value in given.items() if not path.startswith("tune.")}
    seconds = _seconds(timeout)
    if not Path(folder).expanduser().exists():
        scan(folder)  # says what is wrong, before the study has a folder
    place = StudyFolder.at(study, Path(folder))
    command = _command(folder, settings, recipe, trials, study, storage)
    deadline = None if seconds is None else time.monotonic() + seconds
    return Order(Path(folder), place, rest, config.tune, space, objectives, trials, storage, deadline, command)


def _seconds(timeout: str | float | None) -> float | None:
    if timeout is None:
        return None
    seconds = seconds_of(str(timeout))
    if not seconds:
        raise SettingsError(f"--timeout takes seconds, or minutes and hours as 90m and 2h, not {timeout}.")
    return seconds


def _command(folder: str | Path, settings: Any, recipe: Any, trials: int, study: str | None, storage: str | None) -> str:
    """What goes on with the study."""
    words = ["sightline", "tune", str(folder), "--trials", str(trials)]
    words += [] if study is None else ["--study", study]
    words += [] if storage is None else ["--storage", shown(storage)]
    words += [] if not isinstance(recipe, (str, Path)) else ["-c", str(recipe)]
    values = [f"{path}={show(value)}" for path, value in settings.items()] if isinstance(settings, Mapping) else list(settings)
    return shlex.join([*words, *values])
