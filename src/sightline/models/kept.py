"""Features of the frozen part of a network, for n images x V views, kept on the disk.

    key = prefix_key(images=digests, draws=keys, side=128, weights=weights_digest(frozen.state(network)), words="trunk", ...)
    kept = find(folder, key) or keep(folder, key, compute, shape=(V, n, *cut.shape), dtype=cut.dtype)
    kept.read(view=3, positions=order)                  (B, ...) as they were computed, in their memory order

A folder holds `features.bin` and the manifest, which is written last and knows the digest: what is damaged or unfinished
counts as missing and is built again. It is filled aside and renamed, so two runs at once are safe. Features stay in the
number format they were computed in, bit for bit. It gives up clearing up: features stay until the user removes them.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sightline import files
from sightline.data.augment import View
from sightline.data.crew import fill_together
from sightline.errors import DiskError
from sightline.processes import Share

VERSION = 1  # of the layout
_FEATURES = "features.bin"
Compute = Callable[[Share], tuple[int, Iterable[torch.Tensor]]]
# NumPy has no bfloat16: its bits are kept as what they are.
_STORED = {torch.bfloat16: (torch.int16, np.int16), torch.float32: (torch.float32, np.float32)}


@dataclass(frozen=True, eq=False, slots=True)
class KeptFeatures:
    """Features on the disk, mapped into memory: more of them than memory holds can be read.

    Attributes:
        values: (V, n, ...) as stored; bfloat16 as its bits.
        dtype: of the features.
        channels_last: whether maps (C, H, W) are stored as (H, W, C).
        seconds: how long it took to compute them, whenever that was.
    """

    values: npt.NDArray[np.generic]
    dtype: torch.dtype
    channels_last: bool
    seconds: float

    @property
    def views(self) -> int:
        """V, the views of each image."""
        return len(self.values)

    @property
    def megabytes(self) -> float:
        """Size on the disk, in 10^6 bytes."""
        return self.values.nbytes / 1e6

    def read(self, view: int | npt.NDArray[np.int64], positions: npt.NDArray[np.int64]) -> torch.Tensor:
        """(B, ...) features: those of `positions` (B,), each from 0 to n - 1, in one view or (B,) each in its own."""
        features = torch.from_numpy(np.asarray(self.values[view, positions])).view(self.dtype)
        return features.permute(0, 3, 1, 2) if self.channels_last else features


def find(folder: Path, key: str) -> KeptFeatures | None:
    """The features of this key, or None where there are none that are whole."""
    about = files.read_manifest(folder / key)
    return _open(folder / key, about) if about is not None and about.get("version") == VERSION else None


def _open(folder: Path, about: Mapping[str, Any]) -> KeptFeatures:
    dtype: torch.dtype = getattr(torch, about["dtype"])
    values = np.memmap(folder / _FEATURES, dtype=_STORED[dtype][1], mode="r", shape=tuple(about["stored"]))
    return KeptFeatures(values, dtype, about["channels_last"], about["seconds"])


def keep(folder: Path, key: str, compute: Compute, shape: Sequence[int], dtype: torch.dtype) -> KeptFeatures:
    """The features of this key, computed and kept where they are not there yet; of several processes each computes its share.

    Args:
        folder: of all kept features, such as `files.cache_folder() / "prefix"`.
        key: from `prefix_key`.
        compute: from a share, the row with which it begins and its features (b, ...), batch after batch. Rows are those of
            all images of view 0 in order, then of view 1, and so on. Maps in channels-last order are kept and read back in it.
        shape: (V, n, ...) of all of them.
        dtype: bfloat16 or float32; with the features' own, nothing is rounded.

    Raises:
        DiskError: they do not fit on the disk, or may not be written there. Nothing half-built is left behind.
    """
    final, started = folder / key, time.perf_counter()

    def there() -> Path | None:
        if find(folder, key) is not None:
            return final
        files.make_folder(folder)
        _check_room(folder, math.prod(shape) * dtype.itemsize)
        return None

    def fill(part: Path, share: Share) -> None:
        told = _fill(part / _FEATURES, *compute(share), tuple(shape), dtype)
        files.write_json(part / f"{share.part}.share", told)

    def finish(part: Path) -> Path:
        files.write_manifest(part, _sum_up(part, tuple(shape), dtype) | {"seconds": time.perf_counter() - started})
        with files.locked(folder):  # two that find the same damaged one: no whole one is ever removed
            if find(folder, key) is None:
                shutil.rmtree(final, ignore_errors=True)
            files.publish(part, final)
        return final

    fill_together(folder, there, fill, finish)
    return _open(final, files.read_json(final / files.MANIFEST))


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskError(
            f"The features of the frozen part need {needed / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free. "
            "Free some disk space, set fewer augment.views, or train.prefix=off."
        )


def _fill(path: Path, first: int, batches: Iterable[torch.Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, object]:
    """Writes one batch after the other from row `first` on; gives how many rows, and how they lie."""
    rows, channels_last = 0, None
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666), "wb") as file:  # others write into it too
        file.seek(first * math.prod(shape[2:]) * dtype.itemsize)
        for batch in batches:
            if batch.shape[1:] != shape[2:]:
                raise ValueError(f"features {tuple(batch.shape[1:])} where {shape[2:]} were announced")
            if channels_last is None:
                channels_last = _is_channels_last(batch)
            file.write(_bits(batch.permute(0, 2, 3, 1) if channels_last else batch, dtype).data)
            rows += len(batch)
    return {"rows": rows, "channels_last": bool(channels_last)}


def _sum_up(part: Path, shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, object]:
    """What the manifest tells of all shares together."""
    told = sorted(part.glob("*.share"))
    shares = [about for about in map(files.read_json, told) if about["rows"]]
    for path in told:
        path.unlink()
    rows = sum(about["rows"] for about in shares)
    if rows != shape[0] * shape[1]:
        raise ValueError(f"{rows} features where {shape[0]} views of {shape[1]} images were announced")
    channels_last = any(about["channels_last"] for about in shares)
    stored = (*shape[:2], shape[3], shape[4], shape[2]) if channels_last else shape
    about: dict[str, object] = {"kind": "sightline features", "version": VERSION, "dtype": str(dtype).removeprefix("torch.")}
    return about | {"stored": stored, "channels_last": channels_last}


def _is_channels_last(batch: torch.Tensor) -> bool:
    return batch.ndim == 4 and batch.is_contiguous(memory_format=torch.channels_last) and not batch.is_contiguous()


def _bits(batch: torch.Tensor, dtype: torch.dtype) -> npt.NDArray[np.generic]:
    array: npt.NDArray[np.generic] = batch.detach().to(dtype).cpu().contiguous().view(_STORED[dtype][0]).numpy()
    return array


# ---- the key ---------------------------------------------------------------------------------------------------------


def prefix_key(
    *,
    images: Iterable[str],
    draws: npt.NDArray[np.uint64],
    side: int,
    weights: str,
    model: str,
    words: str,
    view: View,
    policy: object,
    views: int,
    seed: int,
    precision: str,
) -> str:
    """A name for features: another one as soon as anything changes that they depend on.

    Args:
        images: a digest of each image's pixels, in order.
        draws: (n,) what each image's random draws depend on, as `image_keys` gives it.
        side: of the stored pixels.
        weights: `weights_digest` of the frozen part.
        model: the network's name, and all of its options that weights do not show.
        words: of `model.freeze`.
        policy: whatever draws the views, with a `repr` that tells all of it.
        seed: of the draws.
        precision: what the features are computed in.
    """
    versions = [f"{name} {metadata.version(name)}" for name in ("sightline", "torch", "timm")]  # each may change an arithmetic
    known = hashlib.sha256()
    for part in (VERSION, *versions, side, weights, model, words, view, policy, views, seed, precision, len(draws)):
        known.update(f"{part!r}\n".encode("utf-8", "surrogateescape"))
    known.update(np.ascontiguousarray(draws).tobytes())
    known.update("\n".join(images).encode())
    return known.hexdigest()[:32]


def weights_digest(weights: Mapping[str, torch.Tensor]) -> str:
    """sha256 over names, formats, shapes and bits of tensors, as `Frozen.state` gives them."""
    known = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        known.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        known.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return known.hexdigest()
