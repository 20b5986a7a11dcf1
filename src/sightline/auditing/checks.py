"""All checks, in the order in which they are shown: what spoils figures first, what one may well leave as it is last.

for finding in run_checks(material): ...
"""

from __future__ import annotations

from sightline.auditing import (
    alpha,
    animation,
    balance,
    blur,
    bright,
    colour,
    conflicts,
    dark,
    exact_twins,
    information,
    leakage,
    near_twins,
    rotation,
    size,
    unreadable,
)
from sightline.auditing.finding import Finding
from sightline.auditing.material import Material

CHECKS = (
    unreadable.check,
    leakage.check,
    conflicts.check,
    balance.check,
    information.check,
    animation.check,
    alpha.check,
    exact_twins.check,
    near_twins.check,
    dark.check,
    bright.check,
    blur.check,
    colour.check,
    size.check,
    rotation.check,
)


def run_checks(material: Material) -> list[Finding]:
    """One finding a check, whether it flags anything or not."""
    return [check(material) for check in CHECKS]
