"""Is an image like those that the network was trained on? Two doubts, each measured against validation.

    novelty = fit_novelty(val_logits, val_features, val_labels)       Novelty, or None where val is too small
    scores = novelty.scores(logits, novelty.distances(features))      (N,) higher is stranger
    strange = scores > novelty.threshold

The first doubt is the energy -log sum exp(logits) (Liu et al. 2020): no class has much evidence. The second is the
distance of the features to the nearest class, as 1 - cosine to the mean direction of its validation images (after the
nearest class mean of Mensink et al. 2013 and the cosine of Techapanurak et al. 2020). Each is put on a scale where the
middle validation image is 0 and the threshold 1, and the larger counts: networks trained from scratch were blind to flat
pictures and pages of text by the energy, and to drawings by the distance (measured; see docs/log.md).

One ordinary image in twenty is called strange. That is more often than other tools do it, and costs little: such images are
hard ones that mostly abstain anyway, while a threshold at one in a hundred misses most drawings shown to a network for
flowers. It gives up the promise that a stranger is noticed: what looks like a class passes as one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sightline.evaluation.intervals import wilson
from sightline.evaluation.predictions import row_blocks

METHOD = "energy and nearest class"
SHARE = 0.95
FEWEST_IMAGES = 30
_LARGEST = 32767  # of the whole numbers that a direction is kept in; they leave a cosine right to about 1e-5

Scale = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Novelty:
    """What tells strange images from ordinary ones.

    Attributes:
        threshold: scores above it are strange.
        share: of the validation images that are at or below it, in (0, 1).
        images: validation images that it was chosen with.
        energy, distance: (middle, end) on validation: what 0 and 1 stand for.
        directions: (C, D) int16, one a class with validation images: the mean of their features scaled to length 1. Only
            the direction of a row counts.

    Raises:
        ValueError: the parts are not such numbers.
    """

    threshold: float
    share: float
    images: int
    energy: Scale
    distance: Scale
    directions: npt.NDArray[np.int16]

    def __post_init__(self) -> None:
        if not math.isfinite(self.threshold) or not 0 < self.share < 1 or self.images < 1:
            raise ValueError(f"a threshold of {self.threshold} for {self.share} of {self.images} images")
        for middle, end in (self.energy, self.distance):
            if not (math.isfinite(middle) and math.isfinite(end) and middle < end):
                raise ValueError(f"a scale from {middle} to {end}")
        if self.directions.ndim != 2 or not self.directions.any(axis=1).all() or not len(self.directions):
            raise ValueError("a class has no direction")

    def distances(self, features: np.ndarray) -> np.ndarray:
        """(N,) float64 in 0..2 of features (N, D): 1 - cosine to the nearest class."""
        if features.shape[1] != self.directions.shape[1]:
            raise ValueError(f"features of width {features.shape[1]}, directions of width {self.directions.shape[1]}")
        towards = _unit(self.directions.astype(np.float64)).T
        found = np.empty(len(features))
        for rows in row_blocks(*features.shape):
            found[rows] = 1 - (_unit(features[rows].astype(np.float64)) @ towards).max(axis=1)
        return found

    def scores(self, logits: np.ndarray, distances: np.ndarray) -> np.ndarray:
        """(N,) float64 of logits (N, K) and distances (N,) of the same images; higher is stranger."""
        found: np.ndarray = np.maximum(_scaled(energies(logits), self.energy), _scaled(distances, self.distance))
        return found

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads; a direction is a line of whole numbers."""
        return {
            "method": METHOD,
            "threshold": self.threshold,
            "share": self.share,
            "images": self.images,
            "energy": list(self.energy),
            "distance": list(self.distance),
            "directions": [" ".join(map(str, row)) for row in self.directions.tolist()],
        }

    @classmethod
    def from_json(cls, card: Mapping[str, Any]) -> Novelty:
        """Raises KeyError, TypeError or ValueError where the card is not one that `to_json` wrote."""
        if card["method"] != METHOD:
            raise ValueError(f"novelty by an unknown method {card['method']!r}")
        rows = [[int(word) for word in line.split()] for line in card["directions"]]
        if any(len(row) != len(rows[0]) or max(map(abs, row), default=0) > _LARGEST for row in rows):
            raise ValueError("the directions of the classes are damaged")
        scales = [(float(middle), float(end)) for middle, end in (card["energy"], card["distance"])]
        directions = np.array(rows, dtype=np.int16)
        return cls(float(card["threshold"]), float(card["share"]), int(card["images"]), scales[0], scales[1], directions)


def energies(logits: np.ndarray) -> np.ndarray:
    """(N,) float64: -log sum exp of logits (N, K), the energy at temperature 1 (Liu et al. 2020, equation 4)."""
    logits = np.asarray(logits, dtype=np.float64)
    highest = logits.max(axis=1)
    found: np.ndarray = -(highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1)))
    return found


def fit_novelty(logits: np.ndarray, features: np.ndarray, labels: np.ndarray, share: float = SHARE) -> Novelty | None:
    """The scale and the threshold from validation; None where it has fewer than 30 images or no two of a class.

    An image must not be near its class because it is a part of the mean: its own share is taken out of it.

    Args:
        logits: (N, K) finite, as those that are to be judged.
        features: (N, D) what the class layer is given for the same images.
        labels: (N,) integers in 0..K-1.
        share: of ordinary images that are to be at or below the threshold.
    """
    n = len(labels)
    if len(logits) != n or len(features) != n:
        raise ValueError(f"{len(logits)} rows of logits, {len(features)} of features and {n} labels")
    units = _unit(features.astype(np.float64))
    sums = np.stack([units[labels == k].sum(axis=0) for k in np.unique(labels)])
    distance = _without_itself(units, sums, np.unique(labels, return_inverse=True)[1])
    if n < FEWEST_IMAGES or not np.isfinite(distance).all():
        return None
    energy = energies(logits)
    ends = _scale(energy, share), _scale(distance, share)
    score = np.maximum(_scaled(energy, ends[0]), _scaled(distance, ends[1]))
    directions = np.rint(sums * (_LARGEST / np.abs(sums).max(axis=1, keepdims=True))).astype(np.int16)
    return Novelty(max(1.0, _quantile(score, share)), share, n, *ends, directions)


def novelty_figures(novelty: Novelty, scores: np.ndarray) -> dict[str, Any]:
    """How many of N >= 1 images are called strange, as JSON: `flagged` with its 95 % interval, and what it is measured by."""
    strange = int((scores > novelty.threshold).sum())
    low, high = wilson(strange, len(scores))
    flagged = {"value": strange / len(scores), "low": float(low), "high": float(high)}
    return {"method": METHOD, "share": novelty.share, "threshold": novelty.threshold, "flagged": flagged}


def _without_itself(units: np.ndarray, sums: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(N,) 1 - cosine to the nearest class, each image left out of its own; infinite where no class is left."""
    norms = np.linalg.norm(sums, axis=1)
    onto = units @ sums.T  # (N, C)
    cosines = onto / norms
    rows = np.arange(len(units))
    rest = onto[rows, own] - 1  # to the sum of the others, as a vector of length 1 has product 1 with itself
    squared = norms[own] ** 2 - 2 * onto[rows, own] + 1
    alone = squared < 1e-9
    cosines[rows, own] = np.where(alone, -np.inf, rest / np.sqrt(np.where(alone, 1, squared)))
    found: np.ndarray = 1 - cosines.max(axis=1)
    return found


def _scale(values: np.ndarray, share: float) -> Scale:
    middle, end = float(np.median(values)), _quantile(values, share)
    return middle, max(end, middle + 1e-4 * max(1.0, abs(middle)))  # all alike: rounding alone makes nothing strange


def _scaled(values: np.ndarray, scale: Scale) -> np.ndarray:
    middle, end = scale
    return (values - middle) / (end - middle)


def _quantile(values: np.ndarray, share: float) -> float:
    """The value that a new image of the same kind exceeds with probability 1 - share at most, where there are so many."""
    rank = min(math.ceil((len(values) + 1) * share - 1e-9), len(values))
    return float(np.partition(values, rank - 1)[rank - 1])


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros, which has no direction, stays one."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)
