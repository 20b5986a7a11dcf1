"""A folder that several processes fill together, each its share; with one process it is filled by that one.

    place = fill_together(parent, find, fill, finish)

`find()` gives the folder where it is there already. Else a scratch folder is made, `fill(part, share)` runs on every
process that sees it, and `finish(part)`, on the first of them, completes and publishes it. Machines whose `parent` is
their own disk each fill one of their own. It gives up stealing work from slow processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from sightline import files, processes
from sightline.processes import Share


def fill_together(
    parent: Path, find: Callable[[], Path | None], fill: Callable[[Path, Share], None], finish: Callable[[Path], Path]
) -> Path:
    """The folder that was found, or else filled and finished; all processes call it.

    Args:
        find, finish: run by the first process of each disk alone.
        fill: writes its share into the scratch folder; shares are disjoint and cover everything.
    """
    with contextlib.ExitStack() as held:
        found, part = None, None
        share, first = processes.sharing(parent)
        leads = share.part == 0
        with processes.together():
            if leads:
                found = find()
                part = None if found is not None else held.enter_context(files.scratch_folder(parent))
        part = processes.gathered(part)[first]
        with processes.together(), files.disk_errors(parent):
            if part is not None:
                fill(part, share)
        with processes.together():
            if leads and part is not None:
                found = finish(part)
        place = processes.gathered(found)[first]
    assert place is not None
    return place
