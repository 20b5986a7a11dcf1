"""Features are what the class layer is given: from them the logits follow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sightline.device import Device
from sightline.models.catalog import OURS, build
from sightline.models.features import class_layer, features_of, listening
from sightline.models.head import Network, mlp_head
from sightline.models.inference import logits_of
from sightline.settings import ModelSettings

CPU = Device("cpu", "float32", 1, True)


def pictures(side: int, count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [*OURS, "resnet18", "vit_tiny_patch16_224", "mobilenetv3_small_050"])
def test_the_logits_follow_from_the_features_by_the_class_layer_alone(name: str) -> None:
    network = build(ModelSettings(name=name, weights="none"), 4, 32).network
    images = pictures(32)
    features = features_of(network, [images[:2], images[2:]], CPU)
    layer = class_layer(network)
    assert features.shape == (3, layer.in_features)
    assert features.dtype == np.float32
    logits = layer(torch.from_numpy(features)).detach().numpy()
    scale = 1 / 8 if name.startswith("sightline") else 1
    np.testing.assert_allclose(logits * scale, logits_of(network, [images], CPU), atol=1e-5)


def test_behind_hidden_layers_the_features_are_those_of_the_last_one() -> None:
    trunk = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = Network(trunk, mlp_head(3, [7, 5], 2, dropout=0.5)).train()
    images = pictures(4)
    features = features_of(network, [images], CPU)
    expected = network.eval().head[:-2](trunk(images)).detach().numpy()  # without dropout and the class layer
    np.testing.assert_allclose(features, expected, atol=1e-6)


def test_bfloat16_gives_float32_features() -> None:
    network = build(ModelSettings(name="sightline_tiny", weights="none"), 4, 32).network.to(memory_format=torch.channels_last)
    exact = features_of(network, [pictures(32)], CPU)
    found = features_of(network, [pictures(32)], Device("cpu", "bfloat16", 1, True))
    assert found.dtype == np.float32
    assert np.corrcoef(exact.ravel(), found.ravel())[0, 1] > 0.99


def test_listening_ends_with_its_block_and_leaves_the_network_as_it_was() -> None:
    network = build(ModelSettings(name="sightline_tiny", weights="none"), 4, 16).network.train()
    with listening(network) as heard:
        logits_of(network, [pictures(16)], CPU)
    logits_of(network, [pictures(16)], CPU)
    assert len(heard.features()) == 3
    assert network.training
    assert all(p.grad is None for p in network.parameters())


def test_no_images_give_no_rows() -> None:
    network = build(ModelSettings(name="sightline_tiny", weights="none"), 4, 16).network
    assert features_of(network, [], CPU).shape == (0, 128)
