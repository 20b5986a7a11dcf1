"""What a classifier has to beat: to give every image the name of the most frequent class.

name, share = most_frequent(metrics)          ("rose", 0.247)
print(baseline_sentence(metrics))             None where the classifier is better beyond doubt
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def most_frequent(metrics: Mapping[str, Any]) -> tuple[str, float]:
    """The class with most of the judged images (of equal ones the first), and its share of them, 0 to 1.

    Args:
        metrics: what `sightline.evaluation.metrics.evaluate` returned, or `metrics.json` as read.
    """
    largest = max(metrics["per_class"], key=lambda row: row["support"])
    return largest["name"], largest["support"] / metrics["n"]


def baseline_sentence(metrics: Mapping[str, Any]) -> str | None:
    """Said where the 95 % interval of the accuracy reaches down to that share; None too where one class alone was judged."""
    name, share = most_frequent(metrics)
    if metrics["evaluated_classes"] < 2 or metrics["accuracy"]["low"] > share:
        return None
    return f"To call every image {name} would be right in {100 * share:.1f} %: by accuracy this classifier is not shown to do better."
