"""Random numbers that depend on what they are for, and on nothing else.

Every draw comes from (seed, purpose, epoch, image). No generator is carried along, so results do not depend on the
order of work, on the number of workers, or on where a run was interrupted.

    uniform(seed, "augment", epoch, keys, 12)     (B, 12) numbers in [0, 1), a row an image
    permutation(seed, "order", epoch, n)          the order of an epoch
    stream(seed, "split")                         a numpy Generator for anything else
    seed_torch(seed, "step", step)                first weights, dropout

Source: SplitMix64's finaliser (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators") over a
counter. It gives up cryptographic strength.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def key(*parts: object) -> int:
    """64 bits for (seed, purpose, ...): the same parts give the same key on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def uniform(seed: int, purpose: str, epoch: int, images: npt.NDArray[np.uint64], count: int) -> npt.NDArray[np.float64]:
    """(B, count) numbers in [0, 1): row b depends on (seed, purpose, epoch, images[b]) alone.

    Args:
        images: (B,) uint64, one key an image.
        count: draws an image.
    """
    with np.errstate(over="ignore"):
        start = _mix(images ^ _mix(np.array([key(seed, purpose, epoch)], dtype=np.uint64)))  # (B,)
        steps = _GOLDEN * np.arange(1, count + 1, dtype=np.uint64)  # (count,)
        bits = _mix(start[:, None] + steps[None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def numbered(images: npt.NDArray[np.uint64], number: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """(B,) keys of the first, second, ... showing of images: number 0 is the image's own key."""
    with np.errstate(over="ignore"):
        return np.where(number == 0, images, _mix(images + _GOLDEN * number.astype(np.uint64)))


def stream(*parts: object) -> np.random.Generator:
    """A numpy Generator of its own for (seed, purpose, ...)."""
    return np.random.Generator(np.random.Philox(key=key(*parts)))


def permutation(seed: int, purpose: str, epoch: int, n: int) -> npt.NDArray[np.int64]:
    """0..n-1 in the order of this epoch."""
    return stream(seed, purpose, epoch).permutation(n)


def seed_torch(*parts: object) -> None:
    """Sets torch's own generators, on every device, from (seed, purpose, ...)."""
    import torch

    seed = key(*parts) % 2**63
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:  # torch.manual_seed writes down a stack trace for each device that may yet appear: 0.14 ms, measured, in every step
        torch.default_generator.manual_seed(seed)
