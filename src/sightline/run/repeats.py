"""The repeats of a run: other folds judge (`split.folds`), or other seeds train (`train.seeds`).

    found = follow(run, config, given, metrics, begin, go_on)

Each is a run folder of its own, RUN/folds/1, ... or RUN/seeds/1, ..., and all share the stored pixels. One that is
finished stays as it is, one that was stopped goes on. The folds' answers together are RUN/evaluation/folds: every image
outside of the user's own test, judged by a network that has not seen it. RUN/seeds.json holds mean and spread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sightline import files, processes
from sightline.config import Config
from sightline.errors import Interrupted, SettingsError
from sightline.evaluation.metrics import evaluate as measure
from sightline.evaluation.predictions import Predictions
from sightline.evaluation.repeats import FEWEST_SEEDS, summarise_repeats
from sightline.run.evaluate import write_evaluation
from sightline.run.folder import RunFolder
from sightline.run.progress import Screen

Begin = Callable[[dict[str, Any], Path], Any]
GoOn = Callable[[Path], Any]


@dataclass(frozen=True, slots=True)
class _Repeat:
    """One of them: where it is, what differs from the run, and what it is called."""

    place: Path
    changed: dict[str, Any]
    name: str

    @property
    def finished(self) -> bool:
        return (self.place / "ledger.jsonl").exists() and bool(RunFolder.open(self.place).events("finished"))


def check_repeats(config: Config) -> None:
    """Raises SettingsError where folds and seeds are both asked for."""
    if config.train.seeds > 1 and config.split.folds is not None:
        raise SettingsError(
            f"train.seeds={config.train.seeds} and split.folds={config.split.folds} are two questions: "
            "how much does chance matter, and how is each image judged. Ask one a run."
        )


def follow(
    run: RunFolder, config: Config, given: Mapping[str, Any], main: Mapping[str, Any], begin: Begin, go_on: GoOn
) -> dict[str, dict[str, Any]]:
    """Trains the repeats that are not finished.

    Args:
        given: the user's settings of the run.
        main: the run's own figures, {"val": ..., "test": ...}.
        begin: trains with settings into a new run folder.
        go_on: resumes a run folder.

    Returns:
        {"folds": figures of all folds together}, or {"seeds": mean and spread}, or nothing.

    Raises:
        Interrupted: with the command that resumes the whole.
    """
    repeats = list(_folds(run, config)) or list(_seeds(run, config))
    if not repeats:
        return {}
    for repeat in repeats:
        if not repeat.finished:
            _train(repeat, run, given, begin, go_on)
    if config.split.folds is not None:
        return {"folds": processes.from_main(lambda: _judge_folds(run, [repeat.place for repeat in repeats]))}
    return {"seeds": processes.from_main(lambda: _sum_up(run, config, main, repeats))}


def _folds(run: RunFolder, config: Config) -> Iterator[_Repeat]:
    count = config.split.folds if config.split.fold is None else None
    for k in range(1, (count or 0) + 1):
        yield _Repeat(run.folds / str(k), {"split.fold": k, "train.judge": True, "train.report": False}, f"fold {k} of {count}")


def _seeds(run: RunFolder, config: Config) -> Iterator[_Repeat]:
    count, first = config.train.seeds, config.train.seed
    for k in range(1, count):
        changed = {"train.seed": first + k, "train.seeds": 1, "train.report": False}
        yield _Repeat(run.seeds / str(k), changed, f"seed {first + k}, training {k + 1} of {count}")


def _train(repeat: _Repeat, run: RunFolder, given: Mapping[str, Any], begin: Begin, go_on: GoOn) -> None:
    with Screen() as screen:
        screen.say(f"{repeat.name}:")
    try:
        if (repeat.place / "config.yaml").exists():
            go_on(repeat.place)
        else:
            begin({**given, **repeat.changed}, repeat.place)
    except Interrupted:
        raise Interrupted(f"Stopped in {repeat.name}; everything is saved.", f"sightline train --resume {files.quoted(run.root)}") from None


def _judge_folds(run: RunFolder, places: Sequence[Path]) -> dict[str, Any]:
    """Figures of the answers of all folds together, each image judged by the network that has not seen it."""
    parts = [Predictions.load(place / "evaluation" / "test" / "predictions.parquet") for place in places]
    ids = tuple(name for part in parts for name in part.ids)
    labels = np.concatenate([part.labels for part in parts if part.labels is not None])
    together = Predictions(ids, np.concatenate([part.probabilities for part in parts]), parts[0].classes, labels)
    metrics = measure(together) | {"views": 1, "folds": len(parts)}
    for name in [name for name in metrics if name.endswith("_uncalibrated")]:
        del metrics[name]  # each fold has its own temperature
    write_evaluation(run.evaluation("folds"), together, metrics)
    return metrics


def _sum_up(run: RunFolder, config: Config, main: Mapping[str, Any], repeats: Sequence[_Repeat]) -> dict[str, Any]:
    """Mean and spread of the figures over the seeds."""
    part = "test" if "test" in main else "val"
    others = [files.read_json(repeat.place / "evaluation" / part / "metrics.json") for repeat in repeats]
    seeds = [config.train.seed + k for k in range(len(others) + 1)]
    found = {"split": part, "seeds": seeds, "figures": summarise_repeats([main[part], *others])}
    files.write_json(run.seeds_summary, found)
    return found


def seeds_text(found: Mapping[str, Any]) -> str:
    """A line about `seeds.json`, for the end of a command."""
    shown = []
    for name, title in (("accuracy", "accuracy"), ("macro_f1", "macro F1")):
        figure = found["figures"][name]
        shown.append(f"{title} {100 * figure['mean']:.1f} % (sd {100 * figure['sd']:.1f})")
    n = len(found["seeds"])
    few = "; too few for an interval" if n < FEWEST_SEEDS else ""
    return f"{found['split']}, mean over {n} seeds: {', '.join(shown)}{few}"
