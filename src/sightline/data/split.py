"""Train, val and test: before any augmentation, by whole groups, the same for the same files and seed.

    split = make_split(frame, groups, fractions=(0.7, 0.15, 0.15), seed=0)

Within a class the groups are ordered by a hash of (seed, their content), so neither the file system's order nor a
file's name matters, and test, val and train are filled to their shares. Rare classes:

    groups of a class   train  val  test
    1                   1      -    -     trained on, and reported as "not evaluated"
    2                   1      -    1     judged, but no voice in choosing the epoch
    3 or more           the rest, at least 1, and at least one group each in val and test (where their share is above 0)

A split that the user brings is kept. Where it lacks val, or lacks test, the missing part is made as section 4 of the
design says: the user's val then judges, and a part of train is set aside to choose with.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.errors import DataError
from sightline.randomness import key

Fractions = tuple[float, float, float]


@dataclass(frozen=True)
class Split:
    """Which part each image belongs to.

    Attributes:
        part: (N,) of "train", "val", "test".
        twins: (N,) bool; True where a val or test image shares its group with a train image, or a test image with a val
            image: what the network or the choice of epoch has seen. Only a user's own split can have any.
        notes: sentences that the user should see.
    """

    part: npt.NDArray[np.str_]
    twins: npt.NDArray[np.bool_]
    notes: tuple[str, ...]

    def rows(self, part: str) -> npt.NDArray[np.int64]:
        """Row numbers of one part, ascending."""
        return np.flatnonzero(self.part == part)


def make_split(frame: pl.DataFrame, groups: npt.NDArray[np.int64], fractions: Fractions, seed: int) -> Split:
    """The split of the usable rows.

    Args:
        frame: (N) rows with `label`, `given` (all null, or none) and `digest` (content of the file).
        groups: (N,) numbers; equal ones stay together.
        fractions: shares of train, val and test.
        seed: another seed, another split.

    Raises:
        DataError: nothing would be left to choose with.
    """
    labels = frame["label"].to_numpy().astype(str)
    order = _group_order(frame["digest"].to_list(), groups, seed)
    if frame["given"].null_count() == len(frame):
        part = _divide(labels, groups, order, fractions)
        notes = _rare_notes(labels, part)
    else:
        part, notes = _complete(frame["given"].to_numpy().astype(str), labels, groups, order, fractions)
    if not (part == "val").any():
        raise DataError(
            "No image is left to choose the best epoch with: every class has fewer than 3 different images. Add images, or bring a split."
        )
    return Split(part, _twins(part, groups), tuple(notes))


def _group_order(digests: list[str], groups: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.uint64]:
    """(G,) a random-looking number a group, made from the seed and the content of its first file (by digest)."""
    first: dict[int, str] = {}
    for group, digest in zip(groups.tolist(), digests, strict=True):
        first[group] = min(digest, first.get(group, digest))
    return np.array([key(seed, "split", first[g]) for g in range(len(first))], dtype=np.uint64)


def _divide(
    labels: npt.NDArray[np.str_], groups: npt.NDArray[np.int64], order: npt.NDArray[np.uint64], fractions: Fractions
) -> npt.NDArray[np.str_]:
    part = np.full(len(labels), "train", dtype="<U5")
    sizes = np.bincount(groups)
    side = np.full(len(sizes), "train", dtype="<U5")
    for members in _groups_by_class(labels, groups):
        ordered = members[np.argsort(order[members], kind="stable")]
        for name, chosen in _deal(ordered, sizes, fractions).items():
            side[chosen] = name
    part[:] = side[groups]
    return part


def _groups_by_class(labels: npt.NDArray[np.str_], groups: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """The groups of each class; one that spans classes counts to the class that most of its images have."""
    votes: dict[int, Counter[str]] = {}
    for group, label in zip(groups.tolist(), labels.tolist(), strict=True):
        votes.setdefault(group, Counter())[label] += 1
    home = {g: min(c, key=lambda name: (-c[name], name)) for g, c in votes.items()}
    by_class: dict[str, list[int]] = {}
    for group, label in home.items():
        by_class.setdefault(label, []).append(group)
    return [np.array(sorted(by_class[label]), dtype=np.int64) for label in sorted(by_class)]


def _deal(ordered: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], fractions: Fractions) -> dict[str, list[int]]:
    """Fills test, then val, to their share of one class's images; a group that would overfill both goes to train."""
    total, count = int(sizes[ordered].sum()), len(ordered)
    want = {"test": _share(total, count, fractions[2], 2), "val": _share(total, count, fractions[1], 3)}
    got: dict[str, list[int]] = {"test": [], "val": []}
    left = dict(want)
    for group in ordered.tolist():
        size = int(sizes[group])
        for name in ("test", "val"):
            if left[name] > 0 and size < 2 * left[name]:  # nearer to the share with the group than without it
                got[name].append(group)
                left[name] -= size
                break
    return _at_least_one(ordered, sizes, want, got)


def _share(total: int, count: int, fraction: float, least: int) -> int:
    """Images wanted: the rounded share, at least 1 where the class has `least` groups, never so many that train has none."""
    if fraction == 0 or count < least:
        return 0
    return max(1, min(round(total * fraction), total - 1))


def _at_least_one(
    ordered: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], want: dict[str, int], got: dict[str, list[int]]
) -> dict[str, list[int]]:
    """Large groups may have been refused by both parts, or have emptied train: the smallest ones mend that."""
    for name in ("test", "val"):
        if want[name] and not got[name]:
            free = [g for g in ordered.tolist() if g not in got["test"] and g not in got["val"]]
            if len(free) > 1:
                got[name].append(min(free, key=lambda g: int(sizes[g])))
    if len(got["test"]) + len(got["val"]) == len(ordered):
        fullest = max(got, key=lambda name: len(got[name]))
        got[fullest].remove(max(got[fullest], key=lambda g: int(sizes[g])))
    return got


def _complete(
    given: npt.NDArray[np.str_],
    labels: npt.NDArray[np.str_],
    groups: npt.NDArray[np.int64],
    order: npt.NDArray[np.uint64],
    fractions: Fractions,
) -> tuple[npt.NDArray[np.str_], list[str]]:
    """The user's own split, with the part that it lacks."""
    part, notes = given.astype("<U5"), []
    if "test" not in given and "val" in given:
        part[given == "val"] = "test"
        notes.append("The folder has train and val but no test: its val judges here, and a part of train is set aside to choose with.")
    if "val" not in part:
        train = np.flatnonzero(part == "train")
        share = fractions[1] / (fractions[0] + fractions[1])
        _, local = np.unique(groups[train], return_inverse=True)
        numbers = np.unique(groups[train])
        inner = _divide(labels[train], local.astype(np.int64), order[numbers], (1 - share, share, 0.0))
        part[train] = inner
        if len(notes) == 0:
            notes.append("The folder has no val: a part of its train is set aside to choose with.")
        if "test" not in part:
            notes.append("The folder has no test: nothing judges the classifier at the end.")
    return part, notes


def _twins(part: npt.NDArray[np.str_], groups: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    count = int(groups.max(initial=-1)) + 1
    in_train, in_val = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    in_train[groups[part == "train"]] = True
    in_val[groups[part == "val"]] = True
    seen_by_val = (part == "val") & in_train[groups]
    seen_by_test = (part == "test") & (in_train[groups] | in_val[groups])
    twins: npt.NDArray[np.bool_] = seen_by_val | seen_by_test
    return twins


def _rare_notes(labels: npt.NDArray[np.str_], part: npt.NDArray[np.str_]) -> list[str]:
    notes = []
    for name, consequence in (("test", "not evaluated"), ("val", "no voice in choosing the epoch")):
        lacking = sorted(set(labels) - set(labels[part == name])) if (part == name).any() else []
        if lacking:
            shown = ", ".join(lacking[:8]) + (f" and {len(lacking) - 8} more" if len(lacking) > 8 else "")
            notes.append(f"Too few images for {name} ({consequence}): {shown}.")
    return notes
