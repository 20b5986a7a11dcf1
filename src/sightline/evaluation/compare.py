"""Is one classifier better than another, or is it chance? All are judged on the same images, image by image.

    found = compare({"plain": first, "pretrained": second})          two Predictions or more, plain JSON
    found["pairs"][0]["sentence"]      "pretrained is better than plain by 1.2 points of accuracy (0.4 to 2.0)."

Two intervals of 95 % that overlap say little: most images are easy or hard for both. Here the images are resampled for
all classifiers at once, so only where they differ counts (paired bootstrap; Efron and Tibshirani 1993), and the exact
McNemar test (1947) asks the same of the right answers alone. Where either sees no difference, the sentence says "too
few images to say". The differences of accuracy and of recall are also held against Newcombe's interval for paired
shares, and the wider end counts: resamples of a few images that both got right show no doubt at all.

With more than two classifiers the intervals hold for all pairs together (Bonferroni). One training run each is compared,
not two recipes: another seed may turn a small difference round, for which there are repeats (evaluation/repeats.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sightline.evaluation.counts import Counts, cell_sums
from sightline.evaluation.intervals import CONFIDENCE, bootstrap, mean_interval, percentile
from sightline.evaluation.metrics import evaluate
from sightline.evaluation.paired import holm, mcnemar, paired_shares
from sightline.evaluation.predictions import Predictions
from sightline.evaluation.together import Judged, judge_together, listed

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss")
LOWER_IS_BETTER = ("log_loss",)
SIGNIFICANT = 1 - CONFIDENCE


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
        """{figure: second minus first, with its interval}; none of one image, and of probabilities that are the same."""
        found: dict[str, dict[str, float | None]] = {}
        same_answers, same = self.judged.alike(i, j)
        for f, name in enumerate(FIGURES):
            value = float(self.value[j, f] - self.value[i, f])
            if same or self.judged.n == 1 or (same_answers and name == "macro_f1"):  # resamples of no difference show no doubt
                found[name] = {"value": value, "low": None, "high": None}
                continue
            low, high = percentile(self.resampled[:, j, f] - self.resampled[:, i, f], self.confidence)
            if name in ("accuracy", "balanced_accuracy"):
                own_low, own_high = self._closed(i, j, name)
                low, high = np.minimum(low, own_low), np.maximum(high, own_high)
            found[name] = _figure(value, low, high)
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
        same_answers, same = self.judged.alike(i, j)
        if same_answers:
            return f"{first} and {second} give the same answer{' with the same probabilities' if same else ''} for every image."
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
        return f"{told}; too few images to say whether it is more accurate than {listed(tied, 'or')}.{other}"


def _sign(figure: Mapping[str, float | None]) -> int:
    """1 or -1 where the interval lies on one side of 0, else 0."""
    low, high = figure["low"], figure["high"]
    if low is None or high is None:
        return 0
    return int(low > 0) - int(high < 0)


def _points(figure: Mapping[str, float | None], sign: int) -> str:
    """A difference of shares in points of a percent, seen from the side of `sign`."""
    assert figure["value"] is not None
    return f"{100 * sign * figure['value']:z.1f} points"


def _ends(figure: Mapping[str, float | None], sign: int) -> str:
    low, high = figure["low"], figure["high"]
    if low is None or high is None:
        return ""
    low, high = (low, high) if sign >= 0 else (-high, -low)
    return f" ({100 * low:z.1f} to {100 * high:z.1f})"


def _own_figures(judged: Judged, k: int, resamples: int, seed: int) -> dict[str, Any]:
    metrics = evaluate(judged.predictions[k], resamples=resamples, seed=seed)
    return {name: metrics[name] for name in FIGURES}


def _figure(value: float, low: float | np.ndarray, high: float | np.ndarray) -> dict[str, float | None]:
    return {"value": value, "low": min(float(low), value), "high": max(float(high), value)}
