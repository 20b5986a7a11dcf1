"""`--budget 10m`: what fits into the time a user has, planned from rates measured on this machine.

    budget = Budget.of("10m")                                  its clock runs from here
    plan = plan_budget(budget.left(), costs, amounts)          plan.values(): data.size, train.epochs, train.images_per_epoch
    epochs = epochs_that_fit(done, planned, plan, slowness, left)     after each epoch: more, fewer, or as planned

Time is what a run's end waits for: decoding and looking for twins are over when the plan is made, judging and the report
are set aside. What is left goes to the largest pictures of which `ENOUGH` epochs fit, because many epochs of small
pictures teach more than few of large ones (docs/log.md). It gives up choosing among networks.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sightline.data.batches import growth_stage
from sightline.errors import SettingsError

ENOUGH = 16
"""Epochs that larger pictures must leave time for."""

MOST = 150
"""Epochs after which no plan goes on: a budget may be left over, and it is told."""

FEWEST = 4
"""Where not even so many epochs fit, an epoch shows fewer images."""

FIRST_SHARE = 0.1
"""Of the time that is left: a first epoch under it does not say yet how long the others take."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LENGTHEN_UNTIL = 0.7  # of the epochs: later the learning rate has come down, and would rise again


def seconds_of(text: str) -> float | None:
    """Seconds of "90", "90s", "10m", "1.5h", "1d" or these one after another ("1h 30m"); None where it is no such time."""
    text = re.sub(r"\s", "", text)
    text = f"{text}s" if re.fullmatch(r"[\d.]+", text) else text
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    whole = "".join(number + unit for number, unit in parts)
    return sum(float(number) * _UNITS[unit] for number, unit in parts) if whole == text else None


@dataclass(frozen=True, slots=True)
class Budget:
    """Seconds that a command may take, and when they began to run (`time.perf_counter`)."""

    seconds: float
    began: float = field(default_factory=time.perf_counter)

    @classmethod
    def of(cls, text: str) -> Budget:
        """From "90s", "10m", "1.5h", or these one after another ("1h 30m"); a number alone is seconds.

        Raises:
            SettingsError: it is no such time.
        """
        seconds = seconds_of(text)
        if not seconds:
            raise SettingsError(f"--budget '{text}' is no time: give seconds, minutes, hours or days, such as 90s, 10m, 1.5h or 1h30m.")
        return cls(seconds)

    def left(self) -> float:
        """Seconds until it ends; below 0 afterwards."""
        return self.began + self.seconds - time.perf_counter()


@dataclass(frozen=True, slots=True)
class Cost:
    """What pictures of one size cost.

    Attributes:
        shown: images that an epoch shows.
        first, train: seconds an image that is trained on, at the size of the first epochs (`train.first_size`), and at full size.
        judge: seconds an image that is judged.
        batch: images of a step, of which an epoch has one at least.
    """

    size: int
    shown: int
    first: float
    train: float
    judge: float
    batch: int = 1

    def epoch(self, epoch: int, epochs: int, val: int) -> float:
        """Seconds of an epoch (from 0) of so many, judged on `val` images."""
        an_image = (self.first, (self.first + self.train) / 2, self.train)[growth_stage(epoch, epochs)]
        return self.shown * an_image + val * self.judge

    def epochs(self, epochs: int, val: int, start: int = 0) -> float:
        """Seconds of all epochs from `start` on."""
        return sum(self.epoch(epoch, epochs, val) for epoch in range(start, epochs))


@dataclass(frozen=True, slots=True)
class Amounts:
    """Images that an epoch is judged on, and that are judged when all is done; and seconds of what follows."""

    val: int
    judged: int
    report: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a budget leaves: `images_per_epoch` is None where an epoch shows all images; `after` is for judging and the report."""

    size: int
    epochs: int
    images_per_epoch: int | None
    seconds: float
    after: float
    cost: Cost
    val: int

    def values(self) -> dict[str, Any]:
        """The settings that it stands for."""
        return {"data.size": self.size, "train.epochs": self.epochs, "train.images_per_epoch": self.images_per_epoch}


@dataclass(frozen=True, slots=True)
class Deadline:
    """When training must be over for a budget to be kept: before what comes after it in the plan."""

    budget: Budget
    plan: Plan

    def left(self) -> float:
        """Seconds for training."""
        return self.budget.left() - self.plan.after


def sizes_to_try(size: int, least: int = 32) -> tuple[int, ...]:
    """The size, and at most two smaller ones: about three quarters and half of the side, which cost a half and a fourth."""
    smaller = {max(32, round(size * share / 8) * 8) for share in (0.75, 0.5625)} if size > 40 else set()
    return tuple(sorted({size, *(side for side in smaller if side >= least)}, reverse=True))


def plan_budget(left: float, costs: Sequence[Cost], amounts: Amounts) -> Plan:
    """The largest size of which `ENOUGH` epochs fit into the seconds left, or else the smallest; and how many epochs fit.

    Args:
        costs: by falling size, one at least.
    """
    plans = [_plan(left, cost, amounts) for cost in costs]
    return next((plan for plan in plans if plan.epochs >= ENOUGH and plan.images_per_epoch is None), plans[-1])


def _plan(left: float, cost: Cost, amounts: Amounts) -> Plan:
    after = amounts.judged * cost.judge + amounts.report
    time_to_train = max(0.0, left - after)
    epochs = max((n for n in range(FEWEST, MOST + 1) if cost.epochs(n, amounts.val) <= time_to_train), default=FEWEST)
    seconds = cost.epochs(epochs, amounts.val)
    if seconds <= time_to_train:
        return Plan(cost.size, epochs, None, seconds + after, after, cost, amounts.val)
    judging = FEWEST * amounts.val * cost.judge
    images = min(cost.shown, max(cost.batch, int((time_to_train - judging) / (seconds - judging) * cost.shown)))
    fewer = replace(cost, shown=images)
    some = None if images == cost.shown else images
    return Plan(cost.size, FEWEST, some, fewer.epochs(FEWEST, amounts.val) + after, after, fewer, amounts.val)


def pace(ends: Sequence[float], planned: int, plan: Plan, left: float) -> float | None:
    """How many times as long as planned the last epochs took, three at most, because a machine has slow moments.

    Args:
        ends: when training began, and when each epoch was over.
        planned: epochs until now.
        left: seconds for the others.

    Returns:
        None after a first epoch that was short: it has costs of its own (kernels, TensorBoard, the sheet of views), so the second is
        waited for, and the first does not count then.
    """
    done = len(ends) - 1
    if done == 1 and ends[1] - ends[0] < FIRST_SHARE * left:
        return None
    start = max(min(done - 1, 1), done - 3)
    expected = sum(plan.cost.epoch(epoch, planned, plan.val) for epoch in range(start, done))
    return (ends[done] - ends[start]) / expected


def epochs_that_fit(done: int, planned: int, plan: Plan, slowness: float, left: float) -> int:
    """How many epochs the run should have, after `done` of them and with `left` seconds for the others.

    Args:
        planned: epochs until now, >= done.
        slowness: seconds that epochs took, by those of the plan.

    Returns:
        At least `done`. It is lengthened only while the learning rate is high, and where a tenth of the epochs more, two at
        least, would fit; it is shortened where that takes a twentieth of them, or the end is near: a machine's slow moments pass.
    """
    fit = max((n for n in range(done, MOST + 1) if slowness * plan.cost.epochs(n, plan.val, done) <= left), default=done)
    if fit < planned:
        return fit if planned - fit > planned // 20 or planned - done <= 4 else planned
    return fit if done < _LENGTHEN_UNTIL * planned and fit >= planned + max(2, planned // 10) else planned


def sentence(budget: Budget, plan: Plan, shown: int) -> str:
    """What was planned, for a person."""
    images = f"{plan.images_per_epoch:,} of the {shown:,} images" if plan.images_per_epoch else f"all {shown:,} images"
    what = f"{plan.epochs} epochs of {images} at {plan.size} px"
    spare = budget.left() - plan.seconds
    if spare < -0.1 * budget.seconds:
        least = f"{what} is the least that is planned, some {-spare:,.0f} s more"
        return f"The budget is too short for this folder: {least}. One is trained at least."
    rest = f" More than {MOST} epochs are not planned, so {spare:,.0f} s are left over." if plan.epochs == MOST and spare > 60 else ""
    return (
        f"In the {max(0.0, budget.left()):,.0f} s that are left: {what}, then about {plan.after:,.0f} s for judging and the report.{rest}"
    )


PLANNED = ("train.epochs", "train.images_per_epoch")
"""Settings that a budget plans; a recipe's do not count, a word of the command contradicts it."""


def refuse_with_budget(given: Mapping[str, Any], processes: int) -> None:
    """Raises SettingsError for what a budget cannot go together with."""
    for path in (*PLANNED, "phases"):
        if path in given:
            raise SettingsError(f"--budget plans {path} by itself: leave one of them out.")
    for path in ("split.folds", "train.seeds"):
        if given.get(path) not in (None, 1):
            raise SettingsError(f"--budget is for one training: leave {path} out.")
    if given.get("imbalance") in ("ldam", "crt"):
        raise SettingsError(f"--budget moves the last epoch, which imbalance={given['imbalance']} counts from: choose another remedy.")
    if given.get("train.compile"):
        raise SettingsError("--budget measures steps that are not compiled: leave train.compile out.")
    if processes > 1:
        raise SettingsError("--budget is for one process: give train.epochs to torchrun.")
