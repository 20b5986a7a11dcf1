"""Check: pictures without one sharp edge: out of focus, shaken, or enlarged from a smaller one.

Chosen on flowers-128px and simpsons-28px, where it flags none of 14,317 images. Of 200 planted among them, those blurred by
2 pixels (Gaussian) are found with recall 0.98 and 1.00, by 1.5 pixels 0.82 and 1.00; where JPEG adds its own edges to the
small picture after the blur (quality 95), by 2 pixels 0.49 and 1.00. Enlarged 3 times: 0.39 and 1.00.
"""

from __future__ import annotations

import numpy as np

from sightline.auditing.finding import Finding, said_of
from sightline.auditing.material import Material
from sightline.auditing.unusual import how_far

_LEAST_SPREAD = 0.2  # of the sharpness, which is a logarithm
_FAR = 4.5  # standard deviations below what is usual here, with severity 0.5
_CRISP = 1.5  # nothing above is blurred, however crisp all others are


def check(material: Material) -> Finding:
    """Severity by how far below the folder's median the sharpness is, in standard deviations."""
    sharpness = material.measures.sharpness.astype(np.float64)
    severity = np.clip(how_far(-sharpness, _LEAST_SPREAD) / (2 * _FAR), 0, 1)
    flag = (severity >= 0.5) & (sharpness < _CRISP)
    some = bool(flag.any())
    return Finding(
        "blur",
        "blurred",
        "info",
        material.frame,
        severity,
        flag,
        f"{said_of(int(flag.sum()), 'has', 'have')} no sharp edge at the size that a network sees."
        if some
        else "No image is strangely blurred.",
        "Keep them if the camera will see such pictures; else delete them, or find the originals of enlarged ones." if some else "",
        lambda row: f"{2 * _FAR * severity[row]:.1f} standard deviations less sharp than usual here",
    )
