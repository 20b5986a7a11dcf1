"""Check: files that cannot be used, each with its reason."""

from __future__ import annotations

import numpy as np

from sightline.auditing.finding import Finding, count_of
from sightline.auditing.material import Material


def check(material: Material) -> Finding:
    """Looks at every row found; severity 1 for each that is quarantined."""
    frame = material.table.frame
    refused = frame["reason"].is_not_null().to_numpy().astype(bool)
    reasons = frame["reason"].drop_nulls().value_counts(sort=True)
    told = [f"{row['count']:,} {row['reason']}" for row in reasons.head(3).to_dicts()]
    if len(reasons) > 3:
        told.append(f"{int(reasons['count'][3:].sum()):,} for other reasons")
    return Finding(
        "unreadable",
        "cannot be used",
        "error",
        frame,
        refused.astype(np.float64),
        refused,
        f"{count_of(int(refused.sum()), 'image')} of {len(frame):,} cannot be used: {'; '.join(told)}."
        if told
        else "Every image can be read.",
        "Mend, replace or delete them; until then they are left out of everything." if told else "",
        lambda row: str(frame["reason"][row]),
    )
