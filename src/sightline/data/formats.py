"""Which files are images, and why the bytes of one are none, in words for people.

SUFFIXES                       by which a scan guesses
passed_over(".cr2")            "camera raw; export it as JPEG"
reason(error, data)            "truncated: the file ends before the picture does"
"""

from __future__ import annotations

import re

from PIL import Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
"""What may be opened, by Pillow's names. (A JPEG that holds several pictures comes back as MPO.)"""

SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".avif",
    ".heic", ".heif", ".hif", ".jxl", ".jp2", ".j2k",
))  # fmt: skip
"""Lower-case suffixes by which a scan of folders guesses that a file is an image. The decoder does not look at them.

Those of the second line cannot be read, but are tried: some hold a JPEG, and of the others a person is told what to do.
"""

_RAW = frozenset((".3fr", ".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".srw"))
"""Of cameras. They are not tried: what could be opened in most is a small preview, perhaps beside the JPEG of the same shot."""

_SIGNATURES = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG",
    "WEBP": rb"RIFF....WEBP",
    "BMP": rb"BM",
    "GIF": rb"GIF8",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "AVIF": rb"....ftypavi[fs]",
}
_STRANGERS = {
    "HEIC; convert it to JPEG": rb"....ftyp(hei|hev|mif1|msf1)",
    "JPEG XL; convert it to PNG": rb"\xff\x0a|....JXL ",
    "JPEG 2000; convert it to PNG": rb"....jP  |\xff\x4f\xff\x51",
    "PDF": rb"%PDF",
    "a web page or SVG": rb"(?i)(\xef\xbb\xbf)?\s*<(\?xml|!doctype|!--|html|head|body|svg)",
}

TRUNCATED = "truncated: the file ends before the picture does"


def reason(error: Exception, data: bytes) -> str:
    """Why these bytes are no picture, in a few words."""
    if not data:
        return "empty file"
    if isinstance(error, Image.DecompressionBombError):
        pixels = re.search(r"\d+", str(error))
        return f"too large: {megapixels(int(pixels[0])) if pixels else 'more'} megapixels, and Pillow opens no more than 179"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    kind = known_format(data)
    if kind is None:
        stranger = _first_match(_STRANGERS, data)
        return f"not an image of a supported format ({stranger or ', '.join(FORMATS)})"
    message = " ".join(str(error).split())
    if "truncated" in message.lower() or _announced_length(kind, data) > len(data):
        return TRUNCATED
    if isinstance(error, UnidentifiedImageError):
        return f"begins like {kind}, but its header is cut off, damaged, or of a kind that cannot be read"
    return f"damaged {kind}: {message[:100] or type(error).__name__}"


def passed_over(suffix: str) -> str:
    """Why a scan does not try files with a lower-case suffix that is none of `SUFFIXES`."""
    return "camera raw; export it as JPEG" if suffix in _RAW else "not an image"


def known_format(data: bytes) -> str | None:
    """The one of `FORMATS` that these bytes begin like."""
    return _first_match(_SIGNATURES, data)


def _announced_length(kind: str, data: bytes) -> int:
    """How far a WebP, TIFF or AVIF reaches at least, by what it says near its start; 0 for what does not say."""
    if kind == "WEBP":
        return 8 + int.from_bytes(data[4:8], "little")
    if kind == "TIFF":  # where its first directory begins, often behind the pixels
        return int.from_bytes(data[4:8], "little" if data.startswith(b"II") else "big")
    end, box = 0, 8
    while kind == "AVIF" and end < len(data) and box >= 8:
        box = int.from_bytes(data[end : end + 4], "big")
        end += box
    return end


def megapixels(pixels: int) -> str:
    """In millions, one digit where it says something."""
    return f"{pixels / 1e6:,.1f}".removesuffix(".0")


def _first_match(patterns: dict[str, bytes], data: bytes) -> str | None:
    return next((name for name, pattern in patterns.items() if re.match(pattern, data[:64], re.DOTALL)), None)


def why_not_opened(error: Exception) -> str:
    """Why a path could not be opened, in a few words."""
    if isinstance(error, IsADirectoryError):
        return "a folder, not a file"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return f"cannot be opened: {getattr(error, 'strerror', None) or error}"
