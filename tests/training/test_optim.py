"""The update rules: which parameters decay, and what the settings mean."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sightline.config import TrainSettings
from sightline.training.optim import PRETRAINED_LR, SCRATCH_LR, automatic_lr, build_optimizer


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2))


def test_biases_and_norms_are_not_decayed() -> None:
    network = small_network()
    decayed, rest = build_optimizer(network, TrainSettings(weight_decay=0.3), 0.1, fused=False).param_groups
    assert [p.ndim for p in decayed["params"]] == [4, 2]
    assert decayed["weight_decay"] == 0.3
    assert [p.ndim for p in rest["params"]] == [1, 1, 1, 1]
    assert rest["weight_decay"] == 0


def test_frozen_parameters_are_left_out() -> None:
    network = small_network()
    network[0].requires_grad_(False)
    optimizer = build_optimizer(network, TrainSettings(), 0.1, fused=False)
    assert sum(len(g["params"]) for g in optimizer.param_groups) == 4


@pytest.mark.parametrize(
    ("settings", "reference"),
    [
        (TrainSettings(optimizer="sgd", weight_decay=0, momentum=0.8), lambda p: torch.optim.SGD(p, 0.01, 0.8, nesterov=True)),
        (TrainSettings(optimizer="sgd", weight_decay=0, momentum=0), lambda p: torch.optim.SGD(p, 0.01)),
        (TrainSettings(optimizer="adam", weight_decay=0, amsgrad=True), lambda p: torch.optim.Adam(p, 0.01, amsgrad=True)),
        (
            TrainSettings(optimizer="adamw", weight_decay=0, betas=(0.8, 0.9)),
            lambda p: torch.optim.AdamW(p, 0.01, betas=(0.8, 0.9), weight_decay=0),
        ),
    ],
)
def test_three_steps_are_those_of_the_plain_torch_rule(settings, reference) -> None:
    ours, theirs = copy.deepcopy(plain := nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.ReLU(), nn.Linear(5, 2))), plain
    images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for network, optimizer in (
        (ours, build_optimizer(ours, settings, 0.01, fused=True)),
        (theirs, reference(theirs.parameters())),
    ):
        for _ in range(3):
            optimizer.zero_grad()
            network(images).square().mean().backward()
            optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_every_optimizer_has_an_automatic_rate_and_pretrained_ones_are_lower() -> None:
    for name in ("sgd", "adam", "adamw"):
        assert automatic_lr(name, pretrained=False) == SCRATCH_LR[name]
        assert PRETRAINED_LR[name] < SCRATCH_LR[name]
