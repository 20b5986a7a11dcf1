"""Check: pictures much larger or smaller, or of another shape, than is usual here."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sightline.auditing.finding import Finding, said_of
from sightline.auditing.material import Material
from sightline.auditing.unusual import stands_out

_TIMES_LARGER = 16.0  # a side so many times the usual one, or that part of it, has severity 1; its root (4) has 0.5
_TIMES_LONGER = 9.0  # likewise of width to height; its root (3) has 0.5
_SOFT, _HARD = 0.5, 1.1  # whatever is usual here is not odd


def check(material: Material) -> Finding:
    """Severity by how many times the side (the root of the area), or the shape, differs from the folder's median."""
    height, width = (material.frame[side].to_numpy().astype(np.float64) for side in ("height", "width"))
    side = np.sqrt(height * width)
    severity = np.maximum(_distance(side, _TIMES_LARGER), _distance(width / height, _TIMES_LONGER))
    flag = stands_out(severity, soft=_SOFT, hard=_HARD)
    some = bool(flag.any())
    usual = f"usual are about {np.median(width):.0f} x {np.median(height):.0f} pixels" if len(side) else ""
    return Finding(
        "size",
        "odd size or shape",
        "info",
        material.frame,
        severity,
        flag,
        f"{said_of(int(flag.sum()), 'is', 'are')} much larger, smaller, longer or taller than the rest; {usual}."
        if some
        else "No image has an odd size or shape.",
        "Thumbnails, icons and banners often are no proper examples: look at them." if some else "",
        lambda row: f"{width[row]:.0f} x {height[row]:.0f} pixels",
    )


def _distance(values: npt.NDArray[np.float64], one: float) -> npt.NDArray[np.float64]:
    """How many times larger or smaller than the median, on a scale of logarithms where `one` times is 1."""
    if not len(values):
        return values
    return np.asarray(np.minimum(np.abs(np.log(values / np.median(values))) / np.log(one), 1.0))
