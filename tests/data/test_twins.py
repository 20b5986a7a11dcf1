from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.datasets import load_digits

from sightline.data import candidates
from sightline.data.twins import AT_LEAST, Twins, components, find_twins, likely_twins
from sightline.data.waves import Waves, any_above, best_cosine, best_window, cosine

Picture = Image.Image


@dataclass(frozen=True)
class Squares:
    """Pixels in memory; what is not picture is filled with `rest`."""

    pictures: list[Picture]
    side: int = 64
    rest: int = 0

    @property
    def extents(self) -> npt.NDArray[np.int32]:
        return np.array([(picture.height, picture.width) for picture in self.pictures], dtype=np.int32).reshape(-1, 2)

    def read(self, rows: npt.NDArray[np.int64], into: torch.Tensor | None = None) -> torch.Tensor:
        out = np.full((len(rows), self.side, self.side, 3), self.rest, dtype=np.uint8)
        for slot, row in enumerate(rows.tolist()):
            picture = self.pictures[row]
            out[slot, : picture.height, : picture.width] = np.asarray(picture)
        return torch.from_numpy(out)


def scene(seed: int, width: int = 64, height: int = 64) -> Picture:
    """Clouds of several sizes, as photographs have them."""
    draws, total = np.random.default_rng(seed), np.zeros((height, width, 3))
    for cells in (3, 6, 12, 24):
        noise = draws.normal(size=(cells, cells, 3)).astype(np.float32)
        layers = [np.asarray(Image.fromarray(noise[..., c]).resize((width, height), Image.Resampling.BICUBIC)) for c in range(3)]
        total += np.stack(layers, -1) / cells**0.5
    total = (total - total.mean()) / total.std() * 45 + 128
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


def noisy(picture: Picture, seed: int, strength: float = 3) -> Picture:
    noise = np.random.default_rng(seed).normal(0, strength, (picture.height, picture.width, 3))
    return Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype(np.uint8))


def pairs_of(found: Twins) -> set[tuple[int, int]]:
    return set(zip(found.first.tolist(), found.second.tolist(), strict=True))


def groups_of(found: Twins, count: int) -> list[int]:
    joins = coo_matrix((np.ones(len(found)), (found.first, found.second)), shape=(count, count))
    return connected_components(joins, directed=False)[1].tolist()


@given(st.integers(1, 40), st.data())
def test_groups_are_the_connected_components_of_scipy(count: int, data: st.DataObject) -> None:
    ends = np.array(data.draw(st.lists(st.tuples(*[st.integers(0, count - 1)] * 2), max_size=60)), dtype=np.int64).reshape(-1, 2)
    joins = coo_matrix((np.ones(len(ends)), ends.T), shape=(count, count))
    assert components(*ends.T, count).tolist() == connected_components(joins, directed=False)[1].tolist()


def test_a_long_chain_is_one_group() -> None:
    order = np.random.default_rng(0).permutation(10_000)
    assert components(order[1:], order[:-1], 10_001).tolist() == [0] * 10_000 + [1]


def reencoded(picture: Picture) -> Picture:
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=30)
    return Image.open(data).convert("RGB")


def cropped(x: float, y: float) -> Callable[[Picture], Picture]:
    def crop(picture: Picture) -> Picture:
        left, top = round(0.1 * x * picture.width), round(0.1 * y * picture.height)
        return picture.crop((left, top, left + round(0.9 * picture.width), top + round(0.9 * picture.height)))

    return crop


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "re-encoded": reencoded,
    "half the size": lambda picture: picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS),
    "10 % cut off right and below": cropped(0, 0),
    "10 % cut off left and above": cropped(1, 1),
    "10 % cut off around": cropped(0.5, 0.5),
    "darker": lambda picture: ImageEnhance.Brightness(picture).enhance(0.6),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.3),
    "less contrast": lambda picture: ImageEnhance.Contrast(picture).enhance(0.6),
    "mirrored": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "mirrored and cropped": lambda picture: cropped(1, 0)(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "turned a little": lambda picture: picture.rotate(2, Image.Resampling.BICUBIC).crop((2, 2, picture.width - 2, picture.height - 2)),
    "noisy": lambda picture: noisy(picture, 0, 6),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize(("width", "height"), [(64, 64), (64, 44)])
def test_a_changed_picture_is_found_and_no_other(change: Callable[[Picture], Picture], width: int, height: int) -> None:
    pictures = [scene(seed, width, height) for seed in range(12)]
    found = find_twins(Squares([*pictures, *map(change, pictures)]))
    assert pairs_of(found) == {(i, i + 12) for i in range(12)}


@pytest.mark.parametrize("name", [name for name in CHANGES if name not in ("half the size", "re-encoded")])
def test_tiny_pictures_have_twins_too(name: str) -> None:
    # Of 14 pixels, and of noise between the blocks of JPEG at 28, too little is left to be sure.
    pictures = [scene(seed, 28, 28) for seed in range(12)]
    found = find_twins(Squares([*pictures, *map(CHANGES[name], pictures)]))
    assert pairs_of(found) == {(i, i + 12) for i in range(12)}


def test_different_pictures_are_no_twins() -> None:
    assert len(find_twins(Squares([scene(seed, 32, 32) for seed in range(200)]))) == 0


@settings(max_examples=8)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(random: object) -> None:
    pictures = [scene(seed) for seed in range(8)]
    pictures += [cropped(0.5, 0)(picture) for picture in pictures[:5]] + [noisy(picture, 7) for picture in pictures[:3]]
    order = list(range(len(pictures)))
    random.shuffle(order)  # type: ignore[attr-defined]
    plain, mixed = find_twins(Squares(pictures)), find_twins(Squares([pictures[i] for i in order]))
    back = {
        (min(order[a], order[b]), max(order[a], order[b])): s for a, b, s in zip(mixed.first, mixed.second, mixed.similarity, strict=True)
    }
    assert back == {(a, b): s for a, b, s in zip(plain.first, plain.second, plain.similarity, strict=True)}


def test_the_unused_part_of_a_square_does_not_matter() -> None:
    pictures = [scene(0, 64, 40), reencoded(scene(0, 64, 40)), scene(1, 30, 64), reencoded(scene(1, 30, 64))]
    black, white = (find_twins(Squares(pictures, rest=rest)) for rest in (0, 255))
    assert pairs_of(black) == pairs_of(white) == {(0, 1), (2, 3)}
    np.testing.assert_array_equal(black.similarity, white.similarity)


def test_equal_pictures_are_a_star_and_not_all_pairs() -> None:
    found = find_twins(Squares([scene(0, 32, 32)] * 500 + [scene(1, 32, 32)]))
    assert found.first.tolist() == [0] * 499
    assert found.second.tolist() == list(range(1, 500))
    assert (found.similarity == 1).all()


def test_black_pictures_are_twins_of_black_pictures_only() -> None:
    blacks = [Image.new("RGB", (32, 32))] * 40
    assert groups_of(find_twins(Squares([*blacks, scene(0, 32, 32), Image.new("RGB", (32, 32), "white")])), 42) == [0] * 40 + [1, 2]


def test_noise_is_no_twin_of_noise() -> None:
    greys = [noisy(Image.new("RGB", (32, 32), (90, 90, 90)), seed, 2) for seed in range(60)]
    assert len(find_twins(Squares(greys))) == 0


def test_a_crowd_of_near_twins_hangs_together_by_few_pairs() -> None:
    crowd = [noisy(scene(0, 32, 32), seed, 4) for seed in range(300)]
    found = find_twins(Squares([*crowd, scene(1, 32, 32)]))
    assert groups_of(found, 301) == [0] * 300 + [1]
    assert len(found) <= 300 * 9
    assert found.notes == ()


def test_pictures_that_all_look_alike_are_no_twins_for_that() -> None:
    digits = load_digits().images[:600]
    drawn = [Image.fromarray(digit.repeat(3, axis=1).repeat(3, axis=0).astype(np.uint8) * 15).convert("RGB") for digit in digits]
    found = find_twins(Squares(drawn, side=24))
    assert len(set(found.first) | set(found.second)) < 0.2 * 600  # of 456 above AT_LEAST
    assert "look alike" in found.notes[0]
    again = find_twins(Squares([*drawn, drawn[7].rotate(2)], side=24))
    assert (7, 600) in pairs_of(again)


def test_no_picture_and_one_picture_have_no_twins() -> None:
    assert len(find_twins(Squares([]))) == 0
    assert len(find_twins(Squares([scene(0)]))) == 0


def test_many_pictures_are_filed_and_hardly_a_twin_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [scene(seed, 24, 24) for seed in range(300)]
    pixels = Squares([*pictures, *(cropped(0.5, 1)(noisy(picture, 0)) for picture in pictures)], side=24)
    everything = pairs_of(find_twins(pixels))
    monkeypatch.setattr(candidates, "EXHAUSTIVE", 100)
    monkeypatch.setattr(candidates, "_FILE", 10)
    filed = pairs_of(find_twins(pixels))
    assert len(everything) >= 295
    assert filed <= everything
    assert len(filed) >= 0.97 * len(everything)


def test_other_blocks_give_the_same_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = Squares([noisy(scene(seed % 60, 24, 24), seed, 5) for seed in range(300)], side=24)
    monkeypatch.setattr(candidates, "EXHAUSTIVE", 100)
    monkeypatch.setattr(candidates, "_FILE", 10)
    whole = find_twins(pixels)
    monkeypatch.setattr(candidates, "_LARGEST_BLOCK", 7)
    parts = find_twins(pixels)
    assert len(whole) > 240
    assert pairs_of(parts) == pairs_of(whole)
    np.testing.assert_allclose(parts.similarity, whole.similarity, rtol=0, atol=1e-6)


def test_pairs_that_were_not_proved_are_likely_ones() -> None:
    pixels = Squares([scene(0), noisy(scene(0), 1, 70), scene(1)])
    likely = likely_twins(pixels)
    assert pairs_of(likely) == {(0, 1)}
    assert likely.similarity[0] < AT_LEAST
    assert len(find_twins(pixels)) == 0


def test_the_number_of_threads_changes_nothing() -> None:
    pixels = Squares([noisy(scene(seed % 40, 32, 32), seed) for seed in range(300)])
    one, three = find_twins(pixels), find_twins(pixels, threads=3)
    np.testing.assert_array_equal(one.first, three.first)
    np.testing.assert_array_equal(one.second, three.second)
    np.testing.assert_array_equal(one.similarity, three.similarity)


def test_progress_ends_where_it_should_and_threads_are_given_back() -> None:
    told: list[tuple[int, int]] = []
    before = torch.get_num_threads()
    find_twins(Squares([scene(seed) for seed in range(10)]), progress=lambda done, whole: told.append((done, whole)))
    assert told[-1] == (20, 20)
    assert told == sorted(told)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("first", "second", "similarity", "said"),
    [
        ([0, 1], [1], [0.9], "belong together"),
        ([1], [1], [0.9], "first < second"),
        ([0], [1], [1.1], "similarity"),
        ([0], [1], [float("nan")], "similarity"),
        ([1, 0], [2, 1], [0.9, 0.9], "sorted"),
        ([0, 0], [1, 1], [0.9, 0.9], "once"),
    ],
)
def test_impossible_pairs_are_refused(first: list[int], second: list[int], similarity: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Twins(np.array(first), np.array(second), np.array(similarity, dtype=np.float32))


@pytest.mark.parametrize("crowd", [0, 60])
def test_pairs_that_are_looked_for_in_bfloat16_first_are_the_same(monkeypatch: pytest.MonkeyPatch, crowd: int) -> None:
    shots = [scene(seed) for seed in range(20)]
    near = [cropped(1, 1)(noisy(shot, seed)) for seed, shot in enumerate(shots)]
    like = [noisy(shots[0], seed) for seed in range(100, 100 + crowd)]  # too many to look at one by one
    found = []
    for native in (False, True):
        monkeypatch.setattr(candidates, "has_bfloat16", lambda name, native=native: native)
        found.append(likely_twins(Squares([*shots, *near, *like])))
    exact, rough = found
    assert len(exact) >= 20
    assert pairs_of(exact) == pairs_of(rough)
    np.testing.assert_allclose(exact.similarity, rough.similarity, rtol=0, atol=1e-6)


def test_no_pair_is_lost_by_rounding_to_bfloat16() -> None:
    draws = torch.Generator().manual_seed(0)
    one = torch.nn.functional.normalize(torch.randn(2000, 74, generator=draws))
    other = torch.nn.functional.normalize(one + 0.06 * torch.randn(2000, 74, generator=draws))
    queries, others = Waves(one), Waves(other)
    exact, _, _ = best_window(Waves(one[:, None]), others)
    assert ((exact - cosine(queries, others).diagonal()).abs() < 1e-6).all()
    assert (exact - cosine(queries.rounded(), others.rounded()).diagonal()).abs().max() < candidates._ROUNDING / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("queries", "others"), [(1, 1), (33, 129), (64, 300)])
def test_what_is_above_is_what_a_plain_search_finds(dtype: torch.dtype, queries: int, others: int) -> None:
    draws = torch.Generator().manual_seed(0)
    one = Waves(torch.nn.functional.normalize(torch.randn(queries, 6, 74, generator=draws), dim=2).to(dtype))
    other = Waves(torch.nn.functional.normalize(torch.randn(others, 74, generator=draws), dim=1).to(dtype))
    for least in (0.2, 0.35, 2.0):
        assert torch.equal(torch.stack(any_above(one, other, least), 1), (best_cosine(one, other).float() > least).nonzero())
