"""What follows from counts alone: the confusion table, and each class's precision, recall and F1 with their means.

    table = confusion(labels, predicted, k)
    counts = Counts.of(table)
    counts.figures()["recall"], counts.ends()["recall"], counts.means()["macro_f1"]

Counts may have any leading shape, so that a thousand resamples are summed up at once. A class without images has no part
in the means, as in scikit-learn's balanced accuracy; one that is never predicted counts 0 in macro precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sightline.evaluation.intervals import wilson

# Each is the mean over classes of a figure of a class; classes count equally, or by their number of images.
CLASS_MEANS = {
    "balanced_accuracy": ("recall", "equal"),
    "macro_precision": ("precision", "equal"),
    "macro_recall": ("recall", "equal"),
    "macro_f1": ("f1", "equal"),
    "weighted_f1": ("f1", "images"),
}

Ends = tuple[np.ndarray, np.ndarray]


def confusion(labels: np.ndarray, predicted: np.ndarray, k: int) -> np.ndarray:
    """(k, k) int64: how many images of class row were called class column."""
    cells = np.asarray(labels, dtype=np.int64) * k + np.asarray(predicted, dtype=np.int64)
    return np.bincount(cells, minlength=k * k).reshape(k, k)


def accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """The share of N >= 1 images that are right."""
    return float(np.mean(np.asarray(labels) == np.asarray(predicted)))


def balanced_accuracy(labels: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    """The mean recall of the classes that have images; N >= 1 labels in 0..classes-1. The same as macro recall."""
    return float(Counts.of(confusion(labels, predicted, classes)).means()["balanced_accuracy"])


def macro_f1(labels: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    """The mean F1 of the classes that have images, as scikit-learn with `labels=` those classes; N >= 1."""
    return float(Counts.of(confusion(labels, predicted, classes)).means()["macro_f1"])


@dataclass(frozen=True, slots=True)
class Counts:
    """Images of K classes, each array (..., K): called rightly, in all, and called so."""

    right: np.ndarray
    support: np.ndarray
    called: np.ndarray

    @classmethod
    def of(cls, table: np.ndarray) -> Counts:
        return cls(np.diagonal(table), table.sum(axis=1), table.sum(axis=0))

    def figures(self) -> dict[str, np.ndarray]:
        """(..., K) each; 0 where there is nothing to divide by."""
        return {
            "precision": _ratio(self.right, self.called),
            "recall": _ratio(self.right, self.support),
            "f1": _ratio(2 * self.right, self.support + self.called),
        }

    def ends(self) -> dict[str, Ends]:
        """The 95 % interval of each of `figures`; nan where there is nothing to divide by."""
        low, high = wilson(self.right, self.support + self.called - self.right)
        return {
            "precision": wilson(self.right, self.called),
            "recall": wilson(self.right, self.support),
            "f1": (2 * low / (1 + low), 2 * high / (1 + high)),
        }

    def weights(self) -> dict[str, np.ndarray]:
        """(..., K) each, with sum 1 over the classes that have images."""
        kinds = {"equal": self.support > 0, "images": self.support}
        return {name: kind / kind.sum(axis=-1, keepdims=True) for name, kind in kinds.items()}

    def means(self) -> dict[str, np.ndarray]:
        """(...) each of CLASS_MEANS."""
        figures, weights = self.figures(), self.weights()
        return {name: np.sum(figures[figure] * weights[kind], axis=-1) for name, (figure, kind) in CLASS_MEANS.items()}


def cell_sums(values: np.ndarray, keys: np.ndarray, k: int) -> np.ndarray:
    """(B, C) to (B, k): the sums of the columns that share a key in 0..k-1."""
    rows = len(values)
    places = np.arange(rows)[:, None] * k + keys
    return np.bincount(places.ravel(), weights=values.ravel(), minlength=rows * k).reshape(rows, k)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    ratio = np.zeros(np.broadcast_shapes(numerator.shape, denominator.shape))
    np.divide(numerator, denominator, out=ratio, where=denominator > 0)
    return ratio
