"""Check: how many images each class has, and what can and cannot be said about it.

    classes(material)        [{"name", "images", "different", "evaluable"}, ...] in the order of the names

A class is judged by the images of its own that lie in test, and has a voice in the choice of the epoch by those in val
(see sightline.data.split): "all" has both, "train and test" is judged, "train only" is learned and never judged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from sightline.auditing.finding import Finding, count_of, listing
from sightline.auditing.material import Material

ALL, JUDGED, TRAINED = "all", "train and test", "train only"
_WORST = {ALL: 0.0, JUDGED: 0.5, TRAINED: 1.0}
_UNBALANCED = 10  # times as many images in the largest class as in the smallest


def classes(material: Material) -> list[dict[str, Any]]:
    """Each class with its images, how many of them are different, and what it can be evaluated on; left-out images do not count."""
    rows = pl.DataFrame({"name": material.frame["label"], "group": material.groups, "part": material.part}).filter(pl.col("part") != "")
    counts = rows.group_by("name").agg(
        images=pl.len(),
        different=pl.col("group").n_unique(),
        judged=(pl.col("part") == "test").any(),
        chosen=(pl.col("part") == "val").any(),
    )
    kind = pl.when(pl.col("judged") & pl.col("chosen")).then(pl.lit(ALL)).when("judged").then(pl.lit(JUDGED)).otherwise(pl.lit(TRAINED))
    return counts.sort("name").select("name", "images", "different", evaluable=kind).to_dicts()


def check(material: Material) -> Finding:
    """Severity by what the image's class can be evaluated on, and below 0.5 by how rare the class is; flags the first kind.

    Where there is only one class, all of its images are flagged: nothing can be learned from them.
    """
    found = classes(material)
    most = max((one["images"] for one in found), default=1)
    alone = len(found) == 1
    worst = {one["name"]: 1.0 if alone else max(_WORST[one["evaluable"]], 0.49 * (1 - one["images"] / most)) for one in found}
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
    told = [f"{count_of(len(found), 'class', 'classes')}, {ends}."]
    for kind, consequence in ((TRAINED, "trained on but never judged"), (JUDGED, "judged, without a voice in choosing the epoch")):
        names = [one["name"] for one in found if one["evaluable"] == kind]
        if names:
            told.append(f"{consequence.capitalize()}: {listing(names)}.")
    return " ".join(told)


def _advice(found: list[dict[str, Any]]) -> str:
    if len(found) == 1:
        return "Give the folder that holds a folder for each class."
    sizes = [one["images"] for one in found]
    told = []
    if any(one["evaluable"] != ALL for one in found):
        told.append("Three different images or groups a class are the least that all figures need; add images, or leave the class out.")
    if sizes and max(sizes) >= _UNBALANCED * min(sizes):
        told.append("The classes are unbalanced: see the setting imbalance, and judge by macro F1 rather than by accuracy.")
    return " ".join(told)
