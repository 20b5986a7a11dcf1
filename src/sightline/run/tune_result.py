"""What a study leaves behind, as an object, as JSON and for the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline import files
from sightline.config import show
from sightline.evaluation.text import summary
from sightline.reporting.words import count
from sightline.run.repeats import seeds_text
from sightline.tuning.objective import Objective
from sightline.tuning.record import Trial


@dataclass(frozen=True)
class TuneResult:
    """What a study leaves behind.

    Attributes:
        root: the study's folder.
        trials: all of them.
        best: the best by the first objective; None where none was finished.
        front: with several objectives, the trials that no other one beats.
        metrics: of the best one, trained again: {"val": ..., "test": ..., "seeds": ...}; empty where it was not.
        notes: sentences that the user should have seen.
    """

    root: Path
    objectives: tuple[Objective, ...]
    trials: tuple[Trial, ...]
    best: Trial | None
    front: tuple[Trial, ...]
    metrics: dict[str, dict[str, Any]]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        """One line; the figures would be pages."""
        return f"TuneResult({str(self.root)!r}, {len(self.trials)} trials, best {self.best.number if self.best else None})"

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        best = None if self.best is None else _trial(self.best, self.objectives)
        states = [trial.state for trial in self.trials]
        return {
            "study": str(self.root),
            "trials": {state: states.count(state) for state in sorted(set(states))},
            "best": best,
            "front": [_trial(trial, self.objectives) for trial in self.front],
            "metrics": self.metrics,
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """For the terminal: what was found, how good it is, and who judged."""
        lines = [*self._found(), *self._judged(), *self.notes, ""]
        lines += [f"Study       {self.root}", f"Page        {self.root / 'tune.html'}", f"Table       {self.root / 'trials.csv'}"]
        if self.metrics:
            lines += [f"Best        {self.root / 'best'}", f"Try it      sightline predict {files.quoted(self.root / 'best')} IMAGE..."]
        return "\n".join(lines)

    def _found(self) -> list[str]:
        if self.best is None:
            return []
        states = [trial.state for trial in self.trials]
        told = ", ".join(f"{states.count(state)} {state}" for state in ("complete", "pruned", "failed") if states.count(state))
        lines = [f"{count(sum(state != 'lost' for state in states), 'trial')}: {told}."]
        shown = self.front or (self.best,)
        if self.front:
            lines.append(f"{count(len(self.front), 'trial')} that no other one beats:")
        for trial in shown:
            figures = ", ".join(f"{one.name} {value:.4g}" for one, value in zip(self.objectives, trial.values or (), strict=True))
            lines.append(f"trial {trial.number}: {figures}: {words_of(trial.chosen)}")
        return lines

    def _judged(self) -> list[str]:
        """The figures of the best one, and that validation chose it."""
        if not self.metrics or self.best is None:
            return []
        tried = sum(trial.state in ("complete", "pruned") for trial in self.trials)
        judged = "test" if "test" in self.metrics else "val"
        lines = ["", f"Trial {self.best.number}, trained again:", f"{judged}: {summary(self.metrics[judged])}"]
        if judged == "test":
            lines.append(f"val chose among {count(tried, 'trial')}, so its figures flatter; test judged once, what val had chosen.")
        else:
            lines.append(f"val chose among {count(tried, 'trial')} and judges here, so these figures flatter; no test part judged.")
        return lines + ([seeds_text(self.metrics["seeds"])] if "seeds" in self.metrics else [])


def words_of(chosen: dict[str, Any]) -> str:
    """KEY=VALUE words that set what a trial was drawn."""
    return " ".join(f"{path}={show(value)}" for path, value in chosen.items())


def _trial(trial: Trial, objectives: tuple[Objective, ...]) -> dict[str, Any]:
    values = {one.name: value for one, value in zip(objectives, trial.values or (), strict=True)}
    return {"trial": trial.number, "values": values, "settings": trial.chosen, "facts": trial.facts}
