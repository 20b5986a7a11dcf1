"""The one decoder: the bytes of a file in, upright RGB pixels out. Every part of sightline reads images through it.

    decoded = decode(path.read_bytes())        # Decoded(pixels=(H, W, 3) uint8, size=(H, W), notes=("rotated",))
    small = shrink(decoded, 128)               # long side 128, never enlarged
    key = pixel_digest(decoded.pixels)         # equal exactly where the pixels are equal

The format is read from the bytes, never from the name, and only those of `FORMATS` (formats.py) are tried. What cannot be
read raises `UnreadableImage` with a reason for people; there is no stand-in picture, and no switch of Pillow is touched.

What becomes of a picture:

- The orientation of EXIF (or of XMP, or of AVIF's container) is applied.
- Of more than 8 bits the upper 8 are kept, as Pillow does for 16-bit RGB: 0..65535 becomes 0..255. Whole numbers of
  32 bits are taken as 16-bit where their largest value says so, floating point where it lies within [0, 1]; any other
  range is refused, not guessed.
- What is transparent shows `BACKGROUND`, a neutral grey, and never the colours that were hidden under it.
- Of an animation, or of several pages, the first is taken.
- CMYK, YCbCr and LAB are converted by Pillow's own formulas.

What it gives up: colour profiles are not applied. A JPEG that is damaged in the middle, or cut off and given a new end
marker, decodes to a picture with wrong or grey blocks, because the format has no checksum. Pillow's own ceiling of 179
megapixels holds whatever `max_pixels` says. libtiff prints a line of its own about some broken TIFF files.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from typing import IO

import numpy as np
from PIL import ExifTags, Image, ImageFile

from sightline.data.formats import FORMATS, TRUNCATED, known_format, megapixels, reason, why_not_opened
from sightline.data.rgb import colour_notes, eight_bits, flatten, to_rgb_or_rgba
from sightline.errors import UnreadableImage

MAX_PIXELS = 64_000_000
"""The default budget: full-frame cameras end at 61 megapixels, and 64 take 0.7 GB (1 GB with alpha) to decode."""

NOTES = frozenset({"16-bit", "alpha", "animated", "cmyk", "grey", "hidden-alpha", "palette", "rotated"})
"""Every word that `Decoded.notes` may hold.

16-bit: more than 8 bits a channel. alpha: some pixel is not opaque. animated: further frames or pages were left out.
hidden-alpha: the wholly transparent pixels differ in colour, so a picture may hide there. rotated: turned or mirrored
to stand upright. cmyk, grey, palette: how the file holds its colours.
"""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# How AVIF and JPEG announce EXIF, over which Pillow may stumble before it has seen a picture.
_EXIF = re.compile(rb"(infe.{8}|\xff\xe1..)Exif", re.DOTALL)
_SILENCE = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """One picture, as all that comes after the decoder sees it.

    pixels: (H, W, 3) uint8 RGB, upright, C-contiguous, not writable. size: (height, width) of the upright picture in its
    file, larger than that of the pixels where `decode` was told that fewer will do. flipped: whether a last row, and a last
    column, that only part of the picture reaches stands first. notes: sorted words of `NOTES`.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    flipped: tuple[bool, bool] = (False, False)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, pixels: np.ndarray) -> Decoded:
        """A picture of which these are all the pixels."""
        return cls(pixels, (pixels.shape[0], pixels.shape[1]))

    def __post_init__(self) -> None:
        _require_rgb(self.pixels)
        if self.notes and self.notes != tuple(sorted(NOTES.intersection(self.notes))):
            raise ValueError(f"notes must be sorted words of NOTES, each once, not {self.notes}")


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, side: int | None = None) -> Decoded:
    """Decode the bytes of one file, of any of `FORMATS`, to upright RGB.

    max_pixels: width times height above which the file is refused. The header tells it, before anything is decoded.
    side: the long side that the picture will be shrunk to. Of a JPEG that is larger by far the fine detail is then left out
    while it is decoded: a half, a quarter or an eighth of each side, never less than twice `side`. A picture of 4,000 x 3,000
    for a side of 128 takes 16 ms instead of 190, and differs by 55 dB, less than rounding to 8 bits does twice
    (docs/log.md).

    Raises UnreadableImage for all bytes that are not a whole picture.
    """
    image = _open(BytesIO(data))
    _check_budget(image.size, max_pixels)
    width, height = image.size
    if side is not None and image.format in ("JPEG", "MPO"):
        _leave_out_detail(image, 2 * side)
    layout = _layout(image)
    # Pillow turns a TIFF while it loads it, and then forgets the orientation. A PNG may tell its own after the pixels.
    rotated = image.format == "TIFF" and _orientation(image) != 1
    _load(image, data)
    orientation = _orientation(image)
    picture = eight_bits(image, layout)
    with _pillow_at_work(data):
        if orientation != 1:
            picture, rotated = picture.transpose(_TURNS[orientation]), True
        picture = to_rgb_or_rgba(picture)
    pixels, notes = flatten(picture)
    if rotated:
        notes.add("rotated")
    if _has_more_frames(image):
        notes.add("animated")
    size = (width, height) if orientation >= 5 else (height, width)
    flipped = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return Decoded(pixels, size, flipped, tuple(sorted(notes | colour_notes(image.mode, layout))))


def header_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """The (height, width) that `decode` will give, from the header alone.

    Raises UnreadableImage where there is no such file, it may not be read, or it does not begin like an image. Whether
    the pixels can be decoded is not known yet, and no budget is applied.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 - the `with` below closes it; here only opening may fail
    except (OSError, ValueError) as error:
        raise UnreadableImage(why_not_opened(error)) from error
    with file:
        image = _open(file)
        if image.format == "PNG" and not _has_more_frames(image) and (exif := _late_exif(file)):
            image.info["exif"] = exif
        width, height = image.size
        # Pillow has already swapped the sides of a TIFF, where it is the tag of TIFF itself that says so.
        swapped = ExifTags.Base.Orientation in getattr(image, "tag_v2", ())
        return (width, height) if _orientation(image) >= 5 and not swapped else (height, width)


def shrink(decoded: Decoded, side: int) -> np.ndarray:
    """(h, w, 3) uint8 of a picture, its long side at most `side`, aspect kept, C-contiguous; never enlarges.

    Both sides are rounded from those in the file, and are at least 1. The filter is the antialiased Hamming-windowed sinc: it costs what
    bilinear costs and comes about 1 dB nearer to the ideal low-pass on photographs. Where the picture shrinks 6 times
    or more, whole blocks are averaged first (`reducing_gap`): several times faster, at a loss under 0.1 dB. Like
    `Decoded.pixels`, the result may not be writable.
    """
    if side < 1:
        raise ValueError(f"side must be at least 1, not {side}")
    long = max(decoded.size)
    if long <= side:
        return np.ascontiguousarray(decoded.pixels)
    new_height, new_width = (max(1, (length * side + long // 2) // long) for length in decoded.size)
    picture, box = Image.fromarray(decoded.pixels), _picture_in_pixels(decoded)
    return np.asarray(picture.resize((new_width, new_height), Image.Resampling.HAMMING, box, reducing_gap=3.0))


def _picture_in_pixels(decoded: Decoded) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the picture in its pixels: all of them, but for a part of the last where it was reduced."""
    factor = round(max(decoded.size) / max(decoded.pixels.shape[:2]))
    height, width = (length / factor for length in decoded.size)
    top = decoded.pixels.shape[0] - height if decoded.flipped[0] else 0.0
    left = decoded.pixels.shape[1] - width if decoded.flipped[1] else 0.0
    return left, top, left + width, top + height


def pixel_digest(pixels: np.ndarray) -> bytes:
    """16 bytes, equal exactly where two (H, W, 3) uint8 pictures are: half of the SHA-256 of shape and pixels."""
    _require_rgb(pixels)
    digest = hashlib.sha256(struct.pack("<2Q", *pixels.shape[:2]), usedforsecurity=False)
    digest.update(np.ascontiguousarray(pixels).data.cast("B"))
    return digest.digest()[:16]


def _require_rgb(pixels: np.ndarray) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise ValueError(f"pixels must be (H, W, 3) uint8 and not empty, not {pixels.shape} {pixels.dtype}")


# ---- Pillow, and every way in which it fails -------------------------------------------------------------------------


@contextmanager
def _pillow_at_work(data: bytes) -> Iterator[None]:
    """Pillow raises nearly anything over damaged files: all of it becomes UnreadableImage.

    Only Pillow's calls go inside, so that a mistake of ours is not taken for a damaged file.
    """
    try:
        yield
    except Exception as error:
        raise UnreadableImage(reason(error, data)) from error


def _silence_pillow() -> None:
    """Keep Pillow's warnings (corrupt EXIF, large files) from the user: what matters becomes a reason, once a file.

    `warnings.catch_warnings` is not safe in threads, and makes the warnings of all other modules appear again; so one
    filter for Pillow's modules stays for good, and is put back where somebody has dropped it.
    """
    if _SILENCE not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def _open(file: IO[bytes]) -> ImageFile.ImageFile:
    """Read the header. Where that fails, try again with EXIF hidden: it may be all that is corrupt."""
    _silence_pillow()
    try:
        return Image.open(file, formats=FORMATS)
    except Exception as error:
        file.seek(0)
        data = file.read(64)
        if known_format(data):  # else it may be a film of any length
            data += file.read()
        hidden = _EXIF.sub(rb"\1Skip", data)
        if hidden != data:
            with suppress(Exception):
                return Image.open(BytesIO(hidden), formats=FORMATS)
        raise UnreadableImage(reason(error, data)) from error


def _check_budget(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise UnreadableImage(
            f"too large: {width} x {height} is {megapixels(width * height)} megapixels, "
            f"more than the {megapixels(max_pixels)} allowed (data.max_pixels)"
        )


def _load(image: ImageFile.ImageFile, data: bytes) -> None:
    start_of_scan = image.fp.tell() if image.format == "JPEG" and image.fp else 0
    with _pillow_at_work(data):
        image.load()
    # libjpeg takes the zeros of a half-filled file for picture, and misses no end marker.
    if image.format == "JPEG" and data.rfind(b"\xff\xd9", start_of_scan) < 0:
        raise UnreadableImage(TRUNCATED)


def _leave_out_detail(image: ImageFile.ImageFile, at_least: int) -> None:
    """Has libjpeg leave out the higher frequencies of each block, as far as the long side stays `at_least` pixels."""
    factor = max(image.size) // at_least
    if factor > 1:
        image.draft(None, (max(1, image.width // factor), max(1, image.height // factor)))


def _layout(image: ImageFile.ImageFile) -> str:
    """How the samples lie in the file, in Pillow's words ("RGB;16B", "I;12"): `mode` does not tell their depth."""
    args = image.tile[0].args if image.tile else ""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _orientation(image: Image.Image) -> int:
    """1 for a picture that stands upright, or 2 to 8 as EXIF has it. Corrupt metadata counts as 1."""
    try:
        exif = Image.Image.getexif(image)  # that of PNG would first decode the picture
        value = exif.get(ExifTags.Base.Orientation)
        return int(value) if value in _TURNS else 1
    except Exception:
        return 1


def _late_exif(file: IO[bytes]) -> bytes:
    """The EXIF of a PNG from anywhere in the file: Pillow finds what follows the pixels only while it decodes them."""
    position = 8
    while True:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            return b""
        length, kind = struct.unpack(">I4s", head)
        if kind == b"eXIf":
            return file.read(length)
        position += 12 + length


def _has_more_frames(image: ImageFile.ImageFile) -> bool:
    if image.format == "MPO":  # a preview, or what the other eye sees
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a GIF looks for its second frame only now; there is one, and it is damaged
        return True
