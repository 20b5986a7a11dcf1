"""Thumbnails for a page: WebP in base64, each picture once, as many as fit into a budget of bytes.

    pictures = make_pictures(paths, from_folder(root), budget=10_000_000)       the most important paths first
    pictures.of("a/1.jpg")                          its number in `pictures.table`, or why it cannot be had
    page(..., data={"pictures": pictures.table})    the one place where the bytes are
    tile(pictures, "a/1.jpg", "called rose")        the picture with a caption, as HTML

A picture that is gone, changed since, unreadable, or does not fit any more has a tile that says so. It gives up sharpness:
the long side is 128 pixels where there are few, else 96.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from sightline.data.images import MAX_PIXELS, Decoded, decode, shrink
from sightline.data.shelf import in_threads
from sightline.errors import UnreadableImage
from sightline.reporting.html import Content, Html, tag

BUDGET = 9_500_000
"""Bytes of base64; with 10,000 images and 102 classes all else takes about 2 MB, and the file must stay below 15."""

GONE = "picture no longer there"
CHANGED = "picture has changed since"
UNREADABLE = "picture cannot be read"
LEFT_OUT = "picture left out, to keep this file small"
FEW = 1500  # pictures that may be larger
SIDES = (128, 96)
_QUALITY, _METHOD = 68, 2  # of WebP
_CHUNK = 64

Pixels = npt.NDArray[np.uint8]
Read = Callable[[str], Pixels]
"""The (H, W, 3) pixels of a path, long side at least that of a thumbnail or that of the picture; raises MissingPicture."""


class MissingPicture(Exception):
    """A picture cannot be had; the text is what its tile says."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """What became of some paths.

    Attributes:
        table: base64 of WebP files, each different.
        places: {path: number in `table`}.
        missing: {path: why there is no picture}.
    """

    table: tuple[str, ...]
    places: Mapping[str, int]
    missing: Mapping[str, str]

    def of(self, path: str) -> int | str:
        """The number of its picture, or why there is none."""
        place = self.places.get(path)
        return place if place is not None else self.missing.get(path, LEFT_OUT)


def make_pictures(
    paths: Iterable[str],
    read: Read,
    *,
    budget: int = BUDGET,
    workers: int = 1,
    done: Callable[[int, int], None] | None = None,
    side: int | None = None,
) -> Pictures:
    """Thumbnails of as many paths as the budget allows.

    Args:
        paths: the most important ones first; one that comes again costs nothing.
        read: gives pixels; called from `workers` threads.
        budget: bytes of base64.
        workers: threads; Pillow decodes and encodes without the interpreter's lock.
        done: called with (paths done, all paths).
        side: of the longer side, in pixels; None: 128, and 96 where there are many.
    """
    wanted = list(dict.fromkeys(paths))
    side = side or side_of(wanted)
    numbers: dict[str, int] = {}
    places: dict[str, int] = {}
    missing: dict[str, str] = {}
    left = budget
    for first in range(0, len(wanted), _CHUNK):
        if left <= 0:
            missing.update(dict.fromkeys(wanted[first:], LEFT_OUT))
            break
        chunk = wanted[first : first + _CHUNK]
        for path, (code, why) in zip(chunk, in_threads(lambda path: _encoded(path, read, side), chunk, workers), strict=True):
            if code is None or (code not in numbers and len(code) > left):
                missing[path] = why or LEFT_OUT
                left = left if why else 0
                continue
            if code not in numbers:
                left -= len(code)
            places[path] = numbers.setdefault(code, len(numbers))
        if done is not None:
            done(min(first + _CHUNK, len(wanted)), len(wanted))
    return Pictures(tuple(numbers), places, missing)


def side_of(paths: Iterable[str]) -> int:
    """The longer side of the thumbnails of these paths, in pixels: 128, and 96 where there are many."""
    return SIDES[0] if len(set(paths)) <= FEW else SIDES[1]


def from_folder(root: Path, digests: Mapping[str, str] | None = None, max_pixels: int = MAX_PIXELS, side: int = SIDES[0]) -> Read:
    """Reads the files of a folder, or of absolute paths, for thumbnails of at most `side` pixels.

    Args:
        digests: {path: sha256 of the file as it was}; another file of that name is not shown in its place.
    """

    def read(path: str) -> Pixels:
        try:
            data = (root / path).read_bytes()
        except (OSError, ValueError):
            raise MissingPicture(GONE) from None
        was = digests.get(path) if digests is not None else None
        if was is not None and hashlib.sha256(data).hexdigest() != was:
            raise MissingPicture(CHANGED)
        try:
            return shrink(decode(data, max_pixels=max_pixels, side=side), side)
        except UnreadableImage:
            raise MissingPicture(UNREADABLE) from None

    return read


def tile(pictures: Pictures, path: str, *caption: Content, kind: str = "", title: str | None = None) -> Html:
    """A picture, or the reason why there is none, above its caption.

    Args:
        path: shown below the caption, its end where it is long, and as a whole on hover.
        kind: "right", "wrong" or nothing: the colour of its edge.
        title: shown in place of the path.
    """
    found = pictures.of(path)
    shown = tag("img", data_picture=found, alt=path, decoding="async") if isinstance(found, int) else tag("span", found, class_="gone")
    name = tag("span", tag("bdi", title or path), class_="path", title=path)
    lines = (tag("span", line) for line in caption if line)
    return tag("figure", tag("div", shown, class_="frame"), tag("figcaption", lines, name), class_=f"tile {kind}".strip(), data_path=path)


def gallery(tiles: Sequence[Html], **attributes: str) -> Html:
    """Tiles beside each other."""
    return tag("div", tiles, class_="gallery", **attributes)


def _encoded(path: str, read: Read, side: int) -> tuple[str | None, str | None]:
    """The thumbnail in base64, or why there is none."""
    try:
        small = shrink(Decoded.of(read(path)), side)
    except MissingPicture as missing:
        return None, str(missing)
    data = BytesIO()
    Image.fromarray(small).save(data, "WEBP", quality=_QUALITY, method=_METHOD)
    return base64.b64encode(data.getvalue()).decode("ascii"), None
