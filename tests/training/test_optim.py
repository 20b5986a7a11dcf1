"""The update rules: which parameters decay, how fast each layer moves, and what the settings mean."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from sightline.config import Config
from sightline.models.freeze import freeze
from sightline.models.head import Network
from sightline.settings import ModelSettings, TrainSettings
from sightline.training.optim import (
    PRETRAINED_LR,
    SCRATCH_LR,
    automatic_lr,
    automatic_optimizer,
    build_optimizer,
    distances_from_head,
    parameter_names,
)
from sightline.watched import watch


def small_network() -> Network:
    torch.manual_seed(0)
    return Network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()), nn.Linear(4 * 36, 2))


def scales(network: Network, **settings) -> dict[str, float]:
    """The factor of the rate for each trained parameter, by name; and the rates as they are before the first step."""
    optimizer = build_optimizer(network, TrainSettings(**({"optimizer": "adamw"} | settings)), 0.5, fused=False)
    for group in optimizer.param_groups:
        assert group["lr"] == 0.5 * group["lr_scale"]
    flat = [group["lr_scale"] for group in optimizer.param_groups for _ in group["params"]]
    return dict(zip(parameter_names(network, optimizer), flat, strict=True))


def test_biases_and_norms_are_not_decayed() -> None:
    network = small_network()
    decayed, rest = build_optimizer(network, TrainSettings(optimizer="adamw", weight_decay=0.3), 0.1, fused=False).param_groups
    assert [p.ndim for p in decayed["params"]] == [4, 2]
    assert decayed["weight_decay"] == 0.3
    assert [p.ndim for p in rest["params"]] == [1, 1, 1, 1]
    assert rest["weight_decay"] == 0


def test_frozen_parameters_are_left_out() -> None:
    network = small_network()
    network.trunk[0].requires_grad_(False)
    optimizer = build_optimizer(network, TrainSettings(optimizer="adamw", layer_decay=0.5), 0.1, fused=False)
    assert sum(len(g["params"]) for g in optimizer.param_groups) == 4


def test_names_follow_the_order_of_the_optimizers_state() -> None:
    network = small_network()
    optimizer = build_optimizer(network, TrainSettings(optimizer="adamw"), 0.1, fused=False)
    names = parameter_names(network, optimizer)
    assert names == ["trunk.0.weight", "head.weight", "trunk.0.bias", "trunk.1.weight", "trunk.1.bias", "head.bias"]
    network(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    parameters = dict(network.named_parameters())
    assert [tuple(state["exp_avg"].shape) for state in optimizer.state_dict()["state"].values()] == [
        tuple(parameters[n].shape) for n in names
    ]


# ---- rates of layers -------------------------------------------------------------------------------------------------


def test_without_factors_there_are_two_groups_with_the_same_rate() -> None:
    assert set(scales(small_network()).values()) == {1.0}
    assert len(build_optimizer(small_network(), TrainSettings(optimizer="adamw"), 0.1, fused=False).param_groups) == 2


def test_the_trunks_factor_spares_the_head() -> None:
    found = scales(small_network(), trunk_lr=0.25)
    assert {name: scale for name, scale in found.items() if scale != 0.25} == {"head.weight": 1.0, "head.bias": 1.0}


def test_layers_without_parameters_do_not_count() -> None:
    assert scales(small_network(), layer_decay=0.5) == {
        **{"head.weight": 1.0, "head.bias": 1.0, "trunk.1.weight": 0.5, "trunk.1.bias": 0.5},
        **{"trunk.0.weight": 0.25, "trunk.0.bias": 0.25},
    }


def test_both_factors_multiply_and_the_fastest_group_comes_first() -> None:
    found = scales(small_network(), layer_decay=0.5, trunk_lr=0.1)
    assert [found[name] for name in ("head.bias", "trunk.1.bias", "trunk.0.bias")] == pytest.approx([1.0, 0.05, 0.025])
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_the_rate_of_a_layer_does_not_depend_on_what_is_frozen() -> None:
    network = small_network()
    every = scales(network, layer_decay=0.5)
    freeze(network, ["1"])
    some = scales(network, layer_decay=0.5)
    assert set(some) == {"trunk.0.weight", "trunk.0.bias", "head.weight", "head.bias"}
    assert all(every[name] == scale for name, scale in some.items())


@pytest.mark.parametrize(
    "name",
    [
        "test_resnet",
        "test_vit",
        "test_vit2",
        "test_convnext",
        "test_efficientnet",
        "regnetx_002",
        "test_mambaout",
        "vgg11",
        "cait_xxs24_224",
    ],
)
def test_layers_of_timms_networks_are_those_that_timm_counts(name: str) -> None:
    with torch.device("meta"):
        theirs = timm.create_model(name, pretrained=False, num_classes=3)
        trunk = timm.create_model(name, pretrained=False, num_classes=0)
    own = {parameter: n for n, parameter in theirs.named_parameters()}
    groups = param_groups_layer_decay(theirs, weight_decay=0.05, layer_decay=0.7)
    expected = {own[p]: (group["lr_scale"], group["weight_decay"]) for group in groups for p in group["params"]}
    network = Network(trunk, nn.Linear(1, 1))
    ours = {name: 0.7**distance for name, distance in distances_from_head(network).items()}
    for parameter, _ in trunk.named_parameters():
        assert ours[f"trunk.{parameter}"] == pytest.approx(expected[parameter][0]), parameter
    class_layer = expected.keys() - {parameter for parameter, _ in trunk.named_parameters()}
    assert {expected[parameter][0] for parameter in class_layer} == {1.0} == {ours["head.weight"], ours["head.bias"]}
    optimizer = build_optimizer(network, TrainSettings(optimizer="adamw", layer_decay=0.7, weight_decay=0.05), 1.0, fused=False)
    decays = [group["weight_decay"] for group in optimizer.param_groups for _ in group["params"]]
    for parameter, decay in zip(parameter_names(network, optimizer), decays, strict=True):
        assert parameter.startswith("head") or decay == expected[parameter.removeprefix("trunk.")][1], parameter


def test_a_layer_moves_by_its_own_rate() -> None:
    network = small_network()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    settings = TrainSettings(optimizer="sgd", momentum=0, weight_decay=0, trunk_lr=0.1, layer_decay=0.5)
    optimizer = build_optimizer(network, settings, 0.2, fused=True)
    network(torch.randn(2, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    rates = {"head.weight": 0.2, "trunk.1.weight": 0.01, "trunk.0.weight": 0.005}
    for name, rate in rates.items():
        parameter = network.get_parameter(name)
        torch.testing.assert_close(before[name] - parameter.detach(), rate * parameter.grad, rtol=1e-3, atol=1e-7)


def test_the_factors_are_always_read() -> None:
    seen: set[str] = set()
    build_optimizer(small_network(), watch(Config.load(None, ["train.optimizer=adamw"]), seen).train, 0.1, fused=False)
    assert {"train.layer_decay", "train.trunk_lr"} <= seen


# ---- rules -----------------------------------------------------------------------------------------------------------


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
    ours, theirs = copy.deepcopy(plain := Network(nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.ReLU()), nn.Linear(5, 2))), plain
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


@pytest.mark.parametrize(
    ("name", "weights", "rule"),
    [
        ("sightline_small", "auto", "muon"),
        ("sightline_tiny", "none", "muon"),
        ("sightline_small", "runs/a/classifier/model.safetensors", "adamw"),
        ("resnet18", "none", "adamw"),
        ("searchable_cnn", "auto", "adamw"),
    ],
)
def test_only_our_own_networks_from_scratch_are_trained_by_muon_unasked(name: str, weights: str, rule: str) -> None:
    assert automatic_optimizer(ModelSettings(name=name, weights=weights)) == rule


def test_every_optimizer_has_an_automatic_rate_and_pretrained_ones_are_lower() -> None:
    for name in ("sgd", "adam", "adamw", "muon"):
        assert automatic_lr(name, pretrained=False) == SCRATCH_LR[name]
        assert PRETRAINED_LR[name] < SCRATCH_LR[name]
