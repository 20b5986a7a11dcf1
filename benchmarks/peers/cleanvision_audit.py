"""cleanvision's Imagelab with all of its checks, at their defaults."""

from __future__ import annotations

import contextlib
import sys

from benchmarks.peers.wire import asked, tell


def main() -> None:
    """How many images each check flags."""
    given = asked()
    from cleanvision import Imagelab

    tell(event="imported")
    with contextlib.redirect_stdout(sys.stderr):
        lab = Imagelab(data_path=str(given.data))
        lab.find_issues(n_jobs=given.threads, verbose=False)
    summary = lab.issue_summary
    tell(
        event="found",
        images=len(lab.issues),
        flagged={row.issue_type: int(row.num_images) for row in summary.itertuples() if row.num_images},
    )


if __name__ == "__main__":
    main()
