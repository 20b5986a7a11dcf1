"""Check: pictures that show next to nothing: one colour, a fog, a few flat areas, hardly any tones.

None of flowers-128px and simpsons-28px is; planted, with a twentieth of their contrast left all are found, with a tenth
three quarters or more. A daisy on black (2.8 bits) or a figure on white (1.9 bits) is a picture.
"""

from __future__ import annotations

import numpy as np

from sightline.auditing.finding import Finding, said_of
from sightline.auditing.material import Material
from sightline.auditing.unusual import stands_out

_CONTRAST, _BITS = 12.0, 4.0  # of a picture with severity 0
_FLAT_AREAS = 0.8  # severity of few different values, as in a drawing: never enough by itself
_SOFT, _HARD = 0.5, 0.83


def check(material: Material) -> Finding:
    """Severity by want of contrast (1 for one colour), or by a histogram of few bits (0.8 for one value)."""
    measures = material.measures
    flat = 1 - measures.contrast / _CONTRAST
    poor = _FLAT_AREAS * (1 - measures.entropy / _BITS)
    severity = np.clip(np.maximum(flat, poor), 0, 1).astype(np.float64)
    flag = stands_out(severity, soft=_SOFT, hard=_HARD)
    some = bool(flag.any())
    return Finding(
        "low-information",
        "blank or nearly so",
        "warning",
        material.frame,
        severity,
        flag,
        f"{said_of(int(flag.sum()), 'shows', 'show')} next to nothing, or in hardly any tones." if some else "No image is blank.",
        "Look at them: placeholders and failed exports teach a class that it is blank. Delete those, not drawings in two tones."
        if some
        else "",
        lambda row: f"contrast {measures.contrast[row]:.1f} of 255, {measures.entropy[row]:.1f} bits",
    )
