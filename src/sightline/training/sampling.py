"""Which images an epoch shows, where it is not each once.

    sampling = build_sampling(config.train, labels, seed)       None: each image once, in the order of `batches`
    positions, repeats = sampling.epoch(3)                      positions in `labels`; how often shown before in this epoch

An epoch follows from (seed, epoch) alone, so a run that was interrupted goes on with the same images. `repeats` lets the
second showing of an image be another view of it. Only rows of the train part go in: nothing is balanced before the split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from sightline.errors import SettingsError
from sightline.randomness import permutation, stream
from sightline.settings import TrainSettings

Positions = npt.NDArray[np.int64]

# An image is drawn with probability ~ n_class^-power, so a class with ~ n_class^(1 - power).
POWERS = {"balanced": 1.0, "sqrt": 0.5}


@dataclass(frozen=True, slots=True, eq=False)
class Sampling:
    """A way to choose the images of each epoch.

    Attributes:
        labels: (n,) class numbers of the train rows.
        shows: "balanced" or "sqrt": draws with replacement, as torch's WeightedRandomSampler (Mahajan et al. 2018 for
            the square root); "shuffle": each image once before any comes again, over as many epochs as that takes; a
            number: so many showings of every class that has images.
        seed: of the draws.
        images: showings in an epoch, where `shows` is a word; None: as many as there are images.
    """

    labels: npt.NDArray[np.int64]
    shows: Literal["balanced", "sqrt", "shuffle"] | int
    seed: int
    images: int | None = None

    def __post_init__(self) -> None:
        if len(self.labels) == 0:
            raise ValueError("there is no image to show")
        if isinstance(self.shows, int) and (self.shows < 1 or self.images is not None):
            raise ValueError(f"every class is shown at least once, {self.shows} times, and nothing else counts")

    def __len__(self) -> int:
        """Showings in an epoch."""
        if isinstance(self.shows, int):
            return self.shows * len(np.unique(self.labels))
        return len(self.labels) if self.images is None else self.images

    def epoch(self, epoch: int) -> tuple[Positions, Positions]:
        """(m,) positions in `labels` in the order shown, and (m,) how often each was shown before in this epoch.

        Args:
            epoch: from 0.
        """
        rng = stream(self.seed, "sampling", epoch)
        if self.shows == "shuffle":
            positions = self._next(epoch)
        elif isinstance(self.shows, str):
            positions = rng.choice(len(self.labels), len(self), p=_chances(self.labels, POWERS[self.shows]))
        else:
            positions = rng.permutation(self._turns(epoch, self.shows))
        return positions, _shown_before(positions)

    def _next(self, epoch: int) -> Positions:
        """The images of an epoch: a part of one permutation after another."""
        n = len(self.labels)
        turns = epoch * len(self) + np.arange(len(self))
        rounds = [permutation(self.seed, "order", number, n) for number in range(turns[0] // n, turns[-1] // n + 1)]
        shown: Positions = np.concatenate(rounds)[turns - turns[0] // n * n]
        return shown

    def _turns(self, epoch: int, shows: int) -> Positions:
        """`shows` images a class, class by class: each epoch takes up the class's round where the last one ended.

        So within an epoch no image is shown twice before all are shown once, and over epochs all are shown alike.
        """
        turns = epoch * shows + np.arange(shows)
        rounds = (np.flatnonzero(self.labels == c) for c in np.unique(self.labels))
        shuffled = (stream(self.seed, "sampling round", number).permutation(round_) for number, round_ in enumerate(rounds))
        return np.concatenate([images[turns % len(images)] for images in shuffled])


def build_sampling(settings: TrainSettings, labels: npt.NDArray[np.int64], seed: int) -> Sampling | None:
    """What the settings ask for; None where every image is shown once.

    Args:
        settings: none of those read here is "auto" any more.
        labels: (n,) class numbers of the train rows.

    Raises:
        SettingsError: both a sampler and a number of views a class.
    """
    sampler, views = settings.sampler, settings.views_per_class
    assert sampler != "auto", "settled before"
    assert views != "auto", "settled before"
    if sampler != "shuffle" and views is not None:
        raise SettingsError(
            f"train.sampler={sampler} and train.views_per_class={views} both say which images an epoch shows: "
            "set train.sampler=shuffle or train.views_per_class=null (or another imbalance, where that set one of them)."
        )
    images = settings.images_per_epoch
    if views is not None:
        most = views if images is None else max(1, images // len(np.unique(labels)))
        return Sampling(labels, min(views, most), seed)
    return None if sampler == "shuffle" and images is None else Sampling(labels, sampler, seed, images)


def _chances(labels: npt.NDArray[np.int64], power: float) -> npt.NDArray[np.float64]:
    """(n,) probability of each image in a draw, ~ n_class^-power."""
    weights = np.bincount(labels).astype(np.float64)[labels] ** -power
    chances: npt.NDArray[np.float64] = weights / weights.sum()
    return chances


def _shown_before(positions: Positions) -> Positions:
    """(m,) how often the same position stands further left."""
    order = np.argsort(positions, kind="stable")
    in_order = positions[order]
    before = np.empty_like(positions)
    before[order] = np.arange(len(positions)) - np.searchsorted(in_order, in_order)
    return before
