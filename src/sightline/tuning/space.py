"""The search space: which settings a study may change, and between what.

    space = read_space({"train.lr": {"from": 1e-4, "to": 0.1, "log": True}, "augment.policy": ["light", "standard"]})
    values = space.draw(trial)                   {"train.lr": 0.0031, "augment.policy": "light"}, of an optuna trial

A recipe writes it below `tune: space:`. A range is {from, to} with `log` or `step` where wanted, and of whole numbers where
the setting is; a choice is a list. What makes sense only with a certain value of another searched setting says so:

    train.optimizer: [adamw, sgd]
    train.momentum: {from: 0.5, to: 0.99, if: {train.optimizer: sgd}}
    train.betas: {choice: [[0.9, 0.999], [0.9, 0.95]], if: {train.optimizer: adamw}}

Every end and every choice is checked against the setting itself before anything is trained. It gives up settings that decide
what is judged and on what (`split.*`, `train.monitor`, `train.seed`): trials must stay comparable.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

from sightline.config import build, show
from sightline.errors import SettingsError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

MOST_POINTS = 20
"""A range of whole numbers with no more than these is a grid of its own."""

_NEVER = {
    "split": "the trials would be judged on different images",
    "tune": "it says how to search",
    "device": "it says where to compute",
    "phases": "a study searches what holds for a whole run",
    "train.seed": "the luckiest seed is no better network",
    "train.seeds": "tune.seeds trains the best several times",
    "train.monitor": "it is what trials are judged by",
    "train.judge": "no trial sees test",
    "train.report": "a trial makes no report",
    "train.tensorboard": "a trial writes none",
    "train.log_weights": "a trial writes none",
    "train.checkpoint_minutes": "it changes no result",
    "train.find_lr": "search train.lr itself",
    "data.corrections": "the trials would be judged by different labels",
    "data.correct_test": "the trials would be judged by different labels",
    "data.max_pixels": "the trials would be judged on different images",
    "data.store_gb": "it changes no result",
    "data.workers": "it changes no result",
}
Label: TypeAlias = "bool | int | float | str | None"


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both included; `step` None: all of them. Whole ones have whole ends and a whole step."""

    low: float
    high: float
    whole: bool = False
    log: bool = False
    step: float | None = None

    def distribution(self) -> BaseDistribution:
        """As Optuna has it."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def holds(self, value: Any) -> bool:
        """Whether a value lies in the range (and on its steps)."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            return False
        if self.whole and value != int(value):
            return False
        on = (Decimal(str(value)) - Decimal(str(self.low))) / Decimal(str(self.step)) if self.step else Decimal(0)
        return on == on.to_integral_value()

    def setting(self, value: float) -> float:
        """The value that is trained with: on its step, or of four digits, so that people can read and repeat it."""
        if self.whole:
            return int(value)
        if self.step is None:
            return min(max(float(f"{value:.4g}"), self.low), self.high)
        first, by = Decimal(str(self.low)), Decimal(str(self.step))
        return float(first + round((Decimal(str(value)) - first) / by) * by)

    def points(self) -> tuple[float, ...] | None:
        """All values, where there are few enough to try each; None else."""
        step = self.step or (1 if self.whole and not self.log and self.high - self.low < MOST_POINTS else None)
        if step is None:
            return None
        first, by = Decimal(str(self.low)), Decimal(str(step))
        count = int((Decimal(str(self.high)) - first) / by) + 1
        return tuple(int(first + k * by) if self.whole else float(first + k * by) for k in range(count))

    def plain(self) -> dict[str, Any]:
        """As a recipe writes it."""
        ends = {"from": int(self.low), "to": int(self.high)} if self.whole else {"from": self.low, "to": self.high}
        return ends | ({"log": True} if self.log else {}) | ({} if self.step is None else {"step": self.step})


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several values; those that are lists go by their text."""

    values: tuple[Any, ...]

    @property
    def labels(self) -> tuple[Label, ...]:
        """What Optuna calls them."""
        return tuple(label_of(value) for value in self.values)

    def distribution(self) -> BaseDistribution:
        """As Optuna has it."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.labels)

    def holds(self, value: Any) -> bool:
        """Whether it is one of them."""
        return any(_same(label_of(value), label) for label in self.labels)

    def value(self, label: Label) -> Any:
        """The value of a label."""
        return next(value for value in self.values if _same(label_of(value), label))

    def points(self) -> tuple[Any, ...]:
        """All labels."""
        return self.labels

    def plain(self) -> Any:
        """As a recipe writes it."""
        return list(self.values)


@dataclass(frozen=True, slots=True)
class Dimension:
    """One setting that is searched.

    Attributes:
        path: its dotted name.
        needs: ((another searched setting, the values with which this one is drawn), ...); all must hold.
    """

    path: str
    domain: Range | Choice
    needs: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    def wanted(self, drawn: Mapping[str, Any]) -> bool:
        """Whether it is drawn, beside what was drawn before it."""
        return all(name in drawn and any(_same(label_of(drawn[name]), label_of(v)) for v in values) for name, values in self.needs)

    def plain(self) -> Any:
        """As a recipe writes it."""
        if not self.needs:
            return self.domain.plain()
        own = self.domain.plain() if isinstance(self.domain, Range) else {"choice": self.domain.plain()}
        return own | {"if": {name: list(values) for name, values in self.needs}}


@dataclass(frozen=True, slots=True)
class Space:
    """What is searched, in an order in which conditions come after what they name."""

    dimensions: tuple[Dimension, ...]

    def __len__(self) -> int:
        return len(self.dimensions)

    def __iter__(self) -> Iterator[Dimension]:
        return iter(self.dimensions)

    @property
    def names(self) -> tuple[str, ...]:
        """The settings that are searched."""
        return tuple(one.path for one in self.dimensions)

    @property
    def conditional(self) -> bool:
        """Whether some are drawn only with certain values of others."""
        return any(one.needs for one in self.dimensions)

    def draw(self, trial: Trial) -> dict[str, Any]:
        """The values of a trial; what its conditions leave out is not among them."""
        drawn: dict[str, Any] = {}
        for one in self.dimensions:
            if not one.wanted(drawn):
                continue
            if isinstance(one.domain, Choice):
                drawn[one.path] = one.domain.value(trial.suggest_categorical(one.path, one.domain.labels))
            else:
                drawn[one.path] = one.domain.setting(_suggest(trial, one.path, one.domain))
        return drawn

    def values(self, labels: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that a trial's parameters, as Optuna keeps them, stand for."""
        domains = {one.path: one.domain for one in self.dimensions}
        return {
            path: domain.value(label) if isinstance(domain := domains[path], Choice) else domain.setting(label)
            for path, label in labels.items()
            if path in domains
        }

    def first(self, given: Mapping[str, Any]) -> dict[str, Label]:
        """Of settings that are fixed elsewhere, those that lie in the space: what the first trial may begin with."""
        held: dict[str, Any] = {}
        for one in self.dimensions:
            if one.path in given and one.wanted(held) and one.domain.holds(given[one.path]):
                held[one.path] = given[one.path]
        return {path: label_of(value) for path, value in held.items()}

    def grid(self) -> dict[str, Sequence[Any]]:
        """Every value of every setting.

        Raises:
            SettingsError: a range has no steps, or there are conditions.
        """
        if self.conditional:
            raise SettingsError("tune.sampler=grid tries every combination, which conditions (`if`) make unequal: use another sampler.")
        found: dict[str, Sequence[Any]] = {}
        for one in self.dimensions:
            points = one.domain.points()
            if points is None:
                raise SettingsError(f"tune.sampler=grid needs values to try: give {one.path} a `step`, or a list of values.")
            found[one.path] = points
        return found

    def plain(self) -> dict[str, Any]:
        """As a recipe writes it."""
        return {one.path: one.plain() for one in self.dimensions}


def _suggest(trial: Trial, path: str, domain: Range) -> float:
    if domain.whole:
        return trial.suggest_int(path, int(domain.low), int(domain.high), step=int(domain.step or 1), log=domain.log)
    return trial.suggest_float(path, domain.low, domain.high, step=domain.step, log=domain.log)


def label_of(value: Any) -> Label:
    """What Optuna keeps of a value: itself, or a list as text."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else show(_listed(value))


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, (tuple, list)) else value


def _same(a: Label, b: Label) -> bool:
    """1 is not True."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


# ---- reading -----------------------------------------------------------------------------------------------------------


def read_space(raw: Mapping[str, Any]) -> Space:
    """The space that a recipe writes.

    Raises:
        SettingsError: a setting is unknown or cannot be searched, an end or a choice is nothing that it may be, a condition
            names what is not searched.
    """
    found = {path: _dimension(path, value) for path, value in raw.items()}
    for one in found.values():
        _check_needs(one, found)
    return Space(tuple(_ordered(found)))


def _dimension(path: str, raw: Any) -> Dimension:
    _check_searched(path)
    needs: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    if isinstance(raw, Mapping):
        raw = dict(raw)
        needs = _needs(path, raw.pop("if", {}))
        raw = raw.pop("choice") if set(raw) == {"choice"} else raw
    if isinstance(raw, Mapping):
        return Dimension(path, _range(path, raw), needs)
    if isinstance(raw, (list, tuple)):
        return Dimension(path, _choice(path, raw), needs)
    raise SettingsError(f"In tune.space, {path} must be a range, such as {{from: 1, to: 8}}, or a list of values, not {show(raw)}.")


def _check_searched(path: str) -> None:
    for name in (path, path.partition(".")[0]):
        if name in _NEVER:
            raise SettingsError(f"In tune.space, {path} cannot be searched: {_NEVER[name]}.")


def _needs(path: str, raw: Any) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    if not isinstance(raw, Mapping):
        raise SettingsError(f"In tune.space, `if` of {path} must name searched settings and their values: {{train.optimizer: sgd}}.")
    return tuple((str(name), tuple(value) if isinstance(value, (list, tuple)) else (value,)) for name, value in raw.items())


def _choice(path: str, raw: Sequence[Any]) -> Choice:
    values = tuple(raw)
    for value in values:
        _check_value(path, value)
    if len({repr(label_of(value)) for value in values}) < max(2, len(values)):
        raise SettingsError(f"In tune.space, {path} must have two different values or more, each once; one alone belongs beside the space.")
    return Choice(values)


def _range(path: str, raw: Mapping[str, Any]) -> Range:
    unknown = sorted(set(map(str, raw)) - {"from", "to", "log", "step"})
    if unknown or not {"from", "to"} <= set(raw):
        wrong = f"what {', '.join(unknown)} is, is not known" if unknown else "`from` and `to` are both needed"
        raise SettingsError(f"In tune.space, {path}: {wrong}; a range is {{from: 1e-4, to: 1e-1, log: true}}, with `step` or `if` too.")
    low, high, log, step = raw["from"], raw["to"], raw.get("log", False), raw.get("step")
    numbers = [low, high, *([] if step is None else [step])]
    if any(isinstance(n, bool) or not isinstance(n, (int, float)) or not math.isfinite(n) for n in numbers) or not isinstance(log, bool):
        raise SettingsError(f"In tune.space, {path}: from, to and step are numbers, log is true or false.")
    whole = not _takes(path, (low + high) / 2 + (high - low) / 7.3)  # a fraction, unless the setting knows whole numbers alone
    for end in (low, high):
        _check_value(path, int(end) if whole and end == int(end) else end)
    if low >= high:
        raise SettingsError(f"In tune.space, {path} must go from a smaller to a larger number, not from {show(low)} to {show(high)}.")
    if log and (low <= 0 or step is not None):
        raise SettingsError(f"In tune.space, {path}: a range with log begins above 0 and has no step.")
    if step is not None and (step <= 0 or step > high - low or (whole and step != int(step))):
        raise SettingsError(
            f"In tune.space, the step of {path} must be above 0 and fit between its ends{' (a whole number)' if whole else ''}."
        )
    return Range(low, _last(low, high, step), whole, log, step)


def _last(low: float, high: float, step: float | None) -> float:
    """The largest value that the steps reach."""
    if step is None:
        return high
    first, by = Decimal(str(low)), Decimal(str(step))
    return float(first + ((Decimal(str(high)) - first) // by) * by)


def _takes(path: str, value: Any) -> bool:
    try:
        build({path: value})
    except SettingsError:
        return False
    return True


def _check_value(path: str, value: Any) -> None:
    try:
        build({path: tuple(value) if isinstance(value, list) else value})
    except SettingsError as error:
        raise SettingsError(f"In tune.space: {error}") from None


def _check_needs(one: Dimension, found: Mapping[str, Dimension]) -> None:
    for name, values in one.needs:
        if name not in found:
            raise SettingsError(f"In tune.space, {one.path} depends on {name}, which is not searched: leave `if` out, or search it.")
        domain = found[name].domain
        if not isinstance(domain, Choice):
            raise SettingsError(
                f"In tune.space, {one.path} depends on {name}, which is a range: only a list of values can be named in `if`."
            )
        lost = [value for value in values if not domain.holds(value)]
        if lost:
            raise SettingsError(f"In tune.space, {one.path} depends on {name}={show(lost[0])}, which is not among its values.")


def _ordered(found: Mapping[str, Dimension]) -> list[Dimension]:
    """What is named in conditions before what names it."""
    done: dict[str, Dimension] = {}
    while len(done) < len(found):
        ready = [one for path, one in found.items() if path not in done and all(name in done for name, _ in one.needs)]
        if not ready:
            circle = next(path for path in found if path not in done)
            raise SettingsError(f"In tune.space, the conditions of {circle} go in a circle.")
        done |= {one.path: one for one in ready}
    return list(done.values())
