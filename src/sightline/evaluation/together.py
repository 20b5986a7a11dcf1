"""The images that several classifiers have judged, put side by side in one order; or why they do not belong together.

    judged = judge_together({"plain": first, "pretrained": second})        two Predictions or more
    judged.n, judged.right(1)                                              images, and where the second is right

An image is known by its id. Each may know the classes in an order of its own; labels must agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sightline.errors import DataError
from sightline.evaluation.metrics import image_losses
from sightline.evaluation.predictions import Predictions


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What M classifiers said of the same N images, sorted by label, answers and id.

    Attributes:
        predictions: M, of the same ids, labels and order of classes.
        predicted: (M, N) int64; losses: (M, N) the log loss of each image.
        left_out: (M,) images of each that not all have judged.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    predictions: tuple[Predictions, ...]
    predicted: npt.NDArray[np.int64]
    losses: npt.NDArray[np.float64]
    left_out: tuple[int, ...]

    @property
    def n(self) -> int:
        return len(self.labels)

    def right(self, k: int) -> npt.NDArray[np.bool_]:
        """(N,) where classifier k is right."""
        right: npt.NDArray[np.bool_] = self.predicted[k] == self.labels
        return right

    def alike(self, i: int, j: int) -> tuple[bool, bool]:
        """Whether two give the same answer for every image, and with the same probabilities."""
        first, second = self.predictions[i].probabilities, self.predictions[j].probabilities
        return bool((self.predicted[i] == self.predicted[j]).all()), bool(np.array_equal(first, second))

    def counted(self) -> list[tuple[str, int]]:
        """(name, left out) of each."""
        return list(zip(self.names, self.left_out, strict=True))


def judge_together(answers: Mapping[str, Predictions]) -> Judged:
    """The images that all have judged, in one order; raises DataError where they do not belong together."""
    names = tuple(answers)
    first = answers[names[0]]
    for name in names:
        _check_alone(name, answers[name])
        _check_classes(names[0], first, name, answers[name])
    ids = sorted(set(first.ids).intersection(*(other.ids for other in answers.values())))
    if not ids:
        raise DataError(
            f"{listed(names)} have no image in common, so nothing can be compared: they were judged on different images. "
            "Evaluate them on the same folder: `sightline evaluate RUN FOLDER`."
        )
    taken = [_taken(answers[name], ids, first.classes) for name in names]
    for name, other in zip(names, taken, strict=True):
        _check_labels(names[0], taken[0], name, other)
    labels, predicted = _labels(taken[0]), np.stack([one.predicted() for one in taken])
    order = np.lexsort((*predicted[::-1], labels))  # stable: the ids, sorted already, decide the rest
    losses = np.stack([image_losses(one.probabilities, labels)[:, 0] for one in taken])
    left_out = tuple(len(answers[name]) - len(ids) for name in names)
    sorted_ones = tuple(_rows(one, order) for one in taken)
    return Judged(names, first.classes, labels[order], sorted_ones, predicted[:, order], losses[:, order], left_out)


def _check_alone(name: str, given: Predictions) -> None:
    if given.labels is None or not len(given):
        raise DataError(f"{name} has no labelled images, so nothing can be compared.")
    if len(set(given.ids)) < len(given):
        raise DataError(f"{name} names an image twice, so its answers cannot be paired with others.")


def _check_classes(name: str, given: Predictions, other_name: str, other: Predictions) -> None:
    more, less = sorted(set(given.classes) - set(other.classes)), sorted(set(other.classes) - set(given.classes))
    if more or less:
        who, what = (name, more) if more else (other_name, less)
        raise DataError(
            f"{name} and {other_name} do not know the same classes ({listed(what[:3])} only {who}), so their figures cannot be compared."
        )


def _check_labels(name: str, given: Predictions, other_name: str, other: Predictions) -> None:
    differs = np.flatnonzero(_labels(given) != _labels(other))
    if len(differs):
        k = int(differs[0])
        here, there = (one.classes[_labels(one)[k]] for one in (given, other))
        raise DataError(
            f"{name} and {other_name} do not agree on the labels of {len(differs):,} images: {given.ids[k]} is {here} to the one and "
            f"{there} to the other. Evaluate both with the same labels."
        )


def _taken(given: Predictions, ids: Sequence[str], classes: tuple[str, ...]) -> Predictions:
    """The predictions of these images, columns in the order of these classes."""
    places = dict(zip(given.ids, range(len(given)), strict=True))
    rows = np.array([places[name] for name in ids])
    columns = np.array([given.classes.index(name) for name in classes])
    numbers = np.argsort(columns)  # of a class of the given ones among these
    probabilities = given.probabilities[rows[:, None], columns]
    return Predictions(tuple(ids), probabilities, classes, numbers[_labels(given)[rows]])


def _rows(given: Predictions, order: np.ndarray) -> Predictions:
    return Predictions(tuple(given.ids[k] for k in order), given.probabilities[order], given.classes, _labels(given)[order])


def _labels(given: Predictions) -> npt.NDArray[np.int64]:
    assert given.labels is not None
    return given.labels


def listed(names: Sequence[str], word: str = "and") -> str:
    """a, b and c, or with another word."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
