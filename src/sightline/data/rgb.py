"""From the mode of a picture, as Pillow has decoded it, to 8 bits of red, green and blue (images.py).

    picture = to_rgb_or_rgba(eight_bits(image, layout))
    pixels, notes = flatten(picture)

`layout` is how the samples lie in the file, in Pillow's words ("RGB;16B", "I;12").
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile

from sightline.errors import UnreadableImage

BACKGROUND = (128, 128, 128)
"""Shows where a picture is transparent. Drawings are made for white or for black; grey hides the lines of neither."""

_DEEP_GREY = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
_COLOUR_NOTES = dict.fromkeys((*_DEEP_GREY, "1", "L", "LA", "La"), "grey")
_COLOUR_NOTES |= {"P": "palette", "PA": "palette", "CMYK": "cmyk"}


def _is_deep(mode: str, layout: str) -> bool:
    return mode in _DEEP_GREY or (layout.partition(";")[2][:2] == "16" and not layout.startswith("BGR"))


def colour_notes(mode: str, layout: str) -> set[str]:
    """How the file holds its colours, in words of `images.NOTES`."""
    colour = "grey" if layout == "LA;16B" else _COLOUR_NOTES.get(mode)
    return {note for note in (colour, "16-bit" if _is_deep(mode, layout) else None) if note}


def eight_bits(image: ImageFile.ImageFile, layout: str) -> Image.Image:
    """More than 8 bits of grey -> "L", or "LA" where one grey stands for transparent. Other modes stay as they are."""
    transparent = image.info.get("transparency")
    if image.mode not in _DEEP_GREY:
        if transparent is not None:
            image.info["transparency"] = _transparent_in_eight_bits(transparent, layout)
        return image
    values = np.asarray(image)
    grey = _scaled(values, image.mode, layout)
    if getattr(image, "tag_v2", {}).get(ExifTags.Base.PhotometricInterpretation) == 0:
        grey = 255 - grey  # white is zero: Pillow inverts it in 8 bits, but not in more
    picture = Image.fromarray(grey)
    if isinstance(transparent, int):
        picture.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return picture


def _transparent_in_eight_bits(transparent: Any, layout: str) -> Any:
    """Pillow scales the pixels of a PNG to 8 bits, but leaves its transparent colour in the depth of the file."""
    if layout in ("L;2", "L;4"):
        return transparent * (85 if layout == "L;2" else 17)
    if layout == "RGB;16B":
        return tuple(value >> 8 for value in transparent)
    return transparent


def _scaled(values: np.ndarray, mode: str, layout: str) -> np.ndarray:
    """(H, W) of more than 8 bits -> (H, W) uint8. Raises UnreadableImage where the range of the values is a guess."""
    low, high = values.min(), values.max()
    if mode == "F" and not (low >= 0 and high <= 1):  # also where there are NaN
        raise UnreadableImage(f"floating-point pixels from {low:g} to {high:g}, not 0 to 1: save it with 8 bits")
    if mode == "I" and not (low >= 0 and 255 < high <= 65535):
        raise UnreadableImage(f"32-bit pixels from {low} to {high}: save it with 8 bits, or with 16")
    scaled = np.rint(values * 255) if mode == "F" else values >> (4 if layout == "I;12" else 8)
    return np.asarray(scaled, dtype=np.uint8)


def to_rgb_or_rgba(picture: Image.Image) -> Image.Image:
    """RGBA where anything may be transparent."""
    if picture.has_transparency_data:
        straight = picture.convert("LA") if picture.mode == "La" else picture  # Pillow knows no other way out of "La"
        return straight if straight.mode == "RGBA" else straight.convert("RGBA")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def flatten(picture: Image.Image) -> tuple[np.ndarray, set[str]]:
    """RGB or RGBA -> (H, W, 3) over `BACKGROUND`, and what there is to note about its transparency."""
    if picture.mode == "RGB":
        return np.asarray(picture), set()
    alpha = picture.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return np.asarray(picture.convert("RGB")), set()
    flat = Image.new("RGB", picture.size, BACKGROUND)
    flat.paste(picture, mask=alpha)
    hidden = np.reshape(picture.histogram(alpha.point([255] + [0] * 255)), (4, 256))  # of the pixels with alpha 0
    notes = {"alpha", "hidden-alpha"} if ((hidden[:3] > 0).sum(axis=1) > 1).any() else {"alpha"}
    return np.asarray(flat), notes
