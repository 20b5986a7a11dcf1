"""What an audit found, as the plain values of audit.json.

    record = as_record(material, run_checks(material), notes)
    record["found"] == record["used"] + sum(record["quarantined"].values())

Of each finding the worst 200 images and the first 100 groups are named; the counts are of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sightline.auditing.balance import classes
from sightline.auditing.finding import Finding
from sightline.auditing.material import Material

WORST, GROUPS, GROUP = 200, 100, 50  # images a finding, groups a finding, images a group


def as_record(material: Material, findings: Sequence[Finding], notes: Sequence[str]) -> dict[str, Any]:
    """The content of audit.json.

    Args:
        notes: sentences about the folder that no finding holds.
    """
    reasons = material.reasons.drop_nulls().value_counts(sort=True)
    used = len(material.reasons) - int(reasons["count"].sum())
    return {
        "folder": str(material.table.root),
        "n": used,
        "found": len(material.reasons),
        "used": used,
        "quarantined": {row["reason"]: row["count"] for row in reasons.to_dicts()},
        "left_out": dict(material.table.skipped),
        "parts": {name: int((material.part == name).sum()) for name in ("train", "val", "test")},
        "classes": classes(material),
        "mean": list(material.measures.mean),
        "std": list(material.measures.std),
        "notes": list(notes),
        "findings": [_finding(one) for one in findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    paths = finding.frame["path"]
    return {
        "name": finding.name,
        "title": finding.title,
        "level": finding.level,
        "count": finding.count,
        "of": len(finding.frame),
        "severity": round(float(finding.severity[finding.flag].max(initial=0.0)), 4),
        "sentence": f"{finding.sentence} {finding.advice}".strip(),
        "found": finding.sentence,
        "advice": finding.advice,
        "images": [_image(finding, int(row)) for row in finding.worst(WORST)],
        "groups": [paths.gather(rows[:GROUP]).to_list() for rows in finding.groups[:GROUPS]],
        "group_count": len(finding.groups),
    }


def _image(finding: Finding, row: int) -> dict[str, Any]:
    partner = row if finding.partner is None else int(finding.partner[row])
    return {
        "path": finding.frame["path"][row],
        "severity": round(float(finding.severity[row]), 4),
        "label": finding.frame["label"][row],
        "with": None if partner == row else finding.frame["path"][partner],
        "why": finding.why(row),
    }
