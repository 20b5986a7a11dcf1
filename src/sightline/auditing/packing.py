"""What the decoder noted about how a picture is packed, as a finding; the three checks of this kind differ in words only."""

from __future__ import annotations

import numpy as np

from sightline.auditing.finding import Finding, Level, count_of
from sightline.auditing.material import Material


def packed(material: Material, word: str, kind: tuple[str, str, Level, float], found: str, what: str, nothing: str) -> Finding:
    """A finding that flags the images with a note of the decoder.

    Args:
        word: the note, see `sightline.data.images.NOTES`.
        kind: name, title, level, and the severity of each.
        found: the sentence, with {} for "3 images".
        what: what to do.
        nothing: the sentence where no image is flagged.
    """
    name, title, level, severity = kind
    flag = material.noted(word)
    some = bool(flag.any())
    sentence = found.format(count_of(int(flag.sum()), "image")) if some else nothing
    return Finding(name, title, level, material.frame, np.where(flag, severity, 0.0), flag, sentence, what if some else "", lambda row: "")
