"""What is frozen, in words, and what that means for batch norm, dropout and gradients."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from sightline.errors import ModelError
from sightline.models import catalog
from sightline.models.freeze import freeze
from sightline.models.head import Network, mlp_head
from sightline.settings import ModelSettings


def timm_network(name: str, **options) -> Network:
    torch.manual_seed(0)
    trunk = timm.create_model(name, pretrained=False, num_classes=0, **options)
    return Network(trunk, mlp_head(trunk.num_features, [], 3))


def tiny() -> Network:
    """stem, block (with batch norm and dropout), last; batch norms everywhere."""
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3), block, nn.BatchNorm2d(4), nn.Flatten())
    return Network(trunk, nn.Linear(4 * 16, 2))


def frozen_names(network: Network) -> set[str]:
    return {name for name, parameter in network.named_parameters() if not parameter.requires_grad}


@pytest.mark.parametrize(
    ("name", "words", "before"),
    [
        ("test_resnet", "until:layer4", "conv1 bn1 layer1 layer2 layer3"),
        ("test_resnet", "until:trunk.layer3.0", "conv1 bn1 layer1 layer2"),
        ("test_vit", "until:blocks.2", "patch_embed cls_token pos_embed blocks.0 blocks.1"),
        ("test_convnext", "until:stages.3", "stem stages.0 stages.1 stages.2"),
        ("test_efficientnet", "until:blocks.2", "conv_stem bn1 blocks.0 blocks.1"),
        ("regnetx_002", "until:s4", "stem s1 s2 s3"),
        ("vgg11", "until:features.6", "features.0 features.3"),
    ],
)
def test_until_freezes_what_runs_before_the_layer_and_nothing_else(name: str, words: str, before: str) -> None:
    with torch.device("meta"):
        network = timm_network(name)
    freeze(network, words)
    starts = tuple(f"trunk.{part}" for part in before.split())
    expected = {n for n, _ in network.named_parameters() if any(n == s or n.startswith(f"{s}.") for s in starts)}
    assert frozen_names(network) == expected != set()


def test_until_counts_the_layers_of_our_own_networks() -> None:
    network = catalog.build(ModelSettings(), 5, 32).network
    freeze(network, "until:3")
    assert {name.rsplit(".", maxsplit=3)[0] for name in frozen_names(network)} <= {"trunk", "trunk.0", "trunk.1", "trunk.2"}
    assert all(p.requires_grad for p in [*network.trunk[3].parameters(), *network.head.parameters()])
    assert not any(p.requires_grad for p in network.trunk[:3].parameters())


def test_trunk_freezes_all_but_the_head_and_none_unfreezes_again() -> None:
    network = tiny()
    frozen = freeze(network, "trunk")
    assert frozen_names(network) == {f"trunk.{name}" for name, _ in network.trunk.named_parameters()}
    assert set(frozen.modules) == {name for name, _ in network.named_modules() if name.partition(".")[0] == "trunk"}
    frozen = freeze(network, "none")
    assert frozen_names(network) == set()
    assert (frozen.modules, frozen.tensors) == ((), ())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["1"], {"trunk.1.0.weight", "trunk.1.0.bias", "trunk.1.1.weight", "trunk.1.1.bias"}),
        (["trunk.0.weight", "head"], {"trunk.0.weight", "head.weight", "head.bias"}),
        (("2.bias",), {"trunk.2.bias"}),
    ],
)
def test_a_list_takes_modules_and_parameters_by_name(words, expected: set[str]) -> None:
    network = tiny()
    freeze(network, words)
    assert frozen_names(network) == expected


def test_a_list_matches_at_the_dot_only() -> None:
    network = Network(nn.ModuleDict({"layer1": nn.Linear(2, 2), "layer10": nn.Linear(2, 2)}), nn.Linear(2, 2))
    freeze(network, ["layer1"])
    assert frozen_names(network) == {"trunk.layer1.weight", "trunk.layer1.bias"}


def test_frozen_norms_keep_their_statistics_and_frozen_dropout_drops_nothing() -> None:
    network = tiny()
    frozen = freeze(network, "until:2")
    network.train()
    frozen.hold(network)
    norm, later = network.trunk[1][1], network.trunk[2]
    before, later_before = norm.running_mean.clone(), later.running_mean.clone()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    images = torch.randn(6, 3, 8, 8)
    for _ in range(2):
        network(images).square().sum().backward()
        optimizer.step()
    assert torch.equal(norm.running_mean, before)
    assert norm.num_batches_tracked == 0
    assert not torch.equal(later.running_mean, later_before)
    assert not network.trunk[1][2].training
    assert later.training
    assert network.head.training


def test_a_norm_whose_parameters_are_named_one_by_one_is_held_too() -> None:
    network = tiny()
    assert freeze(network, ["2.weight", "2.bias"]).modules == ("trunk.2",)
    assert freeze(network, ["2.weight"]).modules == ()


def test_the_state_of_the_frozen_part_has_its_buffers_and_nothing_that_is_trained() -> None:
    network = tiny()
    state = freeze(network, "until:2").state(network)
    expected = {f"trunk.{name}" for name in network.trunk.state_dict() if name[0] in "01"}
    assert set(state) == expected
    assert "trunk.1.1.running_var" in expected
    assert state["trunk.0.weight"] is network.trunk[0].weight


def test_gradients_of_an_earlier_phase_are_forgotten() -> None:
    network = tiny()
    network(torch.randn(2, 3, 8, 8)).sum().backward()
    freeze(network, "trunk")
    assert all(p.grad is None for p in network.trunk.parameters())
    assert network.head.weight.grad is not None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("until:layer5", "model.freeze=until:layer5: until: takes a layer of the trunk, .* nearest are .*layer4"),
        ("until:conv1", "until:conv1 freezes nothing .* model.freeze=none"),
        ("until:xyz", "There are conv1, bn1"),
        ("layer4", r"layer4 is not none, trunk, until:LAYER, or a list of layers such as \[layer4\]"),
        (["layer5"], "has no layer layer5. The nearest are .*layer4"),
        (["trunk", "head"], r"\[trunk,head\] leaves nothing to train"),
        ([], "freezes nothing"),
    ],
)
def test_words_that_cannot_be_meant_are_refused_in_a_sentence(words, sentence: str) -> None:
    with torch.device("meta"):
        network = timm_network("test_resnet")
    with pytest.raises(ModelError, match=sentence):
        freeze(network, words)
    assert frozen_names(network) == set()
