"""Is one classifier better than another, or is it chance? All are judged on the same images, image by image.

    found = compare({"plain": first, "pretrained": second})          two Predictions or more, plain JSON
    found["pairs"][0]["sentence"]      "pretrained is better than plain by 1.2 points of accuracy (0.4 to 2.0)."
    summarise_repeats([metrics_of_seed_0, metrics_of_seed_1])        mean, standard deviation and interval of each figure

Two intervals of 95 % that overlap say little: most images are easy or hard for both. Here the images are resampled for
all classifiers at once, so only where they differ counts (paired bootstrap; Efron and Tibshirani 1993), and the exact
McNemar test (1947) asks the same of the right answers alone. Where either sees no difference, the sentence says "too
few images to say". The differences of accuracy and of recall are also held against Newcombe's interval for paired
shares, and the wider end counts: resamples of a few images that both got right show no doubt at all.

With more than two classifiers the intervals hold for all pairs together (Bonferroni). One training run each is compared,
not two recipes: another seed may turn a small difference round, for which there are repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sightline.errors import DataError
from sightline.evaluation.intervals import CONFIDENCE, bootstrap, mean_interval, percentile
from sightline.evaluation.metrics import Counts, cell_sums, evaluate, image_losses
from sightline.evaluation.paired import holm, mcnemar, paired_shares
from sightline.evaluation.predictions import Predictions

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss")
LOWER_IS_BETTER = ("log_loss",)
SIGNIFICANT = 1 - CONFIDENCE
_UNBOUNDED = ("log_loss", "log_loss_uncalibrated", "brier", "brier_uncalibrated")


def compare(answers: Mapping[str, Predictions], resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Each classifier against the first, and which is best, on the images that all have judged.

    Args:
        answers: {name: predictions with labels}, at least two, of the same classes in any order.
        resamples, seed: of the bootstrap.

    Returns:
        `n`, `classes`, `confidence` of each interval below; `runs`: `name`, `left_out` (images that not all have judged)
        and each of FIGURES on the common images; `pairs`, each later one with the first: `first`, `second`,
        `only_first` and `only_second` (images that only this one got right), `p` (McNemar), `differences` (second minus
        first of each of FIGURES), `per_class` (`name`, `support`, `only_first`, `only_second`, `recall`: the difference,
        `p`, and `p_holm`, which allows for the number of classes) and `sentence`; `best`: a sentence on all.

    Raises:
        DataError: labels, classes or images do not belong together.
    """
    if len(answers) < 2:
        raise ValueError("a comparison needs two classifiers")
    judged = judge_together(answers)
    m = len(judged.names)
    confidence = 1 - SIGNIFICANT / (m * (m - 1) / 2)
    statistic = _statistic(judged)
    value = statistic(np.ones((1, judged.n)))[0]
    drawn = _Drawn(judged, value, bootstrap(statistic, judged.n, resamples, seed), confidence)
    runs = [{"name": name, "left_out": left} | _own_figures(judged, k, resamples, seed) for k, (name, left) in enumerate(judged.counted())]
    return {
        "n": judged.n,
        "classes": list(judged.classes),
        "confidence": confidence,
        "runs": runs,
        "pairs": [drawn.pair(0, k) for k in range(1, m)],
        "best": drawn.best(),
    }


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
            f"{_listed(names)} have no image in common, so nothing can be compared: they were judged on different images. "
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


def summarise_repeats(metrics: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Mean and spread of each figure over repeats of one training with different seeds, all judged on the same images.

    The interval is Student's, of the mean over seeds: it tells how much the seed matters, not how much the choice of the
    images does, which is what the intervals in `metrics.json` tell.

    Args:
        metrics: contents of `metrics.json`, at least one.

    Returns:
        {figure: {"mean", "sd", "n", "low", "high"}} for the figures that all have; the last three are null with one repeat
        (`n` is 1 then). A share's ends stay in 0..1.
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
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * sd / n**0.5
    return {"mean": mean, "sd": sd, "n": n, "low": max(0.0, mean - half), "high": min(1.0, mean + half) if bounded else mean + half}


# ---- differences -----------------------------------------------------------------------------------------------------


def _statistic(judged: Judged) -> Callable[[np.ndarray], np.ndarray]:
    """Weights (B, N) to (B, M, FIGURES)."""
    keys = np.vstack([judged.labels, judged.predicted])
    new = np.ones(judged.n, dtype=bool)
    new[1:] = (np.diff(keys, axis=1) != 0).any(axis=0)
    starts = np.flatnonzero(new)  # images with the same label and the same answers lie together
    true, called, k = keys[0, starts], keys[1:, starts], len(judged.classes)

    def statistic(weights: np.ndarray) -> np.ndarray:
        cells = np.add.reduceat(weights, starts, axis=1)
        support = cell_sums(cells, true, k)
        found = []
        for answer, losses in zip(called, judged.losses, strict=True):
            counts = Counts(cell_sums(cells * (answer == true), true, k), support, cell_sums(cells, answer, k))
            means = counts.means()
            accuracy = counts.right.sum(axis=1) / judged.n
            found.append(np.column_stack([accuracy, means["balanced_accuracy"], means["macro_f1"], weights @ losses / judged.n]))
        return np.stack(found, axis=1)

    return statistic


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """The figures of M classifiers (M, F) and of the same in every resample (R, M, F)."""

    judged: Judged
    value: np.ndarray
    resampled: np.ndarray
    confidence: float

    def pair(self, i: int, j: int) -> dict[str, Any]:
        """Classifier j against classifier i."""
        first, second = self.judged.right(i), self.judged.right(j)
        lost, won = int((first & ~second).sum()), int((second & ~first).sum())
        found: dict[str, Any] = {"first": self.judged.names[i], "second": self.judged.names[j], "only_first": lost, "only_second": won}
        found |= {"p": mcnemar(lost, won), "differences": self.differences(i, j), "per_class": self._per_class(i, j)}
        return found | {"sentence": self._sentence(found, i, j)}

    def differences(self, i: int, j: int) -> dict[str, dict[str, float | None]]:
        """{figure: second minus first, with its interval}."""
        found = {}
        for f, name in enumerate(FIGURES):
            value = float(self.value[j, f] - self.value[i, f])
            low, high = percentile(self.resampled[:, j, f] - self.resampled[:, i, f], self.confidence)
            if name in ("accuracy", "balanced_accuracy"):
                own_low, own_high = self._closed(i, j, name)
                low, high = np.minimum(low, own_low), np.maximum(high, own_high)
            found[name] = _figure(value, low, high) if self.judged.n > 1 else {"value": value, "low": None, "high": None}
        return found

    def _closed(self, i: int, j: int, name: str) -> tuple[float, float]:
        """The ends that Newcombe's intervals give: of all images together, or of the classes', as squares add."""
        tables = self._tables(i, j)
        if name == "accuracy":
            both, lost, won, n = (table.sum(keepdims=True) for table in tables)
            low, high = paired_shares(both, lost, won, n, self.confidence)
            return float(low[0]), float(high[0])
        here = tables[3] > 0
        both, lost, won, n = (table[here] for table in tables)
        low, high = paired_shares(both, lost, won, n, self.confidence)
        return mean_interval((won - lost) / n, low, high, np.full(len(n), 1 / len(n)))

    def _tables(self, i: int, j: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(K,) each: images of a class that both got right, only i, only j, and all of it."""
        first, second, k = self.judged.right(i), self.judged.right(j), len(self.judged.classes)
        kinds = (first & second, first & ~second, second & ~first, np.ones(self.judged.n, dtype=bool))
        both, lost, won, n = (np.bincount(self.judged.labels[kind], minlength=k) for kind in kinds)
        return both, lost, won, n

    def _per_class(self, i: int, j: int) -> list[dict[str, Any]]:
        both, lost, won, n = self._tables(i, j)
        low, high = paired_shares(both, lost, won, n, self.confidence)
        p = [mcnemar(a, b) for a, b in zip(lost.tolist(), won.tolist(), strict=True)]
        here = np.flatnonzero(n)  # a class without images is no question that was asked
        adjusted = dict(zip(here.tolist(), holm([p[k] for k in here]), strict=True))
        return [
            {
                "name": name,
                "support": int(n[k]),
                "only_first": int(lost[k]),
                "only_second": int(won[k]),
                "recall": _figure(float((won[k] - lost[k]) / n[k]), low[k], high[k])
                if n[k]
                else {"value": None, "low": None, "high": None},
                "p": p[k] if n[k] else None,
                "p_holm": adjusted.get(k),
            }
            for k, name in enumerate(self.judged.classes)
        ]

    def _wins(self, i: int, j: int) -> bool:
        """Whether j is more accurate than i, as interval and test agree."""
        low, sure = self.differences(i, j)["accuracy"]["low"], 1 - self.confidence
        lost, won = (int((self.judged.right(a) & ~self.judged.right(b)).sum()) for a, b in ((i, j), (j, i)))
        return low is not None and low > 0 and mcnemar(lost, won) < sure

    def _sentence(self, pair: dict[str, Any], i: int, j: int) -> str:
        """Who is better by accuracy, or that nobody can say; and where macro F1, which counts classes alike, sees it otherwise."""
        first, second, differences = pair["first"], pair["second"], pair["differences"]
        if (self.judged.predicted[i] == self.judged.predicted[j]).all():
            return f"{first} and {second} give the same answer for every image."
        won = self._wins(i, j) - self._wins(j, i)
        by_f1 = _sign(differences["macro_f1"])
        better, worse = (second, first) if (won or by_f1) > 0 else (first, second)
        f1 = f"{_points(differences['macro_f1'], by_f1)} of macro F1{_ends(differences['macro_f1'], by_f1)}"
        accuracy = f"{_points(differences['accuracy'], won or 1)} of accuracy{_ends(differences['accuracy'], won or 1)}"
        if not won:
            images = "1 image" if self.judged.n == 1 else f"{self.judged.n:,} images"
            told = f"Too few images to say whether {first} or {second} is better: on {images} they differ by {accuracy}"
            return f"{told}; but {better} is better by {f1}." if by_f1 else f"{told}."
        turned = f", but worse by {f1}, in which rare classes count as much as others" if by_f1 == -won else ""
        return f"{better} is better than {worse} by {accuracy}{turned}."

    def best(self) -> str:
        """Which has the highest accuracy, from which others it cannot be told apart, and where another has the highest macro F1."""
        names, accuracy, f1 = self.judged.names, self.value[:, 0], self.value[:, FIGURES.index("macro_f1")]
        top, fair = int(accuracy.argmax()), int(f1.argmax())
        tied = [names[k] for k in range(len(names)) if k != top and not self._wins(k, top)]
        told = f"{names[top]} has the highest accuracy, {100 * accuracy[top]:.1f} %"
        other = f" {names[fair]} has the highest macro F1, {100 * f1[fair]:.1f} %." if f1[fair] > f1[top] else ""
        if not tied:
            return f"{told}, and is more accurate than {'all others' if len(names) > 2 else 'the other'}.{other}"
        return f"{told}; too few images to say whether it is more accurate than {_listed(tied, 'or')}.{other}"


def _sign(figure: Mapping[str, float | None]) -> int:
    """1 or -1 where the interval lies on one side of 0, else 0."""
    low, high = figure["low"], figure["high"]
    if low is None or high is None:
        return 0
    return int(low > 0) - int(high < 0)


def _points(figure: Mapping[str, float | None], sign: int) -> str:
    """A difference of shares in points of a percent, seen from the side of `sign`."""
    assert figure["value"] is not None
    return f"{100 * sign * figure['value']:.1f} points"


def _ends(figure: Mapping[str, float | None], sign: int) -> str:
    low, high = figure["low"], figure["high"]
    if low is None or high is None:
        return ""
    low, high = (low, high) if sign >= 0 else (-high, -low)
    return f" ({100 * low:.1f} to {100 * high:.1f})"


def _own_figures(judged: Judged, k: int, resamples: int, seed: int) -> dict[str, Any]:
    metrics = evaluate(judged.predictions[k], resamples=resamples, seed=seed)
    return {name: metrics[name] for name in FIGURES}


def _figure(value: float, low: float | np.ndarray, high: float | np.ndarray) -> dict[str, float | None]:
    return {"value": value, "low": min(float(low), value), "high": max(float(high), value)}


# ---- what belongs together -------------------------------------------------------------------------------------------


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
            f"{name} and {other_name} do not know the same classes ({_listed(what[:3])} only {who}), so their figures cannot be compared."
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


def _listed(names: Sequence[str], word: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
