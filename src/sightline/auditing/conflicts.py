"""Check: one picture under two labels; at least one of them is wrong."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sightline.auditing.finding import Finding, count_of
from sightline.auditing.material import Material, Rows, members
from sightline.auditing.near_twins import nearest
from sightline.data.twins import Twins


def check(material: Material) -> Finding:
    """Severity 1 where the pixels are equal and the labels are not, the similarity where the pixels are nearly so."""
    labels, near, n = material.label_numbers, material.near, len(material.frame)
    differ = labels[near.first] != labels[near.second]
    severity, partner = nearest(n, near.first[differ], near.second[differ], near.similarity[differ])
    exact = _several_labels(material.same_pixels, labels)
    groups = members(material.same_pixels, exact)
    for rows in groups:
        other = rows[labels[rows] != labels[rows[0]]][0]
        partner[rows] = np.where(labels[rows] == labels[rows[0]], other, rows[0])
    severity[exact] = 1.0
    flag = severity > 0
    shown = (*groups, *_pairs(near, differ))
    return Finding(
        "conflicts",
        "twins with different labels",
        "error" if exact.any() else "warning",
        material.frame,
        severity,
        flag,
        _sentence(int(exact.sum()), int(flag.sum()) - int(exact.sum())),
        "Look at each pair: delete the wrong one, or move it to the right class." if flag.any() else "",
        lambda row: f"{material.frame['label'][row]} here, {material.frame['label'][int(partner[row])]} there",
        partner,
        shown,
    )


def _several_labels(same: Rows, labels: Rows) -> npt.NDArray[np.bool_]:
    """(N,) True where images with the same pixels have more than one label."""
    if not len(same):
        return np.zeros(0, dtype=bool)
    kinds = np.unique(np.stack([same, labels]), axis=1)
    return np.asarray(np.bincount(kinds[0])[same] > 1)


def _pairs(near: Twins, differ: npt.NDArray[np.bool_]) -> list[Rows]:
    """The pairs of near twins, the most similar first."""
    rows = np.flatnonzero(differ)
    ordered = rows[np.argsort(-near.similarity[rows], kind="stable")]
    return [np.array([near.first[row], near.second[row]]) for row in ordered[:1000]]


def _sentence(exact: int, near: int) -> str:
    told = [f"{count_of(exact, 'image')} with equal pixels"] if exact else []
    told += [f"{count_of(near, 'image')} of the same shot"] if near else []
    return (
        f"{' and '.join(told)} carry different labels: at least one of each pair is wrong." if told else "No twins carry different labels."
    )
