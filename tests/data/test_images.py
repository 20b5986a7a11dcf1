from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import (
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    ImageOps,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
)

from sightline.data.formats import FORMATS, SUFFIXES
from sightline.data.images import Decoded, decode, header_size, pixel_digest, shrink
from sightline.data.rgb import BACKGROUND
from sightline.errors import UnreadableImage

# ---- small pictures and files, by Pillow and by hand -----------------------------------------------------------------


def photo(height: int = 30, width: int = 44, seed: int = 0) -> Image.Image:
    """Smooth blobs with some noise: no two corners alike, and something for every codec to chew on."""
    draws = np.random.default_rng(seed)
    blobs = Image.fromarray(draws.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((width, height))
    noise = draws.integers(-9, 10, (height, width, 3))
    return Image.fromarray((np.asarray(blobs) + noise).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def png(size: tuple[int, int], depth: int, colour: int, rows: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG by hand: `rows` has a filter byte before each row; `before` and `after` are chunks around the pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + before + pixels + after + png_chunk(b"IEND", b"")


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_rows(values: np.ndarray) -> bytes:
    """(H, ...) -> the rows of a PNG, each with filter 0."""
    return b"".join(b"\0" + row.tobytes() for row in values)


def tiff(size: tuple[int, int], strip: bytes, bits: int, photometric: int, more: dict[int, int] | None = None) -> bytes:
    """A grey TIFF by hand: one uncompressed strip behind the header, then the directory."""
    width, height = size
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height, 279: len(strip)}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted((tags | (more or {})).items())]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + directory


def oriented(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    exif[ExifTags.Base.Make] = "maker of cameras"
    return exif


PHOTO = photo()
PALETTE = PHOTO.quantize(16)
FRAMES = [photo(seed=1), photo(seed=2)]
OPTIONS: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "AVIF": {"speed": 10}}  # exact, and fast
WHOLE_FILES = {
    "jpeg": encoded(PHOTO, "JPEG"),
    "progressive": encoded(PHOTO, "JPEG", progressive=True),
    "jpeg with exif": encoded(PHOTO, "JPEG", exif=oriented(6)),
    "png": encoded(PHOTO, "PNG"),
    "webp": encoded(PHOTO, "WEBP"),
    "lossless webp": encoded(PHOTO, "WEBP", lossless=True),
    "bmp": encoded(PHOTO, "BMP"),
    "gif": encoded(PALETTE, "GIF"),
    "tiff": encoded(PHOTO, "TIFF"),
    "lzw tiff": encoded(PHOTO, "TIFF", compression="tiff_lzw"),
    "jpeg tiff": encoded(PHOTO, "TIFF", compression="jpeg"),
    "avif": encoded(PHOTO, "AVIF", speed=10),
}
ANIMATIONS = {
    "gif": encoded(PALETTE, "GIF", save_all=True, append_images=[frame.quantize(16) for frame in FRAMES]),
    "webp": encoded(PHOTO, "WEBP", save_all=True, append_images=FRAMES, lossless=True),
    "png": encoded(PHOTO, "PNG", save_all=True, append_images=FRAMES),
    "tiff": encoded(PHOTO, "TIFF", save_all=True, append_images=FRAMES),
    "avif": encoded(PHOTO, "AVIF", save_all=True, append_images=FRAMES, speed=10),
}
by_name = pytest.mark.parametrize("name", WHOLE_FILES)


def refused(data: bytes, **options: Any) -> str:
    with pytest.raises(UnreadableImage) as caught:
        decode(data, **options)
    return caught.value.reason


# ---- formats and modes -----------------------------------------------------------------------------------------------


@by_name
def test_every_format_gives_what_pillow_gives(name: str) -> None:
    data = WHOLE_FILES[name]
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    pixels = decode(data).pixels
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("name", ["png", "lossless webp", "bmp", "tiff", "lzw tiff"])
def test_lossless_formats_give_back_what_was_saved(name: str) -> None:
    np.testing.assert_array_equal(decode(WHOLE_FILES[name]).pixels, np.asarray(PHOTO))
    assert decode(WHOLE_FILES[name]).notes == ()


@pytest.mark.parametrize(
    ("mode", "file_format", "notes"),
    [
        ("1", "PNG", ("grey",)),
        ("1", "BMP", ("grey",)),
        ("L", "PNG", ("grey",)),
        ("L", "JPEG", ("grey",)),
        ("L", "TIFF", ("grey",)),
        ("P", "PNG", ("palette",)),
        ("P", "BMP", ("palette",)),
        ("P", "GIF", ("palette",)),
        ("P", "TIFF", ("palette",)),
        ("RGB", "PNG", ()),
        ("CMYK", "JPEG", ("cmyk",)),
        ("CMYK", "TIFF", ("cmyk",)),
        ("YCbCr", "TIFF", ()),
        ("LAB", "TIFF", ()),
    ],
)
def test_every_mode_is_converted_and_noted(mode: str, file_format: str, notes: tuple[str, ...]) -> None:
    image = PALETTE if mode == "P" else PHOTO.convert(mode)
    decoded = decode(encoded(image, file_format))
    assert decoded.notes == notes
    tolerance = 40 if file_format == "JPEG" else 0  # what JPEG loses; an inverted CMYK would be off by 255
    assert np.abs(decoded.pixels.astype(int) - np.asarray(image.convert("RGB"))).max() <= tolerance


def test_the_name_of_a_file_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "really a png.jpg"
    path.write_bytes(WHOLE_FILES["png"])
    np.testing.assert_array_equal(decode(path.read_bytes()).pixels, np.asarray(PHOTO))
    assert header_size(path) == (30, 44)


@pytest.mark.parametrize("file_format", ["PPM", "TGA", "ICO", "PCX", "JPEG2000"])
def test_formats_that_are_not_allowed_are_refused(file_format: str) -> None:
    data = encoded(PHOTO, file_format)
    assert Image.open(io.BytesIO(data)).size  # Pillow itself would take it
    assert refused(data).startswith("not an image of a supported format")


def test_suffixes_are_lower_case_and_cover_the_formats() -> None:
    registered = {suffix for suffix, name in Image.registered_extensions().items() if name in (*FORMATS, "MPO")}
    assert registered - {".avifs"} <= SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES)


# ---- orientation -----------------------------------------------------------------------------------------------------

UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # by the EXIF standard: which side row 0 and column 0 show
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: stored.transpose(1, 0, 2)[:, ::-1],
    7: lambda stored: stored.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda stored: stored.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation_is_applied_in_every_format(file_format: str, orientation: int, tmp_path: Path) -> None:
    data = encoded(PHOTO, file_format, exif=oriented(orientation), **OPTIONS.get(file_format, {}))
    decoded = decode(data)
    by_exif_transpose = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decoded.pixels, np.asarray(by_exif_transpose))
    if file_format in ("PNG", "WEBP", "TIFF"):
        np.testing.assert_array_equal(decoded.pixels, UPRIGHT[orientation](np.asarray(PHOTO)))
    assert decoded.notes == (() if orientation == 1 else ("rotated",))
    path = tmp_path / "image"
    path.write_bytes(data)
    assert header_size(path) == decoded.pixels.shape[:2]


def test_orientation_behind_the_pixels_of_a_png_is_seen(tmp_path: Path) -> None:
    exif = png_chunk(b"eXIf", oriented(6).tobytes()[6:])
    data = png((44, 30), 8, 2, png_rows(np.asarray(PHOTO)), after=exif)
    decoded = decode(data)
    assert decoded.notes == ("rotated",)
    np.testing.assert_array_equal(decoded.pixels, UPRIGHT[6](np.asarray(PHOTO)))
    path = tmp_path / "late.png"
    path.write_bytes(data)
    assert header_size(path) == (44, 30)


def test_orientation_in_a_text_chunk_of_a_png_is_seen(tmp_path: Path) -> None:
    exif = oriented(6).tobytes()
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(exif):8}\n{exif.hex()}\n", zip=True)
    path = tmp_path / "by another program.png"
    path.write_bytes(encoded(PHOTO, "PNG", pnginfo=info))
    np.testing.assert_array_equal(decode(path.read_bytes()).pixels, UPRIGHT[6](np.asarray(PHOTO)))
    assert header_size(path) == (44, 30)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF"])
def test_orientation_from_xmp_is_applied(file_format: str, tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'
    if file_format == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        data = encoded(PHOTO, "PNG", pnginfo=info)
    elif file_format == "TIFF":
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[TiffImagePlugin.XMP] = xmp
        data = encoded(PHOTO, "TIFF", tiffinfo=tags)
    else:
        data = encoded(PHOTO, "JPEG", xmp=xmp)
    decoded = decode(data)
    assert decoded.pixels.shape == (44, 30, 3)
    assert decoded.notes == ("rotated",)
    path = tmp_path / "image"
    path.write_bytes(data)
    assert header_size(path) == (44, 30)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_orientations_that_do_not_exist_are_ignored(value: int) -> None:
    assert decode(encoded(PHOTO, "PNG", exif=oriented(value))).notes == ()


def with_corrupt_exif(file_format: str, seed: int) -> bytes:
    exif = oriented(1)
    exif[ExifTags.Base.XResolution] = 72.0
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime] = 0.01
    data = bytearray(encoded(PHOTO, file_format, exif=exif, **OPTIONS.get(file_format, {})))
    start = data.rfind(b"MM\0*")
    draws = np.random.default_rng(seed)
    for place in draws.integers(start, start + 70, draws.integers(1, 12)):
        data[place] = draws.choice([0, 1, 255, int(draws.integers(256))])
    if file_format == "PNG":  # the checksum is of a corrupt EXIF, not of a damaged file
        (length,) = struct.unpack(">I", data[start - 8 : start - 4])
        data[start + length : start + length + 4] = struct.pack(">I", zlib.crc32(data[start - 4 : start + length]))
    return bytes(data)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_corrupt_exif_does_not_make_a_good_picture_unreadable(file_format: str) -> None:
    plain = encoded(PHOTO, file_format, **OPTIONS.get(file_format, {}))
    expected = np.sort(by_pillow(plain), axis=None)  # some corruptions are orientations, so the order is left out
    for seed in range(60):
        np.testing.assert_array_equal(np.sort(decode(with_corrupt_exif(file_format, seed)).pixels, axis=None), expected)


def test_exif_that_pillow_stumbles_over_is_left_out() -> None:
    entries = [(0x011A, 7, 1, 72), (0x0128, 3, 1, 2)]  # a resolution of one byte
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + b"".join(struct.pack("<HHII", *e) for e in entries) + bytes(4)
    data = encoded(PHOTO, "JPEG", exif=exif)
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(decode(data).pixels, by_pillow(WHOLE_FILES["jpeg"]))


def test_a_tiff_with_a_corrupt_exif_directory_is_read() -> None:
    grey = bytes(range(240)) + bytes(160)
    for offset in (0, 9, 100, 5000, 2**32 - 1):
        assert decode(tiff((20, 20), grey, 8, 1, {int(ExifTags.IFD.Exif): offset})).pixels[0, 5, 0] == 5


def test_a_jpeg_with_a_corrupt_index_of_further_pictures_is_read() -> None:
    data = encoded(PHOTO, "MPO", save_all=True, append_images=FRAMES)
    index = data.find(b"MPF\0")
    for seed in range(40):
        broken = bytearray(data)
        draws = np.random.default_rng(seed)
        for place in draws.integers(index + 4, index + 80, 6):
            broken[place] = draws.integers(256)
        np.testing.assert_array_equal(decode(bytes(broken)).pixels, by_pillow(WHOLE_FILES["jpeg"]))


# ---- more than 8 bits ------------------------------------------------------------------------------------------------

RAMP = np.linspace(0, 65535, 400).astype(np.uint16).reshape(20, 20)
RAMP_RGB = np.stack([RAMP, RAMP[::-1], RAMP.T], axis=-1)


def twelve_bits(values: np.ndarray) -> bytes:
    pairs = values.reshape(-1, 2).astype(int)
    return b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs.tolist())


DEEP_FILES = {
    "grey png": encoded(Image.fromarray(RAMP), "PNG"),
    "little-endian tiff": encoded(Image.fromarray(RAMP), "TIFF"),
    "big-endian tiff": encoded(Image.fromarray(RAMP.astype(">u2")), "TIFF"),
    "lzw tiff": encoded(Image.fromarray(RAMP), "TIFF", compression="tiff_lzw"),
    "twelve-bit tiff": tiff((20, 20), twelve_bits(RAMP >> 4), 12, 1),
    "inverted tiff": tiff((20, 20), (65535 - RAMP).tobytes(), 16, 0),
    "int32 tiff": encoded(Image.fromarray(RAMP.astype(np.int32)), "TIFF"),
}


@pytest.mark.parametrize("name", DEEP_FILES)
def test_a_deep_grey_ramp_stays_a_ramp(name: str) -> None:
    decoded = decode(DEEP_FILES[name])
    np.testing.assert_array_equal(decoded.pixels, np.repeat((RAMP >> 8).astype(np.uint8)[..., None], 3, axis=2))
    assert decoded.notes == ("16-bit", "grey")


@pytest.mark.parametrize("alpha", [False, True])
def test_deep_colour_keeps_its_upper_bits(alpha: bool) -> None:
    values = np.concatenate([RAMP_RGB, np.full((20, 20, 1), 65535, np.uint16)], axis=-1) if alpha else RAMP_RGB
    decoded = decode(png((20, 20), 16, 6 if alpha else 2, png_rows(values.astype(">u2"))))
    np.testing.assert_array_equal(decoded.pixels, RAMP_RGB >> 8)
    assert decoded.notes == ("16-bit",)


def test_deep_grey_with_alpha_is_grey_and_deep() -> None:
    values = np.stack([RAMP, np.full_like(RAMP, 65535)], axis=-1)
    decoded = decode(png((20, 20), 16, 4, png_rows(values.astype(">u2"))))
    np.testing.assert_array_equal(decoded.pixels[..., 1], RAMP >> 8)
    assert decoded.notes == ("16-bit", "grey")


def test_sixteen_bits_a_pixel_are_not_sixteen_a_channel() -> None:
    header = struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 3, 4, 0, 0, 0, 0) + struct.pack("<3I", 0xF800, 0x7E0, 0x1F)
    data = b"BM" + struct.pack("<IHHI", 70, 0, 0, 66) + header + struct.pack("<HH", 0xF800, 0x001F)
    decoded = decode(data)
    assert decoded.pixels.tolist() == [[[255, 0, 0], [0, 0, 255]]]
    assert decoded.notes == ()


def test_floats_from_0_to_1_are_scaled() -> None:
    values = RAMP.astype(np.float32) / 65535
    decoded = decode(encoded(Image.fromarray(values), "TIFF"))
    np.testing.assert_array_equal(decoded.pixels[..., 0], np.rint(values * 255))
    assert decoded.notes == ("16-bit", "grey")


@pytest.mark.parametrize(
    "values",
    [
        np.array([[0.0, 1.5]], np.float32),
        np.array([[-0.1, 0.5]], np.float32),
        np.array([[np.nan, 0.5]], np.float32),
        np.array([[0, 200]], np.int32),
        np.array([[0, 70_000]], np.int32),
        np.array([[-1, 300]], np.int32),
    ],
)
def test_ranges_that_could_mean_anything_are_refused(values: np.ndarray) -> None:
    assert "bits" in refused(encoded(Image.fromarray(values), "TIFF"))


# ---- transparency ----------------------------------------------------------------------------------------------------


def hiding(colours: np.ndarray) -> np.ndarray:
    """(30, 44, 4): the left half transparent over `colours`, the right half opaque over PHOTO."""
    rgba = np.dstack([np.asarray(PHOTO), np.full((30, 44), 255, np.uint8)])
    rgba[:, :22, :3], rgba[:, :22, 3] = colours, 0
    return rgba


@pytest.mark.parametrize(("file_format", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})])
def test_hidden_colours_do_not_come_back(file_format: str, options: dict[str, Any]) -> None:
    secret = np.asarray(photo(seed=7))[:, :22]
    pictures = [Image.fromarray(hiding(colours)) for colours in (secret, np.full(3, 255), np.zeros(3))]
    hidden, white, black = (decode(encoded(picture, file_format, **options)) for picture in pictures)
    np.testing.assert_array_equal(hidden.pixels, white.pixels)
    np.testing.assert_array_equal(hidden.pixels, black.pixels)
    assert np.all(hidden.pixels[:, :22] == BACKGROUND)
    np.testing.assert_array_equal(hidden.pixels[:, 22:], np.asarray(PHOTO)[:, 22:])
    assert hidden.notes == ("alpha", "hidden-alpha")
    assert white.notes == black.notes == ("alpha",)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_half_transparent_pixels_are_mixed(mode: str) -> None:
    alpha = np.linspace(0, 255, 30 * 44).astype(np.uint8).reshape(30, 44)
    image = PHOTO.convert("L" if mode == "LA" else "RGB")
    colours = np.asarray(image.convert("RGB")).astype(float)
    image.putalpha(Image.fromarray(alpha))
    share = alpha[..., None] / 255
    decoded = decode(encoded(image, "PNG"))
    assert np.abs(decoded.pixels - (colours * share + np.array(BACKGROUND) * (1 - share))).max() <= 1
    assert set(decoded.notes) - {"hidden-alpha"} == ({"alpha", "grey"} if mode == "LA" else {"alpha"})


def test_an_alpha_channel_that_is_opaque_is_not_worth_a_note() -> None:
    decoded = decode(encoded(PHOTO.convert("RGBA"), "PNG"))
    np.testing.assert_array_equal(decoded.pixels, np.asarray(PHOTO))
    assert decoded.notes == ()


STEPS = np.tile(np.arange(16, dtype=np.uint8), (2, 1))  # 16 greys or palette entries, twice


@pytest.mark.parametrize("transparency", [5, bytes([255] * 5 + [0] + [255] * 10), bytes([255] * 5 + [0, 128])])
def test_transparent_palette_entries_show_the_background(transparency: int | bytes) -> None:
    image = Image.fromarray(STEPS, "P")
    image.putpalette([value for step in range(16) for value in (step * 16, 255 - step * 16, 7)])
    decoded = decode(encoded(image, "PNG", transparency=transparency, bits=8))
    assert decoded.pixels[0, 5].tolist() == list(BACKGROUND)
    assert decoded.pixels[0, 4].tolist() == [64, 191, 7]
    assert decoded.notes == ("alpha", "palette")


def test_a_transparent_gif_shows_the_background() -> None:
    image = Image.fromarray(STEPS, "P")
    image.putpalette([value for step in range(16) for value in (step * 16, 255 - step * 16, 7)])
    decoded = decode(encoded(image, "GIF", transparency=5))
    assert decoded.pixels[0, 5].tolist() == list(BACKGROUND)
    assert decoded.pixels[1, 4].tolist() == [64, 191, 7]
    assert decoded.notes == ("alpha", "palette")


@pytest.mark.parametrize("depth", [2, 4, 8, 16])
def test_one_grey_stands_for_transparent_at_every_depth(depth: int) -> None:
    values = np.arange(4) * (2**depth - 1) // 3  # 4 greys from black to white
    if depth < 8:
        bits = "".join(f"{value:0{depth}b}" for value in values).ljust(16, "0")
        row = int(bits, 2).to_bytes(2, "big")[: max(1, depth * 4 // 8)]
    else:
        row = values.astype(">u1" if depth == 8 else ">u2").tobytes()
    key = png_chunk(b"tRNS", struct.pack(">H", int(values[1])))
    decoded = decode(png((4, 1), depth, 0, b"\0" + row, before=key))
    assert decoded.pixels[0].tolist() == [[0] * 3, list(BACKGROUND), [170] * 3, [255] * 3]
    assert decoded.notes == (("16-bit",) if depth == 16 else ()) + ("alpha", "grey")


@pytest.mark.parametrize("depth", [8, 16])
def test_one_colour_stands_for_transparent(depth: int) -> None:
    scale = 256 if depth == 16 else 1
    colours = np.array([[[10, 20, 30], [40, 50, 60]]]) * scale + (7 if depth == 16 else 0)
    key = png_chunk(b"tRNS", struct.pack(">3H", *(int(value) for value in colours[0, 0])))
    decoded = decode(png((2, 1), depth, 2, png_rows(colours.astype(f">u{depth // 8}")), before=key))
    assert decoded.pixels.tolist() == [[list(BACKGROUND), [40, 50, 60]]]


def test_premultiplied_grey_is_read() -> None:
    strip = np.array([[[100, 255], [50, 128]]], np.uint8).tobytes()
    data = bytearray(tiff((2, 1), strip, 0, 1, {277: 2, 338: 1}))
    entry = data.find(struct.pack("<HH", 258, 4))
    data[entry : entry + 12] = struct.pack("<HHIHH", 258, 3, 2, 8, 8)
    decoded = decode(bytes(data))
    assert decoded.pixels[0, 0].tolist() == [100] * 3
    assert abs(int(decoded.pixels[0, 1, 0]) - (50 + 128 * 127 / 255)) <= 1
    assert decoded.notes == ("alpha", "grey")


# ---- animations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ANIMATIONS)
def test_the_first_frame_is_taken_and_noted(name: str) -> None:
    decoded = decode(ANIMATIONS[name])
    expected = PALETTE.convert("RGB") if name == "gif" else PHOTO
    tolerance = 80 if name == "avif" else 0  # lossy; another frame is further away
    assert np.abs(decoded.pixels.astype(int) - np.asarray(expected)).max() <= tolerance
    assert "animated" in decoded.notes


def test_single_frames_are_not_noted() -> None:
    assert not any("animated" in decode(data).notes for data in WHOLE_FILES.values())


def test_a_jpeg_with_a_preview_is_its_first_picture_and_no_animation() -> None:
    data = encoded(PHOTO, "MPO", save_all=True, append_images=FRAMES)
    assert Image.open(io.BytesIO(data)).format == "MPO"
    np.testing.assert_array_equal(decode(data).pixels, by_pillow(WHOLE_FILES["jpeg"]))
    assert decode(data).notes == ()


def test_a_gif_that_breaks_off_in_its_second_frame_has_a_first() -> None:
    whole = decode(ANIMATIONS["gif"])
    first_frame = len(WHOLE_FILES["gif"]) + 30
    for cut in range(first_frame, first_frame + 200):
        decoded = decode(ANIMATIONS["gif"][:cut])
        np.testing.assert_array_equal(decoded.pixels, whole.pixels)


# ---- broken files ----------------------------------------------------------------------------------------------------


@by_name
def test_a_file_cut_anywhere_is_refused_or_was_complete(name: str) -> None:
    data = WHOLE_FILES[name]
    whole = decode(data).pixels
    for cut in {*range(0, len(data), max(1, len(data) // 120)), *range(len(data) - 12, len(data))}:
        try:
            decoded = decode(data[:cut])
        except UnreadableImage as error:
            assert error.reason  # noqa: PT017 - either outcome is right
        else:
            assert cut > len(data) * 0.99, f"{name} cut at {cut} of {len(data)} was taken for a picture"
            np.testing.assert_array_equal(decoded.pixels, whole)


@by_name
def test_half_a_file_is_called_truncated(name: str) -> None:
    data = WHOLE_FILES[name]
    if name != "jpeg tiff":  # its directory lies in front
        assert refused(data[: len(data) * 3 // 4]) == "truncated: the file ends before the picture does"


@pytest.mark.parametrize("zeros", [100, 100_000])
def test_a_jpeg_filled_up_with_zeros_is_called_truncated(zeros: int) -> None:
    half = WHOLE_FILES["jpeg"][: len(WHOLE_FILES["jpeg"]) * 3 // 4]
    assert refused(half + bytes(zeros)).startswith("truncated")


def test_what_follows_the_end_of_a_jpeg_does_no_harm() -> None:
    whole = WHOLE_FILES["jpeg"]
    np.testing.assert_array_equal(decode(whole + bytes(500)).pixels, decode(whole).pixels)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (
            b"just some text, saved as .jpg",
            "not an image of a supported format (JPEG, PNG, WEBP, BMP, GIF, TIFF, AVIF)",
        ),
        (b"  <!DOCTYPE html><html>404</html>", "not an image of a supported format (a web page or SVG)"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "not an image of a supported format (HEIC; convert it to JPEG)"),
        (
            b"\x89PNG\r\n\x1a\nrubbish",
            "begins like PNG, but its header is cut off, damaged, or of a kind that cannot be read",
        ),
        (b"BM" + bytes(60), "damaged BMP: Unsupported BMP header type (0)"),
    ],
)
def test_reasons_are_for_people(data: bytes, reason: str) -> None:
    assert refused(data) == reason


STARTS = [b"", *(data[:length] for data in WHOLE_FILES.values() for length in (12, 40, 300))]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(STARTS), st.binary(max_size=300))
def test_rubbish_is_unreadable_and_nothing_else(start: bytes, rubbish: bytes) -> None:
    try:
        decode(start + rubbish)
    except UnreadableImage as error:
        assert error.reason  # noqa: PT017 - rubbish may happen to be a picture


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from([*WHOLE_FILES.values(), *ANIMATIONS.values(), *DEEP_FILES.values()]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=6),
)
def test_flipped_bits_give_a_picture_or_a_reason(data: bytes, flips: list[tuple[float, int]]) -> None:
    broken = bytearray(data)
    for place, bit in flips:
        broken[int(place**3 * len(data))] ^= 1 << bit  # cubed: headers are hit more often than pixels
    try:
        assert decode(bytes(broken)).pixels.dtype == np.uint8
    except UnreadableImage as error:
        assert error.reason  # noqa: PT017


ZOO = [SyntaxError, struct.error, ValueError, OSError, EOFError, IndexError, TypeError, zlib.error, MemoryError]
ZOO += [Image.DecompressionBombError, OverflowError, KeyError, AssertionError, RuntimeError, AttributeError]


@pytest.mark.parametrize("error", ZOO)
@pytest.mark.parametrize("where", ["open", "load"])
def test_whatever_pillow_raises_becomes_a_reason(monkeypatch: pytest.MonkeyPatch, error: type[Exception], where: str) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise error("Image size (12345678 pixels) exceeds limit")

    monkeypatch.setattr("PIL.Image.open" if where == "open" else "PIL.ImageFile.ImageFile.load", fail)
    assert refused(WHOLE_FILES["jpeg"])


def test_an_interruption_by_the_user_is_not_a_broken_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ImageFile.ImageFile, "load", interrupt)
    with pytest.raises(KeyboardInterrupt):
        decode(WHOLE_FILES["jpeg"])


# ---- the budget ------------------------------------------------------------------------------------------------------


class DecodedAfterAll(BaseException):
    """Not an Exception, so that the decoder does not take it for a damaged file."""


def never_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object) -> None:
        raise DecodedAfterAll

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)


def test_a_small_file_with_many_pixels_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = encoded(Image.new("1", (9000, 9000)), "PNG")
    assert len(bomb) < 10_000
    never_load(monkeypatch)
    assert refused(bomb) == "too large: 9000 x 9000 is 81 megapixels, more than the 64 allowed (data.max_pixels)"


@pytest.mark.parametrize("name", [*WHOLE_FILES])
def test_the_budget_holds_for_every_format(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert decode(WHOLE_FILES[name], max_pixels=30 * 44).pixels.size == 30 * 44 * 3
    never_load(monkeypatch)
    assert refused(WHOLE_FILES[name], max_pixels=30 * 44 - 1).startswith("too large")


@pytest.mark.parametrize("side", [11_000, 50_000])  # Pillow warns of the one and raises over the other
def test_sizes_that_trouble_pillow_are_refused_without_a_warning(side: int) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.resetwarnings()
        assert refused(png((side, side), 8, 2, b"")).startswith(f"too large: {side} x" if side < 20_000 else "too large: 2,5")
    assert not seen


# ---- manners ---------------------------------------------------------------------------------------------------------


def test_pillow_is_left_as_it_was() -> None:
    def state() -> list[object]:
        switches = (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS, GifImagePlugin.LOADING_STRATEGY)
        return [*switches, TiffImagePlugin.READ_LIBTIFF, Image.WARN_POSSIBLE_FORMATS, list(Image.ID), dict(Image.OPEN)]

    decode(WHOLE_FILES["avif"])  # Pillow loads its plugins when it first needs them
    before = state()
    for data in [*WHOLE_FILES.values(), *ANIMATIONS.values(), *DEEP_FILES.values()]:
        decode(data)
        with suppress(UnreadableImage):
            decode(data[: len(data) // 3])
    assert state() == before


def test_pillows_warnings_are_kept_from_the_user_and_no_others() -> None:
    files = [with_corrupt_exif("JPEG", seed) for seed in range(30)]
    files.append(encoded(PALETTE, "PNG", transparency=bytes(range(16))))
    with warnings.catch_warnings(record=True) as seen:
        warnings.resetwarnings()
        for data in files:
            with suppress(SyntaxError):  # so corrupt that it is no EXIF at all
                Image.open(io.BytesIO(data)).convert("RGB").getexif()
    assert seen  # Pillow alone does warn
    with warnings.catch_warnings(record=True) as seen:
        warnings.resetwarnings()
        for data in files:
            decode(data)
        warnings.warn("of somebody else", stacklevel=1)
    assert [str(warning.message) for warning in seen] == ["of somebody else"]


def test_warnings_as_errors_do_not_make_pictures_unreadable() -> None:
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("error")
        for seed in range(30):
            decode(with_corrupt_exif("JPEG", seed))


def test_threads_get_what_one_gets() -> None:
    files = [*WHOLE_FILES.values(), *ANIMATIONS.values(), *DEEP_FILES.values()] * 8
    with ThreadPoolExecutor(8) as threads:
        digests = list(threads.map(lambda data: pixel_digest(decode(data).pixels), files))
    assert digests == [pixel_digest(decode(data).pixels) for data in files]


def test_a_decoded_picture_refuses_impossible_states() -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    assert Decoded(pixels, (2, 3), notes=("alpha", "grey")).notes == ("alpha", "grey")
    for wrong in (pixels.astype(np.float32), pixels[..., :2], pixels[0], pixels[:0]):
        with pytest.raises(ValueError, match=r"\(H, W, 3\)"):
            Decoded(wrong, (2, 3))
    for notes in (("grey", "alpha"), ("alpha", "alpha"), ("blurred",)):
        with pytest.raises(ValueError, match="sorted"):
            Decoded(pixels, (2, 3), notes=notes)


# ---- header_size -----------------------------------------------------------------------------------------------------


def test_header_size_is_the_size_that_decoding_gives(tmp_path: Path) -> None:
    path = tmp_path / "image"
    for data in [*WHOLE_FILES.values(), *ANIMATIONS.values(), *DEEP_FILES.values(), with_corrupt_exif("AVIF", 3)]:
        path.write_bytes(data)
        assert header_size(path) == decode(data).pixels.shape[:2]


@by_name
def test_header_size_decodes_nothing(monkeypatch: pytest.MonkeyPatch, name: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(WHOLE_FILES[name])
    never_load(monkeypatch)
    assert sorted(header_size(str(path))) == [30, 44]


def test_header_size_says_why_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "empty.png").touch()
    reasons = {}
    for name in ("", "missing.png", "text.jpg", "empty.png", "nul\0.png"):
        with pytest.raises(UnreadableImage) as caught:
            header_size(tmp_path / name)
        reasons[name] = caught.value.reason
    assert reasons[""] == "a folder, not a file"
    assert reasons["missing.png"] == "no such file"
    assert reasons["empty.png"] == "empty file"
    assert reasons["text.jpg"].startswith("not an image of a supported format")
    assert reasons["nul\0.png"].startswith("cannot be opened")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_header_size_says_that_a_file_is_forbidden(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(WHOLE_FILES["png"])
    path.chmod(0)
    with pytest.raises(UnreadableImage, match="cannot be opened: Permission denied"):
        header_size(path)


# ---- shrink ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 70))
def test_shrinking_keeps_the_aspect_and_never_enlarges(height: int, width: int, side: int) -> None:
    pixels = np.zeros((height, width, 3), np.uint8)
    small = shrink(Decoded.of(pixels), side)
    long = max(height, width)
    assert max(small.shape[:2]) == min(long, side)
    scale = min(1.0, side / long)
    for length, given_length in zip(small.shape[:2], (height, width), strict=True):
        assert length >= 1
        assert length == 1 or abs(length - given_length * scale) <= 0.5
    assert small.dtype == np.uint8
    assert small.flags.c_contiguous


def test_shrinking_does_nothing_to_what_fits() -> None:
    pixels = np.asarray(PHOTO)
    np.testing.assert_array_equal(shrink(Decoded.of(pixels), 44), pixels)
    turned = pixels.transpose(1, 0, 2)
    assert shrink(Decoded.of(turned), 100).flags.c_contiguous
    np.testing.assert_array_equal(shrink(Decoded.of(turned), 100), turned)


def test_shrinking_averages_and_does_not_pick() -> None:
    board = np.indices((512, 384)).sum(axis=0) % 2 * np.uint8(255)  # one pixel black, one white: grey from afar
    for side in (200, 64, 20):
        small = shrink(Decoded.of(np.repeat(board[..., None], 3, axis=2).astype(np.uint8)), side)
        assert np.abs(small.astype(int) - 127).max() <= 4


@pytest.mark.parametrize("side", [100, 30])
def test_shrinking_is_near_to_another_good_filter(side: int) -> None:
    image = photo(240, 320)
    small = shrink(Decoded.of(np.asarray(image)), side)
    by_bicubic = image.resize((small.shape[1], small.shape[0]), Image.Resampling.BICUBIC)
    difference = small.astype(int) - np.asarray(by_bicubic)
    assert abs(difference.mean()) < 0.5
    assert np.abs(difference).mean() < 4


def test_shrinking_is_the_same_every_time_and_for_any_memory_order() -> None:
    pixels = np.asarray(photo(200, 300))
    once = shrink(Decoded.of(pixels), 64)
    assert pixel_digest(once) == pixel_digest(shrink(Decoded.of(pixels.copy()), 64))
    assert pixel_digest(once) == pixel_digest(shrink(Decoded.of(np.asfortranarray(pixels)), 64))


@settings(max_examples=40, deadline=None)
@given(st.integers(100, 420), st.integers(100, 420), st.integers(24, 60), st.integers(1, 8), st.booleans())
def test_a_jpeg_that_is_reduced_while_it_is_decoded_comes_to_the_same(
    height: int, width: int, side: int, orientation: int, progressive: bool
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encoded(photo(height, width), "JPEG", quality=90, exif=exif, progressive=progressive)
    whole, reduced = decode(data), decode(data, side=side)
    assert reduced.size == whole.size == whole.pixels.shape[:2]
    assert reduced.notes == whole.notes
    assert 2 * side <= max(reduced.pixels.shape[:2]) or reduced.pixels.shape == whole.pixels.shape
    small, expected = shrink(reduced, side), shrink(whole, side)
    assert small.shape == expected.shape
    difference = small.astype(float) - expected
    assert np.sqrt((difference**2).mean()) < 1.5
    assert abs(difference.mean()) < 0.5


def test_only_a_jpeg_that_is_much_too_large_is_reduced() -> None:
    large = photo(400, 500)
    assert decode(encoded(large, "JPEG"), side=60).pixels.shape == (100, 125, 3)
    assert decode(encoded(large, "JPEG"), side=126).pixels.shape == (400, 500, 3)
    assert decode(encoded(large, "PNG"), side=60).pixels.shape == (400, 500, 3)
    damaged = encoded(large, "JPEG", quality=90)[:-4000]
    with pytest.raises(UnreadableImage, match="truncated"):
        decode(damaged, side=60)


def test_shrinking_to_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        shrink(Decoded.of(np.asarray(PHOTO)), 0)


# ---- pixel_digest ----------------------------------------------------------------------------------------------------


def test_the_digest_is_of_the_pixels_and_not_of_the_file() -> None:
    digests = {pixel_digest(decode(WHOLE_FILES[name]).pixels) for name in ("png", "bmp", "tiff", "lossless webp")}
    assert digests == {pixel_digest(np.asarray(PHOTO))}
    assert len(digests.pop()) == 16


def test_the_digest_sees_one_bit() -> None:
    pixels = np.array(PHOTO)
    before = pixel_digest(pixels)
    pixels[29, 43, 2] ^= 1
    assert pixel_digest(pixels) != before


def test_the_digest_sees_the_shape() -> None:
    pixels = np.arange(36, dtype=np.uint8)
    shapes = [(1, 12, 3), (2, 6, 3), (3, 4, 3), (4, 3, 3), (6, 2, 3), (12, 1, 3)]
    assert len({pixel_digest(pixels.reshape(shape)) for shape in shapes}) == len(shapes)


def test_the_digest_does_not_see_the_memory_order() -> None:
    pixels = np.asarray(PHOTO)
    assert pixel_digest(pixels[:, ::-1]) == pixel_digest(pixels[:, ::-1].copy())
