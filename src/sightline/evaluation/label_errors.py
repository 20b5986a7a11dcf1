"""Which labels are likely wrong: confident learning (Northcutt, Jiang and Chuang 2021, J. Artif. Intell. Res. 70).

    found = find_label_errors(probabilities, labels)       of networks that were not trained on these images
    for row in found.ranked(): print(row, found.likely[row], found.severity[row])

How many labels are wrong is counted with a measure for each class: an image speaks against its label where the network
is as sure of another class as it usually is of that class's own images, so that neither a shy network nor a rare class
is doubted as a whole. So many are suspected, those whose label has the least probability.

A suspect is something to look at: with a network that names 80 % of the images about half of them are labelled right and
merely hard, with one that names 66 % seven in eight, the worst first either way. Where all labels are wrong alike, nothing
contradicts them. It gives up the paper's other ways to choose. cleanlab has them all; it would bring pandas (44 MB) and
0.7 s of import for these few lines, so it is the reference of the tests instead (`filter_by="low_self_confidence"`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sightline.evaluation.predictions import row_blocks

_ROUNDING = 1e-6  # a mean of equal numbers may come out above them


@dataclass(frozen=True, slots=True, eq=False)
class LabelErrors:
    """What is suspected of N labels.

    Attributes:
        flag: (N,) bool; True where the label is suspected.
        likely: (N,) class numbers; what the network takes the picture for; without suspicion its own label.
        severity: (N,) float64, 0..1; one minus the probability of the label. Every flag is above 0.5.
    """

    flag: npt.NDArray[np.bool_]
    likely: npt.NDArray[np.int64]
    severity: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        if not len(self.flag) == len(self.likely) == len(self.severity):
            raise ValueError("flag, likely and severity are of different lengths")

    def ranked(self) -> npt.NDArray[np.int64]:
        """Row numbers of the suspects, worst first; of equal ones the first row first."""
        rows = np.flatnonzero(self.flag)
        return rows[np.argsort(-self.severity[rows], kind="stable")]


def find_label_errors(probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> LabelErrors:
    """Suspects among N labels: as many as the off-diagonal of the confident joint counts (the paper's equations 1 and 2).

    Where several classes reach their thresholds, the likeliest of all counts, as in cleanlab (the paper: of those). A label
    that no other class is likelier than is never suspected.

    Args:
        probabilities: (N, K), out of sample: no row may come from a network that was trained on its image.
        labels: (N,) integers in 0..K-1.
    """
    thresholds, count = class_thresholds(probabilities, labels), 0
    severity, predicted = np.zeros(len(labels)), labels.copy()
    beaten = np.zeros(len(labels), dtype=bool)
    for rows in row_blocks(*probabilities.shape):
        chances, own = probabilities[rows], labels[rows]
        of_label = chances[np.arange(len(own)), own]
        severity[rows], predicted[rows] = 1 - of_label, chances.argmax(axis=1)
        beaten[rows] = chances.max(axis=1) > of_label
        guess, sure = _confident_guess(chances, thresholds)
        count += int(np.sum(sure & (guess != own) & beaten[rows]))
    flag = np.zeros(len(labels), dtype=bool)
    flag[np.argsort(-severity, kind="stable")[:count]] = True
    flag &= beaten
    return LabelErrors(flag, np.where(flag, predicted, labels), severity)


def class_thresholds(probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """(K,) the mean probability that images of a class have of their own class (equation 2); infinite without images."""
    k = probabilities.shape[1]
    counts = np.bincount(labels, minlength=k)
    sums = np.bincount(labels, weights=probabilities[np.arange(len(labels)), labels], minlength=k)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def _confident_guess(
    chances: npt.NDArray[np.float64], thresholds: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The class that reaches its threshold, of several the likeliest of all; and whether any does."""
    reached = chances >= thresholds - _ROUNDING
    count = reached.sum(axis=1)
    return np.where(count > 1, chances.argmax(axis=1), reached.argmax(axis=1)), count > 0
