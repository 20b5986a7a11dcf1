"""Near twins: the same shot re-encoded, resized, cropped a little, lit differently, mirrored, or a frame later.

    twins = find_twins(pixels)        first, second: row numbers; similarity: 0 to 1

Three steps, each on what the one before has left:

1. A glance: every picture at 16x16. Pictures whose glances are equal are twins.
2. Candidates (candidates.py): the low frequencies of a glance (waves.py), of all of a picture and of five windows of 90 %
   of it, are compared with those of all of every other picture.
3. Proof: the two are laid over each other (align.py), at 16x16 and then, for the few that are left, at 64x64 (32x32 where
   one of them is smaller than 48), and must agree in detail.

Pictures may resemble each other without being the same shot, as digits and X-rays do. Where links that are not sure would
join many of them into one crowd, only the sure ones are named, and it is told.

What has a part for each picture, its glance and its waves (1.2 kB), lies in files without a name in the cache's folder
(scratch.py). Memory of its own: 180 to 340 MB with two threads, seen at 100,000, 300,000 and a million pictures. Never are all pairs
held, only the 8 most alike of each picture, and one more that holds a cluster of any size together.
Two cores took 6 s for 100,000 pictures of 32 pixels, 20 s for 300,000, some 80 s for a million (candidates.py).
Rows in another order give the same pairs, but that of several pictures with equal glances the first row stands for all.

It gives up crops of more than about 15 %, copies under 24 pixels, pictures turned by more than a few degrees or upside down,
and pictures with nothing in them but a smooth gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from sightline import files
from sightline.data.candidates import Rows, promising
from sightline.data.geometry import fit_matrices, resample
from sightline.data.pairs import NONE, Pairs, joined, laid, once
from sightline.data.scratch import on_disk
from sightline.data.shelf import in_threads
from sightline.data.store import Pixels
from sightline.data.waves import GLANCE

VERSION = 1  # of the search; another one, and what was found before is not asked (known_twins.py)
AT_LEAST = 0.7
"""Similarity from which on two pictures are twins. Chosen on planted twins (benchmarks/twins.py, half "choose")."""

SURE = 0.9
"""Similarity from which on two pictures are the same shot, even among pictures that all look alike."""

Progress = Callable[[int, int], None]

_PROOF, _PROOF_OF_SMALL = 64, 32  # sides: the second where a picture of the pair has a long side under 48
_CROWD = 0.005  # share of the pictures that links that are not sure may join into one group, ...
_FEW = 25  # ... or so many pictures


@dataclass(frozen=True, slots=True)
class Twins:
    """Pairs of rows that show the same.

    Attributes:
        first, second: (M,) row numbers, first < second, sorted by both, no pair twice.
        similarity: (M,) float32 in [0, 1]: 1 where nothing differs that can be seen at 16x16.
        notes: sentences that the user should see.
    """

    first: Rows
    second: Rows
    similarity: npt.NDArray[np.float32]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (len(self.first) == len(self.second) == len(self.similarity)):
            raise ValueError("first, second and similarity belong together")
        if (self.first >= self.second).any() or not ((self.similarity >= 0) & (self.similarity <= 1)).all():
            raise ValueError("first < second, and similarity lies in [0, 1]")
        if (np.diff(self.first) < 0).any() or ((np.diff(self.first) == 0) & (np.diff(self.second) <= 0)).any():
            raise ValueError("pairs are sorted, and each is there once")

    def __len__(self) -> int:
        return len(self.first)


def find_twins(pixels: Pixels, progress: Progress | None = None, threads: int = 1, folder: Path | None = None) -> Twins:
    """Near twins among the rows of a store: pairs at or above `AT_LEAST`, or at or above `SURE` where many look alike.

    Of pictures whose glances are equal, each is paired with the first of them, and that one alone with others.

    Args:
        progress: called with (done, all).
        threads: blocks that are worked on at once.
        folder: where files may be while it works (scratch.py); by default that of the cache.

    Raises:
        DiskError: there is no room.
    """
    likely = likely_twins(pixels, progress, threads, folder)
    named = _at_least(likely, AT_LEAST)
    if not _look_alike(named, len(pixels.extents)):
        return named
    note = (
        f"Many of these pictures look alike without being the same: near twins are named from a similarity of {SURE} on, "
        f"not {AT_LEAST}, and some may be missing."
    )
    return replace(_at_least(named, SURE), notes=(note,))


def likely_twins(pixels: Pixels, progress: Progress | None = None, threads: int = 1, folder: Path | None = None) -> Twins:
    """All pairs that came to the proof, whatever it said: what `find_twins` chooses from."""
    count = len(pixels.extents)
    if not count:
        nobody = np.zeros(0, dtype=np.int64)
        return _of_rows(nobody, nobody, NONE)
    say, folder = progress or (lambda done, whole: None), folder or files.cache_folder()
    with _one_thread_each():
        glances = on_disk(_glances(pixels, threads, lambda done: say(done, 2 * count)), folder)
        # The order of their content: whatever the order of the rows, the same is computed.
        rows, same = _different(glances)
        found = [NONE]
        for done, pairs in promising(glances, rows, threads, folder):
            found.append(pairs)
            say(count + done * count // len(rows), 2 * count)
        pairs = _proved(pixels, rows, once(joined(found)), threads)
    say(2 * count, 2 * count)
    return _of_rows(rows, same, pairs)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Work is shared out in blocks. Threads within each product too would wait for each other, on a busy machine for minutes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ---- a glance --------------------------------------------------------------------------------------------------------


def _small(pixels: Pixels, rows: Rows, side: int) -> torch.Tensor:
    """(B, 3, T, T) uint8: all of each picture, squashed to a square."""
    extents = pixels.extents[rows]
    views = resample(pixels.read(rows), extents, fit_matrices(extents, "squash"), side)
    return views.round_().clamp_(0, 255).to(torch.uint8)


def _blocks(count: int, side: int) -> Iterator[Rows]:
    """Row numbers in blocks of at most 128 pictures and about 50 MB as they are stored, 200 MB as they are resampled."""
    size = max(1, min(128, 16_000_000 // (3 * side * side)))
    for start in range(0, count, size):
        yield np.arange(start, min(count, start + size))


def _glances(pixels: Pixels, threads: int, say: Callable[[int], None]) -> Iterator[torch.Tensor]:
    """(B, 3, 16, 16) blocks."""
    done = 0
    for glances in in_threads(lambda block: _small(pixels, block, GLANCE), _blocks(len(pixels.extents), pixels.side), threads):
        yield glances
        done += len(glances)
        say(done)


def _different(glances: torch.Tensor) -> tuple[Rows, Rows]:
    """The first row (U,) of each different glance, in an order that their content alone decides; which of them each row has (N,)."""
    digests = (blake2b(glance, digest_size=16).digest() for glance in glances.numpy())
    _, rows, same = np.unique(np.fromiter(digests, dtype="V16", count=len(glances)), return_index=True, return_inverse=True)
    return rows, same


# ---- proof -----------------------------------------------------------------------------------------------------------


def _proved(pixels: Pixels, rows: Rows, pairs: Pairs, threads: int) -> Pairs:
    """The pairs as they are at 64x64, or at 32x32 where there is no more to see."""
    long_sides = torch.from_numpy(pixels.extents[rows].max(1, initial=0))
    small = torch.minimum(long_sides[pairs.larger], long_sides[pairs.smaller]) < 48
    parts = [(side, part) for side, of_side in ((_PROOF, ~small), (_PROOF_OF_SMALL, small)) for part in pairs[of_side].split(256)]
    return joined([NONE, *in_threads(lambda part: _proved_at(part[0], pixels, rows, part[1]), parts, threads)])


def _proved_at(side: int, pixels: Pixels, rows: Rows, pairs: Pairs) -> Pairs:
    numbers, where = np.unique(torch.cat([pairs.larger, pairs.smaller]).numpy(), return_inverse=True)
    wanted = rows[numbers]
    pictures = torch.cat([_small(pixels, wanted[block], side) for block in _blocks(len(wanted), pixels.side)])
    larger, smaller = torch.from_numpy(where).chunk(2)
    spans = [slice(start, start + 64) for start in range(0, len(larger), 64)]  # as much as fits the processor's cache
    return joined([laid(pairs[at], pictures[larger[at]], pictures[smaller[at]], steps=4) for at in spans])


def _of_rows(rows: Rows, same: Rows, pairs: Pairs) -> Twins:
    """Pairs of rows: of what was laid over each other, and of each row with the first one that looks the same at a glance."""
    again = np.flatnonzero(rows[same] != np.arange(len(same)))
    one = np.concatenate([rows[pairs.larger.numpy()], rows[same[again]]])
    other = np.concatenate([rows[pairs.smaller.numpy()], again])
    similarity = np.concatenate([pairs.alike.clamp(0, 1).numpy(), np.ones(len(again), dtype=np.float32)])
    first, second = np.minimum(one, other), np.maximum(one, other)
    order = np.lexsort((second, first))
    return Twins(first[order], second[order], similarity[order])


def _at_least(twins: Twins, similarity: float) -> Twins:
    kept = twins.similarity >= similarity
    return Twins(twins.first[kept], twins.second[kept], twins.similarity[kept])


def _look_alike(twins: Twins, count: int) -> bool:
    """Whether links that are not sure join many pictures into one group.

    Digits or chest X-rays resemble each other without being the same shot, and then hang together in one crowd. Pictures that
    sure links join count once: a thousand frames of one film are one picture here.
    """
    if not len(twins):
        return False
    sure = _at_least(twins, SURE)
    groups, shots = components(twins.first, twins.second, count), components(sure.first, sure.second, count)
    first_of_shot = np.unique(shots, return_index=True)[1]
    return bool(np.bincount(groups[first_of_shot]).max() > max(_FEW, _CROWD * count))


def components(first: Rows, second: Rows, count: int) -> Rows:
    """(count,) the number, from 0, of the group of each of `count` nodes that pairs of them join.

    Each round hangs the higher root of every pair under the lower one, and shortens all ways to the roots (Shiloach and Vishkin 1982).
    scipy's graphs do the same, but training would wait for their import alone.
    """
    root = np.arange(count)
    while True:
        one, other = root[first], root[second]
        if np.array_equal(one, other):
            break
        np.minimum.at(root, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(root, root[root]):
            root = root[root]
    found: Rows = np.unique(root, return_inverse=True)[1].astype(np.int64)
    return found
