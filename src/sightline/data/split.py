"""Train, val and test: before any augmentation, by whole groups, the same for the same files and seed.

    split = make_split(frame, groups, fractions=(0.7, 0.15, 0.15), seed=0)

Within a class the groups are ordered by a hash of (seed, their content), so neither the file system's order nor a
file's name matters, and a new image moves few others; test, val and train are filled to their shares. Rare classes:

    groups of a class   train  val  test
    1                   1      -    -     trained on, and reported as "not evaluated"
    2                   1      -    1     judged, but no voice in choosing the epoch
    3 or more           the rest, at least 1, and at least one group each in val and test (where their share is above 0)

A group that spans classes counts to the one that most of its images have; a class that is left without any image in
train by that takes one of its groups there.

A split that the user brings is kept. Where it has no test, its val judges; where it has no val to choose with, or no
longer, a part of train is set aside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.errors import DataError
from sightline.randomness import key

Fractions = tuple[float, float, float]
Groups = npt.NDArray[np.int64]
Parts = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Split:
    """Which part each image belongs to.

    Attributes:
        part: (N,) of "train", "val", "test".
        twins: (N,) bool; True where a val or test image shares its group with a train image, or a test image with a val
            image: what the network or the choice of epoch has seen. Only a user's own split can have any.
        notes: sentences that the user should see.
    """

    part: Parts
    twins: npt.NDArray[np.bool_]
    notes: tuple[str, ...]

    def rows(self, part: str) -> npt.NDArray[np.int64]:
        """Row numbers of one part, ascending."""
        return np.flatnonzero(self.part == part)


def make_split(frame: pl.DataFrame, groups: Groups, fractions: Fractions, seed: int) -> Split:
    """The split of the usable rows.

    Args:
        frame: (N) rows with `label`, `given` (all null, or none) and `digest` (content of the file).
        groups: (N,) numbers; equal ones stay together.
        fractions: shares of train, val and test.
        seed: another seed, another split.

    Raises:
        DataError: nothing would be left to choose with.
    """
    order = _group_order(frame["digest"], groups, seed)
    given = frame["given"].drop_nulls()
    if set(given) <= {"train"}:
        part = _divide(frame["label"], groups, order, fractions)
        notes = _rare_notes(frame["label"], part)
    else:
        part, notes = _complete(given.to_numpy().astype("<U5"), frame["label"], groups, order, fractions)
    if not (part == "val").any():
        raise DataError(
            "No image is left to choose the best epoch with: every class has fewer than 3 different images or groups. "
            "Add images, or bring a split."
        )
    return Split(part, _twins(part, groups), tuple(notes))


def _group_order(digests: pl.Series, groups: Groups, seed: int) -> npt.NDArray[np.uint64]:
    """(G,) a random-looking number a group, made from the seed and the content of its first file (by digest)."""
    rows = pl.DataFrame({"group": groups, "digest": digests})
    first = rows.group_by("group").agg(pl.col("digest").min()).sort("group")["digest"]
    return np.array([key(seed, "split", digest) for digest in first], dtype=np.uint64)


def _divide(labels: pl.Series, groups: Groups, order: npt.NDArray[np.uint64], fractions: Fractions) -> Parts:
    """(N,) the part of each image."""
    sizes = np.bincount(groups)
    side = np.full(len(sizes), "train", dtype="<U5")
    for members in _groups_by_class(labels, groups):
        ordered = members[np.argsort(order[members], kind="stable")]
        side[ordered] = _deal(sizes[ordered].tolist(), fractions)
    _give_train_every_class(side, labels, groups, order)
    return side[groups]


def _groups_by_class(labels: pl.Series, groups: Groups) -> list[Groups]:
    """The groups of each class; one that spans classes counts to the class that most of its images have."""
    counts = pl.DataFrame({"group": groups, "label": labels}).group_by("group", "label").len()
    ranked = counts.sort("group", "len", "label", descending=[False, True, False])
    home = ranked.unique("group", keep="first", maintain_order=True)
    return [members["group"].to_numpy() for members in home.partition_by("label", maintain_order=True)]


def _deal(sizes: Sequence[int], fractions: Fractions) -> list[str]:
    """The part of each group of one class, from their sizes in the order in which they are dealt.

    Test, then val, take what brings them nearer to their share; what would overfill both goes to train.
    """
    total, count = sum(sizes), len(sizes)
    left = {"test": _share(total, count, fractions[2], 2), "val": _share(total, count, fractions[1], 3), "train": total}
    wanted = [name for name in ("train", "test", "val") if left[name]]
    parts = []
    for size in sizes:
        name = "test" if size < 2 * left["test"] else "val" if size < 2 * left["val"] else "train"
        left[name] -= size
        parts.append(name)
    return _at_least_one(parts, sizes, wanted)


def _share(total: int, count: int, fraction: float, least: int) -> int:
    """Images wanted: the rounded share, and at least 1 where the class has `least` groups."""
    return max(1, round(total * fraction)) if fraction > 0 and count >= least else 0


def _at_least_one(parts: list[str], sizes: Sequence[int], wanted: Sequence[str]) -> list[str]:
    """Every wanted part holds a group: large ones may have been refused by val and test, or have left train empty."""
    for name in wanted:
        if name not in parts:
            donor = Counter(parts).most_common(1)[0][0]
            choose = max if name == "train" else min
            parts[choose((i for i, held in enumerate(parts) if held == donor), key=sizes.__getitem__)] = name
    return parts


def _give_train_every_class(side: Parts, labels: pl.Series, groups: Groups, order: npt.NDArray[np.uint64]) -> None:
    """A class whose images all lie in groups of other classes may have none in train: its first group moves there."""
    rows = pl.DataFrame({"label": labels, "group": groups, "order": order[groups], "train": side[groups] == "train"})
    lacking = rows.filter(~pl.col("train").any().over("label")).sort("order")
    side[lacking.unique("label", keep="first", maintain_order=True)["group"].to_numpy()] = "train"


def _complete(
    given: Parts, labels: pl.Series, groups: Groups, order: npt.NDArray[np.uint64], fractions: Fractions
) -> tuple[Parts, list[str]]:
    """The user's own split, with the part that it lacks."""
    part, notes = given.copy(), []
    if "test" not in given:
        part[given == "val"] = "test"
        notes.append("There are train and val but no test: val judges, and a part of train is set aside to choose with.")
    elif "val" not in given:
        notes.append("There is no val: a part of train is set aside to choose with.")
    if "val" not in part:
        train = np.flatnonzero(part == "train")
        numbers, local = np.unique(groups[train], return_inverse=True)
        share = fractions[1] / (fractions[0] + fractions[1])
        part[train] = _divide(labels.gather(train), local.astype(np.int64), order[numbers], (1 - share, share, 0.0))
        notes += _rare_notes(labels.gather(train), part[train])
    return part, notes


def _twins(part: Parts, groups: Groups) -> npt.NDArray[np.bool_]:
    count = int(groups.max(initial=-1)) + 1
    in_train, in_val = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    in_train[groups[part == "train"]] = True
    in_val[groups[part == "val"]] = True
    seen_by_val = (part == "val") & in_train[groups]
    seen_by_test = (part == "test") & (in_train[groups] | in_val[groups])
    twins: npt.NDArray[np.bool_] = seen_by_val | seen_by_test
    return twins


def _rare_notes(labels: pl.Series, part: Parts) -> list[str]:
    notes = []
    for name, consequence in (("test", "not evaluated"), ("val", "no voice in choosing the epoch")):
        held = labels.filter(part == name).unique()
        lacking = sorted(set(labels.unique()) - set(held)) if len(held) else []
        if lacking:
            shown = ", ".join(lacking[:8]) + (f" and {len(lacking) - 8} more" if len(lacking) > 8 else "")
            notes.append(f"Too few images for {name} ({consequence}): {shown}.")
    return notes
