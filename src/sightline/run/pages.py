"""What a finished run is looked at by: where its images lie for the network, where it looked, and report.html.

write_pages(run, screen)
"""

from __future__ import annotations

from pathlib import Path

from sightline.errors import DataError, ModelError
from sightline.run.embed import embed
from sightline.run.explain import explain
from sightline.run.folder import RunFolder
from sightline.run.progress import Screen
from sightline.run.report import report

DRAWN = 1_000
"""Images of the embedding: t-SNE of 1,000 takes a second or two. `sightline embed RUN` draws more."""

EXPLAINED = 12
"""Heat maps. `sightline explain RUN` makes more."""


def write_pages(run: RunFolder, screen: Screen) -> Path:
    """RUN/embedding/PART, RUN/explain/PART and RUN/report.html, of test where it was judged, else of val; what cannot be had is told."""
    part = "test" if (run.evaluation("test") / "metrics.json").exists() else "val"
    for make in (lambda: embed(run.root, part, limit=DRAWN), lambda: explain(run.root, part, images=EXPLAINED)):
        try:
            make()
        except (DataError, ModelError) as error:
            screen.say(f"Left out of the report: {error}")
    return report(run.root)
