"""`sightline audit FOLDER --out DIR`, from an empty cache."""

from __future__ import annotations

from benchmarks.peers.wire import asked, tell


def main() -> None:
    """The findings with the number of images that each flags."""
    given = asked()
    from sightline.run.audit import audit

    tell(event="imported")
    result = audit(given.data, [f"data.workers={given.threads}"], out=given.out / "audit")
    tell(event="found", images=result.record["found"], flagged={one.name: one.count for one in result.findings if one.count})


if __name__ == "__main__":
    main()
