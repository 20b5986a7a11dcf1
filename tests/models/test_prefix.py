"""A network cut in two gives what the whole gives, and trains as the whole does."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

from sightline.errors import ModelError
from sightline.models import catalog
from sightline.models.freeze import freeze
from sightline.models.head import Network, mlp_head
from sightline.models.prefix import Cut, cut
from sightline.settings import ModelSettings

FAMILIES = [
    ("test_resnet", "layer4"),
    ("test_resnet", "layer3.0.conv1"),
    ("test_vit", "blocks.3"),
    ("test_vit", "norm_pre"),
    ("test_vit2", "blocks.4"),
    ("test_convnext", "stages.3"),
    ("test_convnext", "stages.2.blocks.1"),
    ("test_efficientnet", "blocks.3"),
    ("test_efficientnet", "conv_head"),
    ("regnetx_002", "s4"),
    ("sightline_tiny", "2"),
    ("sightline_tiny", "4"),
    ("searchable_cnn", "5"),
    ("simpsons_residual", "6"),
]


def network_of(name: str, **options) -> Network:
    torch.manual_seed(0)
    if name in catalog.OURS:
        return catalog.build(ModelSettings(name=name), 5, 32).network
    if "vit" in name:
        options["img_size"] = 32
    trunk = timm.create_model(name, pretrained=False, num_classes=0, **options)
    return Network(trunk, mlp_head(trunk.num_features, [8], 5, batch_norm=True))


def images(count: int, side: int = 32, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def made(network: Network, words: str) -> Cut:
    result = cut(network, words, images(2))
    assert isinstance(result, Cut), result
    return result


def train(network: Network, forward: nn.Module, inputs: torch.Tensor, frozen) -> None:
    """Two steps of SGD with momentum, as the loop takes them."""
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.05, momentum=0.9)
    for step in range(2):
        network.train()
        forward.train()
        frozen.hold(network)
        torch.manual_seed(step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(forward(inputs), torch.tensor([0, 1, 2, 3, 4, 0])).backward()
        optimizer.step()


@pytest.mark.parametrize(("name", "layer"), FAMILIES)
def test_training_the_suffix_on_features_is_training_the_network(name: str, layer: str) -> None:
    whole = network_of(name)
    parts = copy.deepcopy(whole)
    batch = images(6)
    train(whole, whole, batch, freeze(whole, f"until:{layer}"))
    frozen = freeze(parts, f"until:{layer}")
    divided = made(parts, f"until:{layer}")
    train(parts, divided.suffix, divided.prefix(batch), frozen)
    state, trained = whole.state_dict(), parts.state_dict()  # statistics of norms, and all that training changed
    first = network_of(name).state_dict()
    moved = {key for key in state if not torch.equal(first[key], trained[key])}
    assert moved & {key for key, p in parts.named_parameters() if p.requires_grad}
    for key in state:
        torch.testing.assert_close(trained[key], state[key], rtol=1e-5, atol=1e-6, msg=key)
    for key in frozen.state(parts):
        assert torch.equal(trained[key], first[key]), key
    whole.eval()
    divided.suffix.eval()
    with torch.no_grad():
        torch.testing.assert_close(divided.suffix(divided.prefix(batch)), whole(batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "sightline_tiny", "test_convnext"])
def test_the_trunk_can_always_be_cut_from_its_head(name: str) -> None:
    network = network_of(name).eval()
    divided = made(network, "trunk")
    assert divided.suffix is network.head
    batch = images(2)
    assert torch.equal(divided.prefix(batch), network.trunk(batch))
    assert divided.shape == (network.trunk(batch).shape[1],)


def test_gradients_flow_in_the_suffix_alone() -> None:
    network = network_of("test_resnet")
    divided = made(network, "until:layer4")
    features = divided.prefix(images(2))
    assert not features.requires_grad
    assert not features.is_inference()
    divided.suffix(features).sum().backward()
    reached = {name.partition(".")[2].split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert reached == {"layer4", "hidden0", "norm0", "classifier"}


def test_the_suffix_shares_the_trained_layers_and_leaves_the_network_as_it_was() -> None:
    network = network_of("test_resnet")
    keys = list(network.state_dict())
    suffix = made(network, "until:layer3.0").suffix
    assert suffix.trunk.layer4 is network.trunk.layer4
    assert suffix.head is network.head
    assert list(network.state_dict()) == keys
    assert isinstance(suffix.trunk.layer1, nn.Identity)
    assert not isinstance(network.trunk.layer1, nn.Identity)


def test_train_and_eval_of_the_suffix_reach_the_shared_layers_and_the_copied_ones() -> None:
    network = network_of("test_resnet", drop_rate=0.5).eval()
    suffix = made(network, "until:layer4").suffix
    assert not any(module.training for module in suffix.modules())
    features = torch.randn(2, *made(network, "until:layer4").shape)
    plain = suffix(features)
    assert torch.equal(suffix(features), plain)
    suffix.train()
    assert all(module.training for module in suffix.modules())
    assert network.trunk.layer4[0].training
    assert not network.trunk.layer1.training
    network.head.eval()
    network.trunk.layer4.eval()
    torch.manual_seed(0)
    assert not torch.equal(suffix(features), plain)  # the dropout that ResNet's own forward does is on


def test_the_prefix_is_in_evaluation_mode_and_restores_what_was() -> None:
    network = network_of("test_resnet")
    divided = made(network, "until:layer4")
    network.train()
    network.trunk.layer1.eval()
    before = {name: module.training for name, module in network.named_modules()}
    statistics = network.trunk.bn1.running_mean.clone()
    batch = images(3)
    first = divided.prefix(batch)
    assert torch.equal(divided.prefix(batch), first)
    assert torch.equal(batch, images(3))
    assert torch.equal(network.trunk.bn1.running_mean, statistics)
    assert {name: module.training for name, module in network.named_modules()} == before
    assert not network.trunk.layer4._forward_pre_hooks


def test_a_cut_tells_shape_and_number_format_of_the_features() -> None:
    network = network_of("test_resnet")
    with torch.autocast("cpu", torch.bfloat16):
        divided = made(network, "until:layer4")
        features = divided.prefix(images(3))
    assert features.dtype == divided.dtype == torch.bfloat16
    assert features.shape == (3, *divided.shape)
    assert made(network, "until:layer4").dtype == torch.float32


def test_the_memory_order_of_features_is_the_networks() -> None:
    network = network_of("test_resnet").to(memory_format=torch.channels_last)
    features = made(network, "until:layer4").prefix(images(2).to(memory_format=torch.channels_last))
    assert features.is_contiguous(memory_format=torch.channels_last)


# ---- what is not cut -------------------------------------------------------------------------------------------------


class UsesTheStemTwice(nn.Module):
    """Later layers need more than their input: what comes before cannot be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.body = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stem = self.stem(x)
        return (self.last(self.body(stem)) + stem).mean((2, 3))


class TakesTwo(nn.Module):
    """Its last layer takes two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 4)
        self.last = nn.Bilinear(4, 4, 4)
        self.spare = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x.mean((2, 3)))
        return self.last(x, x)


@pytest.mark.parametrize(
    ("trunk", "words", "reason"),
    [
        (UsesTheStemTwice(), "until:last", "needs more than its input, the answers differ"),
        (TakesTwo(), "until:last", "trunk.last: it takes more than one tensor"),
        (TakesTwo(), "until:spare", "trunk.spare: it does not run as a layer of its own"),
        (TakesTwo(), ["stem"], "A list of frozen layers has no one place"),
        (TakesTwo(), "none", "Nothing is frozen"),
    ],
)
def test_what_cannot_be_cut_is_told_and_not_cut(trunk: nn.Module, words, reason: str) -> None:
    result = cut(Network(trunk, nn.Linear(4, 2)), words, images(2, 8))
    assert isinstance(result, str)
    assert reason in result


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("test_resnet", "layer4.0.conv2"),  # inside a block, beside its shortcut
        ("regnetx_002", "s4.b1.conv2"),
        ("test_vit", "blocks.2.mlp"),
        ("test_vit", "pos_drop"),
        ("test_vit_relpos", "blocks.2"),
    ],
)
def test_a_cut_inside_a_block_or_of_a_family_with_side_paths_is_refused(name: str, layer: str) -> None:
    result = cut(network_of(name), f"until:{layer}", images(2))
    assert isinstance(result, str)
    assert f"cannot be cut at trunk.{layer}" in result


def test_a_layer_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"nearest are .*layer4"):
        cut(network_of("test_resnet"), "until:layer9", images(2))
