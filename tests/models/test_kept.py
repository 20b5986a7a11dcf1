"""Features on the disk: exact, whole or built again, and never taken for others."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline import files
from sightline.data.augment import View
from sightline.data.policy import POLICIES
from sightline.errors import DiskError
from sightline.models.kept import Compute, KeptFeatures, find, keep, prefix_key, weights_digest

VIEW = View(32, "squash", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


def features(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def batches(whole: torch.Tensor, size: int = 4) -> Iterator[torch.Tensor]:
    """(V, n, ...) as batches of each view after the other."""
    for view in whole:
        yield from view.split(size)


def by_one(made: Iterator[torch.Tensor]) -> Compute:
    """All features, computed by one process."""
    return lambda share: (0, made)


def store(folder: Path, whole: torch.Tensor, key: str = "k") -> KeptFeatures:
    return keep(folder, key, by_one(batches(whole)), whole.shape, whole.dtype)


def never() -> Iterator[torch.Tensor]:
    raise AssertionError("computed again")
    yield


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 10, 5), (1, 7, 2, 3), (2, 9, 4, 3, 2)])
def test_features_come_back_as_they_were(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    whole = features(*shape, dtype=dtype)
    kept = store(tmp_path, whole)
    positions = np.array([6, 0, 3, 3])
    for view in range(shape[0]):
        read = kept.read(view, positions)
        assert read.dtype == dtype
        assert torch.equal(read, whole[view, positions])
    views = np.array([shape[0] - 1, 0, 0, shape[0] - 1])
    assert torch.equal(kept.read(views, positions), whole[views, positions])
    assert (kept.views, kept.megabytes) == (shape[0], whole.nbytes / 1e6)
    assert kept.seconds >= 0


@settings(max_examples=30)
@given(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=50))
def test_every_bit_pattern_of_bfloat16_survives(tmp_path_factory: pytest.TempPathFactory, bits: list[int]) -> None:
    whole = torch.tensor(bits, dtype=torch.int16).view(torch.bfloat16).reshape(1, -1, 1)
    kept = store(tmp_path_factory.mktemp("bits"), whole)
    read = kept.read(0, np.arange(len(bits)))
    assert torch.equal(read.view(torch.int16), whole[0].view(torch.int16))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_maps_in_channels_last_order_stay_in_it(tmp_path: Path, dtype: torch.dtype) -> None:
    whole = features(2, 6, 4, 3, 5, dtype=dtype)
    ordered = (batch.to(memory_format=torch.channels_last) for batch in batches(whole))
    kept = keep(tmp_path, "k", by_one(ordered), whole.shape, dtype)
    read = kept.read(1, np.array([5, 2]))
    assert torch.equal(read, whole[1, [5, 2]])
    assert read.is_contiguous(memory_format=torch.channels_last)
    assert not store(tmp_path, whole, "other").read(1, np.array([5, 2])).is_contiguous(memory_format=torch.channels_last)


def test_what_is_read_may_be_changed(tmp_path: Path) -> None:
    whole = features(1, 4, 3)
    kept = store(tmp_path, whole)
    kept.read(0, np.array([1])).zero_()
    assert torch.equal(kept.read(0, np.arange(4)), whole[0])


def test_another_number_format_rounds(tmp_path: Path) -> None:
    whole = features(1, 4, 3)
    kept = keep(tmp_path, "k", by_one(batches(whole)), whole.shape, torch.bfloat16)
    assert torch.equal(kept.read(0, np.arange(4)), whole[0].bfloat16())


def test_what_is_there_is_not_computed_again(tmp_path: Path) -> None:
    whole = features(2, 5, 3)
    assert find(tmp_path, "k") is None
    store(tmp_path, whole)
    again = keep(tmp_path, "k", by_one(never()), whole.shape, whole.dtype)
    assert torch.equal(again.read(1, np.arange(5)), whole[1])


def _cut_short(folder: Path) -> None:
    path = folder / "features.bin"
    path.write_bytes(path.read_bytes()[:-1])


def _flip_a_bit(folder: Path) -> None:
    path = folder / "features.bin"
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)


def _no_manifest(folder: Path) -> None:
    (folder / files.MANIFEST).unlink()


def _another_layout(folder: Path) -> None:
    about = files.read_json(folder / files.MANIFEST)
    files.write_json(folder / files.MANIFEST, {**about, "version": 0})


@pytest.mark.parametrize("damage", [_cut_short, _flip_a_bit, _no_manifest, _another_layout])
def test_damaged_features_are_built_again(tmp_path: Path, damage) -> None:
    whole = features(2, 5, 3)
    store(tmp_path, whole)
    damage(tmp_path / "k")
    assert find(tmp_path, "k") is None
    assert torch.equal(store(tmp_path, whole).read(0, np.arange(5)), whole[0])
    assert find(tmp_path, "k") is not None


def test_of_two_runs_at_once_the_first_to_finish_stays(tmp_path: Path) -> None:
    whole = features(2, 5, 3)

    def overtaken() -> Iterator[torch.Tensor]:
        store(tmp_path, whole)  # another run finishes while this one computes
        yield from batches(whole)

    kept = keep(tmp_path, "k", by_one(overtaken()), whole.shape, whole.dtype)
    assert torch.equal(kept.read(1, np.arange(5)), whole[1])
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


@pytest.mark.parametrize("shape", [(2, 6, 3), (2, 4, 3), (2, 5, 4)])
def test_other_features_than_announced_are_an_error_and_leave_nothing(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="announced"):
        keep(tmp_path, "k", by_one(batches(features(2, 5, 3))), shape, torch.float32)
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_told_before_anything_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=2 * 5 * 3 * 4 - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskError, match=r"need 0.0 GB .* train.prefix=off"):
        keep(tmp_path / "new", "k", by_one(never()), (2, 5, 3), torch.float32)
    keep(tmp_path / "new", "k", by_one(batches(features(2, 5, 3).bfloat16())), (2, 5, 3), torch.bfloat16)


# ---- the key ---------------------------------------------------------------------------------------------------------


def key(**changed: Any) -> str:
    weights = {"trunk.a": torch.arange(6.0).reshape(2, 3), "trunk.b.running_mean": torch.zeros(2), "trunk.b.count": torch.tensor(3)}
    given: dict[str, Any] = {
        "images": ["aa", "bb"],
        "draws": np.array([1, 2], dtype=np.uint64),
        "side": 128,
        "weights": weights,
        "model": "test_resnet",
        "words": "until:layer4",
        "view": VIEW,
        "policy": POLICIES["light"],
        "views": 4,
        "seed": 0,
        "precision": "float32",
    }
    given["weights"] = {**weights, **changed.pop("tensors", {})}
    given |= changed
    return prefix_key(**{**given, "weights": weights_digest(given["weights"])})


def test_the_key_is_the_same_for_the_same() -> None:
    assert key() == key()
    assert key(weights=dict(reversed(list({"x": torch.ones(1), "y": torch.ones(2)}.items())))) == key(
        weights={"x": torch.ones(1), "y": torch.ones(2)}
    )
    last = {"trunk.a": torch.arange(6.0).reshape(3, 2).T.contiguous().T.reshape(2, 3)}
    assert key(tensors=last) == key()


@pytest.mark.parametrize(
    "changed",
    [
        {"images": ["bb", "aa"]},
        {"images": ["aa", "bc"]},
        {"images": ["aab", "b"]},
        {"draws": np.array([2, 1], dtype=np.uint64)},
        {"side": 64},
        {"tensors": {"trunk.a": torch.arange(6.0).reshape(3, 2)}},
        {"tensors": {"trunk.a": torch.arange(6.0).reshape(2, 3).bfloat16()}},
        {"tensors": {"trunk.a": torch.arange(6.0).reshape(2, 3).nextafter(torch.tensor(9.0))}},
        {"tensors": {"trunk.b.running_mean": torch.ones(2)}},
        {"tensors": {"trunk.b.count": torch.tensor(4)}},
        {"tensors": {"trunk.c": torch.zeros(2)}},
        {"model": "resnet10t"},
        {"words": "trunk"},
        {"view": View(48, *("squash", VIEW.mean, VIEW.std))},
        {"view": View(32, "crop", VIEW.mean, VIEW.std)},
        {"view": View(32, "squash", (0.5, 0.5, 0.4), VIEW.std)},
        {"view": View(32, "squash", VIEW.mean, (0.2, 0.2, 0.3))},
        {"policy": POLICIES["strong"]},
        {"views": 5},
        {"seed": 1},
        {"precision": "bfloat16"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_the_key_changes_with_each_part(changed: dict[str, Any]) -> None:
    assert key(**changed) != key()


def test_the_key_changes_with_the_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key()
    monkeypatch.setattr("sightline.models.kept.metadata.version", lambda name: "999" if name == "timm" else "1")
    newer = key()
    monkeypatch.setattr("sightline.models.kept.metadata.version", lambda name: "1")
    assert len({before, newer, key()}) == 3
