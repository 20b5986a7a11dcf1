"""Check: pictures hidden under full transparency: other programs may show what sightline and a viewer do not."""

from __future__ import annotations

from sightline.auditing.finding import Finding
from sightline.auditing.material import Material
from sightline.auditing.packing import packed


def check(material: Material) -> Finding:
    """Severity 0.5: what is hidden may be anything."""
    return packed(
        material,
        "hidden-alpha",
        ("hidden-alpha", "hidden transparency", "warning", 0.5),
        "{} with colours hidden under full transparency: they are shown on neutral grey, as a viewer shows them.",
        "Other programs may drop the transparency and see another picture: save them without it.",
        "No image hides colours under transparency.",
    )
