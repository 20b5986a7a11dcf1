"""Why a class is weak, and which classes are taken for each other: plain words with the images that show it.

    for weak in weaknesses(predictions, {"rose": 80, "tulip": 7}, twins)[:5]:
        print(weak.name, weak.f1, *(reason.sentence for reason in weak.reasons))
    for pair in confused_pairs(predictions): print(pair.sentence, [mistake.id for mistake in pair.mistakes])

Arrays in, words out: no picture is opened. A reason is a fact about these images that goes along with the mistakes, not
a proof that it caused them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from sightline.evaluation.predictions import Predictions

FEW_TO_LEARN = 20
"""Images to learn from below which a class is called short of them, whatever the others have."""

FEW_TO_JUDGE = 10
"""Images below which one mistake moves a class's recall by more than ten points."""

SURE = 0.9
"""A mistake made with this confidence deserves a look at its label."""

Kind = Literal["few_to_learn", "few_to_judge", "twins", "confusable", "scattered", "attracts", "suspects", "sure"]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One image that was taken for another class.

    Attributes:
        id: its path.
        label, predicted: names of the true class and of the one it was taken for.
        confidence: probability of `predicted`.
        chance: probability of `label`.
        suspect: its label is doubted itself.
    """

    id: str
    label: str
    predicted: str
    confidence: float
    chance: float
    suspect: bool = False


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that goes along with a class's mistakes, as a word for programs and a sentence for people."""

    kind: Kind
    sentence: str


@dataclass(frozen=True, slots=True)
class ClassWeakness:
    """How a class fares and why.

    Attributes:
        name: of the class.
        train: images that it was learned from; None: not known.
        support: images of it that were judged; `right` of them were recognised.
        false: images of other classes that were taken for it.
        recall, f1: in 0..1; recall is None without images, f1 where it was never named either.
        twins: judged images that have a twin among those learned from.
        suspects: images of it, judged or not, whose label is doubted.
        taken_for: (class, images) that its images were taken for, the most frequent first.
        reasons: the most telling first; none where the class has no mistake.
        mistakes: its images that were taken for others, the surest mistakes first.
    """

    name: str
    train: int | None
    support: int
    right: int
    false: int
    recall: float | None
    f1: float | None
    twins: int
    suspects: int
    taken_for: tuple[tuple[str, int], ...]
    reasons: tuple[Reason, ...]
    mistakes: tuple[Mistake, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two classes that are taken for each other.

    Attributes:
        first, second: their names; `first` is the one that is mistaken more often.
        forth: images of `first` taken for `second`; `back`: the other way round.
        first_support, second_support: images of each that were judged.
        share: (forth + back) of all images of both.
        mistakes: these images, the surest mistakes first.
    """

    first: str
    second: str
    forth: int
    back: int
    first_support: int
    second_support: int
    share: float
    mistakes: tuple[Mistake, ...]

    @property
    def sentence(self) -> str:
        """Both directions in words."""
        words = f"{self.forth:,} of {self.first_support:,} {self.first} taken for {self.second}"
        return words + (f", {self.back:,} of {self.second_support:,} the other way round" if self.back else "")


def weaknesses(
    predictions: Predictions,
    train_counts: Mapping[str, int] | None,
    twins: npt.NDArray[np.bool_] | None = None,
    suspects: Mapping[str, str] | None = None,
) -> list[ClassWeakness]:
    """Every class, the weakest (lowest F1) first; classes that were never judged come last.

    Args:
        predictions: with labels.
        train_counts: {class name: images learned from}; a class that is missing has none. None: not known.
        twins: (N,) whether an image of `predictions` has a twin among those learned from; None: not known.
        suspects: {image id: its label} of images, judged or not, whose label is doubted; None: nobody looked.

    Raises:
        ValueError: the predictions have no labels, or `twins` has another length.
    """
    seen = _Seen.of(predictions, train_counts, twins, suspects)
    found = [_weakness(seen, k) for k in range(len(predictions.classes))]
    return sorted(found, key=lambda weak: (weak.f1 is None or not weak.support, weak.f1 or 0.0, -weak.support, weak.name))


def confused_pairs(predictions: Predictions, most: int = 10, suspects: Mapping[str, str] | None = None) -> list[Pair]:
    """The pairs of classes with most mistakes between them, both directions counted; at most `most` of them.

    Of pairs with equally many the one with the larger share of its images comes first.

    Raises:
        ValueError: the predictions have no labels.
    """
    seen = _Seen.of(predictions, None, None, suspects)
    wrong = seen.confusion - np.diag(np.diag(seen.confusion))
    firsts, seconds = np.nonzero(np.triu(wrong + wrong.T))
    pairs = [_pair(seen, wrong, int(a), int(b)) for a, b in zip(firsts, seconds, strict=True)]
    pairs.sort(key=lambda pair: (-(pair.forth + pair.back), -pair.share, pair.first, pair.second))
    return [_with_mistakes(seen, pair) for pair in pairs[:most]]


# ---- what both ask of the predictions --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """The predictions, counted: `confusion` (K, K), true classes in rows; `surest` numbers of all mistakes, surest first."""

    predictions: Predictions
    labels: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    confusion: npt.NDArray[np.int64]
    surest: npt.NDArray[np.int64]
    train: npt.NDArray[np.int64] | None
    twins: npt.NDArray[np.bool_] | None
    suspects: Mapping[str, str] | None

    @classmethod
    def of(
        cls,
        predictions: Predictions,
        train_counts: Mapping[str, int] | None,
        twins: npt.NDArray[np.bool_] | None,
        suspects: Mapping[str, str] | None,
    ) -> _Seen:
        if predictions.labels is None:
            raise ValueError("without labels nobody knows what a mistake is")
        if twins is not None and np.shape(twins) != (len(predictions),):
            raise ValueError(f"{np.shape(twins)} marks of twins for {len(predictions)} images")
        labels, predicted, k = predictions.labels, predictions.predicted(), len(predictions.classes)
        confusion = np.bincount(labels * k + predicted, minlength=k * k).reshape(k, k)
        wrong = np.flatnonzero(labels != predicted)
        confidence = predictions.confidence()
        surest = wrong[np.argsort(-confidence[wrong], kind="stable")]
        counts = None if train_counts is None else [train_counts.get(name, 0) for name in predictions.classes]
        train = None if counts is None else np.array(counts, dtype=np.int64)
        return cls(predictions, labels, predicted, confidence, confusion, surest, train, twins, suspects)

    def mistakes(self, chosen: npt.NDArray[np.bool_]) -> tuple[Mistake, ...]:
        """Those of the mistakes that the mask over `surest` chooses."""
        return tuple(self._mistake(int(row)) for row in self.surest[chosen])

    def _mistake(self, row: int) -> Mistake:
        name, label = self.predictions.ids[row], int(self.labels[row])
        return Mistake(
            name,
            self.predictions.classes[label],
            self.predictions.classes[int(self.predicted[row])],
            float(self.confidence[row]),
            float(self.predictions.probabilities[row, label]),
            self.suspects is not None and name in self.suspects,
        )


def _weakness(seen: _Seen, k: int) -> ClassWeakness:
    support, named = int(seen.confusion[k].sum()), int(seen.confusion[:, k].sum())
    right = int(seen.confusion[k, k])
    name, mistakes = seen.predictions.classes[k], seen.mistakes(seen.labels[seen.surest] == k)
    weak = ClassWeakness(
        name=name,
        train=None if seen.train is None else int(seen.train[k]),
        support=support,
        right=right,
        false=named - right,
        recall=right / support if support else None,
        f1=2 * right / (support + named) if support + named else None,
        twins=int(seen.twins[seen.labels == k].sum()) if seen.twins is not None else 0,
        suspects=Counter(seen.suspects.values())[name] if seen.suspects is not None else 0,
        taken_for=tuple(Counter(mistake.predicted for mistake in mistakes).most_common()),
        reasons=(),
        mistakes=mistakes,
    )
    return _explained(seen, k, weak)


def _pair(seen: _Seen, wrong: npt.NDArray[np.int64], a: int, b: int) -> Pair:
    if wrong[b, a] > wrong[a, b]:
        a, b = b, a
    support = seen.confusion.sum(1)
    share = float((wrong[a, b] + wrong[b, a]) / (support[a] + support[b]))
    names = seen.predictions.classes
    return Pair(names[a], names[b], int(wrong[a, b]), int(wrong[b, a]), int(support[a]), int(support[b]), share, ())


def _with_mistakes(seen: _Seen, pair: Pair) -> Pair:
    a, b = (seen.predictions.classes.index(name) for name in (pair.first, pair.second))
    labels, predicted = seen.labels[seen.surest], seen.predicted[seen.surest]
    between = ((labels == a) & (predicted == b)) | ((labels == b) & (predicted == a))
    return replace(pair, mistakes=seen.mistakes(between))


# ---- reasons in words ------------------------------------------------------------------------------------------------


def _explained(seen: _Seen, k: int, weak: ClassWeakness) -> ClassWeakness:
    """With its reasons; a class that nothing was mistaken for and of which nothing was mistaken has none."""
    if not weak.support:
        return replace(weak, reasons=(Reason("few_to_judge", "No image of it was judged: nothing can be said of it."),))
    if not weak.mistakes and not weak.false:
        return weak
    found = [
        _suspects(weak),
        _few_to_learn(weak, seen),
        _confusable(weak, seen, k),
        _attracts(weak, seen, k),
        _twins(weak, seen, k),
        _sure(weak),
        _few_to_judge(weak),
    ]
    return replace(weak, reasons=tuple(reason for reason in found if reason is not None))


def _few_to_learn(weak: ClassWeakness, seen: _Seen) -> Reason | None:
    if weak.train is None or seen.train is None:
        return None
    median = int(np.median(seen.train))
    if weak.train >= FEW_TO_LEARN and 2 * weak.train >= median:
        return None
    others = f"; half of the classes have {median:,} or more" if weak.train < median else ", and the other classes have no more"
    return Reason("few_to_learn", f"Few images to learn from: {weak.train:,}{others}.")


def _few_to_judge(weak: ClassWeakness) -> Reason | None:
    if weak.support >= FEW_TO_JUDGE:
        return None
    if weak.support == 1:
        return Reason("few_to_judge", "Judged on a single image: its figures say next to nothing.")
    points = 100 / weak.support
    return Reason("few_to_judge", f"Judged on {weak.support} images only: each moves its recall by {points:.0f} points.")


def _confusable(weak: ClassWeakness, seen: _Seen, k: int) -> Reason | None:
    missed = len(weak.mistakes)
    if not missed:
        return None
    other, count = weak.taken_for[0]
    back = int(seen.confusion[seen.predictions.classes.index(other), k])
    both = f", and {_images(back)} of {other} for it: the two are hard to tell apart" if back else ""
    if count >= 2 or missed == 1:
        share = f"{count:,} of its {weak.support:,} images {'is' if count == 1 else 'are'} taken for {other}"
        if 3 * count >= missed:
            return Reason("confusable", f"{share}{both}.")
    if missed >= 4:
        return Reason("scattered", f"Its {missed:,} mistakes go to {len(weak.taken_for):,} different classes: it has no one look-alike.")
    return None


def _attracts(weak: ClassWeakness, seen: _Seen, k: int) -> Reason | None:
    """Named for others' images more often than its own are missed, by so much that it is no accident."""
    missed = weak.support - weak.right
    if weak.false < 3 or weak.false < 2 * missed:
        return None
    column = seen.confusion[:, k].copy()
    column[k] = 0
    worst = int(column.argmax())
    most = f", {column[worst]:,} of them {seen.predictions.classes[worst]}" if column[worst] > 1 else ""
    return Reason("attracts", f"It is named too often: {_images(weak.false)} of other classes are taken for it{most}.")


def _twins(weak: ClassWeakness, seen: _Seen, k: int) -> Reason | None:
    """Twins do not make a class weak; they make it look stronger than it is."""
    if seen.twins is None or not weak.twins or weak.recall is None:
        return None
    alone = (seen.labels == k) & ~seen.twins
    if not alone.any():
        return Reason("twins", "Each of its judged images has a twin among those learned from: its figures say nothing about new images.")
    recall = float((seen.predicted[alone] == k).mean())
    if recall >= weak.recall:
        return None
    return Reason(
        "twins",
        f"{weak.twins:,} of its {weak.support:,} judged images {'has a twin' if weak.twins == 1 else 'have twins'} among those learned "
        f"from; without them its recall is {100 * recall:.0f} % instead of {100 * weak.recall:.0f} %.",
    )


def _suspects(weak: ClassWeakness) -> Reason | None:
    if not weak.suspects:
        return None
    among = sum(mistake.suspect for mistake in weak.mistakes)
    part = f", {among:,} of them among its mistakes" if among else ""
    return Reason("suspects", f"{_images(weak.suspects)} of it may carry a wrong label{part}.")


def _sure(weak: ClassWeakness) -> Reason | None:
    sure = sum(mistake.confidence >= SURE for mistake in weak.mistakes)
    if not sure:
        return None
    which = "One of its mistakes is" if sure == 1 else f"{sure:,} of its mistakes are"
    return Reason(
        "sure", f"{which} made with a confidence of {100 * SURE:.0f} % or more: look at {'its label' if sure == 1 else 'the labels'}."
    )


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"
