"""What an audit found, as the plain values of audit.json.

    record = as_record(material, run_checks(material), notes)
    record["found"] == record["used"] + sum(record["quarantined"].values()) + sum(record["left_out"].values())

Quarantined are files that cannot be used; left out, images that corrections or a repaired split leave out; `passed_over`
counts what is no image and was not among those found. Of each finding the worst 200 images and the first 100 groups are
named; the counts are of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from sightline.auditing.balance import classes
from sightline.auditing.finding import Finding
from sightline.auditing.material import Material
from sightline.data.groups import twin_counts

WORST, GROUPS, GROUP = 200, 100, 50  # images a finding, groups a finding, images a group


def as_record(material: Material, findings: Sequence[Finding], notes: Sequence[str]) -> dict[str, Any]:
    """The content of audit.json.

    Args:
        notes: sentences about the folder that no finding holds.
    """
    found = len(material.table.frame)
    used = found - len(material.quarantined) - len(material.unused)
    images, groups = twin_counts(material.groups)
    parts = dict(zip(material.frame["path"], material.part.tolist(), strict=True))
    return {
        "folder": str(material.table.root),
        "n": used,
        "found": found,
        "used": used,
        "quarantined": _counted(material.quarantined),
        "left_out": _counted(material.unused),
        "passed_over": dict(material.table.skipped),
        "twins": {"images": images, "groups": groups},
        "parts": {name: int((material.part == name).sum()) for name in ("train", "val", "test")},
        "classes": classes(material),
        "mean": list(material.measures.mean),
        "std": list(material.measures.std),
        "notes": list(notes),
        "findings": [_finding(one, parts) for one in findings],
    }


def _counted(reasons: pl.Series) -> dict[str, int]:
    """{reason: how many}, the most frequent first."""
    return dict(reasons.rename("reason").value_counts(sort=True).iter_rows())


def _finding(finding: Finding, parts: Mapping[str, str]) -> dict[str, Any]:
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
        "images": [_image(finding, int(row), parts) for row in finding.worst(WORST)],
        "groups": [paths.gather(rows[:GROUP]).to_list() for rows in finding.groups[:GROUPS]],
        "group_count": len(finding.groups),
    }


def _image(finding: Finding, row: int, parts: Mapping[str, str]) -> dict[str, Any]:
    """One flagged image; where another belongs beside it, that one's path, label and part of the split too."""
    partner = row if finding.partner is None else int(finding.partner[row])
    paths, labels = finding.frame["path"], finding.frame["label"]
    found = {"path": paths[row], "severity": round(float(finding.severity[row]), 4), "label": labels[row], "part": parts.get(paths[row])}
    found |= {"with": None if partner == row else paths[partner], "why": finding.why(row)}
    return found if partner == row else found | {"with_label": labels[partner], "with_part": parts.get(paths[partner])}
