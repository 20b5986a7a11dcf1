"""Check: pictures washed out to white.

None of flowers-128px and simpsons-28px is; planted, with a tenth of their distance from white left all are found, with a
fifth about half.
"""

from __future__ import annotations

import numpy as np

from sightline.auditing.finding import Finding, said_of
from sightline.auditing.material import Material
from sightline.auditing.unusual import stands_out

_NOT_BRIGHT = 160.0  # the darkest hundredth of a picture with severity 0, of 255
_SOFT, _HARD = 0.5, 0.95


def check(material: Material) -> Finding:
    """Severity by how bright even the darkest hundredth of the pixels is: 1 where it is white."""
    darkest = material.measures.darkest
    severity = np.clip((darkest - _NOT_BRIGHT) / (255 - _NOT_BRIGHT), 0, 1).astype(np.float64)
    flag = stands_out(severity, soft=_SOFT, hard=_HARD)
    some = bool(flag.any())
    return Finding(
        "bright",
        "washed out",
        "info",
        material.frame,
        severity,
        flag,
        f"{said_of(int(flag.sum()), 'is', 'are')} nearly white all over." if some else "No image is strangely bright.",
        "Keep them if the camera will see such pictures; else mend or delete them." if some else "",
        lambda row: f"even its darkest parts have {darkest[row] / 2.55:.0f} % of white",
    )
