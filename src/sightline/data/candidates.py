"""Candidates for near twins: of each picture those most like it, and of these the ones that lie over each other well (twins.py).

    for done, pairs in promising(glances, rows, threads, folder): ...

Up to `EXHAUSTIVE` different pictures every pair is compared. Beyond, pictures are filed by the nearest of about one in a
thousand of them, and compared with what is filed under the `PROBES` nearest; waves lie file by file, so that to compare with a
file is one product with a piece of memory. Where the processor computes in bfloat16, all pairs are compared in it first, and
only those that may be close again in float32: the same pairs.

Two cores with AVX512-BF16 (AMD EPYC Zen 5), smooth pictures of 32 pixels, microseconds of a processor a picture: 103 at 100,000, 111
at 300,000, 134 at a million (before pictures lay file by file, and products had few shapes: 238 and 334 at the first two). What still
grows are the heads, a thousandth of the pictures (2, 6 and 13 us), and what the processor's caches do not hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from sightline.data.align import deviation, opponent, window_places
from sightline.data.pairs import NOBODY, NONE, Pairs, joined, laid
from sightline.data.scratch import on_disk
from sightline.data.shelf import in_threads
from sightline.data.waves import WINDOWS, Waves, any_above, best_cosine, best_window, cosine, waves_of, windows_of
from sightline.device import has_bfloat16
from sightline.randomness import stream

EXHAUSTIVE = 30_000
"""Up to so many different pictures every pair is compared."""

PROBES = 12
"""Beyond: how many files of pictures each one is compared with."""

Rows = npt.NDArray[np.int64]

_FLAT = 2.0  # levels of 255: a picture whose glance varies less has nothing to compare
_CLOSE = 0.87  # cosine from which on a pair is a candidate
_ROUNDING = 0.02  # more than a cosine in bfloat16 can be off: five roundings by 2^-9 at most
_TIGHT = 0.97  # cosine from which on a candidate is kept beside the most alike ones, to hold a tight cluster together
_NEAREST = 8  # candidates of a picture
_PROMISING = 0.6  # likeness at 16x16 from which on a pair is worth a close look
_FILE = 1000  # pictures a file, about
_ASKING = 256  # pictures that ask a file at once, or more: with 98 a million took 188 us a picture instead of 134
_BLOCK, _LARGEST_BLOCK = 8192, 24_576  # pictures that ask all files at once; 65 MB in each thread at most


@dataclass(frozen=True, slots=True)
class _Files:
    """Pictures in files, one after the other, each headed by one of them; a single file has no head.

    ends: where each file ends.
    """

    heads: Waves
    ends: list[int]

    def nearest(self, queries: Waves) -> torch.Tensor:
        """(Q, P) the files nearest to any window of each query."""
        if len(self.ends) == 1:
            return torch.zeros((len(queries), 1), dtype=torch.int64)
        probes = min(PROBES, len(self.ends))
        return torch.cat([best_cosine(queries[part], self.heads).topk(probes).indices for part in _parts(len(queries))])

    def asked(self, queries: Waves) -> Iterator[tuple[torch.Tensor, slice]]:
        """Which queries are to be compared with which pictures: a file at a time."""
        nearest = self.nearest(queries)
        asking = nearest.flatten().argsort(stable=True) // nearest.shape[1]
        counts = nearest.flatten().bincount(minlength=len(self.ends)).tolist()
        for some, start, end in zip(torch.split(asking, counts), [0, *self.ends], self.ends, strict=False):
            yield some, slice(start, end)


def _file(waves: Waves) -> tuple[_Files, torch.Tensor]:
    """One file up to `EXHAUSTIVE`; more beyond, headed by pictures that are drawn at random, since they lie where the others do.

    Returns:
        The files, and which picture comes where: file by file, ascending in each.
    """
    count = len(waves)
    if count <= EXHAUSTIVE:
        return _Files(waves[:0], [count]), torch.arange(count)
    drawn = np.sort(stream(0, "twins", count).choice(count, max(2, count // _FILE), replace=False))
    heads = waves[torch.from_numpy(drawn)]
    home = torch.empty(count, dtype=torch.int64)
    for part in _parts(count):
        home[part] = cosine(waves[part], heads).argmax(1)
    return _Files(heads, home.bincount(minlength=len(drawn)).cumsum(0).tolist()), home.argsort(stable=True)


def _parts(count: int, size: int = 1024) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


@dataclass(frozen=True, slots=True)
class _Search:
    """All that a block of pictures is compared with.

    glances: of all rows; rows: the row of each different picture; lively: the numbers of those with something in them, file by
    file, as `waves`; rough: these in bfloat16, where it is fast.
    """

    glances: torch.Tensor
    rows: torch.Tensor
    lively: torch.Tensor
    waves: Waves
    rough: Waves
    files: _Files

    def seen(self, numbers: torch.Tensor) -> torch.Tensor:
        """(B, 3, 16, 16) the glances of different pictures."""
        return self.glances[self.rows[numbers]]


def promising(glances: torch.Tensor, rows: Rows, threads: int, folder: Path) -> Iterator[tuple[int, Pairs]]:
    """How many pictures are done, and their pairs that agree at 16x16.

    Args:
        folder: for what has a part for each picture (scratch.py).
    """
    where = torch.from_numpy(rows)
    is_lively = torch.empty(len(rows), dtype=torch.bool)  # one piece from the start: many small ones keep what is between them
    for part in _parts(len(rows)):
        is_lively[part] = deviation(opponent(glances[where[part]])[:, :1]).flatten() >= _FLAT
    lively = is_lively.nonzero()[:, 0]
    if not len(lively):
        return
    search = _prepared(glances, where, lively, threads, folder)
    blocks = list(_parts(len(lively), _block(len(search.files.ends))))
    for at, pairs in zip(blocks, in_threads(lambda at: _searched(search, at), blocks, threads), strict=True):
        yield at.stop * len(rows) // len(lively), pairs


def _block(files: int) -> int:
    """Pictures that are looked for at once: of several files each is asked by `_ASKING` of them, as far as memory allows."""
    return 1024 if files == 1 else min(max(_BLOCK, _ASKING * files // PROBES), _LARGEST_BLOCK)


def _prepared(glances: torch.Tensor, rows: torch.Tensor, lively: torch.Tensor, threads: int, folder: Path) -> _Search:
    """Files of pictures lie in one piece, so that comparing with them gathers nothing; and like pictures ask for the same files."""
    whole = in_threads(lambda at: waves_of(opponent(glances[rows[at]]), WINDOWS[0]).numbers, torch.split(lively, 1024), threads)
    waves = Waves(on_disk(whole, folder))
    files, order = _file(waves)
    if len(files.ends) > 1:
        waves = Waves(on_disk((waves.numbers[part] for part in torch.split(order, 1024)), folder))
    rough = Waves(on_disk((waves[part].rounded().numbers for part in _parts(len(waves))), folder)) if has_bfloat16("cpu") else waves
    return _Search(glances, rows, lively[order], waves, rough, files)


def _searched(search: _Search, at: slice) -> Pairs:
    """A block of pictures with all others."""
    queries = Waves(search.waves.numbers.new_empty((at.stop - at.start, len(WINDOWS), search.waves.numbers.shape[1])))
    for part in _parts(len(queries), 512):
        queries.numbers[part] = windows_of(opponent(search.seen(search.lively[at][part]))).numbers
    return _laid_over(search, queries, at, _candidates(search, queries, at))


def _candidates(search: _Search, queries: Waves, at: slice) -> torch.Tensor:
    """(M, 2) of each query (its place in the block) the pictures most like it."""
    rough = queries.rounded() if search.rough.numbers.dtype == torch.bfloat16 else queries
    found = []
    for asking, file in search.files.asked(queries):
        for some in torch.split(asking, 256):
            for part in _parts(file.stop - file.start):
                hits = _hits(search, queries, rough, some, at.start, slice(file.start + part.start, file.start + part.stop))
                if len(hits[0]):
                    found.append(hits)
    query, other, cosine = (torch.cat(column) for column in zip(*found, strict=True)) if found else (NOBODY, NOBODY, torch.zeros(0))
    chosen = _most_alike(query, search.lively[other], cosine)
    return torch.stack([query[chosen], other[chosen]], 1)


Hits = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # (M,) query, other, cosine


def _hits(search: _Search, queries: Waves, rough: Waves, some: torch.Tensor, first: int, part: slice) -> Hits:
    """Where some of the queries, `first` and after, are close to a picture of a part of a file."""
    others = search.waves[part]
    query, other = any_above(rough[some], search.rough[part], _CLOSE - _ROUNDING)
    different = first + some[query] != part.start + other
    query, other = query[different], other[different]
    if len(query) > len(some) * (_NEAREST + 1):
        query, other, best = _of_crowd(queries[some], others, first + some - part.start)
    else:
        best, _, _ = best_window(queries[some[query]], others[other])
    close = best > _CLOSE
    return some[query[close]], part.start + other[close], best[close]


def _of_crowd(queries: Waves, others: Waves, own: torch.Tensor) -> Hits:
    """Of each query the nearest, and the first that is tight, but not the query itself, which is the other at `own`."""
    best = best_cosine(queries, others)
    best.masked_fill_(own[:, None] == torch.arange(len(others)), -1.0)
    keep = torch.zeros_like(best, dtype=torch.bool).scatter_(1, best.topk(min(_NEAREST, best.shape[1])).indices, True)
    keep.scatter_(1, (best > _TIGHT).to(torch.uint8).argmax(1, keepdim=True), True)
    query, other = keep.nonzero(as_tuple=True)
    return query, other, best[query, other]


def _most_alike(query: torch.Tensor, other: torch.Tensor, cosine: torch.Tensor) -> torch.Tensor:
    """(M,) which: of each query the `_NEAREST`, and the first of all that are tight, so that a cluster of any size hangs together.

    Args:
        other: numbers in the order of content.
    """
    q, o, c = query.numpy(), other.numpy(), cosine.numpy()
    order = np.lexsort((o, -c, q))
    rank = np.arange(len(q)) - np.searchsorted(q[order], q[order])
    kept = order[rank < _NEAREST]
    tight = np.flatnonzero(c > _TIGHT)
    tight = tight[np.lexsort((o[tight], q[tight]))]
    first = tight[np.unique(q[tight], return_index=True)[1]]
    return torch.from_numpy(np.union1d(kept, first))


def _laid_over(search: _Search, queries: Waves, at: slice, pairs: torch.Tensor) -> Pairs:
    """The pairs that agree at 16x16, each begun from its best window."""
    starts = window_places(torch.tensor(WINDOWS))
    kept = [NONE]
    for start in range(0, len(pairs), 256):
        query, other = pairs[start : start + 256].unbind(1)
        _, window, mirrored = best_window(queries[query], search.waves[other])
        places = starts[window]
        places[:, 0, 2] = torch.where(mirrored, -places[:, 0, 2], places[:, 0, 2])
        larger, smaller = search.lively[at.start + query], search.lively[other]
        begun = Pairs(larger, smaller, mirrored, places, torch.zeros(len(query)))
        better = laid(begun, search.seen(larger), search.seen(smaller), steps=4)
        kept.append(better[better.alike > _PROMISING])
    return joined(kept)
