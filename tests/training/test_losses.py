"""Losses agree with the formulas of their papers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from sightline.config import Config
from sightline.settings import TrainSettings
from sightline.training.losses import Loss, build_loss, class_weights, ldam_margins, posthoc_shift
from sightline.watched import watch

COUNTS = (16, 81, 3)
P = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]]
LABELS = torch.tensor([0, 2, 1])
KINDS = ["cross_entropy", "focal", "ldam"]


def plain(**values: Any) -> TrainSettings:
    """Settings as `settle` leaves them, without smoothing."""
    settled = {"loss": "cross_entropy", "class_weights": "none", "logit_adjustment": 0.0, "label_smoothing": 0.0}
    return TrainSettings(**(settled | values))


def logits() -> torch.Tensor:
    return torch.log(torch.tensor(P))


def some_logits(seed: int, count: int = 5, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    draws = np.random.default_rng(seed)
    drawn = torch.from_numpy(draws.normal(0, 3, (count, classes))).float()
    return drawn, torch.from_numpy(draws.integers(0, classes, count))


def by_hand(rows: np.ndarray, labels: list[int]) -> np.ndarray:
    """Cross entropy of each row, from its definition."""
    return np.array([-math.log(math.exp(z[y]) / sum(math.exp(v) for v in z)) for z, y in zip(rows, labels, strict=True)])


# ---- each loss ---------------------------------------------------------------------------------------------------------


def test_cross_entropy_of_a_hand_computed_case() -> None:
    loss = build_loss(plain(), COUNTS)
    expected = -(math.log(0.7) + math.log(0.1) + math.log(0.25)) / 3
    assert loss(logits(), LABELS).item() == pytest.approx(expected, rel=1e-6)


def test_label_smoothing_of_a_hand_computed_case() -> None:
    loss = build_loss(plain(label_smoothing=0.3), COUNTS)
    expected = -(0.8 * math.log(0.7) + 0.1 * math.log(0.2) + 0.1 * math.log(0.1))  # 1 - 0.3 + 0.3 / 3 on the class
    assert loss(logits()[:1], LABELS[:1]).item() == pytest.approx(expected, rel=1e-6)


def test_focal_loss_of_a_hand_computed_case() -> None:
    loss = build_loss(plain(loss="focal", focal_gamma=2, focal_alpha=0.5), COUNTS)
    expected = -0.5 * (0.3**2 * math.log(0.7) + 0.9**2 * math.log(0.1) + 0.75**2 * math.log(0.25)) / 3
    assert loss(logits(), LABELS).item() == pytest.approx(expected, rel=1e-6)


@given(st.integers(0, 10_000))
def test_focal_loss_without_focus_is_cross_entropy(seed: int) -> None:
    z, y = some_logits(seed)
    focal = build_loss(plain(loss="focal", focal_gamma=0, focal_alpha=1), COUNTS)
    assert focal(z, y).item() == pytest.approx(torch.nn.functional.cross_entropy(z, y).item(), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_the_slope_of_focal_loss_is_finite_where_the_network_is_certain(gamma: float) -> None:
    z = torch.tensor([[200.0, 0, 0], [-200, 0, 0]], requires_grad=True)
    build_loss(plain(loss="focal", focal_gamma=gamma), COUNTS)(z, torch.tensor([0, 0])).backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
    assert z.grad[0].abs().max() < 1e-6  # nothing to learn from the image that is surely right
    assert z.grad[1, 0] < -0.1  # much from the one that is surely wrong


def test_ldam_margins_of_a_hand_computed_case() -> None:
    assert ldam_margins((16, 81, 1), 0.5) == pytest.approx([0.5 / 2, 0.5 / 3, 0.5])
    assert ldam_margins((1296, 256, 0, 16), 0.6) == pytest.approx([0.2, 0.3, 0.6, 0.6])  # a class without images as the smallest


def test_ldam_of_a_hand_computed_case() -> None:
    z, y = np.array([[0.3, -0.2, 0.1], [0.5, 0.4, -0.3]]), [0, 2]
    lowered = z - np.array([[0.25, 0, 0], [0, 0, 0.5]])  # by the label's margin
    loss = build_loss(plain(loss="ldam", ldam_margin=0.5, ldam_scale=1), (16, 81, 1))
    assert loss(torch.tensor(z).float(), torch.tensor(y)).item() == pytest.approx(by_hand(lowered, y).mean(), rel=1e-6)
    scaled = build_loss(plain(loss="ldam", ldam_margin=0.5, ldam_scale=30), (16, 81, 1))
    assert scaled(torch.tensor(z).float(), torch.tensor(y)).item() == pytest.approx(by_hand(30 * lowered, y).mean() / 30, rel=1e-5)


@given(st.integers(0, 1000), st.floats(1, 100))
def test_no_slope_of_ldam_is_steeper_than_that_of_cross_entropy_can_be(seed: int, scale: float) -> None:
    z, y = some_logits(seed, count=1)
    z.requires_grad_()
    build_loss(plain(loss="ldam", ldam_scale=scale), COUNTS)(z, y).backward()
    assert z.grad is not None
    assert z.grad.abs().max() <= 1 + 1e-6


# ---- weights -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 500), min_size=1, max_size=12))
def test_inverse_weights_are_scikit_learns(counts: list[int]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    theirs = compute_class_weight("balanced", classes=np.arange(len(counts)), y=labels)
    ours = class_weights(plain(class_weights="inverse"), counts)
    assert ours == pytest.approx(theirs)


def test_effective_weights_of_a_hand_computed_case() -> None:
    ours = class_weights(plain(class_weights="effective", effective_beta=0.5), (1, 2, 3))
    raw = np.array([0.5 / 0.5, 0.5 / 0.75, 0.5 / 0.875])
    assert ours == pytest.approx(3 * raw / raw.sum())


def test_effective_weights_reach_from_none_to_inverse() -> None:
    without = class_weights(plain(class_weights="effective", effective_beta=0), COUNTS)
    assert without == pytest.approx([1, 1, 1])
    nearly = class_weights(plain(class_weights="effective", effective_beta=1 - 1e-9), COUNTS)
    inverse = class_weights(plain(class_weights="inverse"), COUNTS)
    assert nearly is not None
    assert inverse is not None
    assert nearly / nearly[0] == pytest.approx(inverse / inverse[0], rel=1e-4)


@pytest.mark.parametrize("kind", ["inverse", "effective"])
def test_a_class_without_images_weighs_nothing_and_does_not_change_the_others(kind: str) -> None:
    ours = class_weights(plain(class_weights=kind), (16, 0, 81, 3))
    without = class_weights(plain(class_weights=kind), (16, 81, 3))
    assert ours is not None
    assert without is not None
    assert ours[1] == 0
    assert ours[[0, 2, 3]] == pytest.approx(without)


@given(st.integers(0, 1000), st.sampled_from(["inverse", "effective"]))
def test_weighted_cross_entropy_is_torchs(seed: int, kind: str) -> None:
    z, y = some_logits(seed)
    settings = plain(class_weights=kind)
    weights = torch.from_numpy(class_weights(settings, COUNTS)).float()
    theirs = torch.nn.CrossEntropyLoss(weight=weights)(z, y)
    assert build_loss(settings, COUNTS)(z, y).item() == pytest.approx(theirs.item(), rel=1e-5)


def test_a_weight_multiplies_the_smoothed_loss_of_an_image_too() -> None:
    loss = build_loss(plain(class_weights="inverse", label_smoothing=0.3), (1, 1, 4))
    of_each = [-(0.8 * math.log(0.7) + 0.1 * math.log(0.2 * 0.1)), -(0.8 * math.log(0.1) + 0.1 * math.log(0.1 * 0.8))]
    assert loss(logits()[:2], LABELS[:2]).item() == pytest.approx((4 * of_each[0] + 1 * of_each[1]) / 5, rel=1e-6)


def test_balanced_focal_loss_of_a_hand_computed_case() -> None:
    loss = build_loss(plain(loss="focal", class_weights="inverse"), (1, 2, 4))
    focal = [-(0.3**2) * math.log(0.7), -(0.9**2) * math.log(0.1), -(0.75**2) * math.log(0.25)]
    expected = (4 * focal[0] + 1 * focal[1] + 2 * focal[2]) / 7  # labels 0, 2, 1
    assert loss(logits(), LABELS).item() == pytest.approx(expected, rel=1e-6)


# ---- adjustment --------------------------------------------------------------------------------------------------------


def test_logit_adjustment_of_a_hand_computed_case() -> None:
    z = np.array([[0.3, -0.2, 0.1], [0.5, 0.4, -0.3]])
    balanced = [-math.log(n * math.exp(row[y]) / sum(m * math.exp(v) for m, v in zip(COUNTS, row, strict=True)))
                for row, y, n in zip(z, [0, 2], [16, 3], strict=True)]  # fmt: skip
    loss = build_loss(plain(logit_adjustment=1), COUNTS)  # tau 1: n e^z / sum n e^z, Ren et al. 2020
    assert loss(torch.tensor(z).float(), torch.tensor([0, 2])).item() == pytest.approx(np.mean(balanced), rel=1e-6)
    half = build_loss(plain(logit_adjustment=0.5), COUNTS)
    expected = by_hand(z + 0.5 * np.log(np.array(COUNTS) / 100), [0, 2]).mean()
    assert half(torch.tensor(z).float(), torch.tensor([0, 2])).item() == pytest.approx(expected, rel=1e-6)


def test_the_shift_after_training_of_a_hand_computed_case() -> None:
    shift = posthoc_shift(0.5, (10, 30, 60))
    assert shift is not None
    assert shift.dtype == np.float32
    assert shift == pytest.approx([-0.5 * math.log(0.1), -0.5 * math.log(0.3), -0.5 * math.log(0.6)], rel=1e-6)


def test_without_tau_nothing_is_shifted_after_training() -> None:
    assert posthoc_shift(0, COUNTS) is None


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 1000), tau=st.floats(0.01, 3))
def test_the_shift_after_training_takes_back_what_is_added_in_training(kind: str, seed: int, tau: float) -> None:
    z, y = some_logits(seed)
    shift = posthoc_shift(tau, COUNTS)
    adjusted = build_loss(plain(loss=kind, logit_adjustment=tau), COUNTS)
    assert adjusted(z + torch.from_numpy(shift), y).item() == pytest.approx(build_loss(plain(loss=kind), COUNTS)(z, y).item(), abs=1e-4)


def test_a_class_without_images_counts_as_one_with_a_single_image() -> None:
    shift = posthoc_shift(1, (99, 0))
    assert shift == pytest.approx([-math.log(0.99), -math.log(0.01)], rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_with_a_class_without_images_every_loss_stays_finite(kind: str) -> None:
    loss = build_loss(plain(loss=kind, logit_adjustment=1, class_weights="effective"), (16, 0, 3))
    assert math.isfinite(loss(logits(), torch.tensor([0, 2, 2])).item())


# ---- laws of all -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 1000), n=st.integers(1, 1000))
def test_with_equal_counts_weights_are_one_and_no_remedy_changes_the_loss(kind: str, seed: int, n: int) -> None:
    z, y = some_logits(seed)
    expected = build_loss(plain(loss=kind), (n, n, n))(z, y).item()
    for remedy in ({"class_weights": "inverse"}, {"class_weights": "effective"}, {"logit_adjustment": 1.5}):
        assert build_loss(plain(loss=kind, **remedy), (n, n, n))(z, y).item() == pytest.approx(expected, abs=1e-5)
    for weights in ("inverse", "effective"):
        assert class_weights(plain(class_weights=weights), (n, n, n)) == pytest.approx([1, 1, 1])


def all_losses() -> list[Loss]:
    return [build_loss(plain(loss=kind, class_weights="inverse", logit_adjustment=0.5), COUNTS) for kind in KINDS]


@given(st.integers(0, 1000))
def test_a_share_of_one_is_the_loss_of_the_labels_and_of_none_that_of_the_partners(seed: int) -> None:
    z, y = some_logits(seed)
    partner = y.flip(0)
    for loss in all_losses():
        assert loss(z, y, partner, torch.ones(5)).item() == pytest.approx(loss(z, y).item(), rel=1e-6)
        assert loss(z, y, partner, torch.zeros(5)).item() == pytest.approx(loss(z, partner).item(), rel=1e-6)
        assert loss(z, y, y, torch.rand(5)).item() == pytest.approx(loss(z, y).item(), rel=1e-5)


def test_the_loss_of_a_mixed_picture_is_that_of_its_soft_target() -> None:
    z, y = some_logits(3)
    partner, share = y.flip(0), torch.tensor([0.9, 0.2, 0.5, 1.0, 0.0])
    one_hot = torch.nn.functional.one_hot
    target = share[:, None] * one_hot(y, 3) + (1 - share)[:, None] * one_hot(partner, 3)
    theirs = torch.nn.functional.cross_entropy(z, target, label_smoothing=0.2)
    assert build_loss(plain(label_smoothing=0.2), COUNTS)(z, y, partner, share).item() == pytest.approx(theirs.item(), rel=1e-5)


def test_a_mixed_picture_weighs_as_its_two_halves() -> None:
    loss = build_loss(plain(class_weights="inverse"), (1, 2, 4))  # weights as 4, 2, 1
    mixed = loss(logits()[:1], torch.tensor([0]), torch.tensor([2]), torch.tensor([0.25]))
    expected = -(0.25 * 4 * math.log(0.7) + 0.75 * 1 * math.log(0.1)) / (0.25 * 4 + 0.75 * 1)
    assert mixed.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("values", "unread"),
    [
        ({}, {"focal_gamma", "focal_alpha", "ldam_margin", "ldam_scale", "effective_beta"}),
        ({"loss": "focal"}, {"label_smoothing", "ldam_margin", "ldam_scale", "effective_beta"}),
        ({"loss": "ldam", "class_weights": "effective"}, {"label_smoothing", "focal_gamma", "focal_alpha"}),
    ],
)
def test_what_a_loss_does_not_use_is_not_read(values: dict[str, str], unread: set[str]) -> None:
    reads: set[str] = set()
    build_loss(watch(Config(train=plain(**values)), reads).train, COUNTS)
    of_losses = {"loss", "class_weights", "logit_adjustment", "label_smoothing", "focal_gamma", "focal_alpha"}
    of_losses |= {"ldam_margin", "ldam_scale", "effective_beta"}
    assert reads == {f"train.{name}" for name in of_losses - unread}
