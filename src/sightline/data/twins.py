"""Near twins: the same shot re-encoded, resized, cropped a little, lit differently, mirrored, or a frame later.

    twins = find_twins(pixels)        first, second: row numbers; similarity: 0 to 1

Three steps, each on what the one before has left:

1. A glance: every picture at 16x16. Pictures whose glances are equal are twins.
2. Candidates: the low frequencies of a glance (discrete cosines, as in a perceptual hash, but 71 numbers instead of 64
   bits), of all of a picture and of five windows of 90 % of it, are compared with those of all of every other picture. A
   mirrored picture differs in the sign of the odd ones, so both ways cost one comparison.
3. Proof: the two are laid over each other (align.py), at 16x16 and then, for the few that are left, at 64x64 (32x32 where
   one of them is smaller than 48), and must agree in detail.

Pictures may resemble each other without being the same shot, as digits and X-rays do. Where links that are not sure would
join many of them into one crowd, only the sure ones are named, and it is told.

Memory: 90 MB and 2.6 kB a picture at its peak (40,000 and 100,000 pictures, docs/scale.md). Never are all pairs held,
only the 8 most alike of each picture, and one more that holds a cluster of any size together. Up to `EXHAUSTIVE`
different pictures every pair is compared. Beyond, pictures are filed by the nearest of about one in a thousand of them,
and compared with what is filed under the `PROBES` nearest: one core took 16 s for 20,000 pictures of 28 pixels, 102 s
for 120,000 (all pairs: 56 s for 40,000), 12 minutes for a million of 32 pixels.
Rows in another order give the same pairs, but that of several pictures with equal glances the first row stands for all.

It gives up crops of more than about 15 %, copies under 24 pixels, pictures turned by more than a few degrees or upside down,
and pictures with nothing in them but a smooth gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import torch

from sightline.data.align import align, likeness, opponent, window_places
from sightline.data.geometry import fit_matrices, resample
from sightline.data.shelf import in_threads
from sightline.data.store import Pixels
from sightline.randomness import stream

VERSION = 1  # of the search; another one, and what was found before is not asked (known_twins.py)
AT_LEAST = 0.7
"""Similarity from which on two pictures are twins. Chosen on planted twins (benchmarks/twins.py, half "choose")."""

SURE = 0.9
"""Similarity from which on two pictures are the same shot, even among pictures that all look alike."""

EXHAUSTIVE = 30_000
"""Up to so many different pictures every pair is compared."""

PROBES = 12
"""Beyond: how many files of pictures each one is compared with."""

Progress = Callable[[int, int], None]
Rows = npt.NDArray[np.int64]
Glances = npt.NDArray[np.uint8]  # (U, 3, 16, 16)

_GLANCE = 16  # side
_FLAT = 2.0  # levels of 255: a picture whose glance varies less has nothing to compare
_CLOSE = 0.87  # cosine from which on a pair is a candidate
_TIGHT = 0.97  # cosine from which on a candidate is kept beside the most alike ones, to hold a tight cluster together
_NEAREST = 8  # candidates of a picture
_PROMISING = 0.6  # likeness at 16x16 from which on a pair is looked at closely
_PROOF, _PROOF_OF_SMALL = 64, 32  # sides: the second where a picture of the pair has a long side under 48
_CROWD = 0.005  # share of the pictures that links that are not sure may join into one group, ...
_FEW = 25  # ... or so many pictures
_FILE = 1000  # pictures a file, about
_WHOLE, _LOW, _HIGH, _MIDDLE = (0.0, 1.0), (0.0, 0.9), (0.1, 1.0), (0.05, 0.95)
_WINDOWS = [(_WHOLE, _WHOLE), (_MIDDLE, _MIDDLE), (_LOW, _LOW), (_LOW, _HIGH), (_HIGH, _LOW), (_HIGH, _HIGH)]  # (y, x)


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


def find_twins(pixels: Pixels, progress: Progress | None = None, threads: int = 1) -> Twins:
    """Near twins among the rows of a store: pairs at or above `AT_LEAST`, or at or above `SURE` where many look alike.

    Of pictures whose glances are equal, each is paired with the first of them, and that one alone with others.

    Args:
        progress: called with (done, all).
        threads: blocks that are worked on at once.
    """
    likely = likely_twins(pixels, progress, threads)
    named = _at_least(likely, AT_LEAST)
    if not _look_alike(named, len(pixels.extents)):
        return named
    note = (
        f"Many of these pictures look alike without being the same: near twins are named from a similarity of {SURE} on, "
        f"not {AT_LEAST}, and some may be missing."
    )
    return replace(_at_least(named, SURE), notes=(note,))


def likely_twins(pixels: Pixels, progress: Progress | None = None, threads: int = 1) -> Twins:
    """All pairs that came to the proof, whatever it said: what `find_twins` chooses from."""
    count = len(pixels.extents)
    say = progress or (lambda done, whole: None)
    with _one_thread_each():
        glances = _glances(pixels, threads, lambda done: say(done, 2 * count))
        # The order of their content: whatever the order of the rows, the same is computed.
        rows, same = _different(glances)
        found = [_NONE]
        for done, pairs in _promising(glances, rows, threads):
            found.append(pairs)
            say(count + done * count // len(rows), 2 * count)
        pairs = _proved(pixels, rows, _once(_joined(found)), threads)
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


def _glances(pixels: Pixels, threads: int, say: Callable[[int], None]) -> Glances:
    glances = np.empty((len(pixels.extents), 3, _GLANCE, _GLANCE), dtype=np.uint8)
    blocks = list(_blocks(len(glances), pixels.side))
    views = in_threads(lambda block: _small(pixels, block, _GLANCE).numpy(), blocks, threads)
    for block, view in zip(blocks, views, strict=True):
        glances[block] = view
        say(int(block[-1]) + 1)
    return glances


def _different(glances: Glances) -> tuple[Rows, Rows]:
    """The first row (U,) of each different glance, in an order that their content alone decides; which of them each row has (N,)."""
    keys = np.frombuffer(b"".join(blake2b(glance, digest_size=16).digest() for glance in glances), dtype="V16")
    _, rows, same = np.unique(keys, return_index=True, return_inverse=True)
    return rows.astype(np.int64), same.astype(np.int64)


# ---- candidates ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Waves:
    """Low frequencies of pictures, those even across and those odd across apart; together of length 1.

    even: (..., 39) and odd: (..., 32): the cosine of two pictures is the sum of the two products, of one and the mirrored other
    their difference.
    """

    even: torch.Tensor
    odd: torch.Tensor

    def __getitem__(self, at: torch.Tensor | slice) -> _Waves:
        return _Waves(self.even[at], self.odd[at])


def _cosines(low: float, high: float, count: int) -> torch.Tensor:
    """(count, 16): the first discrete cosines of a window of the side, from 0 to 1; pixels at its edges count in part."""
    edges = torch.arange(_GLANCE + 1, dtype=torch.float64) / _GLANCE
    left, right = edges[:-1].clamp(min=low), edges[1:].clamp(max=high)
    cover = (right - left).clamp(min=0)
    middle = ((left + right) / 2 - low) / (high - low)
    waves = torch.cos(torch.pi * torch.arange(count, dtype=torch.float64)[:, None] * middle)
    return (waves * cover / cover.sum()).to(torch.float32)


def _waves(pictures: torch.Tensor, window: tuple[tuple[float, float], tuple[float, float]]) -> _Waves:
    """Waves of a window of (B, 3, 16, 16) pictures of `opponent`.

    Of the lightness those of order 1 to 8, of both colours 4x4, the mean too. Each is weighted by the square root of its
    frequency, because the power of photographs falls with it; colours twice.
    """
    waves = _cosines(*window[0], 8) @ pictures @ _cosines(*window[1], 8).T  # (B, 3, 8, 8)
    order = torch.arange(8.0)
    scale = torch.where(order == 0, 1.0, 2**0.5)
    frequency = (order[:, None] ** 2 + order**2).sqrt()
    waves = waves * scale[:, None] * scale * frequency.clamp(min=1).sqrt()
    waves[:, 1:] *= 2
    total = order[:, None] + order
    kept = torch.stack([(total >= 1) & (total <= 8), *[(order[:, None] < 4) & (order < 4)] * 2])  # (3, 8, 8)
    odd = (order % 2 == 1).expand(3, 8, 8)
    even_part, odd_part = waves[:, kept & ~odd], waves[:, kept & odd]
    length = (even_part.square().sum(1) + odd_part.square().sum(1)).sqrt().clamp(min=1e-6)[:, None]
    return _Waves(even_part / length, odd_part / length)


def _cosine(queries: _Waves, others: _Waves) -> torch.Tensor:
    """(Q, M) the higher cosine of both ways round."""
    odd = (queries.odd @ others.odd.T).abs_()
    return odd.addmm_(queries.even, others.even.T)


def _best_cosine(windows: list[_Waves], others: _Waves) -> torch.Tensor:
    """(Q, M) the highest cosine of any window."""
    best = _cosine(windows[0], others)
    for window in windows[1:]:
        torch.maximum(best, _cosine(window, others), out=best)
    return best


@dataclass(frozen=True, slots=True)
class _Files:
    """Pictures filed by the nearest of some of them: who is in which, ascending."""

    heads: _Waves
    members: list[torch.Tensor]

    def nearest(self, queries: list[_Waves]) -> torch.Tensor:
        """(Q, P) the files nearest to any window of each query."""
        if len(self.members) == 1:
            return torch.zeros((len(queries[0].even), 1), dtype=torch.int64)
        return _best_cosine(queries, self.heads).topk(min(PROBES, len(self.members))).indices


def _file(waves: _Waves) -> _Files:
    """One file up to `EXHAUSTIVE`; more beyond, headed by pictures that are drawn at random, since they lie where the others do."""
    count = len(waves.even)
    if count <= EXHAUSTIVE:
        return _Files(waves[:0], [torch.arange(count)])
    drawn = np.sort(stream(0, "twins", count).choice(count, max(2, count // _FILE), replace=False))
    heads = waves[torch.from_numpy(drawn)]
    home = torch.cat([_cosine(waves[start : start + 4096], heads).argmax(1) for start in range(0, count, 4096)])
    order = home.argsort(stable=True)
    return _Files(heads, list(torch.split(order, torch.bincount(home, minlength=len(drawn)).tolist())))


@dataclass(frozen=True, slots=True)
class _Search:
    """All that a block of pictures is compared with.

    glances: of all rows; rows: the row of each different picture; lively: the numbers of those that `waves` belong to.
    """

    glances: torch.Tensor
    rows: torch.Tensor
    lively: torch.Tensor
    waves: _Waves
    files: _Files

    def seen(self, numbers: torch.Tensor) -> torch.Tensor:
        """(B, 3, 16, 16) the glances of different pictures."""
        return self.glances[self.rows[numbers]]


def _promising(glances: Glances, rows: Rows, threads: int) -> Iterator[tuple[int, _Pairs]]:
    """How many pictures are done, and their pairs that agree at 16x16."""
    seen, where = torch.from_numpy(glances), torch.from_numpy(rows)
    lively = torch.cat([_lively(seen[part]) for part in torch.split(where, 4096)]).nonzero()[:, 0] if len(rows) else _NOBODY
    if not len(lively):
        return
    waves = _all_waves(seen, where[lively], threads)
    search = _Search(seen, where, lively, waves, _file(waves))
    size = 1024 if len(search.files.members) == 1 else 8192
    blocks = torch.split(torch.arange(len(lively)), size)
    for at, pairs in zip(blocks, in_threads(lambda at: _searched(search, at), blocks, threads), strict=True):
        yield int(lively[at[-1]]) + 1, pairs


def _all_waves(glances: torch.Tensor, rows: torch.Tensor, threads: int) -> _Waves:
    """Of all of each picture, in one piece from the start: two copies of a million are a gigabyte."""
    one = _waves(opponent(glances[rows[:1]]), _WINDOWS[0])
    waves = _Waves(*(part.new_empty((len(rows), part.shape[1])) for part in (one.even, one.odd)))
    parts = torch.split(torch.arange(len(rows)), 4096)
    for at, part in zip(parts, in_threads(lambda at: _waves(opponent(glances[rows[at]]), _WINDOWS[0]), parts, threads), strict=True):
        waves.even[at], waves.odd[at] = part.even, part.odd
    return waves


def _lively(glances: torch.Tensor) -> torch.Tensor:
    return opponent(glances)[:, 0].std((1, 2)) >= _FLAT


def _searched(search: _Search, at: torch.Tensor) -> _Pairs:
    """A block of pictures with all others."""
    pictures = opponent(search.seen(search.lively[at]))
    queries = [_waves(pictures, window) for window in _WINDOWS]
    return _laid_over(search, queries, at, _candidates(queries, at, search.waves, search.files))


def _candidates(queries: list[_Waves], at: torch.Tensor, waves: _Waves, files: _Files) -> torch.Tensor:
    """(M, 2) of each query (its place in the block) the pictures most like it."""
    nearest = files.nearest(queries)
    found = []
    for file, members in enumerate(files.members):
        asking = (nearest == file).any(1).nonzero()[:, 0]
        for some in torch.split(asking, 256):
            own = [query[some] for query in queries]
            for part in torch.split(members, 2048):
                own_at, part_at, cosine = _hits(own, waves[part], at[some], part)
                found.append((some[own_at], part[part_at], cosine))
    query, other, cosine = (torch.cat(column) for column in zip(*found, strict=True)) if found else (torch.zeros(0),) * 3
    return _most_alike(query, other, cosine)


def _hits(
    queries: list[_Waves], others: _Waves, own: torch.Tensor, members: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where a query is close to another: query, other, cosine; of a crowd only the nearest, and the first that is tight."""
    best = _best_cosine(queries, others)
    best.masked_fill_(own[:, None] == members, -1.0)
    query, other = (best > _CLOSE).nonzero(as_tuple=True)
    if len(query) > len(own) * (_NEAREST + 1):
        keep = torch.zeros_like(best, dtype=torch.bool).scatter_(1, best.topk(min(_NEAREST, best.shape[1])).indices, True)
        keep.scatter_(1, (best > _TIGHT).to(torch.uint8).argmax(1, keepdim=True), True)
        query, other = (keep & (best > _CLOSE)).nonzero(as_tuple=True)
    return query, other, best[query, other]


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


# ---- proof -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Pairs:
    """M pairs of different glances, by their numbers: the smaller one, or its mirror image, lies in the larger one."""

    larger: torch.Tensor  # (M,) int64
    smaller: torch.Tensor
    mirrored: torch.Tensor  # (M,) bool
    places: torch.Tensor  # (M, 2, 3) as in align.py
    alike: torch.Tensor  # (M,) float32

    def __getitem__(self, at: torch.Tensor | slice) -> _Pairs:
        return _Pairs(self.larger[at], self.smaller[at], self.mirrored[at], self.places[at], self.alike[at])

    def split(self, size: int) -> Iterator[_Pairs]:
        """In parts."""
        return (self[start : start + size] for start in range(0, len(self.larger), size))


_NOBODY = torch.zeros(0, dtype=torch.int64)
_NONE = _Pairs(_NOBODY, _NOBODY, _NOBODY.bool(), torch.zeros((0, 2, 3)), torch.zeros(0))


def _joined(parts: list[_Pairs]) -> _Pairs:
    return _Pairs(*(torch.cat([getattr(part, name) for part in parts]) for name in _Pairs.__slots__))


def _laid_over(search: _Search, queries: list[_Waves], at: torch.Tensor, pairs: torch.Tensor) -> _Pairs:
    """The pairs that agree at 16x16, each begun from its best window."""
    starts = window_places(torch.tensor(_WINDOWS))
    kept = [_NONE]
    for start in range(0, len(pairs), 256):
        query, other = pairs[start : start + 256].unbind(1)
        window, mirrored = _best_window([wave[query] for wave in queries], search.waves[other])
        places = starts[window]
        places[:, 0, 2] = torch.where(mirrored, -places[:, 0, 2], places[:, 0, 2])
        larger, smaller = search.lively[at[query]], search.lively[other]
        begun = _Pairs(larger, smaller, mirrored, places, torch.zeros(len(query)))
        better = _laid(begun, search.seen(larger), search.seen(smaller), steps=4)
        kept.append(better[better.alike > _PROMISING])
    return _joined(kept)


def _best_window(queries: list[_Waves], others: _Waves) -> tuple[torch.Tensor, torch.Tensor]:
    """(M,) the number of the window with the highest cosine, and whether it is so mirrored."""
    even = torch.stack([(query.even * others.even).sum(1) for query in queries], 1)
    odd = torch.stack([(query.odd * others.odd).sum(1) for query in queries], 1)
    window = (even + odd.abs()).argmax(1)
    return window, odd.gather(1, window[:, None])[:, 0] < 0


def _laid(pairs: _Pairs, larger: torch.Tensor, smaller: torch.Tensor, steps: int) -> _Pairs:
    """Pairs of (M, 3, T, T) uint8 pictures with better places, and how alike they are there."""
    a, b = opponent(larger), opponent(smaller)
    a = torch.where(pairs.mirrored[:, None, None, None], a.flip(-1), a)
    places = align(a[:, 0], b[:, 0], pairs.places, steps)
    return replace(pairs, places=places, alike=likeness(a, b, places))


def _once(pairs: _Pairs) -> _Pairs:
    """Of each two pictures the way round that is more alike; ordered by their numbers."""
    low, high = torch.minimum(pairs.larger, pairs.smaller).numpy(), torch.maximum(pairs.larger, pairs.smaller).numpy()
    order = np.lexsort((pairs.larger.numpy(), -pairs.alike.numpy(), high, low))
    repeated = (np.diff(low[order], prepend=-1) == 0) & (np.diff(high[order], prepend=-1) == 0)
    return pairs[torch.from_numpy(order[~repeated])]


def _proved(pixels: Pixels, rows: Rows, pairs: _Pairs, threads: int) -> _Pairs:
    """The pairs as they are at 64x64, or at 32x32 where there is no more to see."""
    long_sides = torch.from_numpy(pixels.extents[rows].max(1, initial=0))
    small = torch.minimum(long_sides[pairs.larger], long_sides[pairs.smaller]) < 48
    parts = [(side, part) for side, of_side in ((_PROOF, ~small), (_PROOF_OF_SMALL, small)) for part in pairs[of_side].split(256)]
    return _joined([_NONE, *in_threads(lambda part: _proved_at(part[0], pixels, rows, part[1]), parts, threads)])


def _proved_at(side: int, pixels: Pixels, rows: Rows, pairs: _Pairs) -> _Pairs:
    numbers, where = np.unique(torch.cat([pairs.larger, pairs.smaller]).numpy(), return_inverse=True)
    wanted = rows[numbers]
    pictures = torch.cat([_small(pixels, wanted[block], side) for block in _blocks(len(wanted), pixels.side)])
    larger, smaller = torch.from_numpy(where).chunk(2)
    spans = [slice(start, start + 64) for start in range(0, len(larger), 64)]  # as much as fits the processor's cache
    return _joined([_laid(pairs[at], pictures[larger[at]], pictures[smaller[at]], steps=4) for at in spans])


def _of_rows(rows: Rows, same: Rows, pairs: _Pairs) -> Twins:
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
    """(count,) the number, from 0, of the group of each of `count` nodes that pairs of them join."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    joins = np.ones(len(first), dtype=np.int8)
    graph = coo_matrix((joins, (first, second)), shape=(count, count))  # type: ignore[no-untyped-call]
    found: Rows = connected_components(graph, directed=False)[1].astype(np.int64)
    return found
