"""The learning-rate range test: which rate a network learns fastest at, before it is trained.

    found = range_test(step)        step(rate) does one training step at that rate and gives its loss
    found.suggestion                a rate, or None where the loss never fell

The rate grows by the same factor from step to step, and the loss is watched (Smith 2017, "Cyclical learning rates for
training neural networks", section 3.3). Suggested is the rate at which the loss falls most steeply over the logarithm
of the rate (Gugger 2018, "How do you find a good learning rate"). fastai's later default, the middle of the longest
valley of a running mean, was tried too (sightline_small, sgd and adamw, simpsons-28px and flowers-128px at 48 pixels,
two or three seeds each): between seeds it differed by up to a factor of 6, the steepest point by up to 3.5.

It gives up knowing what a long run would like, and puts nothing back: whoever gives `step` restores the weights and
the optimizer afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sightline.errors import TrainingError

WIDTH = 1 / 3  # decades; the standard deviation of the bell over which losses are averaged
DIVERGED = 4.0  # times the best smoothed loss
CLEAR = 2.0  # times the noise of a step; of falls in noise alone, fewer than one in a thousand is so deep


@dataclass(frozen=True, slots=True)
class Range:
    """What a range test saw.

    Attributes:
        rates: rising, one a step; the step at which the loss diverged is left out.
        losses: of each step, as `step` gave them; finite.
        smoothed: the losses averaged over about a decade of rates, without a lag.
        suggestion: one of `rates`, or None where the loss never fell by more than its noise.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None

    def __post_init__(self) -> None:
        if not 1 <= len(self.rates) == len(self.losses) == len(self.smoothed):
            raise ValueError("a range test has as many rates as losses, and at least one")
        if self.suggestion is not None and self.suggestion not in self.rates:
            raise ValueError("the suggestion must be one of the rates")


def range_test(step: Callable[[float], float], low: float = 1e-6, high: float = 1.0, steps: int = 100) -> Range:
    """Calls `step` with rates from `low` to `high`, until the smoothed loss is four times its best or no number.

    Args:
        step: one training step at a rate; gives the loss before its update.
        low, high: the first and the last rate; 0 < low < high.
        steps: at most; 100, as fastai does, are 17 a decade.

    Raises:
        TrainingError: the loss of the first step is not finite.
    """
    if not (0 < low < high and steps >= 2):
        raise ValueError("a range test needs 0 < low < high and at least two steps")
    rates, losses, best = np.geomspace(low, high, steps), np.empty(0), math.inf
    width = WIDTH * (steps - 1) / math.log10(high / low)  # in steps
    for rate in rates:
        grown = np.append(losses, step(float(rate)))
        now = _smooth_at(grown, len(losses), width)
        if not now <= DIVERGED * best:  # nan is neither more nor less
            break
        losses, best = grown, min(best, now)
    if not np.isfinite(losses).all() or len(losses) == 0:
        raise TrainingError(
            f"The loss is not finite in the first step of the range test, at a rate of {low:g}, so no rate can help. "
            "Set device.precision=float32, or check data.mean and data.std."
        )
    smoothed = np.array([_smooth_at(losses, k, width) for k in range(len(losses))])
    place = _steepest(losses, smoothed)
    seen = tuple(rates[: len(losses)].tolist())
    return Range(seen, tuple(losses.tolist()), tuple(smoothed.tolist()), None if place is None else seen[place])


def _smooth_at(losses: np.ndarray, k: int, width: float) -> float:
    """The mean around step k, weighted by a bell. Unlike a running mean it does not lag, which would move every
    landmark to higher rates."""
    weights = np.exp(-(((np.arange(len(losses)) - k) / width) ** 2) / 2)
    return float(weights @ losses / weights.sum())


def _steepest(losses: np.ndarray, smoothed: np.ndarray) -> int | None:
    """The step at which the loss falls fastest to where it never was; None where it never clearly fell."""
    lowest = np.minimum.accumulate(smoothed)  # coming down from a leap is no progress
    # Besides the noise a tiny share of the loss itself, as the means of equal losses differ in their last digits.
    if lowest[0] - lowest[-1] <= CLEAR * _noise(losses) + 1e-6 * abs(lowest[0]):
        return None
    return int(np.gradient(lowest).argmin())


def _noise(losses: np.ndarray) -> float:
    """The standard deviation of a loss from step to step, by the median, which a trend and a few leaps hardly move."""
    return float(np.median(np.abs(np.diff(losses)))) / (0.6745 * math.sqrt(2)) if len(losses) > 1 else 0.0
