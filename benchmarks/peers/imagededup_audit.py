"""imagededup: hash all images, then all duplicates, at its defaults (Hamming distance 10). `--network` names the method."""

from __future__ import annotations

from benchmarks.peers.wire import asked, tell


def main() -> None:
    """How many images have a duplicate."""
    given = asked()
    from imagededup import methods

    tell(event="imported")
    method = getattr(methods, given.network or "PHash")(verbose=False)
    hashes = method.encode_images(str(given.data), recursive=True, num_enc_workers=given.threads)
    found = method.find_duplicates(encoding_map=hashes, num_dist_workers=given.threads)
    tell(event="found", images=len(hashes), flagged={"near duplicates": sum(bool(others) for others in found.values())})


if __name__ == "__main__":
    main()
