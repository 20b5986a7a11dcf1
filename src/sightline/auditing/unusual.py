"""Which images stand out: an absolute floor, and the folder's own habits.

    flag = stands_out(severity, soft=0.5, hard=0.9)

A night sky is dark among flowers and nothing special among night skies. So an image is flagged where its severity is at
least `hard`, whatever the others are, or at least `soft` and far above what is usual here. The spread that counts is
that of the 90th percentile over the median, so that what more than a tenth of a folder is like is a kind of its own,
and no outlier.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_TENTH = 1.2816  # standard deviations from a normal distribution's median to its 90th percentile
_LEAST_SPREAD = 0.05  # of the severity: below this nothing is far from anything
_FAR = 3.5  # standard deviations


def stands_out(severity: npt.NDArray[np.float64], *, soft: float, hard: float) -> npt.NDArray[np.bool_]:
    """(N,) severities from 0 to 1 -> (N,) bool. A more severe image is never left out where a less severe one is flagged."""
    return (severity >= hard) | ((severity >= soft) & (how_far(severity, _LEAST_SPREAD) > _FAR))


def how_far(values: npt.NDArray[np.float64], least: float) -> npt.NDArray[np.float64]:
    """(N,) how many standard deviations each value lies above the median; the spread is taken to be `least` at least.

    Values that are not finite are no part of the median.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return np.zeros(len(values))
    median, high = np.percentile(known, (50, 90))
    return np.asarray((values - median) / max((high - median) / _TENTH, least))
