"""What is measured on each image, read once from the stored pixels: light, contrast, sharpness, colour.

    measures = measure(pixels, threads=2)
    measures.brightest[7], measures.sharpness[7], measures.mean

All of it is of the picture as a network will see it, at most S pixels long: a photograph that is soft at 4,000 pixels and
crisp at 128 is crisp here. Of a tall one 10 to 21 rows are looked at, evenly spread: an audit may not take much longer than
decoding did. So the mean and standard deviation of the channels are a little off those that training takes from every pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sightline.data.shelf import in_threads
from sightline.data.store import Pixels

Floats = npt.NDArray[np.float32]
Pictures = npt.NDArray[np.uint8]  # (B, h, w, 3)
Rows = npt.NDArray[np.int64]
Triple = tuple[float, float, float]

_BLOCK = 32  # images at once: as many as stay in the processor's cache
_NO_EDGE = 1.0  # mean square of the differences across a pixel: less is rounding
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R 601
_APART = np.array([[1, 0, -1], [-1, 1, 0], [0, -1, 1]], dtype=np.float32)  # R - G, G - B and B - R


@dataclass(frozen=True, slots=True, eq=False)
class Measures:
    """Row i of each (N,) array is image i; values of pixels are from 0 to 255.

    Attributes:
        darkest: what the luma of the darkest hundredth of the pixels does not exceed.
        brightest: what all but the brightest hundredth do not exceed in luma; where that is below 128, in their strongest
            channel, because a red rose is not dark.
        contrast: standard deviation, the root mean square over the channels.
        entropy: of the luma's histogram, in bits, 0 to 8.
        sharpness: see `sharpness`.
        chroma: how far the channels lie apart: root mean square of R - G, G - B and B - R.
        mean: of red, green and blue over the pixels of all images, 0 to 1.
        std: standard deviation, likewise.
    """

    darkest: Floats
    brightest: Floats
    contrast: Floats
    entropy: Floats
    sharpness: Floats
    chroma: Floats
    mean: Triple
    std: Triple


def measure(pixels: Pixels, progress: Callable[[int, int], None] | None = None, threads: int = 1) -> Measures:
    """Reads every image once.

    Args:
        progress: called with (done, all).
        threads: read and measure at once.
    """
    extents = pixels.extents
    n = len(extents)
    values = np.zeros((n, 6), dtype=np.float32)
    sums = np.zeros((3, 3))  # of each channel: pixels, their sum, the sum of their squares

    def block(rows: Rows) -> tuple[Rows, Floats, npt.NDArray[np.float64]]:
        height, width = extents[rows[0]]
        return rows, *_measured(pixels.read(rows)[:, :height, :width].numpy())

    done = 0
    for rows, some, some_sums in in_threads(block, _blocks(extents), threads):
        values[rows] = some
        sums += some_sums
        done += len(rows)
        if progress is not None:
            progress(done, n)
    count = np.maximum(sums[0], 1)
    mean = sums[1] / count
    std = np.sqrt(np.maximum(sums[2] / count - mean**2, 0))
    darkest, brightest, contrast, entropy, sharp, chroma = values.T
    return Measures(darkest, brightest, contrast, entropy, sharp, chroma, _triple(mean / 255), _triple(std / 255))


def _blocks(extents: npt.NDArray[np.int32]) -> list[Rows]:
    """Rows whose pictures have the same height and width, a few at a time."""
    order = np.lexsort((extents[:, 1], extents[:, 0]))
    changes = np.flatnonzero((np.diff(extents[order], axis=0) != 0).any(axis=1)) + 1
    return [some[i : i + _BLOCK] for some in np.split(order, changes) for i in range(0, len(some), _BLOCK)]


def _measured(pictures: Pictures) -> tuple[Floats, npt.NDArray[np.float64]]:
    """(B, 6) the columns of `Measures`, and the sums over all pixels for its mean and standard deviation."""
    sample = _sample(pictures)
    darkest, brightest, entropy = light_of(histograms_of(sample))
    for i in np.flatnonzero(brightest < 128).tolist():
        brightest[i] = np.percentile(sample[i].max(axis=2), 99, method="inverted_cdf")
    sums, squares, chroma = colours_of(sample)
    count = sample[0, ..., 0].size
    contrast = np.sqrt(np.maximum((squares / count - (sums / count) ** 2).mean(axis=1), 0))
    values = np.stack([darkest, brightest, contrast, entropy, sharpness(pictures), chroma], axis=1)
    return values.astype(np.float32), np.stack([np.full(3, count * len(pictures)), sums.sum(axis=0), squares.sum(axis=0)])


def _sample(pictures: Pictures) -> Pictures:
    """Some rows of each picture, evenly spread."""
    step = _step(pictures.shape[1])
    return pictures[:, step // 2 :: step]


def _step(height: int) -> int:
    """From one row that is looked at to the next: odd, so that the blocks of a JPEG, 8 rows high, are met in every place."""
    return height // 16 | 1


def histograms_of(pictures: Pictures) -> npt.NDArray[np.int64]:
    """(B, h, w, 3) uint8 -> (B, 256) how many pixels have each luma."""
    count = len(pictures)
    luma = (pictures.astype(np.float32) @ _LUMA + 0.5).astype(np.int32).reshape(count, -1)
    luma += 256 * np.arange(count, dtype=np.int32)[:, None]
    return np.bincount(luma.ravel(), minlength=256 * count).reshape(count, 256)


def colours_of(pictures: Pictures) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(B, h, w, 3) uint8 -> (B, 3) sums of each channel, (B, 3) sums of squares, and (B,) how far the channels lie apart."""
    values = pictures.reshape(len(pictures), -1, 3).astype(np.float32)
    ones = np.ones(values.shape[1], dtype=np.float32)
    apart = values @ _APART
    chroma = np.sqrt(np.einsum("bnc,bnc->b", apart, apart) / apart[0].size)
    return (ones @ values).astype(np.float64), (ones @ (values * values)).astype(np.float64), chroma.astype(np.float64)


def light_of(histograms: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(B, 256) how many pixels have each luma -> darkest, brightest and entropy, each (B,)."""
    below = np.cumsum(histograms, axis=1)
    count = below[:, -1:]
    darkest, brightest = ((below < share * count).sum(axis=1).astype(np.float64) for share in (0.01, 0.99))
    shares = histograms / count
    entropy = -np.sum(shares * np.log2(np.where(shares > 0, shares, 1)), axis=1)
    return darkest, brightest, np.maximum(entropy, 0)


def sharpness(pictures: Pictures) -> npt.NDArray[np.float64]:
    """(B, h, w, 3) uint8 -> (B,) the logarithm of how sharp the edges of each picture are; infinite where nothing is known.

    The root mean square of the Laplacian of its luma, L, says how much fine detail there is; its ratio to that of the
    gradient, G, is the inverse width of an edge, whatever its contrast. L (L / G)^2 needs both: alone, the first takes a
    fog for a blur, and the second takes noise for detail. Nothing is known of a picture of less than 3 pixels a side,
    which has no inside, or without edges.
    """
    count, height, width, _ = pictures.shape
    if height < 3 or width < 3:
        return np.full(count, np.inf)
    step = _step(height)
    triples = (height - 3) // step + 1
    north, here, south = (pictures[:, start::step][:, :triples].astype(np.float32) @ _LUMA for start in range(3))  # (B, r, w)
    west, middle, east = here[..., :-2], here[..., 1:-1], here[..., 2:]
    detail = _power((north + south)[..., 1:-1] + west + east - 4 * middle)
    edges = _power(east - west) + _power((south - north)[..., 1:-1])
    return np.where(edges > _NO_EDGE, 1.5 * np.log(1 + detail) - np.log(1 + edges), np.inf)


def _power(values: Floats) -> npt.NDArray[np.float64]:
    """(B, r, w) -> (B,) mean square."""
    return np.asarray(np.einsum("brw,brw->b", values, values) / values[0].size, dtype=np.float64)


def _triple(values: npt.NDArray[np.float64]) -> Triple:
    red, green, blue = (round(float(v), 4) for v in values)
    return red, green, blue
