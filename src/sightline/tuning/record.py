"""What is known of a trial, apart from Optuna: for tables, pictures and pages.

best = best_of(trials, objectives)
write_csv(trials, objectives, space.names, "trials.csv")
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sightline import files
from sightline.config import show
from sightline.tuning.objective import Objective, pareto_front

State = Literal["complete", "pruned", "failed", "running", "waiting", "lost"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial.

    Attributes:
        place: the number of its folder in trials/; that of the trial it went on from, where a worker was killed.
        state: "lost": its worker was killed, and another trial went on in its place.
        values: of the objectives, of a complete trial; of a pruned one what was known.
        chosen: the settings that it was drawn.
        steps: {epoch or fold: value}.
        facts: seconds, epochs, parameters and what else was noted.
        reason: why it failed or was pruned.
    """

    number: int
    place: int
    state: State
    values: tuple[float, ...] | None
    chosen: dict[str, Any]
    steps: dict[int, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None


def finished(trials: Sequence[Trial]) -> list[Trial]:
    """The complete ones."""
    return [trial for trial in trials if trial.state == "complete" and trial.values is not None]


def best_of(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Trial | None:
    """The best complete trial by the first objective, on the front of all of them; of equal ones the first. None: there is none."""
    best: Trial | None = None
    for trial in front_of(trials, objectives):
        assert trial.values is not None
        if best is None or (best.values is not None and objectives[0].better(trial.values[0], best.values[0])):
            best = trial
    return best


def front_of(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """The complete trials that no other one beats, the best by the first objective first."""
    there = finished(trials)
    found = [there[i] for i in pareto_front([trial.values or () for trial in there], objectives)]
    return sorted(found, key=lambda trial: (-1 if objectives[0].larger else 1) * (trial.values or (0.0,))[0])


def write_csv(trials: Sequence[Trial], objectives: Sequence[Objective], names: Sequence[str], path: Path) -> None:
    """A row a trial."""
    columns = ["number", "state", *(one.name for one in objectives), *names]
    columns += [name for name in ("seconds", "epochs", "parameters") if name not in columns] + ["folder", "reason", "steps"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for trial in trials:
        row = {name: value for name, value in trial.facts.items() if name in columns}
        row |= {one.name: value for one, value in zip(objectives, trial.values or (), strict=False)}
        row |= {name: show(value) for name, value in trial.chosen.items()}
        row |= {"number": trial.number, "state": trial.state, "reason": trial.reason or "", "folder": f"trials/{trial.place:04d}"}
        writer.writerow(row | {"steps": json.dumps(trial.steps) if trial.steps else ""})
    files.write_text(path, text.getvalue())
