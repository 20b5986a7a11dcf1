"""Check: the same shot in another guise (re-encoded, resized, cropped, brighter, mirrored), or a neighbouring frame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sightline.auditing.finding import Finding, count_of
from sightline.auditing.material import Material, Rows, members
from sightline.data.twins import components


def check(material: Material) -> Finding:
    """Severity is the similarity to the nearest twin whose pixels are not equal."""
    near, n = material.near, len(material.frame)
    severity, partner = nearest(n, near.first, near.second, near.similarity)
    flag = severity > 0
    groups = members(components(near.first, near.second, n), flag)
    counted = f"{count_of(int(flag.sum()), 'image')} in {count_of(len(groups), 'group')}"
    found = f"{counted} look like the same shot as another, or a frame beside it."
    what = (
        "A split that sightline makes keeps each group on one side. Many of one kind teach less than their number says: look through them."
    )
    return Finding(
        "near-twins",
        "near twins",
        "info",
        material.frame,
        severity,
        flag,
        found if groups else "No two images look like the same shot.",
        what if groups else "",
        lambda row: f"similarity {severity[row]:.2f}",
        partner,
        groups,
    )


def nearest(n: int, first: Rows, second: Rows, similarity: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], Rows]:
    """(N,) the largest similarity of each row to another, 0 where it has no twin; and (N,) that twin, else the row itself.

    Args:
        first, second, similarity: (M,) pairs in any order.
    """
    severity, partner = np.zeros(n), np.arange(n)
    rows, others = np.concatenate([first, second]), np.concatenate([second, first])
    similar = np.clip(np.tile(similarity, 2).astype(np.float64), 1e-6, 1.0)
    order = np.argsort(similar, kind="stable")  # of several the last one written holds
    severity[rows[order]], partner[rows[order]] = similar[order], others[order]
    return severity, partner
