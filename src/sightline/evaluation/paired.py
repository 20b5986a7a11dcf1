"""Two answers to each image: is one right more often, by how much, and what if many such questions are asked?

    p = mcnemar(only_first=12, only_second=30)
    low, high = paired_shares(both, only_first, only_second, n)         of the difference, second minus first
    adjusted = holm([0.01, 0.2, 0.04])                                  where several were tested at once

Counts in, numbers out. Images that both got right or both wrong hardly matter here, which is what makes pairs stronger
than two separate figures. It gives up images that belong together, such as frames of a film: they count as independent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sightline.evaluation.intervals import CONFIDENCE, wilson


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided exact p-value that two classifiers are right equally often (McNemar 1947; binomial, not chi-squared).

    Args:
        only_first, only_second: images that only this one got right. The others say nothing, and do not count.
    """
    from scipy.special import bdtr

    n = only_first + only_second
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), n, 0.5))) if n else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """p-values that allow for their number, each 0..1 (Holm 1979): with all hypotheses true, one falls below 0.05 in 5 of 100."""
    order = np.argsort(p, kind="stable")
    scaled = np.array(p, dtype=float)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1) if len(p) else scaled
    found: list[float] = adjusted.tolist()
    return found


def paired_shares(
    both: np.ndarray, only_first: np.ndarray, only_second: np.ndarray, n: np.ndarray, confidence: float = CONFIDENCE
) -> tuple[np.ndarray, np.ndarray]:
    """The interval of a difference of two shares of the same n images, second minus first (Newcombe 1998, Stat. Med. 17, method 10).

    All arguments are counts of images, arrays of one shape; where n is 0 the ends are nan.
    """
    a, b, c = (np.asarray(x, dtype=float) for x in (both, only_second, only_first))
    d = n - a - b - c
    (low1, high1), (low2, high2) = wilson(a + b, n, confidence), wilson(a + c, n, confidence)
    with np.errstate(invalid="ignore", divide="ignore"):
        p1, p2 = (a + b) / n, (a + c) / n
        cross = a * d - b * c
        cross = np.where(cross > 0, np.maximum(cross - n / 2, 0), cross)  # the paper's correction for continuity
        spread = np.sqrt((a + b) * (c + d) * (a + c) * (b + d))
        phi = np.where(spread > 0, cross / spread, 0)
    below = np.sqrt((p1 - low1) ** 2 - 2 * phi * (p1 - low1) * (high2 - p2) + (high2 - p2) ** 2)
    above = np.sqrt((high1 - p1) ** 2 - 2 * phi * (high1 - p1) * (p2 - low2) + (p2 - low2) ** 2)
    return p1 - p2 - below, p1 - p2 + above
