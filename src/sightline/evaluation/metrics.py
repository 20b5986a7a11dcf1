"""Every figure of `metrics.json` from one `Predictions`, each with its 95 % interval.

    result = evaluate(predictions, uncalibrated=raw, twins=has_twin_in_train, sets=classifier.sets)
    result["macro_f1"]        # {"value": 0.912, "low": 0.893, "high": 0.929}

How the intervals are made, and what for:

- shares (accuracy, top-5 accuracy, a class's precision and recall): Wilson;
- F1 of a class: Wilson too. With U the images that are of the class or called so, J = right / |U| is a share and
  F1 = 2 J / (1 + J) grows with J, so the ends of J's interval give the ends of F1's;
- log loss, Brier score: percentile bootstrap over images;
- means over classes (macro, balanced, weighted): percentile bootstrap, widened where the classes' own intervals say
  more. The bootstrap alone takes three images of a rare class, all right, for certainty: with ten classes of 1 to 100
  images (simulated, n = 300) it held the true macro recall 79 times in 100, widened 99 times; with equal classes of
  100 images 95 and 97 times;
- calibration error: biased upwards, and its resamples twice so, therefore reflected (see `_calibration_error`). The
  edges of bins of equal mass are those of the sample in every resample.

Means over classes are over those with images here ("evaluated_classes"), as scikit-learn's balanced accuracy; the
others are listed in "not_evaluated". A class that is never predicted counts 0 in macro precision. What is not defined
is null: the recall and F1 of a class without images, the precision of a class never predicted, and with fewer than five
images the intervals of the losses and calibration errors.

Images are sorted before they are resampled, so the result does not depend on the order in which they come. Beyond the
predictions, memory is about 800 bytes an image, whatever the number of classes and of resamples. Images count as
independent: frames of one film make every interval too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sightline.errors import DataError
from sightline.evaluation.calibration import BINS, confidence_gaps, equal_masses, equal_widths, reliability
from sightline.evaluation.conformal import PredictionSets, set_figures
from sightline.evaluation.counts import CLASS_MEANS, Counts, cell_sums, confusion
from sightline.evaluation.intervals import FEW, bootstrap, mean_interval, percentile, wilson
from sightline.evaluation.predictions import Predictions, row_blocks

TOP = 5
LOSSES = ("log_loss", "brier", "log_loss_uncalibrated", "brier_uncalibrated")
ERRORS = ("ece", "ece_equal_mass", "ece_uncalibrated", "ece_equal_mass_uncalibrated")


def evaluate(
    predictions: Predictions,
    *,
    uncalibrated: Predictions | None = None,
    twins: np.ndarray | None = None,
    sets: PredictionSets | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """The content of `metrics.json`: plain numbers, strings, lists and dicts, null where a figure is not defined.

    Args:
        predictions: with labels.
        uncalibrated: the same images and classes at temperature 1; gives the figures `..._uncalibrated`, which else equal
            the calibrated ones.
        twins: (N,) bool, True where the image has a twin in the training part. Where there are any, `leak_free`
            holds the figures of the other images.
        sets: thresholds of prediction sets from other images; give `prediction_sets` (see `conformal.set_figures`).
        resamples: of the bootstrap.
        seed: of the bootstrap; the same seed gives the same ends.

    Returns:
        `n`, `classes`, `evaluated_classes`, `not_evaluated`, the figures `{"value", "low", "high"}`, `per_class`,
        `confusion` (rows are true classes), `reliability` (bins of `calibrated` and `uncalibrated`, see
        `calibration.reliability`), `calibration_note` (a sentence where the temperature does harm here, else null), and,
        where there are twins, `leak_free`: the same without `classes`, `per_class`, `confusion` and `reliability`, or
        `{"n": 0, "note"}` where no image is left.

    Raises:
        DataError: there are no images, or they have no labels.
        ValueError: the arguments do not belong together.
    """
    labels = _labels(predictions)
    if uncalibrated is not None and (uncalibrated.ids, uncalibrated.classes) != (predictions.ids, predictions.classes):
        raise ValueError("uncalibrated predictions must be of the same images and classes, in the same order")
    sample = _sample(predictions, labels, uncalibrated or predictions, _twins(twins, len(labels)))
    table = confusion(sample.labels, sample.predicted, sample.k)
    result: dict[str, Any] = {"n": len(labels), "classes": list(predictions.classes)}
    result |= _summary(sample, predictions.classes, resamples, seed)
    result |= {"per_class": _per_class(table, predictions.classes), "confusion": table.tolist()}
    kinds = zip(("calibrated", "uncalibrated"), sample.confidence.T, sample.hit.T, strict=True)
    result["reliability"] = {name: reliability(confidence, hit) for name, confidence, hit in kinds}
    if sample.twin.any():
        result["leak_free"] = _leak_free(sample, predictions.classes, resamples, seed)
    if sets is not None:
        _add_sets(result, sets, predictions, labels, twins, resamples, seed)
    return result


def _add_sets(
    result: dict[str, Any],
    sets: PredictionSets,
    predictions: Predictions,
    labels: np.ndarray,
    twins: np.ndarray | None,
    resamples: int,
    seed: int,
) -> None:
    """`prediction_sets` of all images, and of those without twins beside their other figures."""
    result["prediction_sets"] = set_figures(sets, predictions.probabilities, labels, predictions.classes, resamples, seed)
    if twins is not None and result.get("leak_free", {"n": 0})["n"]:
        alone = ~twins
        found = set_figures(sets, predictions.probabilities[alone], labels[alone], predictions.classes, resamples, seed)
        result["leak_free"]["prediction_sets"] = found


@dataclass(frozen=True, slots=True)
class _Sample:
    """What the figures need of each of N images, sorted by label, prediction and id.

    Attributes:
        labels, predicted: (N,) int64 in 0..k-1.
        in_top: (N,) bool, the true class is among the five most probable.
        twin: (N,) bool, the image has a twin in train.
        losses: (N, 4) of LOSSES.
        confidence, hit: (N, 2) of the winning class, and whether it is the true one: calibrated, uncalibrated.
        k: the number of classes.
    """

    labels: np.ndarray
    predicted: np.ndarray
    in_top: np.ndarray
    twin: np.ndarray
    losses: np.ndarray
    confidence: np.ndarray
    hit: np.ndarray
    k: int

    def taken(self, which: np.ndarray) -> _Sample:
        parts = (self.labels, self.predicted, self.in_top, self.twin, self.losses, self.confidence, self.hit)
        labels, predicted, in_top, twin, losses, confidence, hit = (part[which] for part in parts)
        return _Sample(labels, predicted, in_top, twin, losses, confidence, hit, self.k)

    def columns(self) -> np.ndarray:
        """(N, 4 + 4 * BINS) what is averaged over images: the losses, then the gaps of confidence for each of ERRORS."""
        columns = np.empty((len(self.labels), len(LOSSES) + len(ERRORS) * BINS))
        columns[:, : len(LOSSES)] = self.losses
        kinds = [
            (c, hit, edges) for c, hit in zip(self.confidence.T, self.hit.T, strict=True) for edges in (equal_widths(), equal_masses(c))
        ]
        for k, (confidence, hit, edges) in enumerate(kinds):
            start = len(LOSSES) + k * BINS
            columns[:, start : start + BINS] = confidence_gaps(confidence, hit, edges)
        return columns


def _sample(predictions: Predictions, labels: np.ndarray, uncalibrated: Predictions, twin: np.ndarray) -> _Sample:
    predicted, both = predictions.predicted(), (predictions, uncalibrated)
    in_top = _in_top(predictions.probabilities, labels)
    losses = np.hstack([image_losses(one.probabilities, labels) for one in both])
    confidence = np.column_stack([one.confidence() for one in both])
    hit = np.column_stack([one.predicted() == labels for one in both])
    sample = _Sample(labels, predicted, in_top, twin, losses, confidence, hit, len(predictions.classes))
    by_id = np.empty(len(labels), dtype=np.int64)
    by_id[sorted(range(len(labels)), key=predictions.ids.__getitem__)] = np.arange(len(labels))
    return sample.taken(np.lexsort((by_id, predicted, labels)))


def _in_top(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N,) bool; among equal probabilities the first class comes first, as in `Predictions.predicted`."""
    n, k = probabilities.shape
    ranks = np.empty(n, dtype=np.int64)
    for rows in row_blocks(n, k):
        true = labels[rows, None]
        p = np.take_along_axis(probabilities[rows], true, axis=1)
        ahead = (probabilities[rows] > p) | ((probabilities[rows] == p) & (np.arange(k) < true))
        ranks[rows] = ahead.sum(axis=1)
    return ranks < TOP


def image_losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N, 2): -log p of the true class (p at least 2.2e-16, as scikit-learn), and the sum over k of (p_k - y_k)^2.

    The second is Brier's own (1950): from 0 to 2, with two classes twice what some call the Brier score.
    """
    p = probabilities[np.arange(len(labels)), labels]
    log_loss = -np.log(np.maximum(p, np.finfo(np.float64).eps))
    squares = np.einsum("nk,nk->n", probabilities, probabilities)  # needs no (N, K) temporary
    return np.column_stack([log_loss, np.maximum(squares - p**2, 0) + (1 - p) ** 2])


def _summary(sample: _Sample, classes: Sequence[str], resamples: int, seed: int) -> dict[str, Any]:
    """Every figure that is not of one class."""
    n = len(sample.labels)
    counts = Counts.of(confusion(sample.labels, sample.predicted, sample.k))
    statistic = _statistic(sample)
    value, resampled = statistic(np.ones((1, n)))[0], bootstrap(statistic, n, resamples, seed)
    means, losses, *errors = np.split(np.arange(len(value)), _SECTIONS)
    figures: dict[str, Any] = {"accuracy": _share(counts.right.sum(), n)}
    figures |= _class_means(counts, value[means], resampled[:, means])
    if sample.k > TOP:
        figures["top5_accuracy"] = _share(sample.in_top.sum(), n)
    if n < FEW:
        resampled = np.full_like(resampled, np.nan)  # so few say nothing of how images differ
    for name, column in zip(LOSSES, losses, strict=True):
        figures[name] = _figure(value[column], *percentile(resampled[:, column]))
    for name, columns in zip(ERRORS, errors, strict=True):
        figures[name] = _calibration_error(value[columns], resampled[:, columns])
    figures["calibration_note"] = _calibration_note(value[losses], resampled[:, losses])
    absent = [name for name, images in zip(classes, counts.support, strict=True) if not images]
    return {"evaluated_classes": sample.k - len(absent), "not_evaluated": absent} | figures


_SECTIONS = np.cumsum([len(CLASS_MEANS), len(LOSSES), *[BINS] * (len(ERRORS) - 1)])  # where the columns of `_statistic` change their kind


def _statistic(sample: _Sample) -> Callable[[np.ndarray], np.ndarray]:
    """Weights (B, N) to (B, columns): the means over classes, then those of the columns over images."""
    new = (np.diff(sample.labels, prepend=-1) != 0) | (np.diff(sample.predicted, prepend=-1) != 0)
    starts = np.flatnonzero(new)  # sorted as they are, the images of one cell of the confusion lie together
    true, called, k = sample.labels[starts], sample.predicted[starts], sample.k
    columns = sample.columns()

    def statistic(weights: np.ndarray) -> np.ndarray:
        cells = np.add.reduceat(weights, starts, axis=1)  # (B, cells that hold images)
        right = cell_sums(cells * (true == called), true, k)
        counts = Counts(right, cell_sums(cells, true, k), cell_sums(cells, called, k))
        return np.column_stack([*counts.means().values(), weights @ columns / len(sample.labels)])

    return statistic


def _class_means(counts: Counts, value: np.ndarray, resampled: np.ndarray) -> dict[str, Any]:
    """The means over classes; on either side the wider of bootstrap and the classes' own intervals."""
    figures, weights = counts.figures(), counts.weights()
    # A class that was never called so may have any precision: 0 to 1.
    ends = {name: (np.nan_to_num(low, nan=0), np.nan_to_num(high, nan=1)) for name, (low, high) in counts.ends().items()}
    result = {}
    for k, (name, (figure, kind)) in enumerate(CLASS_MEANS.items()):
        low, high = percentile(resampled[:, k])
        own_low, own_high = mean_interval(figures[figure], *ends[figure], weights[kind])
        result[name] = _figure(value[k], np.minimum(low, own_low), np.maximum(high, own_high))
    return result


def _calibration_error(gaps: np.ndarray, resampled: np.ndarray) -> dict[str, float | None]:
    """ECE from the mean gap of each bin (BINS,) and its resamples (R, BINS).

    ECE sums absolute values, so chance in a bin adds and never cancels: the sample is too high, a resample doubly so.
    The low end is therefore reflected at the value (the "basic" bootstrap), and is 0 where resamples stray as far from
    the sample (in the same sum of absolute values) as the sample is from perfect calibration. Simulated on 100 to 2,000
    images with true ECE 0 to 0.13 the interval holds the truth 93 to 98 times in 100; the percentile one 0 to 93.
    """
    value = float(np.abs(gaps).sum())
    _, high = percentile(np.abs(resampled).sum(axis=1))
    _, chance = percentile(np.abs(resampled - gaps).sum(axis=1))
    return _figure(value, 0.0 if value <= chance else np.maximum(0, 2 * value - high), high)


def _calibration_note(value: np.ndarray, resampled: np.ndarray) -> str | None:
    """A sentence where the temperature makes the log loss of these images worse, beyond chance (paired bootstrap).

    It does where these images are not like those of validation, often because the classes have other shares.
    """
    after, before = LOSSES.index("log_loss"), LOSSES.index("log_loss_uncalibrated")
    low, _ = percentile(resampled[:, after] - resampled[:, before])
    if not low > 0:  # nan of few images too
        return None
    return (
        f"The temperature that val chose does harm here: the log loss is {value[after]:.3f}, without it {value[before]:.3f}. "
        "These images are not like those of val (other shares of the classes are enough for that): trust the order of the "
        "probabilities, not their size."
    )


def _per_class(table: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    counts = Counts.of(table)
    figures, ends = counts.figures(), counts.ends()
    defined = {"precision": counts.called > 0, "recall": counts.support > 0, "f1": counts.support > 0}
    rows = []
    for k, name in enumerate(classes):
        row: dict[str, Any] = {"name": name, "support": int(counts.support[k])}
        for figure, (low, high) in ends.items():
            known = (figures[figure][k], low[k], high[k]) if defined[figure][k] else (np.nan, np.nan, np.nan)
            row[figure] = _figure(*known)
        rows.append(row)
    return rows


def _leak_free(sample: _Sample, classes: Sequence[str], resamples: int, seed: int) -> dict[str, Any]:
    rest = sample.taken(np.flatnonzero(~sample.twin))
    if not len(rest.labels):
        return {"n": 0, "note": "every image has a twin in train, so nothing is left to judge on"}
    return {"n": len(rest.labels)} | _summary(rest, classes, resamples, seed)


def _share(successes: int, n: int) -> dict[str, float | None]:
    return _figure(successes / n, *wilson(successes, n))


def _figure(value: float, low: float | np.ndarray, high: float | np.ndarray) -> dict[str, float | None]:
    """As JSON: plain floats, null for nan; an interval always holds its value."""
    low, high = np.minimum(low, value), np.maximum(high, value)
    return {name: None if np.isnan(x) else float(x) for name, x in (("value", value), ("low", low), ("high", high))}


def _labels(predictions: Predictions) -> np.ndarray:
    if not len(predictions):
        raise DataError("There are no images to evaluate. Check that the split or the folder holds labelled images.")
    if predictions.labels is None:
        raise DataError("These images have no labels, so nothing can be judged. Sort them into one folder a class.")
    return predictions.labels


def _twins(given: np.ndarray | None, n: int) -> np.ndarray:
    if given is None:
        return np.zeros(n, dtype=bool)
    twins = np.asarray(given)
    if twins.shape != (n,) or twins.dtype != bool:
        raise ValueError(f"twins must be {n} booleans, not {twins.dtype} of shape {twins.shape}")
    return twins
