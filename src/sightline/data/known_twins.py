"""Near twins that were found before: the search is done once for the same pictures in the same order.

    twins = known_twins(pixels, usable["digest"], cache, progress, threads)

What is kept is known by the content of all files, by their stored size and by the versions of the decoder and of the search; a digest
in front of it guards it. Where it cannot be written, or is damaged, twins are looked for as if nothing had been kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from safetensors.numpy import load, save

from sightline import files
from sightline.data import shelf
from sightline.data.store import Pixels
from sightline.data.twins import VERSION, Progress, Twins, find_twins
from sightline.errors import DiskError


def known_twins(
    pixels: Pixels, digests: Sequence[str] | pl.Series, cache: Path, progress: Progress | None = None, threads: int = 1
) -> Twins:
    """What `find_twins` gives, from an earlier call where there was one.

    Args:
        digests: of the file of each row.
        cache: folder of all that is kept; twins lie in its `twins/`.
        progress: called with (done, all) while twins are looked for.
    """
    path = cache / "twins" / _name(pixels, digests)
    kept = _read(path)
    if kept is not None:
        return kept
    found = find_twins(pixels, progress, threads, cache)
    with contextlib.suppress(DiskError):  # it only saves time, and the cache may be somebody else's
        files.make_folder(path.parent)
        files.write_bytes(path, _packed(found))
    return found


def _name(pixels: Pixels, digests: Sequence[str] | pl.Series) -> str:
    content = hashlib.sha256(f"{shelf.VERSION} {VERSION} {pixels.side}\n".encode())
    for part in shelf.lines(digests):
        content.update(part)
    content.update(pixels.extents.tobytes())
    return f"{content.hexdigest()[:32]}.twins"


def _packed(twins: Twins) -> bytes:
    tensors: dict[str, np.ndarray] = {"first": twins.first, "second": twins.second, "similarity": twins.similarity}
    data = save(tensors, metadata={"notes": json.dumps(twins.notes)})
    return hashlib.sha256(data).digest() + data


def _read(path: Path) -> Twins | None:
    try:
        guarded = path.read_bytes()
    except OSError:
        return None
    data = guarded[32:]
    if hashlib.sha256(data).digest() != guarded[:32]:
        return None
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return Twins(**load(data), notes=tuple(json.loads(header["__metadata__"]["notes"])))
