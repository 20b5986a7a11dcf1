"""A folded network answers as the network does in evaluation mode, whatever stands in its norms, and leaves it alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrizations

from sightline.device import Device
from sightline.models.catalog import build
from sightline.models.evaluating import evaluating
from sightline.models.explain import heat_maps, map_layer
from sightline.models.features import features_of
from sightline.models.folded import folded
from sightline.models.head import Network
from sightline.models.small_maps import speed_up
from sightline.settings import ModelSettings

N = TypeVar("N", bound=nn.Module)

CPU = Device("cpu", "float32", 1, True)


def pictures(side: int, count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def lived(network: N, negative: bool = True) -> N:
    """With statistics and affine parameters as a training might have left them, in evaluation mode."""
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for norm in norms(network):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_(0, 0.3, generator=draws)
            norm.running_var.uniform_(0.3, 2, generator=draws)
            if norm.affine:
                norm.weight.uniform_(0.5, 1.5, generator=draws)
                if negative:
                    norm.weight[::2] *= -1
                norm.bias.normal_(0, 0.3, generator=draws)
    return network.eval()


def made(name: str, side: int, negative: bool = True, **settings: object) -> Network:
    torch.manual_seed(0)
    return lived(build(ModelSettings.model_validate({"name": name, "weights": "none", **settings}), 4, side).network, negative)


def norms(network: nn.Module) -> list[_BatchNorm]:
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def agree(one: nn.Module, other: nn.Module, images: torch.Tensor) -> None:
    with torch.no_grad():
        expected = other(images)
        torch.testing.assert_close(one(images), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("name", "side", "left"),
    [
        ("sightline_small", 32, 3),  # behind a pool a negative factor would make the smallest value of the largest
        ("springfield_first", 32, 0),
        ("springfield_best", 32, 0),
        ("simpsons_residual", 28, 0),
        ("searchable_cnn", 32, 0),
        ("resnet18", 32, 0),
        ("mobilenetv3_small_100", 32, 0),
        ("efficientnet_b0", 32, 0),
        ("tf_efficientnet_b0", 33, 0),  # convolutions that pad as TensorFlow does
        ("densenet121", 32, 62),  # most of its norms stand in front of a convolution
    ],
)
def test_it_answers_as_the_network_does(name: str, side: int, left: int) -> None:
    network = made(name, side)
    found = folded(network, pictures(side, 1))
    assert len(norms(found)) == left < len(norms(network))
    agree(found, network, pictures(side))


def test_a_pool_between_them_is_no_obstacle_where_no_factor_is_negative() -> None:
    network = made("sightline_small", 32, negative=False)
    found = folded(network, pictures(32, 1))
    assert not norms(found)
    agree(found, network, pictures(32))


def test_hidden_layers_of_the_head_are_folded_too() -> None:
    network = made("resnet18", 32, head=[16], head_batch_norm=True, head_dropout=0.5)
    found = folded(network, pictures(32, 1))
    assert not norms(found)
    agree(found, network, pictures(32))


@pytest.mark.parametrize(("name", "side"), [("skilltest_cnn", 28), ("convnext_atto", 32), ("test_vit", 160)])
def test_a_network_without_batch_norm_is_itself(name: str, side: int) -> None:
    network = made(name, side)
    assert folded(network, pictures(side, 1)) is network


def test_the_network_stays_as_it_is() -> None:
    network = made("mobilenetv3_small_100", 32)
    network.trunk.train()
    modes = [module.training for module in network.modules()]
    weights = copy.deepcopy(network.state_dict())
    folded(network, pictures(32, 1))
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert len(norms(network)) == 34


def test_names_and_what_is_not_folded_are_the_networks_own() -> None:
    network = made("resnet18", 32)
    found = folded(network, pictures(32, 1))
    assert isinstance(found, Network)
    assert {name for name, _ in network.named_modules()} == {name for name, _ in found.named_modules()}
    assert found.head is network.head
    assert found.get_submodule("trunk.maxpool") is network.get_submodule("trunk.maxpool")


def test_it_keeps_the_activation_of_timms_norm() -> None:
    network = made("efficientnet_b0", 32)
    found = folded(network, pictures(32, 1))
    assert found.get_submodule("trunk.bn1.act") is network.get_submodule("trunk.bn1.act")


def test_the_folded_weights_lie_as_before_and_have_no_gradients() -> None:
    network = made("resnet18", 32).to(memory_format=torch.channels_last)
    found = folded(network, pictures(32, 1))
    assert isinstance(found, Network)
    before, after = network.trunk.conv1.weight, found.trunk.conv1.weight
    assert isinstance(before, nn.Parameter)
    assert isinstance(after, nn.Parameter)
    assert (after.stride(), after.dtype, after.requires_grad) == (before.stride(), before.dtype, False)
    found(pictures(32)).sum().backward()
    assert network.trunk.conv1.weight.grad is None  # type: ignore[union-attr]
    assert network.head.classifier.weight.grad is not None  # type: ignore[union-attr]


def test_the_same_weights_give_the_same_network() -> None:
    """The trained one has other convolutions than the one that is loaded (see `models.small_maps`)."""
    network = made("resnet18", 32)
    again = copy.deepcopy(network)
    speed_up(network)
    one, other = folded(network, pictures(32, 1)), folded(again, pictures(32, 1))
    with torch.no_grad():
        assert torch.equal(one(pictures(32)), other(pictures(32)))


@pytest.mark.parametrize(("name", "side"), [("sightline_small", 32), ("resnet18", 128), ("efficientnet_b0", 128)])
def test_features_and_heat_maps_are_the_same(name: str, side: int) -> None:
    network = made(name, side, negative=False)
    found = folded(network, pictures(side, 1))
    assert isinstance(found, Network)
    images, classes = pictures(side), np.array([0, 1, 2])
    expected = features_of(network, [images], CPU)
    np.testing.assert_allclose(features_of(found, [images], CPU), expected, atol=1e-5 * float(np.abs(expected).max()))
    layer = map_layer(network, images, CPU)
    assert map_layer(found, images, CPU) == layer
    heat = heat_maps(network, images, classes, CPU, layer)
    assert heat.any()
    np.testing.assert_allclose(heat_maps(found, images, classes, CPU, layer), heat, atol=1e-4 * float(heat.max()))


# ---- odd ones --------------------------------------------------------------------------------------------------------


class Odd(nn.Module):
    """A convolution and a norm, put together in some way."""

    def __init__(self, way: Callable[[Odd, torch.Tensor], torch.Tensor], conv: nn.Module | None = None) -> None:
        super().__init__()
        self.way = way
        self.conv = conv or nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.other = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.way(self, x).mean((2, 3))


LITTLE = 1e-6
"""So little of what would become wrong that the answers do not tell: it has to be seen."""


def beside(odd: Odd, x: torch.Tensor) -> torch.Tensor:
    x = odd.conv(x)
    return odd.norm(x) + LITTLE * x  # type: ignore[no-any-return]


def in_place(odd: Odd, x: torch.Tensor) -> torch.Tensor:
    return odd.norm(torch.relu_(odd.conv(x)))  # type: ignore[no-any-return]


def in_a_list(odd: Odd, x: torch.Tensor) -> torch.Tensor:
    x = odd.conv(x)
    return odd.norm(x) + LITTLE * torch.stack([x, x]).sum(0)  # type: ignore[no-any-return]


def into_another_layer(odd: Odd, x: torch.Tensor) -> torch.Tensor:
    x = odd.conv(x)
    return odd.norm(x) + LITTLE * odd.other(x)  # type: ignore[no-any-return]


def conv_twice(odd: Odd, x: torch.Tensor) -> torch.Tensor:
    return odd.norm(odd.conv(x)) + LITTLE * odd.conv(x)  # type: ignore[no-any-return]


def norm_twice(odd: Odd, x: torch.Tensor) -> torch.Tensor:
    x = odd.norm(odd.conv(x))
    return x + LITTLE * odd.norm(x)  # type: ignore[no-any-return]


def norm_first(odd: Odd, x: torch.Tensor) -> torch.Tensor:
    return odd.other(odd.norm(torch.cat([x, x[:, :1]], 1)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("way", [beside, in_place, in_a_list, into_another_layer, conv_twice, norm_twice, norm_first])
def test_a_norm_stays_where_the_layers_output_goes_elsewhere(way: Callable[[Odd, torch.Tensor], torch.Tensor]) -> None:
    torch.manual_seed(0)
    network = lived(Odd(way))
    assert folded(network, pictures(8, 1)) is network


def test_what_is_computed_from_values_in_python_is_folded_too() -> None:
    def choosing(odd: Odd, x: torch.Tensor) -> torch.Tensor:
        x = odd.norm(odd.conv(x))
        return x if float(x.sum()) > 0 else -x

    torch.manual_seed(0)
    network = lived(Odd(choosing))
    found = folded(network, pictures(8, 1))
    assert not norms(found)
    agree(found, network, pictures(8))


class Standardised(nn.Conv2d):
    """Its weight's scale does nothing, so it cannot carry a norm's factor."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(input, self.weight / self.weight.std((1, 2, 3), keepdim=True), self.bias)


@pytest.mark.parametrize("conv", [Standardised(3, 4, 3), parametrizations.weight_norm(nn.Conv2d(3, 4, 3))])
def test_weights_that_are_not_what_is_used_stay(conv: nn.Module) -> None:
    network = lived(Odd(lambda odd, x: odd.norm(odd.conv(x)), conv))  # type: ignore[no-any-return]
    assert folded(network, pictures(8, 1)) is network


def test_a_norm_over_another_axis_than_the_layers_stays() -> None:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm = nn.Linear(8, 8), nn.BatchNorm1d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.norm(self.layer(x.mean(3))).flatten(1)
            return out

    network = lived(Rows())
    assert folded(network, pictures(8, 1)) is network


def test_norms_of_other_kinds_stay() -> None:
    class Louder(nn.BatchNorm2d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return (1 + LITTLE) * super().forward(input)

    for norm in (Louder(4), nn.BatchNorm2d(4, track_running_stats=False)):
        network = Odd(lambda odd, x: odd.norm(odd.conv(x))).eval()  # type: ignore[no-any-return]
        network.norm = norm.eval()
        assert folded(network, pictures(8, 2)) is network


def test_norms_without_factors_and_layers_with_a_bias_are_folded() -> None:
    torch.manual_seed(0)
    network = lived(Odd(lambda odd, x: odd.norm(odd.conv(x))))  # type: ignore[no-any-return]
    network.norm = lived(nn.BatchNorm2d(4, affine=False))
    found = folded(network, pictures(8, 1))
    assert not norms(found)
    agree(found, network, pictures(8))


def test_a_layer_with_two_names_stays_one_layer() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
            self.again = self.block

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.again(x).mean((2, 3))
            return out

    network = lived(Twice())
    found = folded(network, pictures(8, 1))
    assert found.block is found.again
    assert not norms(found)
    agree(found, network, pictures(8))


def test_it_can_be_evaluated_and_brought_back() -> None:
    network = made("resnet18", 32)
    found = folded(network, pictures(32, 1))
    assert not any(module.training for module in found.modules())
    found.train()
    with evaluating(found):
        assert not any(module.training for module in found.modules())
    assert found.training
