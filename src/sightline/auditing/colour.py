"""Check: grey pictures among colour ones, and colour among grey.

On flowers-128px it finds 76 photographs, all of them grey; on simpsons-28px 7, all grey. Grey survives JPEG.
"""

from __future__ import annotations

import numpy as np

from sightline.auditing.finding import Finding, percent, said_of
from sightline.auditing.material import Material

_GREY = 3.0  # chroma up to which a picture counts as grey
_FADED = 4.0  # times as much contrast as chroma has a grey picture; one that is only faded has not
_FEW = 0.1  # share up to which one kind is odd


def check(material: Material) -> Finding:
    """Severity of the rarer kind: for grey by how little colour there is, 1 for none; for colour by how much."""
    chroma, n = material.measures.chroma, len(material.frame)
    grey = chroma <= np.minimum(_GREY, material.measures.contrast / _FADED)
    few_grey = int(grey.sum()) * 2 <= n
    odd = grey if few_grey else ~grey
    flag = odd if odd.sum() <= _FEW * n else np.zeros(n, dtype=bool)
    distance = 1 - chroma / (2 * _GREY) if few_grey else chroma / (16 * _GREY)
    severity = np.clip(distance, 0, 1).astype(np.float64)
    return Finding(
        "colour",
        "grey among colour" if few_grey else "colour among grey",
        "info",
        material.frame,
        severity,
        flag,
        _sentence(int(grey.sum()), n, bool(flag.any()), few_grey),
        "See that they are not of one class only, or their colour is what the network learns." if flag.any() else "",
        lambda row: f"{percent(np.mean(grey[material.label_numbers == material.label_numbers[row]]))} of its class are grey",
    )


def _sentence(grey: int, n: int, odd: bool, few_grey: bool) -> str:
    if not odd and 0 < grey < n:
        return f"{grey:,} of {n:,} images are grey, {n - grey:,} in colour: both are common here."
    if not odd:
        return "All images are grey." if grey and grey == n else "All images are in colour."
    return (
        f"{said_of(grey, 'is', 'are')} grey among {n - grey:,} in colour."
        if few_grey
        else f"{said_of(n - grey, 'is', 'are')} in colour among {grey:,} grey ones."
    )
