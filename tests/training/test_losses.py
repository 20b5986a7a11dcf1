"""Losses agree with their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from sightline.config import TrainSettings
from sightline.training.losses import build_loss


def test_cross_entropy_of_a_hand_computed_case() -> None:
    loss = build_loss(TrainSettings(label_smoothing=0))
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]]))
    assert loss(logits, torch.tensor([0, 2])).item() == pytest.approx(-(math.log(0.7) + math.log(0.1)) / 2)


def test_label_smoothing_of_a_hand_computed_case() -> None:
    loss = build_loss(TrainSettings(label_smoothing=0.3))
    p = [0.7, 0.2, 0.1]
    expected = -(0.8 * math.log(0.7) + 0.1 * math.log(0.2) + 0.1 * math.log(0.1))  # 1 - 0.3 + 0.3 / 3 on the class
    assert loss(torch.log(torch.tensor([p])), torch.tensor([0])).item() == pytest.approx(expected)
