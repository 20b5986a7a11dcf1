"""Check: how many images each class has, and what can and cannot be said about it.

    classes(material)        [{"name", "images", "train", "val", "test", "different", "evaluable"}, ...] in the order of the names

A class is judged by the images of its own that lie in test, and has a voice in the choice of the epoch by those in val
(see sightline.data.split): "all" has both, "train and test" is judged, "train only" is learned and never judged. How
unbalanced the classes are is told of train, which is what a network learns from: a test part of equal classes hides it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from sightline.auditing.finding import Finding, count_of, listing
from sightline.auditing.material import Material

ALL, JUDGED, TRAINED = "all", "train and test", "train only"
_WORST = {ALL: 0.0, JUDGED: 0.5, TRAINED: 1.0}
_TIMES = 10  # as many images in the largest class as in the smallest, from which on they are called unbalanced

UNBALANCED = "The classes are unbalanced: see the setting imbalance, and judge by macro F1 rather than by accuracy."
"""What to do where they are."""


def classes(material: Material) -> list[dict[str, Any]]:
    """Each class with its images, how many of them are different, and what it can be evaluated on; left-out images do not count."""
    rows = pl.DataFrame({"name": material.frame["label"], "group": material.groups, "part": material.part}).filter(pl.col("part") != "")
    counts = rows.group_by("name").agg(
        images=pl.len(),
        different=pl.col("group").n_unique(),
        **{name: (pl.col("part") == name).sum() for name in ("train", "val", "test")},
    )
    judged, chosen = pl.col("test") > 0, pl.col("val") > 0
    kind = pl.when(judged & chosen).then(pl.lit(ALL)).when(judged).then(pl.lit(JUDGED)).otherwise(pl.lit(TRAINED))
    return counts.sort("name").select("name", "images", "train", "val", "test", "different", evaluable=kind).to_dicts()


def learned(found: Sequence[Mapping[str, Any]]) -> str:
    """Which count of a class tells how much there is to learn from: "train", or "images" where no class has any there."""
    return "train" if any(one["train"] for one in found) else "images"


def unbalanced(found: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the largest class has ten times as many images to learn from as the smallest."""
    sizes = [one[learned(found)] for one in found]
    return bool(sizes) and max(sizes) >= _TIMES * max(1, min(sizes))


def spread(found: Sequence[Mapping[str, Any]]) -> str:
    """of 203 to 1,000 images, in train 3 to 800"""
    ends = {name: (min(one[name] for one in found), max(one[name] for one in found)) for name in ("images", "train")}
    learned_from = f", in train {_range(*ends['train'])}" if ends["train"][1] and ends["train"] != ends["images"] else ""
    return f"of {_range(*ends['images'])} images{learned_from}"


def _range(least: int, most: int) -> str:
    return f"{least:,} to {most:,}" if least < most else f"{least:,}"


def check(material: Material) -> Finding:
    """Severity by what the image's class can be evaluated on, and below 0.5 by how rare the class is; flags the first kind.

    Where there is only one class, all of its images are flagged: nothing can be learned from them.
    """
    found = classes(material)
    size = learned(found)
    most = max((one[size] for one in found), default=1)
    alone = len(found) == 1
    worst = {one["name"]: 1.0 if alone else max(_WORST[one["evaluable"]], 0.49 * (1 - one[size] / most)) for one in found}
    severity = np.array([worst.get(name, 0.0) for name in material.frame["label"]], dtype=np.float64)
    kinds = {one["name"]: "the only class" if alone else one["evaluable"] for one in found}
    return Finding(
        "balance",
        "classes that cannot be judged",
        "error" if alone else "warning",
        material.frame,
        severity,
        severity >= _WORST[JUDGED],
        _sentence(found),
        _advice(found),
        lambda row: f"{material.frame['label'][row]}: {kinds[material.frame['label'][row]]}",
    )


def _sentence(found: list[dict[str, Any]]) -> str:
    if not found:
        return "No class has a usable image."
    if len(found) == 1:
        return f"Only one class, {found[0]['name']}, has images that can be used: a classifier needs two or more."
    least, most = (choose(found, key=lambda one: one["images"]) for choose in (min, max))
    ends = f"from {count_of(least['images'], 'image')} ({least['name']}) to {most['images']:,} ({most['name']})"
    fewest, largest = (choose(one["train"] for one in found) for choose in (min, max))
    parts = f", in train from {fewest:,} to {largest:,}" if largest else ""
    told = [f"{count_of(len(found), 'class', 'classes')}, {ends}{parts}."]
    for kind, consequence in ((TRAINED, "trained on but never judged"), (JUDGED, "judged, without a voice in choosing the epoch")):
        names = [one["name"] for one in found if one["evaluable"] == kind]
        if names:
            told.append(f"{consequence.capitalize()}: {listing(names)}.")
    return " ".join(told)


def _advice(found: list[dict[str, Any]]) -> str:
    if len(found) == 1:
        return "Give the folder that holds a folder for each class."
    told = []
    if any(one["evaluable"] != ALL for one in found):
        told.append("Three different images or groups a class are the least that all figures need; add images, or leave the class out.")
    if unbalanced(found):
        told.append(UNBALANCED)
    return " ".join(told)
