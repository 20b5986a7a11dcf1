"""One training with several seeds, all judged on the same images: mean, spread and interval of each figure.

    summarise_repeats([metrics_of_seed_0, metrics_of_seed_1, metrics_of_seed_2])["accuracy"]

It tells how much the seed matters. How much the choice of the images does, the intervals in `metrics.json` tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sightline.evaluation.intervals import CONFIDENCE

FEWEST_SEEDS = 3
"""Two values give an interval so wide (12.7 standard errors to either side) that it says nothing."""

_UNBOUNDED = ("log_loss", "log_loss_uncalibrated", "brier", "brier_uncalibrated")


def summarise_repeats(metrics: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Mean and spread of each figure over repeats of one training with different seeds, all judged on the same images.

    The interval is Student's, of the mean over seeds.

    Args:
        metrics: contents of `metrics.json`, at least one.

    Returns:
        {figure: {"mean", "sd", "n", "low", "high"}} for the figures that all have; `sd` is null with one repeat, `low` and
        `high` with fewer than `FEWEST_SEEDS`. A share's ends stay in 0..1.
    """
    if not metrics:
        raise ValueError("there are no repeats to sum up")
    names = [name for name, figure in metrics[0].items() if isinstance(figure, Mapping) and set(figure) == {"value", "low", "high"}]
    found = {}
    for name in names:
        values = [one[name]["value"] for one in metrics if name in one]
        if len(values) == len(metrics) and None not in values:
            found[name] = _spread(np.array(values, dtype=float), bounded=name not in _UNBOUNDED)
    return found


def _spread(values: np.ndarray, bounded: bool) -> dict[str, float | None]:
    from scipy.special import stdtrit

    n, mean = len(values), float(values.mean())
    if n == 1:
        return {"mean": mean, "sd": None, "n": 1, "low": None, "high": None}
    sd = float(values.std(ddof=1))
    if n < FEWEST_SEEDS:
        return {"mean": mean, "sd": sd, "n": n, "low": None, "high": None}
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * sd / n**0.5
    return {"mean": mean, "sd": sd, "n": n, "low": max(0.0, mean - half), "high": min(1.0, mean + half) if bounded else mean + half}
