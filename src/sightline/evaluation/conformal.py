"""Prediction sets: the classes an image may be of, as many as it takes for the true one to be among them 9 times in 10.

    sets = fit_sets(val_probabilities, val_labels)          PredictionSets, or None where val is too small
    which = sets.sets(probabilities)                        (N, K) bool
    figures = set_figures(sets, test_probabilities, test_labels, classes)

Split conformal prediction: a score says how badly a class fits an image; the level's quantile of the scores of the true
classes on validation is the threshold; a set holds the classes that score no worse. Whatever the network, images that
are exchangeable with the validation images are then covered at least as often as promised (Vovk et al. 2005).

The score is that of adaptive prediction sets (APS; Romano, Sesia, Candès 2020) without their random number: the
probability of all classes ranked ahead. The likeliest class scores 0, so no set is ever empty, and the same image always
gets the same set; it was nearly as small as the smallest there are. RAPS (Angelopoulos et al. 2021) made no set smaller
at 5 and 10 classes; at 102 they were a tenth smaller, but fewer had one class. It gives up the exact level: where the
likeliest class alone is right more often than promised, so is the set.

A class with enough validation images has a threshold, and so a promise, of its own (Vovk 2012, "Mondrian"). The rarer
ones share one, and for them the promise holds together, not for each.

Validation chose the epoch and the temperature too, so its scores flatter a little: look at the coverage on test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sightline.evaluation.intervals import FEW, percentile, wilson
from sightline.evaluation.predictions import row_blocks

LEVEL = 0.9
METHOD = "aps"
# With 20 images the coverage of a class, over draws of the validation images, has a standard deviation of 6 points. With
# 50 it has 4, but more classes share a threshold, which fails where test has other shares of them (see docs/log.md).
CLASS_IMAGES = 20
_NAMED = 6  # how many classes a sentence spells out


@dataclass(frozen=True, slots=True)
class PredictionSets:
    """Which classes belong into the set of an image.

    Attributes:
        level: the share of images whose set is to hold their true class, in (0, 1).
        thresholds: (K,) in 0..1: a class is in the set where the classes ahead of it have no more probability together.
        own: (K,) whether the threshold of a class comes from its own images; the others share one.
        images: validation images that they were chosen with.

    Raises:
        ValueError: the parts are not such numbers, or do not fit together.
    """

    level: float
    thresholds: tuple[float, ...]
    own: tuple[bool, ...]
    images: int

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise ValueError(f"the level of prediction sets is between 0 and 1, not {self.level}")
        if not self.thresholds or len(self.thresholds) != len(self.own) or self.images < 1:
            raise ValueError(f"{len(self.thresholds)} thresholds, {len(self.own)} marks and {self.images} images")
        if not all(0 <= threshold <= 1 for threshold in self.thresholds):
            raise ValueError("a threshold of prediction sets is not in 0..1")

    def sets(self, probabilities: np.ndarray) -> np.ndarray:
        """(N, K) bool of probabilities (N, K): which classes each set holds; always the likeliest one."""
        if probabilities.shape[1] != len(self.thresholds):
            raise ValueError(f"probabilities of {probabilities.shape[1]} classes, thresholds of {len(self.thresholds)}")
        found = np.empty(probabilities.shape, dtype=bool)
        for rows in row_blocks(*probabilities.shape):
            found[rows] = mass_ahead(probabilities[rows]) <= np.array(self.thresholds)
        return found

    def note(self, classes: Sequence[str]) -> str | None:
        """A sentence on the classes that share a threshold; None where each has its own."""
        shared = [name for name, own in zip(classes, self.own, strict=True) if not own]
        if not shared:
            return None
        who = "every class" if len(shared) == len(classes) else f"{len(shared)} of {len(classes)} classes ({_listing(shared)})"
        return (
            f"{who}: fewer than {CLASS_IMAGES} validation images each, so these share one threshold, "
            "and what is promised holds for them together, not for each"
        )

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {
            "method": METHOD,
            "level": self.level,
            "thresholds": list(self.thresholds),
            "own": list(self.own),
            "images": self.images,
        }

    @classmethod
    def from_json(cls, card: Mapping[str, Any]) -> PredictionSets:
        """Raises KeyError, TypeError or ValueError where the card is not one that `to_json` wrote."""
        if card["method"] != METHOD:
            raise ValueError(f"prediction sets of an unknown method {card['method']!r}")
        if not all(isinstance(own, bool) for own in card["own"]):
            raise TypeError("a mark of prediction sets is neither true nor false")
        return cls(float(card["level"]), tuple(float(t) for t in card["thresholds"]), tuple(card["own"]), int(card["images"]))


def mass_ahead(probabilities: np.ndarray) -> np.ndarray:
    """(N, K) in 0..1: the probability of all classes that are likelier than a class, of equal ones those before it.

    It is APS's conformity score (Romano et al. 2020, equation 9) with the random u at 1: exactly 0 for the likeliest class.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ahead = np.zeros(probabilities.shape)
    np.cumsum(np.take_along_axis(probabilities, order, axis=1)[:, :-1], axis=1, out=ahead[:, 1:])
    found = np.empty(probabilities.shape)
    np.put_along_axis(found, order, np.minimum(ahead, 1), axis=1)  # sums of floats pass 1 by a hair
    return found


def conformal_quantile(scores: np.ndarray, level: float) -> float:
    """The ceil((n + 1) level)-th smallest of n scores; 1, the highest there can be, where n is too small for that.

    The "+ 1" is the image that is yet to come: with it the coverage is at least `level`, and less than 1 / (n + 1) above
    it unless scores are equal (Vovk et al. 2005; Lei et al. 2018, theorem 2.2).
    """
    rank = _rank(len(scores), level)
    return float(np.partition(scores, rank - 1)[rank - 1]) if rank <= len(scores) else 1.0


def fewest_images(level: float) -> int:
    """The smallest n whose highest score can be a threshold: 9 at a level of 0.9."""
    return math.ceil(level / (1 - level) - 1e-9)


def fit_sets(
    probabilities: np.ndarray, labels: np.ndarray, level: float = LEVEL, class_images: int = CLASS_IMAGES
) -> PredictionSets | None:
    """Thresholds from validation; None where it has fewer than `fewest_images(level)` images, so that nothing can be promised.

    Args:
        probabilities: (N, K), calibrated as those that the sets will be made of.
        labels: (N,) integers in 0..K-1.
        class_images: images that a class needs for a threshold of its own. The others share the quantile of their images;
            where these are fewer than `fewest_images(level)`, that of all.
    """
    n, k = probabilities.shape
    if labels.shape != (n,) or n < fewest_images(level):
        if labels.shape != (n,):
            raise ValueError(f"{n} rows of probabilities and labels of shape {labels.shape}")
        return None
    scores = true_scores(probabilities, labels)
    own = np.bincount(labels, minlength=k) >= max(class_images, fewest_images(level))
    rest = scores[~own[labels]]
    shared = conformal_quantile(rest if len(rest) >= fewest_images(level) else scores, level)
    thresholds = [conformal_quantile(scores[labels == c], level) if own[c] else shared for c in range(k)]
    return PredictionSets(level, tuple(thresholds), tuple(own.tolist()), n)


def true_scores(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N,) `mass_ahead` of the true class of each image."""
    scores = np.empty(len(labels))
    for rows in row_blocks(*probabilities.shape):
        scores[rows] = np.take_along_axis(mass_ahead(probabilities[rows]), labels[rows, None], axis=1)[:, 0]
    return scores


def set_figures(
    sets: PredictionSets, probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """How the sets fare on N >= 1 images, as JSON: plain numbers, each figure `{"value", "low", "high"}` (95 %).

    Returns:
        `level`, `method`; `coverage`: share of the sets that hold the true class; `mean_size`: classes a set; `empty`: how
        many have none (never any); `single`: share of the sets of one class, which are the images answered without
        abstaining, and `single_accuracy`: how many of these are right (null where there are none); `per_class`: the
        coverage of each class, null where it has no image; `own`: whether its threshold is its own; `note`.
    """
    found = sets.sets(probabilities)
    sizes, covered = found.sum(axis=1), found[np.arange(len(labels)), labels]
    single = sizes == 1
    support = np.bincount(labels, minlength=len(classes))
    hits = np.bincount(labels, weights=covered, minlength=len(classes))
    return {
        "level": sets.level,
        "method": METHOD,
        "coverage": _share(covered.sum(), len(labels)),
        "mean_size": _mean_size(sizes, found.shape[1], resamples, seed),
        "empty": int((sizes == 0).sum()),
        "single": _share(single.sum(), len(labels)),
        "single_accuracy": _share(covered[single].sum(), single.sum()) if single.any() else None,
        "per_class": [_share(hit, n) if n else None for hit, n in zip(hits, support, strict=True)],
        "own": list(sets.own),
        "note": sets.note(classes),
    }


def _rank(n: int, level: float) -> int:
    return math.ceil((n + 1) * level - 1e-9)  # 0.9 in binary must not make 10 * 0.9 a hair more than 9


def _mean_size(sizes: np.ndarray, k: int, resamples: int, seed: int) -> dict[str, float | None]:
    """The mean with its percentile bootstrap: how often each size is drawn is multinomial, so no image is drawn."""
    counts = np.bincount(sizes, minlength=k + 1)
    n, value = len(sizes), float(sizes.mean())
    if n < FEW:
        return {"value": value, "low": None, "high": None}
    generator = np.random.Generator(np.random.PCG64(seed))
    low, high = percentile(generator.multinomial(n, counts / n, size=resamples) @ np.arange(k + 1) / n)
    return {"value": value, "low": min(float(low), value), "high": max(float(high), value)}


def _share(successes: float, n: int) -> dict[str, float | None]:
    low, high = wilson(successes, n)
    return {"value": float(successes / n), "low": float(low), "high": float(high)}


def _listing(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
