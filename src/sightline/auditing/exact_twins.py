"""Check: images with exactly the same pixels, whatever the files are called and however they are packed."""

from __future__ import annotations

import numpy as np

from sightline.auditing.finding import Finding, count_of
from sightline.auditing.material import Material, Rows, members


def check(material: Material) -> Finding:
    """Severity 1 for every image with an exact twin."""
    same = material.same_pixels
    flag = np.bincount(same)[same] > 1 if len(same) else np.zeros(0, dtype=bool)
    groups = members(same, flag)
    torn = [rows for rows in groups if (material.label_numbers[rows] != material.label_numbers[rows[0]]).any()]
    spare = int(flag.sum()) - len(groups) - sum(len(rows) - 1 for rows in torn)
    found = f"{count_of(int(flag.sum()), 'image')} in {count_of(len(groups), 'group')} show exactly the same pixels as another."
    what = "A split that sightline makes keeps each group on one side."
    what += f" {count_of(spare, 'file')} could go without anything being lost." if spare else ""
    what += f" In {count_of(len(torn), 'group')} the labels differ: settle that first." if torn else ""
    return Finding(
        "exact-twins",
        "exact twins",
        "info",
        material.frame,
        flag.astype(np.float64),
        flag,
        found if groups else "No two images have the same pixels.",
        what if groups else "",
        lambda row: f"the same pixels as {count_of(int((same == same[row]).sum()) - 1, 'other')}",
        first_of_the_others(groups, len(same)),
        groups,
    )


def first_of_the_others(groups: tuple[Rows, ...], n: int) -> Rows:
    """(N,) for each row of a group its first other row, else the row itself."""
    partner = np.arange(n)
    for rows in groups:
        partner[rows] = rows[0]
        partner[rows[0]] = rows[1]
    return partner
