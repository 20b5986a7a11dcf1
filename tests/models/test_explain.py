"""Heat maps: Grad-CAM worked out by hand and by a small reference, and the rule by which the layer is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sightline.device import Device
from sightline.errors import ModelError
from sightline.models.catalog import OURS, build
from sightline.models.compact import GlobalMaxPool
from sightline.models.explain import MapLayer, heat_maps, map_layer
from sightline.models.head import Network
from sightline.models.scratch import Mean
from sightline.settings import ModelSettings

CPU = Device("cpu", "float32", 1, True)


def pictures(side: int, count: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def made(name: str, side: int, classes: int = 4) -> Network:
    torch.manual_seed(0)
    return build(ModelSettings(name=name, weights="none"), classes, side).network


def reference(network: Network, layer: nn.Module, images: torch.Tensor, classes: np.ndarray, tokens: int | None = None) -> np.ndarray:
    """Grad-CAM with two hooks, one image at a time, as pytorch-grad-cam does it; `tokens` in front of the grid."""
    network.eval()
    maps = []
    for image, k in zip(images, classes, strict=True):
        kept: dict[str, torch.Tensor] = {}

        def forward(module: nn.Module, args: Any, output: torch.Tensor, kept: dict[str, torch.Tensor] = kept) -> None:
            kept["a"] = output
            output.retain_grad()

        handle = layer.register_forward_hook(forward)
        network(image[None])[0, k].backward()
        handle.remove()
        a, g = kept["a"].detach()[0], kept["a"].grad[0]
        if tokens is not None:
            side = int((len(a) - tokens) ** 0.5)
            a, g = (t[tokens:].T.reshape(-1, side, side) for t in (a, g))
        maps.append(torch.relu((g.mean((1, 2))[:, None, None] * a).sum(0)).numpy())
    network.zero_grad()
    return np.stack(maps)


# ---- by hand ---------------------------------------------------------------------------------------------------------


def by_hand(pool: nn.Module) -> tuple[Network, torch.Tensor]:
    """Two channels of a 4 x 4 map are red and green themselves; class 0 likes red and dislikes green."""
    conv = nn.Conv2d(3, 2, 1, bias=False)
    head = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])[..., None, None])
        head.weight.copy_(torch.tensor([[3.0, -1.0], [-3.0, 2.0]]))
    images = torch.zeros(1, 3, 4, 4)
    images[0, 0, 1, 2] = 5.0  # red at one place
    images[0, 1, 3, 0] = 4.0  # green at another
    images[0, 0, 3, 0] = 1.0
    return Network(nn.Sequential(conv, pool), nn.Sequential(head)), images


def test_mean_pooling_by_hand() -> None:
    network, images = by_hand(Mean())
    heat = heat_maps(network, images, np.array([0]), CPU)[0]
    # The derivative of the mean is 1/16 at each place, so a = (3/16, -1/16): 5 * 3/16 at the red one, (3 - 4)/16 < 0 at the other.
    expected = np.zeros((4, 4))
    expected[1, 2] = 15 / 16
    np.testing.assert_allclose(heat, expected, atol=1e-7)
    other = heat_maps(network, images, np.array([1]), CPU)[0]
    expected = np.zeros((4, 4))
    expected[3, 0] = (2 * 4 - 3 * 1) / 16
    np.testing.assert_allclose(other, expected, atol=1e-7)


def test_max_pooling_by_hand() -> None:
    network, images = by_hand(GlobalMaxPool())
    heat = heat_maps(network, images, np.array([0]), CPU)[0]
    assert heat[1, 2] == pytest.approx(15 / 16)  # the derivative is 1 at the largest place alone: its mean is 1/16 again


def test_an_image_for_which_nothing_speaks_has_no_heat() -> None:
    network, images = by_hand(Mean())
    images[:, 1] = 100.0
    assert not heat_maps(network, images, np.array([0]), CPU).any()


# ---- against a reference ---------------------------------------------------------------------------------------------

LAYERS = {"resnet18": "layer4", "mobilenetv3_small_050": "blocks", "densenet121": "features", "convnext_atto": "norm_pre"}


@pytest.mark.parametrize("name", LAYERS)
def test_a_network_of_convolutions_is_explained_in_front_of_its_pooling(name: str) -> None:
    network, images, classes = made(name, 128), pictures(128), np.array([1, 3])
    layer = map_layer(network, images, CPU)
    assert layer.name == LAYERS[name]
    found = heat_maps(network, images, classes, CPU, layer)
    expected = reference(network, network.trunk.get_submodule(layer.name), images, classes)
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())


@pytest.mark.parametrize(
    ("name", "layer", "tokens"),
    [
        ("vit_tiny_patch16_224", "blocks.11.norm1", 1),  # the class token answers
        ("vit_small_patch14_reg4_dinov2", "blocks.11.norm1", 5),  # with registers
        ("vit_wee_patch16_reg1_gap_256", "norm", 1),  # the mean of all tokens answers
        ("mixer_s32_224", "norm", 0),
    ],
)
def test_tokens_are_explained_on_their_grid(name: str, layer: str, tokens: int) -> None:
    side = {"vit_small_patch14_reg4_dinov2": 70, "mixer_s32_224": 224}.get(name, 80)
    network, images, classes = made(name, side), pictures(side), np.array([0, 2])
    found = map_layer(network, images, CPU)
    assert (found.name, found.skipped, found.layout) == (layer, tokens, "NLC")
    heat = heat_maps(network, images, classes, CPU, found)
    expected = reference(network, network.trunk.get_submodule(layer), images, classes, tokens)
    np.testing.assert_allclose(heat, expected, atol=1e-5 * expected.max())


def test_maps_with_channels_last_are_turned() -> None:
    network, images = made("swin_tiny_patch4_window7_224", 128), pictures(128, 1)
    layer = map_layer(network, images, CPU)
    assert (layer.layout, layer.side) == ("NHWC", 4)
    output = torch.arange(48.0).view(1, 4, 4, 3)
    assert layer.grid(output)[0, 2, 1, 3] == output[0, 1, 3, 2]
    assert heat_maps(network, images, np.array([0]), CPU, layer).shape == (1, 4, 4)


# ---- the rule --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("side", [28, 64])
def test_every_network_of_ours_has_a_map(name: str, side: int) -> None:
    network, images = made(name, side), pictures(side)
    layer = map_layer(network, images, CPU)
    assert layer.side >= 3
    heat = heat_maps(network, images, np.array([0, 1]), CPU, layer)
    assert heat.shape == (2, layer.side, layer.side)
    assert heat.dtype == np.float32
    assert (heat >= 0).all()


def test_small_pictures_are_explained_by_an_earlier_and_finer_map() -> None:
    assert map_layer(made("resnet18", 64), pictures(64), CPU).side == 4  # layer4 has 2 x 2 places


def test_an_enlarged_map_is_not_taken_for_a_finer_one() -> None:
    network = made("springfield_best", 91)  # one place is blown up to 4 x 4 at this side
    layer = map_layer(network, pictures(91), CPU)
    assert type(network.trunk.get_submodule(layer.name)).__name__ != "Resize"


def test_a_network_without_maps_is_refused_in_a_sentence() -> None:
    network = Network(nn.Sequential(nn.Flatten(), nn.Linear(48, 5)), nn.Sequential(nn.Linear(5, 2)))
    with pytest.raises(ModelError, match="not defined for this network"):
        map_layer(network, pictures(4), CPU)


def test_tokens_that_do_not_lie_in_rows_are_refused() -> None:
    with pytest.raises(ModelError, match="do not lie in rows"):
        map_layer(made("hiera_tiny_224", 224), pictures(224, 1), CPU)


def test_a_layer_that_is_used_twice_is_explained_at_its_last_use() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first = self.conv(x)
            return self.conv(first).mean((2, 3))

    network = Network(Twice(), nn.Sequential(nn.Linear(3, 2)))
    images = pictures(8)
    assert map_layer(network, images, CPU) == MapLayer("conv", 1, "NCHW", 8)
    assert heat_maps(network, images, np.array([0, 1]), CPU).shape == (2, 8, 8)


# ---- what stays as it was --------------------------------------------------------------------------------------------


def test_the_network_is_left_as_it_was_and_frozen_trunks_work() -> None:
    network = made("sightline_tiny", 32).train()
    network.trunk[0].eval()
    network.trunk.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    frozen = heat_maps(network, pictures(32), np.array([0, 1]), CPU)
    assert network.training
    assert not network.trunk[0].training
    assert all(p.grad is None for p in network.parameters())
    assert all(not module._forward_hooks for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network.trunk.requires_grad_(True)
    np.testing.assert_array_equal(heat_maps(network, pictures(32), np.array([0, 1]), CPU), frozen)


def test_an_image_has_the_same_heat_alone_and_among_others() -> None:
    network, images = made("sightline_tiny", 32), pictures(32, 4)
    layer = map_layer(network, images, CPU)
    together = heat_maps(network, images, np.array([0, 1, 2, 3]), CPU, layer)
    alone = heat_maps(network, images[2:3], np.array([2]), CPU, layer)
    np.testing.assert_allclose(together[2:3], alone, atol=1e-6)


@pytest.mark.parametrize("name", ["sightline_tiny", "resnet18", "vit_tiny_patch16_224"])
def test_bfloat16_and_channels_last_give_nearly_the_same_heat(name: str) -> None:
    network, images, classes = made(name, 64), pictures(64), np.array([0, 1])
    layer = map_layer(network, images, CPU)
    exact = heat_maps(network, images, classes, CPU, layer)
    network.to(memory_format=torch.channels_last)
    found = heat_maps(network, images, classes, Device("cpu", "bfloat16", 1, True), layer)
    assert found.dtype == np.float32
    assert np.corrcoef(exact.ravel(), found.ravel())[0, 1] > 0.97
    whole = heat_maps(network.to(torch.bfloat16), images, classes, CPU, layer)
    assert np.corrcoef(exact.ravel(), whole.ravel())[0, 1] > 0.95
