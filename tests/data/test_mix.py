from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import v2

from sightline.data.mix import mix

SIDE = 12


def pictures(count: int = 6, side: int = SIDE, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Picture i is all i, its label 10 i."""
    values = torch.arange(count)
    return values.to(dtype).view(-1, 1, 1, 1).expand(-1, 3, side, side).contiguous(), values * 10


def mixed(how: dict[str, float | None], batch: int = 0, **changes: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of `pictures`, with `how` for mixup and cutmix."""
    images, labels = pictures(**changes)
    done, partner, share = mix(images, labels, how.get("mixup"), how.get("cutmix"), 0, 0, batch)
    assert partner is not None
    assert share is not None
    return done, partner, share


def swaps(how: dict[str, float | None]) -> Iterator[tuple[int, torch.Tensor, torch.Tensor, float]]:
    """Batches of two noisy pictures that were mixed with each other, which is what torchvision's roll by one does."""
    images = torch.randn((2, 3, SIDE, SIDE + 3), generator=torch.Generator().manual_seed(0))
    for batch in range(30):
        done, partner, share = mix(images, torch.tensor([0, 1]), how.get("mixup"), how.get("cutmix"), 0, 0, batch)
        assert partner is not None
        assert share is not None
        if partner.tolist() == [1, 0]:
            yield batch, images, done, float(share[0])


def test_mixup_is_torchvisions() -> None:
    seen = 0
    for _, images, done, share in swaps({"mixup": 1.0}):
        expected = v2.MixUp(num_classes=2).transform(images, {"lam": share, "labels": None, "batch_size": 2})
        torch.testing.assert_close(done, expected)
        seen += 1
    assert seen > 5


def test_cutmix_is_torchvisions_and_the_share_is_the_area_left() -> None:
    seen, clipped = 0, 0
    for _, images, done, share in swaps({"cutmix": 1.0}):
        cut = (done != images)[0, 0].nonzero()
        if not len(cut):
            assert share == 1
            continue
        (top, left), (bottom, right) = cut.amin(0).tolist(), (cut.amax(0) + 1).tolist()
        area = (bottom - top) * (right - left)
        assert len(cut) == area  # a whole rectangle
        assert share == pytest.approx(1 - area / images[0, 0].numel())
        params = {"box": (left, top, right, bottom), "lam_adjusted": share, "labels": None, "batch_size": 2}
        assert torch.equal(done, v2.CutMix(num_classes=2).transform(images, params))
        seen += 1
        clipped += top == 0 or left == 0 or bottom == SIDE or right == SIDE + 3
    assert seen > 5
    assert clipped > 2


def test_rectangles_are_as_large_as_torchvisions() -> None:
    """Areas of many batches, of both, have the same distribution."""
    side, ours = 40, []
    for batch in range(1500):
        ours.append(1 - float(mixed({"cutmix": 1.0}, batch, count=2, side=side)[2][0]))
    torch.manual_seed(0)
    reference, image = v2.CutMix(num_classes=2), [torch.zeros(2, 3, side, side)]
    theirs = [1 - reference.make_params(image)["lam_adjusted"] for _ in range(1500)]
    assert stats.ks_2samp(ours, theirs).pvalue > 0.001


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixups_shares_are_drawn_from_beta(alpha: float) -> None:
    shares = [float(mixed({"mixup": alpha}, batch, count=1, side=1)[2]) for batch in range(1500)]
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 0.001


@settings(max_examples=40)
@given(
    st.sampled_from([{"mixup": 0.5}, {"cutmix": 0.5}, {"mixup": 1.0, "cutmix": 1.0}]),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 10**6),
)
def test_every_picture_is_partner_once_and_the_share_is_that_of_its_values(
    how: dict[str, float], count: int, side: int, batch: int
) -> None:
    done, partner, share = mixed(how, batch, count=count, side=side)
    assert sorted(partner.tolist()) == [10 * i for i in range(count)]
    assert share.dtype == torch.float32
    assert share.shape == (count,)
    assert ((share >= 0) & (share <= 1)).all()
    own = torch.arange(count)
    np.testing.assert_allclose(done.mean((1, 2, 3)), share * own + (1 - share) * partner / 10, atol=1e-5)


def test_with_both_a_fair_coin_decides() -> None:
    blended = 0
    for batch in range(400):
        done, _, _ = mixed({"mixup": 1.0, "cutmix": 1.0}, batch, count=3, side=4)
        blended += bool((done != done.round()).any())
    assert abs(blended - 400 * 0.5 * 5 / 6) < 5 * 10  # one permutation in six leaves all in place


def test_without_either_the_batch_stays_as_it_is() -> None:
    images, labels = pictures()
    done, partner, share = mix(images, labels, None, None, 0, 0, 0)
    assert done is images
    assert partner is None
    assert share is None


@pytest.mark.parametrize("how", [{"mixup": 1.0}, {"cutmix": 1.0}], ids=str)
def test_draws_depend_on_seed_epoch_and_batch_alone(how: dict[str, float]) -> None:
    images, labels = pictures(8)
    before = images.clone()
    first, second = (mix(images, labels, how.get("mixup"), how.get("cutmix"), 1, 2, 3) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)  # type: ignore[arg-type]
    for where in ((0, 2, 3), (1, 0, 3), (1, 2, 0)):
        assert not torch.equal(first[0], mix(images, labels, how.get("mixup"), how.get("cutmix"), *where)[0])
    assert torch.equal(images, before)


@pytest.mark.parametrize("how", [{"mixup": 1.0}, {"cutmix": 1.0}], ids=str)
def test_bfloat16_batches_stay_bfloat16_and_mix_alike(how: dict[str, float]) -> None:
    coarse, exact = mixed(how, dtype=torch.bfloat16), mixed(how)
    assert coarse[0].dtype == torch.bfloat16
    np.testing.assert_allclose(coarse[0].float(), exact[0], rtol=2**-8)
    assert torch.equal(coarse[2], exact[2])
