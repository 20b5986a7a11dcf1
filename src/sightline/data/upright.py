"""Views of pictures that are neither turned nor sheared, made by compiled C: several times cheaper than torch's products.

    compile_ahead(device)                               in a thread, while images are decoded
    make = kernel()                                     None where there is no compiler; standing(device) says why
    views = make(pixels, extents, matrices, colours, size, fill, limits, torch.bfloat16)

`upright.c` computes in float32 what `geometry.resample`, `colour.apply` and `colour.clip` define, rounds once, at the end, and
is held to them on a few pictures before it is used. It makes training views alone: what is judged and used must be
the same on every machine. One run makes all of its views one way; where a compiler came or went since, a run that is resumed
makes them the other way, equal to five digits in float32. Threads are those of torch's own OpenMP pool, lent to it; it gives up
threads where torch has none by that name, and pixels on a GPU.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sightline.data import colour, geometry
from sightline.data.native import NotCompiledError, compiled

SOURCE = Path(__file__).with_suffix(".c")
PRECISIONS = (torch.float32, torch.bfloat16)

Limits = tuple[Sequence[float], Sequence[float]]
ANY: Limits = ([-3e38] * 3, [3e38] * 3)  # as good as none in float32

_CLOSE = 0.01  # of 255: float32 sums; the worst seen is 0.0002
_FEW = 40_000  # pixels of a batch that one thread makes sooner than it wakes others
_THREE = ctypes.c_double * 3
_THREE_SINGLE = ctypes.c_float * 3


class _Batch(ctypes.Structure):
    """As in `upright.c`."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("pixels", "extents", "matrices", "colours", "views")),
        *((name, ctypes.c_int64) for name in ("count", "side", "size")),
        *((name, ctypes.c_int32) for name in ("rounded", "painted")),
        *((name, _THREE) for name in ("fill", "luma")),
        *((name, _THREE_SINGLE) for name in ("lowest", "highest")),
        ("next", ctypes.c_int64),
        ("failed", ctypes.c_int32),
    )


@dataclass(frozen=True, slots=True)
class Kernel:
    """The compiled function, OpenMP's that runs it in threads, where there is one, and the compiler."""

    function: Any
    parallel: Any
    made_by: str

    def __call__(
        self,
        pixels: torch.Tensor,
        extents: geometry.Extents,
        matrices: geometry.Floats,
        colours: colour.Floats,
        size: int,
        fill: geometry.Fill,
        limits: Limits,
        precision: torch.dtype,
    ) -> torch.Tensor:
        """(B, 3, size, size) float32 or bfloat16, channels last in memory.

        Args:
            pixels: (B, S, S, 3) uint8, on the processor.
            extents: (B, 2) height and width of the pictures.
            matrices: (B, 2, 3), output square to stored pixels, not turned or sheared.
            colours: (B, 5, 5), see colour.py.
            fill: colour in [0, 255] of what lies outside of the picture; None: its mirror image.
            limits: lowest and highest value of each channel.
        """
        batch, side = pixels.shape[:2]
        shapes = (tuple(pixels.shape), extents.shape, matrices.shape, colours.shape)
        if shapes != ((batch, side, side, 3), (batch, 2), (batch, 2, 3), (batch, 5, 5)) or pixels.dtype != torch.uint8:
            raise ValueError(f"no batch of pictures: {shapes}, {pixels.dtype}")
        views = torch.empty((batch, 3, size, size), dtype=precision, memory_format=torch.channels_last)
        # These four live until the function returns; it is given their addresses.
        pixels, extents = pixels.contiguous(), np.ascontiguousarray(extents, np.int32)
        matrices, mixes = np.ascontiguousarray(matrices, np.float64), np.ascontiguousarray(colours[:, :3], np.float64)
        places = (pixels.data_ptr(), extents.ctypes.data, matrices.ctypes.data, mixes.ctypes.data, views.data_ptr())
        how = (precision == torch.bfloat16, fill is not None, _THREE(*(fill or (0, 0, 0))), _THREE(*colour.LUMA))
        work = _Batch(*places, batch, side, size, *how, *(_THREE_SINGLE(*limit) for limit in limits))
        alone = batch < 2 or batch * size**2 < _FEW
        if self.function(ctypes.byref(work), self.parallel, 1 if alone else torch.get_num_threads()):
            raise MemoryError("no memory for views")
        return views


def upright(matrices: geometry.Floats) -> bool:
    """Whether no picture of the batch is turned or sheared."""
    return not (matrices[:, 0, 1].any() or matrices[:, 1, 0].any())


def kernel() -> Kernel | None:
    """What makes upright views in this process, compiled now or before; None where torch must."""
    found = _found()
    return found if isinstance(found, Kernel) else None


def standing(device: torch.device) -> str:
    """For people: what makes upright training views on a device, and why."""
    found = _found() if device.type == "cpu" else f"on {device.type}"
    return f"compiled kernel ({found.made_by})" if isinstance(found, Kernel) else f"torch ({found})"


def compile_ahead(device: torch.device) -> None:
    """Has a thread compile the kernel (half a second, once a machine) if views are made on a processor; `kernel` waits for it."""
    if device.type == "cpu":
        Thread(target=_found, name="compile").start()  # no daemon: what ends the process early waits for it, and leaves nothing half-made


_one_at_a_time = Lock()


def _found() -> Kernel | str:
    """The kernel, or why there is none; the same for the whole process."""
    with _one_at_a_time:
        return _find()


@functools.cache
def _find() -> Kernel | str:
    try:
        library = compiled(SOURCE)
        function = library.functions.sightline_views
        function.argtypes, function.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int), ctypes.c_int
        found = Kernel(function, _openmp(), library.made_by)
    except (NotCompiledError, AttributeError) as error:
        return str(error)
    return found if agrees(found) else f"what {library.made_by} compiled computes something else"


def _openmp() -> Any:
    """The function by which torch's own code enters OpenMP: its threads are awake, and others would only be in their way."""
    try:
        return ctypes.cast(ctypes.CDLL(torch._C.__file__).GOMP_parallel, ctypes.c_void_p)
    except (OSError, AttributeError):
        return None


# ---- held to torch's way ---------------------------------------------------------------------------------------------

_EXTENTS = np.array([(9, 9), (5, 9), (9, 3), (1, 1), (9, 8)], dtype=np.int32)
_FACTORS = np.array([(4.5, 4.5), (-2.0, 3.1), (0.7, -9.0), (0.5, 0.5), (7.0, -2.2)])  # whole, flipped, beyond the edges
_OFFSETS = np.array([(4.5, 4.5), (3.3, 2.5), (1.1, 2.0), (0.5, 0.5), (3.0, 5.0)])


def agrees(made: Kernel) -> bool:
    """Whether the kernel's views of a few pictures are torch's, and its bfloat16 views the float32 ones, rounded."""
    pixels = torch.from_numpy((np.arange(5 * 9 * 9 * 3) ** 2 * 37 % 251).astype(np.uint8).reshape(5, 9, 9, 3))
    matrices = np.zeros((5, 2, 3))
    matrices[:, 0, 0], matrices[:, 1, 1], matrices[:, :, 2] = _FACTORS[:, 0], _FACTORS[:, 1], _OFFSETS
    some = np.array([0.6, 1.0, 1.4, 1.1, 0.0])
    colours = colour.hue(some / 9) @ colour.saturation(some[::-1]) @ colour.contrast(some) @ colour.brightness(some[::-1])
    return all(_agree(made, pixels, matrices, colours, size, fill) for size in (4, 13) for fill in (None, (9.0, 99.0, 200.0)))


def _agree(
    made: Kernel, pixels: torch.Tensor, matrices: geometry.Floats, colours: npt.NDArray[np.float64], size: int, fill: geometry.Fill
) -> bool:
    limits = ((0.0, 10.0, 20.0), (235.0, 245.0, 255.0))
    expected = colour.apply(geometry.resample(pixels, _EXTENTS, matrices, size, fill), colours)
    for channel, (lowest, highest) in enumerate(zip(*limits, strict=True)):
        expected[:, channel].clamp_(lowest, highest)
    views, rounded = (made(pixels, _EXTENTS, matrices, colours, size, fill, limits, precision) for precision in PRECISIONS)
    return bool((views - expected).abs().max() < _CLOSE) and torch.equal(views.to(torch.bfloat16), rounded)
