"""Check: files with several frames or pages, of which the first is used."""

from __future__ import annotations

from sightline.auditing.finding import Finding
from sightline.auditing.material import Material
from sightline.auditing.packing import packed


def check(material: Material) -> Finding:
    """Severity 0.5: frames may be missing, or none but the first may matter."""
    return packed(
        material,
        "animated",
        ("animation", "animations and pages", "warning", 0.5),
        "{} with further frames or pages: the first one is used.",
        "Save the frames that matter as files of their own, or leave it.",
        "No image has further frames.",
    )
