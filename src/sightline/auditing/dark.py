"""Check: pictures too dark to show much.

None of flowers-128px and simpsons-28px is; planted, at a fifth of their light all are found, at 0.3 a fifth to a third.
"""

from __future__ import annotations

import numpy as np

from sightline.auditing.finding import Finding, said_of
from sightline.auditing.material import Material
from sightline.auditing.unusual import stands_out

_NOT_DARK = 128.0  # the brightest hundredth of a picture with severity 0, of 255
_SOFT, _HARD = 0.5, 0.85


def check(material: Material) -> Finding:
    """Severity by how dark even the brightest hundredth of the pixels is: 1 where it is black."""
    brightest = material.measures.brightest
    severity = np.clip(1 - brightest / _NOT_DARK, 0, 1).astype(np.float64)
    flag = stands_out(severity, soft=_SOFT, hard=_HARD)
    some = bool(flag.any())
    return Finding(
        "dark",
        "dark",
        "info",
        material.frame,
        severity,
        flag,
        f"{said_of(int(flag.sum()), 'is', 'are')} nearly black." if some else "No image is strangely dark.",
        "Keep them if the camera will see such pictures; else brighten or delete them." if some else "",
        lambda row: f"even its brightest parts reach only {brightest[row] / 2.55:.0f} % of white",
    )
