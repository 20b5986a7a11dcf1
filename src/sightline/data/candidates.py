"""Candidates for near twins: of each picture those most like it, and of these the ones that lie over each other well (twins.py).

    for done, pairs in promising(glances, rows, threads): ...

Up to `EXHAUSTIVE` different pictures every pair is compared. Beyond, pictures are filed by the nearest of about one in a
thousand of them, and compared with what is filed under the `PROBES` nearest. Where the processor computes in bfloat16, all
pairs are compared in it first, and only those that may be close again in float32: 1.9 instead of 5.4 ms for 256 pictures
with 2,048 on one core with AVX512-BF16, the same pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from sightline.data.align import deviation, opponent, window_places
from sightline.data.pairs import NOBODY, NONE, Pairs, joined, laid
from sightline.data.shelf import in_threads
from sightline.data.waves import WINDOWS, Waves, above, best_cosine, best_window, cosine, waves_of
from sightline.device import has_bfloat16
from sightline.randomness import stream

EXHAUSTIVE = 30_000
"""Up to so many different pictures every pair is compared."""

PROBES = 12
"""Beyond: how many files of pictures each one is compared with."""

Rows = npt.NDArray[np.int64]
Glances = npt.NDArray[np.uint8]  # (U, 3, 16, 16)

_FLAT = 2.0  # levels of 255: a picture whose glance varies less has nothing to compare
_CLOSE = 0.87  # cosine from which on a pair is a candidate
_ROUNDING = 0.02  # more than a cosine in bfloat16 can be off: five roundings by 2^-9 at most
_TIGHT = 0.97  # cosine from which on a candidate is kept beside the most alike ones, to hold a tight cluster together
_NEAREST = 8  # candidates of a picture
_PROMISING = 0.6  # likeness at 16x16 from which on a pair is worth a close look
_FILE = 1000  # pictures a file, about


@dataclass(frozen=True, slots=True)
class _Files:
    """Pictures filed by the nearest of some of them: who is in which, ascending."""

    heads: Waves
    members: list[torch.Tensor]

    def nearest(self, queries: list[Waves]) -> torch.Tensor:
        """(Q, P) the files nearest to any window of each query."""
        if len(self.members) == 1:
            return torch.zeros((len(queries[0].even), 1), dtype=torch.int64)
        return best_cosine(queries, self.heads).topk(min(PROBES, len(self.members))).indices


def _file(waves: Waves) -> _Files:
    """One file up to `EXHAUSTIVE`; more beyond, headed by pictures that are drawn at random, since they lie where the others do."""
    count = len(waves.even)
    if count <= EXHAUSTIVE:
        return _Files(waves[:0], [torch.arange(count)])
    drawn = np.sort(stream(0, "twins", count).choice(count, max(2, count // _FILE), replace=False))
    heads = waves[torch.from_numpy(drawn)]
    home = torch.cat([cosine(waves[start : start + 4096], heads).argmax(1) for start in range(0, count, 4096)])
    order = home.argsort(stable=True)
    return _Files(heads, list(torch.split(order, torch.bincount(home, minlength=len(drawn)).tolist())))


@dataclass(frozen=True, slots=True)
class _Search:
    """All that a block of pictures is compared with.

    glances: of all rows; rows: the row of each different picture; lively: the numbers of those that `waves` belong to; rough:
    these in bfloat16, where it is fast.
    """

    glances: torch.Tensor
    rows: torch.Tensor
    lively: torch.Tensor
    waves: Waves
    rough: Waves | None
    files: _Files

    def seen(self, numbers: torch.Tensor) -> torch.Tensor:
        """(B, 3, 16, 16) the glances of different pictures."""
        return self.glances[self.rows[numbers]]


def promising(glances: Glances, rows: Rows, threads: int) -> Iterator[tuple[int, Pairs]]:
    """How many pictures are done, and their pairs that agree at 16x16."""
    seen, where = torch.from_numpy(glances), torch.from_numpy(rows)
    lively = torch.cat([_lively(seen[part]) for part in torch.split(where, 4096)]).nonzero()[:, 0] if len(rows) else NOBODY
    if not len(lively):
        return
    waves = _all_waves(seen, where[lively], threads)
    search = _Search(seen, where, lively, waves, waves.rounded() if has_bfloat16("cpu") else None, _file(waves))
    size = 1024 if len(search.files.members) == 1 else 8192
    blocks = torch.split(torch.arange(len(lively)), size)
    for at, pairs in zip(blocks, in_threads(lambda at: _searched(search, at), blocks, threads), strict=True):
        yield int(lively[at[-1]]) + 1, pairs


def _all_waves(glances: torch.Tensor, rows: torch.Tensor, threads: int) -> Waves:
    """Of all of each picture, in one piece from the start: two copies of a million are a gigabyte."""
    one = waves_of(opponent(glances[rows[:1]]), WINDOWS[0])
    waves = Waves(*(part.new_empty((len(rows), part.shape[1])) for part in (one.even, one.odd)))
    parts = torch.split(torch.arange(len(rows)), 4096)
    for at, part in zip(parts, in_threads(lambda at: waves_of(opponent(glances[rows[at]]), WINDOWS[0]), parts, threads), strict=True):
        waves.even[at], waves.odd[at] = part.even, part.odd
    return waves


def _lively(glances: torch.Tensor) -> torch.Tensor:
    return deviation(opponent(glances)[:, :1]).flatten() >= _FLAT


def _searched(search: _Search, at: torch.Tensor) -> Pairs:
    """A block of pictures with all others."""
    pictures = opponent(search.seen(search.lively[at]))
    queries = [waves_of(pictures, window) for window in WINDOWS]
    return _laid_over(search, queries, at, _candidates(queries, at, search))


def _candidates(queries: list[Waves], at: torch.Tensor, search: _Search) -> torch.Tensor:
    """(M, 2) of each query (its place in the block) the pictures most like it."""
    nearest = search.files.nearest(queries)
    found = []
    for file, members in enumerate(search.files.members):
        asking = (nearest == file).any(1).nonzero()[:, 0]
        for some in torch.split(asking, 256):
            own = [query[some] for query in queries]
            for part in torch.split(members, 2048):
                own_at, other, cosine = _rough_hits(search, own, at[some], part) or _hits(own, search.waves[part], at[some], part)
                found.append((some[own_at], other, cosine))
    query, other, cosine = (torch.cat(column) for column in zip(*found, strict=True)) if found else (torch.zeros(0),) * 3
    return _most_alike(query, other, cosine)


Hits = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # (M,) query, the number of the other, cosine


def _hits(queries: list[Waves], others: Waves, own: torch.Tensor, members: torch.Tensor) -> Hits:
    """Where a query is close to another; of a crowd only the nearest, and the first that is tight."""
    best = best_cosine(queries, others)
    best.masked_fill_(own[:, None] == members, -1.0)
    query, other = (best > _CLOSE).nonzero(as_tuple=True)
    if _is_crowd(query, own):
        keep = torch.zeros_like(best, dtype=torch.bool).scatter_(1, best.topk(min(_NEAREST, best.shape[1])).indices, True)
        keep.scatter_(1, (best > _TIGHT).to(torch.uint8).argmax(1, keepdim=True), True)
        query, other = (keep & (best > _CLOSE)).nonzero(as_tuple=True)
    return query, members[other], best[query, other]


def _rough_hits(search: _Search, queries: list[Waves], own: torch.Tensor, members: torch.Tensor) -> Hits | None:
    """The same, all pairs in bfloat16 and those that may be close in float32; None where these are a crowd, or bfloat16 is slow."""
    if search.rough is None:
        return None
    query, other = above([query.rounded() for query in queries], search.rough[members], _CLOSE - _ROUNDING)
    different = own[query] != members[other]
    query, other = query[different], members[other[different]]
    if _is_crowd(query, own):
        return None
    best, _, _ = best_window([wave[query] for wave in queries], search.waves[other])
    close = best > _CLOSE
    return query[close], other[close], best[close]


def _is_crowd(hits: torch.Tensor, own: torch.Tensor) -> bool:
    return len(hits) > len(own) * (_NEAREST + 1)


def _most_alike(query: torch.Tensor, other: torch.Tensor, cosine: torch.Tensor) -> torch.Tensor:
    """(M, 2): of each query the `_NEAREST`, and the first of all that are tight: so a cluster of any size hangs together."""
    q, o, c = query.numpy(), other.numpy(), cosine.numpy()
    order = np.lexsort((o, -c, q))
    rank = np.arange(len(q)) - np.searchsorted(q[order], q[order])
    kept = order[rank < _NEAREST]
    tight = np.flatnonzero(c > _TIGHT)
    tight = tight[np.lexsort((o[tight], q[tight]))]
    first = tight[np.unique(q[tight], return_index=True)[1]]
    chosen = np.union1d(kept, first)
    return torch.from_numpy(np.stack([q[chosen], o[chosen]], 1).astype(np.int64))


def _laid_over(search: _Search, queries: list[Waves], at: torch.Tensor, pairs: torch.Tensor) -> Pairs:
    """The pairs that agree at 16x16, each begun from its best window."""
    starts = window_places(torch.tensor(WINDOWS))
    kept = [NONE]
    for start in range(0, len(pairs), 256):
        query, other = pairs[start : start + 256].unbind(1)
        _, window, mirrored = best_window([wave[query] for wave in queries], search.waves[other])
        places = starts[window]
        places[:, 0, 2] = torch.where(mirrored, -places[:, 0, 2], places[:, 0, 2])
        larger, smaller = search.lively[at[query]], search.lively[other]
        begun = Pairs(larger, smaller, mirrored, places, torch.zeros(len(query)))
        better = laid(begun, search.seen(larger), search.seen(smaller), steps=4)
        kept.append(better[better.alike > _PROMISING])
    return joined(kept)
