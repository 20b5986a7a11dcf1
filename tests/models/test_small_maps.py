"""The faster weight gradient is the gradient of torch's own convolution."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sightline.models.catalog import build
from sightline.models.small_maps import SmallMapConv2d, speed_up
from sightline.settings import ModelSettings


def gradients(network: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = network(x)
    out.float().square().mean().backward()
    assert x.grad is not None
    return x.grad, {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "side"),
    [(3, 1, 1, 4), (3, 2, 1, 8), (1, 1, 0, 7), (1, 2, 0, 8), (5, 1, 0, 9), (2, 2, 1, 5), ((3, 1), (2, 1), (1, 0), 6)],
)
def test_gradients_are_those_of_torch(kernel: int, stride: int, padding: int, side: int) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(5, 7, kernel, stride, padding))
    fast = copy.deepcopy(plain)
    speed_up(fast)
    assert isinstance(fast[0], SmallMapConv2d)
    x = torch.randn(3, 5, side, side).to(memory_format=torch.channels_last)
    to_input, own = gradients(fast, x)
    expected_input, expected = gradients(plain, x)
    torch.testing.assert_close(to_input, expected_input)
    assert own.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(own[name], value, rtol=0.02, atol=0.01 * float(value.abs().max()))


def test_large_maps_float32_and_frozen_weights_go_torchs_own_way() -> None:
    conv = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1))
    speed_up(conv)
    fast = conv[0]
    small, large = torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 9, 9)
    assert not fast._pays(small)  # no autocast: float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fast._pays(small)
        assert not fast._pays(large)
        with torch.no_grad():
            assert not fast._pays(small)
        fast.requires_grad_(False)
        assert not fast._pays(small)


def test_a_network_keeps_its_names_weights_and_answers() -> None:
    network = build(ModelSettings(name="resnet18", weights="none"), 3, 32).network.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x = torch.randn(2, 3, 32, 32)
    said = network(x)
    speed_up(network)
    assert {name: value.tolist() for name, value in before.items()} == {n: v.tolist() for n, v in network.state_dict().items()}
    assert torch.equal(network(x), said)
    assert sum(type(module) is nn.Conv2d for module in network.modules()) == 0


def test_grouped_and_dilated_convolutions_stay() -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3, dilation=2), nn.Conv2d(4, 4, 3, padding="same"))
    speed_up(network)
    assert all(type(layer) is nn.Conv2d for layer in network)
