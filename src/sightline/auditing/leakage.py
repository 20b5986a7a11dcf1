"""Check: images that judge and have a twin in what the network or the choice of its epoch has seen.

Only a split that the user brings can leak; sightline's own keeps groups together.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sightline.auditing.finding import Finding, count_of, percent
from sightline.auditing.material import Material, Rows
from sightline.auditing.near_twins import nearest

_SEEN_BEFORE = {"val": ("train",), "test": ("train", "val")}
_ADVICE = (
    "Figures are given with and without them. split.repair=drop leaves their twins out of training, "
    "split.repair=regroup moves each group to one side."
)
_INDIRECT = 0.5  # severity where the tie leads over other images, or over the user's own groups


def check(material: Material) -> Finding:
    """Severity is 1 for equal pixels on the other side, the similarity of a near twin, 0.5 where the tie is indirect."""
    part = material.part
    flag = across(part, material.groups)
    severity, partner = nearest(len(flag), *_pairs_across(material))
    indirect = flag & (severity == 0)
    partner = np.where(indirect, _first_seen(material.groups, part), partner)
    severity = np.where(flag, np.where(indirect, _INDIRECT, severity), 0.0)
    return Finding(
        "leakage",
        "twins across splits",
        "error",
        material.frame,
        severity,
        flag,
        _sentence(material, flag),
        _ADVICE if flag.any() else "",
        lambda row: f"in {part[row]}, its twin in {part[partner[row]]}, {_tie(severity[row])}",
        partner,
    )


def across(part: npt.NDArray[np.str_], groups: Rows) -> npt.NDArray[np.bool_]:
    """(N,) True where a val or test image shares its group with a train image, or a test image with a val image."""
    count = int(groups.max(initial=-1)) + 1
    flag = np.zeros(len(part), dtype=bool)
    for judge, before in _SEEN_BEFORE.items():
        seen = np.zeros(count, dtype=bool)
        seen[groups[np.isin(part, before)]] = True
        flag |= (part == judge) & seen[groups]
    return flag


def _pairs_across(material: Material) -> tuple[Rows, Rows, npt.NDArray[np.float32]]:
    """Pairs of twins, equal or near, in which one judges and the other was seen before, and how similar they are."""
    near, part = material.near, material.part
    apart = (part[near.first] != part[near.second]) & (part[near.first] != "") & (part[near.second] != "")
    seen = _first_seen(material.same_pixels, part)
    second = np.flatnonzero(seen != np.arange(len(seen)))
    return (
        np.concatenate([near.first[apart], seen[second]]),
        np.concatenate([near.second[apart], second]),
        np.concatenate([near.similarity[apart], np.ones(len(second), dtype=np.float32)]),
    )


def _first_seen(numbers: Rows, part: npt.NDArray[np.str_]) -> Rows:
    """(N,) for each image that judges the first one of its number that was seen before, else the image itself."""
    first = np.arange(len(numbers))
    for judge, before in _SEEN_BEFORE.items():
        seen = np.flatnonzero(np.isin(part, before))
        known, places = np.unique(numbers[seen], return_index=True)
        rows = np.flatnonzero((part == judge) & np.isin(numbers, known))
        first[rows] = seen[places[np.searchsorted(known, numbers[rows])]]
    return first


def _sentence(material: Material, flag: npt.NDArray[np.bool_]) -> str:
    told = []
    for judge in ("test", "val"):
        held, leaks = int((material.part == judge).sum()), int((flag & (material.part == judge)).sum())
        if leaks:
            told.append(f"{leaks:,} of {count_of(held, 'image')} in {judge} ({percent(leaks / held)})")
    if told:
        return (
            f"{' and '.join(told)} {'has' if flag.sum() == 1 else 'have'} a twin in what was trained on or chosen with, so figures flatter."
        )
    own = material.frame["given"].null_count() < len(material.frame)
    return "No image that judges has a twin in train." if own else "The split is sightline's own, which keeps twins on one side."


def _tie(severity: float) -> str:
    if severity == 1:
        return "the same pixels"
    return "tied by other images or by your own groups" if severity == _INDIRECT else f"similarity {severity:.2f}"
