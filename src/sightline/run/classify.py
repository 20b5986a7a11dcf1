"""What a classifier says of files, or of a part of a split: each process looks at its share, and all get the whole.

    answers = classify(classifier, paths, views)

`evaluate` and `predict` have their answers from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sightline import processes
from sightline.classifier import Answers, Classifier
from sightline.errors import SettingsError


def check_views(views: int) -> None:
    """Raises SettingsError where test-time augmentation has no such number of views."""
    if not 1 <= views <= 10:
        raise SettingsError(f"--tta takes 1 to 10 views, not {views}.")


def whole_answers(
    logits: npt.NDArray[np.float32], novelty: npt.NDArray[np.float64] | None, count: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64] | None]:
    """The answers for all `count` images from each process's share of them."""
    return processes.rows(logits, count), None if novelty is None else processes.rows(novelty, count)


def classify(classifier: Classifier, paths: Sequence[Path], views: int) -> Answers:
    """What `Classifier.classify` says of all files; of several processes each looks at its share, and all get the whole."""
    own = processes.share().of(len(paths))
    answers = classifier.classify(paths[own], views)
    if processes.world() == 1:
        return answers
    unreadable = {own.start + i: reason for i, reason in answers.unreadable.items()}
    unreadable = {i: reason for part in processes.gathered(unreadable) for i, reason in part.items()}
    readable = np.array([i for i in range(len(paths)) if i not in unreadable], dtype=np.int64)
    # Shares of the readable ones may be of any size: they stand in rows of all, and those left empty are taken out.
    logits = np.zeros((own.stop - own.start, len(classifier.classes)), dtype=np.float32)
    logits[answers.readable] = answers.logits
    novelty = None
    if answers.novelty is not None:
        novelty = np.zeros(len(logits))
        novelty[answers.readable] = answers.novelty
    logits, novelty = whole_answers(logits, novelty, len(paths))
    return classifier.answers(tuple(paths), readable, logits[readable], unreadable, None if novelty is None else novelty[readable])
