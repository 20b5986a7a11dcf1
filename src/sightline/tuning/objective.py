"""What a study searches by: figures on val, the time of training, the size of the network; and which way is better.

    objectives = read_objectives(("val_macro_f1", "seconds"), "auto")
    pareto_front([(0.9, 12.0), (0.8, 3.0), (0.7, 5.0)], objectives)        [0, 1]

Figures of an epoch are known while a trial runs, so that it can be ended early; the others only at its end. Test is none of
them: no trial is judged on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sightline.errors import SettingsError

OF_AN_EPOCH = {"val_macro_f1": True, "val_balanced_accuracy": True, "val_accuracy": True, "val_loss": False}
"""Figures that every epoch has, and whether larger is better."""

OF_THE_END = {
    "val_macro_precision": True,
    "val_macro_recall": True,
    "val_weighted_f1": True,
    "val_top5_accuracy": True,
    "val_log_loss": False,
    "val_brier": False,
    "val_ece": False,
    "seconds": False,
    "parameters": False,
}
"""Figures that only a finished trial has: of `metrics.json`, training time in seconds, size of the network."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A figure, and whether larger is better."""

    name: str
    larger: bool

    @property
    def of_an_epoch(self) -> bool:
        """Whether each epoch has it."""
        return self.name in OF_AN_EPOCH

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """As Optuna calls it."""
        return "maximize" if self.larger else "minimize"

    @property
    def title(self) -> str:
        """In words, as in "macro F1 on validation"."""
        plain = (
            self.name.removeprefix("val_")
            .replace("_", " ")
            .replace("f1", "F1")
            .replace("top5", "top-5")
            .replace("ece", "calibration error")
        )
        return f"{plain} on validation" if self.name.startswith("val_") else {"seconds": "training time"}.get(plain, plain)

    @property
    def share(self) -> bool:
        """Whether it lies between 0 and 1, and is written in percent."""
        return self.name.startswith("val_") and self.name not in ("val_loss", "val_log_loss", "val_brier")

    def better(self, a: float, b: float) -> bool:
        """Whether a is better than b."""
        return a > b if self.larger else a < b


def read_objectives(names: str | Sequence[str], directions: str | Sequence[str], monitor: str = "macro_f1") -> tuple[Objective, ...]:
    """The objectives that the settings name.

    Args:
        names: `tune.objective`.
        directions: `tune.direction`.
        monitor: `train.monitor`, which "auto" stands for.

    Raises:
        SettingsError: a figure is unknown or named twice, or the directions are not one for each, or the wrong way.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    wanted = [f"val_{monitor}" if name == "auto" else name for name in wanted]
    known = OF_AN_EPOCH | OF_THE_END
    for name in wanted:
        if name.startswith("test"):
            raise SettingsError(f"tune.objective={name}: test judges once, at the end, and is never searched by. Use val_macro_f1.")
        if name not in known:
            raise SettingsError(f"tune.objective: there is no figure {name}. There are {', '.join(known)}.")
    if not wanted or len(set(wanted)) < len(wanted):
        raise SettingsError("tune.objective must name a figure, or several different ones.")
    found = tuple(Objective(name, known[name]) for name in wanted)
    if directions != "auto":
        _check_directions(found, [directions] if isinstance(directions, str) else list(directions))
    return found


def _check_directions(found: Sequence[Objective], directions: Sequence[str]) -> None:
    if len(directions) != len(found):
        are = "is 1" if len(directions) == 1 else f"are {len(directions)}"
        many = "1 objective" if len(found) == 1 else f"{len(found)} objectives"
        raise SettingsError(f"For {many} there {are} tune.direction: give one for each, in their order, or leave it out.")
    for objective, direction in zip(found, directions, strict=True):
        if direction != objective.direction:
            raise SettingsError(f"tune.direction={direction} for {objective.name} would look for the worst: it is {objective.direction}.")


def pareto_front(values: Sequence[Sequence[float]], objectives: Sequence[Objective]) -> list[int]:
    """Which of the points no other one beats: nowhere worse, and somewhere better. Of equal ones all."""
    signs = [1 if one.larger else -1 for one in objectives]
    points = [tuple(sign * value for sign, value in zip(signs, row, strict=True)) for row in values]
    return [i for i, own in enumerate(points) if not any(_beats(other, own) for other in points)]


def _beats(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(x >= y for x, y in zip(a, b, strict=True)) and any(x > y for x, y in zip(a, b, strict=True))
