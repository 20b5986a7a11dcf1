"""Check: photographs that lie on their side in the file, with a note (EXIF) that says how to turn them."""

from __future__ import annotations

from sightline.auditing.finding import Finding
from sightline.auditing.material import Material
from sightline.auditing.packing import packed


def check(material: Material) -> Finding:
    """Severity 0.2: sightline turns them; another program may not."""
    return packed(
        material,
        "rotated",
        ("rotated", "turned by EXIF", "info", 0.2),
        "{} stored turned or mirrored, with a note (EXIF) that says so: sightline turns them upright.",
        "A program that does not read the note will see them lying: turn the files for good if others use them.",
        "No image is stored turned.",
    )
