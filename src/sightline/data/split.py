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
longer, a part of train is set aside. Twins across it are kept and told, or `repair`ed: "drop" leaves out the train and
val images whose twin judges, "regroup" moves a group whole to the part that most of its images are in (of equal numbers test, then val).

    split = make_split(frame, groups, fractions, seed, fold=Fold(1, 5))      the first of five folds judges

Folds divide what the user has not set aside as test: each class's groups are dealt out in turn, a class with a single
group is always trained on. Each of them chooses on its own share of val.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.errors import DataError
from sightline.randomness import key

Fractions = tuple[float, float, float]
Groups = npt.NDArray[np.int64]
Parts = npt.NDArray[np.str_]
Repair = Literal["keep", "drop", "regroup"]


@dataclass(frozen=True)
class Split:
    """Which part each image belongs to.

    Attributes:
        part: (N,) of "train", "val", "test", or "" where the image is left out.
        twins: (N,) bool; True where a val or test image shares its group with a train image, or a test image with a val
            image: what the network or the choice of epoch has seen. Only a user's own split can have any.
        notes: sentences that the user should see.
        left_out: why the images without a part are left out.
    """

    part: Parts
    twins: npt.NDArray[np.bool_]
    notes: tuple[str, ...]
    left_out: str = ""

    def rows(self, part: str) -> npt.NDArray[np.int64]:
        """Row numbers of one part, ascending."""
        return np.flatnonzero(self.part == part)


@dataclass(frozen=True, slots=True)
class Fold:
    """The `number`-th, from 1, of `count` folds."""

    number: int
    count: int


def make_split(
    frame: pl.DataFrame, groups: Groups, fractions: Fractions, seed: int, repair: Repair = "keep", fold: Fold | None = None
) -> Split:
    """The split of the usable rows.

    Args:
        frame: (N) rows with `label`, `given` (all null, or none) and `digest` (content of the file).
        groups: (N,) numbers; equal ones stay together.
        fractions: shares of train, val and test.
        seed: another seed, another split.
        repair: what becomes of twins on both sides of the user's own split.
        fold: the fold that judges, in place of the share of test.

    Raises:
        DataError: nothing would be left to choose with.
    """
    order = _group_order(frame["digest"], groups, seed)
    given = frame["given"].drop_nulls()
    left_out = ""
    if fold is not None:
        part, notes = _fold(given, frame["label"], groups, order, fractions, fold)
        left_out = "in your own test part, which folds leave alone"
    elif set(given) <= {"train"}:
        part = _divide(frame["label"], groups, order, fractions)
        notes = _rare_notes(frame["label"], part)
    else:
        part, notes = _complete(given.to_numpy().astype("<U5"), frame["label"], groups, order, fractions)
        if repair != "keep":
            part, told = _repaired(part, frame["label"], groups, repair)
            notes, left_out = notes + told, "twin in test or val"
    if not (part == "val").any():
        raise DataError(
            "No image is left to choose the best epoch with: every class has fewer than 3 different images or groups. "
            "Add images, or bring a split."
        )
    return Split(part, _twins(part, groups), tuple(notes), left_out)


def _group_order(digests: pl.Series, groups: Groups, seed: int) -> npt.NDArray[np.uint64]:
    """(G,) a random-looking number a group, made from the seed and the content of its first file (by digest)."""
    alone = _alone(groups)
    order = np.zeros(int(groups.max(initial=-1)) + 1, dtype=np.uint64)
    rows = pl.DataFrame({"group": groups, "digest": digests})
    several = rows.filter(~alone).group_by("group").agg(pl.col("digest").min())
    for some in (rows.filter(alone), several):
        order[some["group"].to_numpy()] = np.fromiter((key(seed, "split", digest) for digest in some["digest"]), np.uint64, len(some))
    return order


def _alone(groups: Groups) -> pl.Series:
    """(N,) whether a row is all of its group: most are, and need not be counted."""
    return pl.Series(np.bincount(groups)[groups] == 1, dtype=pl.Boolean)


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
    rows, alone = pl.DataFrame({"group": groups, "label": labels}), _alone(groups)
    counts = rows.filter(~alone).group_by("group", "label").len()
    ranked = counts.sort("group", "len", "label", descending=[False, True, False])
    several = ranked.unique("group", keep="first", maintain_order=True).drop("len")
    home = pl.concat([rows.filter(alone), several]).sort("group")
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
        train = _set_val_aside(part, labels, groups, order, fractions)
        notes += _rare_notes(labels.gather(train), part[train])
    return part, notes


def _set_val_aside(part: Parts, labels: pl.Series, groups: Groups, order: npt.NDArray[np.uint64], fractions: Fractions) -> Groups:
    """Moves val's share of train to val; gives the rows that were train."""
    train = np.flatnonzero(part == "train")
    numbers, local = np.unique(groups[train], return_inverse=True)
    share = fractions[1] / (fractions[0] + fractions[1])
    part[train] = _divide(labels.gather(train), local.astype(np.int64), order[numbers], (1 - share, share, 0.0))
    return train


# ---- folds -----------------------------------------------------------------------------------------------------------


def _fold(
    given: pl.Series, labels: pl.Series, groups: Groups, order: npt.NDArray[np.uint64], fractions: Fractions, fold: Fold
) -> tuple[Parts, list[str]]:
    """This fold is test; of the rest a part is set aside as val. The user's own test is left out."""
    rows = np.flatnonzero(given.to_numpy() != "test") if len(given) else np.arange(len(labels))
    numbers, local = np.unique(groups[rows], return_inverse=True)
    local = local.astype(np.int64)
    dealt = deal_folds(labels.gather(rows), local, order[numbers], fold.count)
    part = np.full(len(labels), "", dtype="<U5")
    part[rows] = np.where(dealt[local] == fold.number, "test", "train")
    _set_val_aside(part, labels, groups, order, fractions)
    judged = set(labels.gather(rows[dealt[local] > 0]))
    never = sorted(set(labels.gather(rows)) - judged)
    return part, [f"One image or group only, so in no fold (not evaluated): {_shown(never)}."] if never else []


def choosing_folds(split: Split, frame: pl.DataFrame, groups: Groups, seed: int, count: int) -> tuple[Split, ...]:
    """Train and val dealt anew into so many folds: in the k-th split, the k-th fold is val and the others train. Test is as it was.

    Args:
        frame: (N) rows with `label` and `digest`.
        groups: (N,) numbers; equal ones stay together.

    Raises:
        DataError: there are too few groups for so many folds.
    """
    rows = np.flatnonzero(np.isin(split.part, ("train", "val")))
    numbers, local = np.unique(groups[rows], return_inverse=True)
    local = local.astype(np.int64)
    order = _group_order(frame["digest"], groups, seed)[numbers]
    dealt = deal_folds(frame["label"].gather(rows), local, order, count)[local]
    found = []
    for number in range(1, count + 1):
        if not (dealt == number).any():
            raise DataError(f"{count} folds are too many for so few images or groups: fold {number} would be empty.")
        part = split.part.copy()
        part[rows] = np.where(dealt == number, "val", "train")
        found.append(Split(part, _twins(part, groups), split.notes, split.left_out))
    return tuple(found)


def deal_folds(labels: pl.Series, groups: Groups, order: npt.NDArray[np.uint64], count: int) -> npt.NDArray[np.int64]:
    """(G,) the fold of each group, from 1; 0 for one that is always trained on, as its class has no other.

    A class's groups go, in their order, to the fold that has fewest images of the class, of equal ones the smallest fold.

    Raises:
        DataError: no class has two groups.
    """
    sizes = np.bincount(groups)
    fold = np.zeros(len(sizes), dtype=np.int64)
    whole = np.zeros(count, dtype=np.int64)
    for members in sorted(_groups_by_class(labels, groups), key=lambda members: -int(sizes[members].sum())):
        if len(members) < 2:
            continue
        own = np.zeros(count, dtype=np.int64)
        for group in members[np.argsort(order[members], kind="stable")]:
            chosen = int(np.lexsort((whole, own))[0])
            fold[group] = chosen + 1
            own[chosen] += sizes[group]
            whole[chosen] += sizes[group]
    _keep_every_class(fold, labels, groups, order)
    if not fold.any():
        raise DataError("No class has two different images or groups, so there is nothing to divide into folds. Add images.")
    return fold


def _keep_every_class(fold: npt.NDArray[np.int64], labels: pl.Series, groups: Groups, order: npt.NDArray[np.uint64]) -> None:
    """A class all of whose images would be judged by the same fold, lying in groups of other classes: its first group stays in train."""
    rows = pl.DataFrame({"label": labels, "group": groups, "order": order[groups], "fold": fold[groups]})
    lacking = rows.filter((pl.col("fold").n_unique() == 1).over("label") & (pl.col("fold") > 0)).sort("order")
    fold[lacking.unique("label", keep="first", maintain_order=True)["group"].to_numpy()] = 0


# ---- the user's own split, repaired ----------------------------------------------------------------------------------


def _repaired(part: Parts, labels: pl.Series, groups: Groups, repair: Repair) -> tuple[Parts, list[str]]:
    """The split without twins across it, and what was done."""
    ranks = {name: (part == name).astype(np.int64) for name in ("train", "val", "test")}
    held = {name: np.bincount(groups, weights=mask) for name, mask in ranks.items()}
    if repair == "drop":
        judged_by_test, judged_by_val = held["test"][groups] > 0, held["val"][groups] > 0
        gone = ((part != "test") & judged_by_test) | ((part == "train") & judged_by_val)
        repaired, what = np.where(gone, "", part), "left out of train and val, as they have a twin in test or val"
    else:
        most = np.argmax([held["test"], held["val"], held["train"]], axis=0)  # of equal ones test
        repaired = np.array(["test", "val", "train"])[most[groups]]
        gone, what = repaired != part, "moved to the part that most of their twins are in, of equal numbers to test"
    lost = sorted(set(labels) - set(labels.filter(repaired == "train")))
    if lost:
        raise DataError(f"split.repair={repair} would leave no image in train of {_shown(lost)}: use another, or add images.")
    return repaired, [f"{int(gone.sum()):,} images were {what} (split.repair={repair})."] if gone.any() else []


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
            notes.append(f"Too few images for {name} ({consequence}): {_shown(lacking)}.")
    return notes


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
