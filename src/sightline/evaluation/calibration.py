"""Do probabilities mean what they say? One temperature, fitted on validation, and the error that is left.

    temperature = fit_temperature(logits, labels)           # from validation, never from test
    probabilities = softmax(test_logits, temperature.value)
    error = expected_calibration_error(probabilities, test_labels)
    bins = reliability(probabilities.max(axis=1), probabilities.argmax(axis=1) == test_labels)      for a diagram

The error comes with two kinds of bins. Fixed ones (equal width) are what most papers report; a good network puts nearly
all images into the last of them, which then hides what happens inside. Bins of equal mass hold equally many images.

One number for all classes: it cannot change which class wins, and cannot mend a class that is overconfident among
others that are not. Where validation is too small to say, the temperature stays 1 and `note` tells why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sightline.evaluation.intervals import wilson
from sightline.evaluation.predictions import row_blocks

BINS = 15
FEWEST_IMAGES = 30  # below this the fitted value is mostly noise: its spread exceeds what calibration gains
LOWEST, HIGHEST = 0.05, 20.0


@dataclass(frozen=True, slots=True)
class Temperature:
    """What logits are divided by before the softmax; `note` says why, where it is not simply the fitted value."""

    value: float
    note: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.value < float("inf"):
            raise ValueError(f"a temperature is a number above 0, not {self.value}")


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities (N, K) float64 of logits (N, K) at a temperature above 0; rows sum to 1 to the last digits."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    np.exp(scaled, out=scaled)
    scaled /= scaled.sum(axis=1, keepdims=True)
    return scaled


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> Temperature:
    """The temperature with the lowest log loss on (logits, labels) (Guo et al. 2017, section 4.2), in 0.05..20.

    The log loss is convex in 1/T, so Newton's method inside a bracket finds the one minimum; float64 throughout.

    It is 1 with a note where the images cannot tell: fewer than 30; all of one class; or every image right, where the
    log loss falls for ever as T goes to 0 and the best T would claim certainty.

    Args:
        logits: (N, K) finite floats of any precision.
        labels: (N,) integers in 0..K-1.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not np.isfinite(logits).all():
        raise ValueError(f"need finite logits (N, K) and labels (N,), not {logits.shape} and {labels.shape}")
    reason = _why_not(logits, labels)
    if reason:
        return Temperature(1.0, f"{reason}; the temperature stays 1")
    value = 1 / _best_sharpness(logits, labels)
    if LOWEST < value < HIGHEST:
        return Temperature(value)
    end, wanted = ("smallest", "surer") if value <= LOWEST else ("largest", "less sure")
    return Temperature(
        value, f"the {end} temperature that is tried, {value:g}, was taken; validation would have the network {wanted} still"
    )


def equal_widths(bins: int = BINS) -> np.ndarray:
    """(bins - 1,) the inner edges of bins of equal width (Guo et al. 2017)."""
    edges: np.ndarray = np.linspace(0, 1, bins + 1)[1:-1]
    return edges


def equal_masses(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """(bins - 1,) the inner edges of bins that hold equally many of N >= 1 images, to within one (Nguyen and O'Connor 2015).

    Images of equal confidence are never parted, so with ties some bins hold more, and others none.
    """
    places = -(-len(confidence) * np.arange(1, bins) // bins) - 1  # in whole numbers: a quantile misses by one now and then
    return np.sort(confidence)[places]


def bin_numbers(confidence: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(N,) the bin of each image; bins hold their upper end, as in Guo et al. (2017): (edge below, edge above]."""
    return np.searchsorted(edges, confidence, side="left")


def confidence_gaps(confidence: np.ndarray, right: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(N, bins): for each image right - confidence, in the column of its bin; 0 elsewhere.

    The sum of a column is what the calibration error is made of, and, as it is a plain sum, can be resampled.
    """
    gaps = np.zeros((len(confidence), len(edges) + 1))
    gaps[np.arange(len(confidence)), bin_numbers(confidence, edges)] = right - confidence
    return gaps


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS, equal_mass: bool = False) -> float:
    """ECE of the winning class, 0..1 (Guo et al. 2017, eq. 3).

    It is |share right - mean confidence| of each bin, averaged with the bins' images as weights. With few images it is
    too high even for a perfect model, as chance alone moves every bin.

    Args:
        probabilities: (N, K) with N >= 1, rows sum to 1.
        labels: (N,) integers.
        equal_mass: bins of equally many images instead of equal width.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    gaps = confidence_gaps(confidence, right, equal_masses(confidence, bins) if equal_mass else equal_widths(bins))
    return float(np.abs(gaps.sum(axis=0)).sum() / len(labels))


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[dict[str, Any]]:
    """What a reliability diagram draws: the bins of equal width that hold images, from low to high.

    Args:
        confidence: (N,) of the winning class, in 0..1.
        right: (N,) bool.

    Returns:
        `low` and `high` (the edges), `n`, `confidence` (the mean), `accuracy` with its 95 % interval (Wilson)
        `accuracy_low` and `accuracy_high`.
    """
    edges = equal_widths(bins)
    numbers, ends = bin_numbers(confidence, edges), [0.0, *edges.tolist(), 1.0]
    counts, hits = (np.bincount(numbers, weights=weights, minlength=bins) for weights in (None, right))
    sums = np.bincount(numbers, weights=confidence, minlength=bins)
    lows, highs = wilson(hits, counts)
    return [
        {
            "low": ends[b],
            "high": ends[b + 1],
            "n": int(counts[b]),
            "confidence": float(sums[b] / counts[b]),
            "accuracy": float(hits[b] / counts[b]),
            "accuracy_low": float(lows[b]),
            "accuracy_high": float(highs[b]),
        }
        for b in np.flatnonzero(counts).tolist()
    ]


def _why_not(logits: np.ndarray, labels: np.ndarray) -> str | None:
    if len(labels) < FEWEST_IMAGES:
        are = "1 image is" if len(labels) == 1 else f"{len(labels)} images are"
        return f"{are} too few to fit a temperature ({FEWEST_IMAGES} are needed)"
    if np.all(labels == labels[0]):
        return "all images are of one class"
    if np.all(logits.argmax(axis=1) == labels):
        return f"all {len(labels)} images are classified right, so they set no limit to confidence"
    return None


def _best_sharpness(logits: np.ndarray, labels: np.ndarray) -> float:
    """1 / T where the derivative of the log loss is zero, or the end of the range beyond which it lies."""
    low, high = 1 / HIGHEST, 1 / LOWEST
    sharpness = 1.0
    for _ in range(200):  # Newton needs about 8; the bracket alone about 50
        slope, curvature = _derivatives(logits, labels, sharpness)
        newton = sharpness - slope / curvature if curvature > 0 else np.inf
        if abs(newton - sharpness) <= 1e-10 * sharpness or high - low <= 1e-12 * high:
            break
        low, high = (sharpness, high) if slope < 0 else (low, sharpness)
        sharpness = newton if low < newton < high else float(np.sqrt(low * high))
    # Halving a bracket nears the end of the range without reaching it; there, take the end itself.
    near = [end for end in (1 / HIGHEST, 1 / LOWEST) if abs(sharpness - end) <= 1e-9 * end]
    return near[0] if near else sharpness


def _derivatives(logits: np.ndarray, labels: np.ndarray, sharpness: float) -> tuple[float, float]:
    """First and second derivative of the summed log loss with respect to 1 / T: E[z] - z_label, and Var[z]."""
    slope = curvature = 0.0
    for rows in row_blocks(*logits.shape):
        z = logits[rows].astype(np.float64)
        z -= z.max(axis=1, keepdims=True)
        p = softmax(z, 1 / sharpness)
        mean = np.einsum("nk,nk->n", p, z)
        true = z[np.arange(len(z)), labels[rows]]
        slope += float(np.sum(mean - true))
        curvature += float(np.einsum("nk,nk,nk->", p, z, z) - np.sum(mean**2))
    return slope, curvature
