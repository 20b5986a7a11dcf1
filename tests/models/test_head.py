from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sightline.models.head import Network, mlp_head


def kinds(head):
    return [type(layer).__name__ for layer in head]


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_the_flowers_head_has_its_authors_layers():
    head = mlp_head(2048, [1600, 1024], 102, dropout=0.1)
    assert kinds(head) == ["Linear", "ReLU", "Linear", "ReLU", "Dropout", "Linear"]
    assert parameters(head) == (2048 * 1600 + 1600) + (1600 * 1024 + 1024) + (1024 * 102 + 102)
    assert head.dropout.p == 0.1


def test_without_widths_it_is_a_linear_classifier():
    assert kinds(mlp_head(8, [], 3)) == ["Linear"]


def test_batch_norm_stands_between_a_hidden_layer_and_its_activation():
    head = mlp_head(8, [4, 5], 3, activation="gelu", batch_norm=True)
    assert kinds(head) == ["Linear", "BatchNorm1d", "GELU", "Linear", "BatchNorm1d", "GELU", "Linear"]


def test_dropouts_stand_on_the_features_and_before_the_class_layer_only():
    head = mlp_head(8, [4, 5], 3, dropout=0.2, feature_dropout=0.3)
    assert kinds(head) == ["Dropout", "Linear", "ReLU", "Linear", "ReLU", "Dropout", "Linear"]
    assert [layer.p for layer in head if isinstance(layer, nn.Dropout)] == [0.3, 0.2]


def test_dropout_does_not_change_the_names_of_weights():
    with_dropout = mlp_head(8, [4], 3, dropout=0.5, feature_dropout=0.5)
    assert list(with_dropout.state_dict()) == list(mlp_head(8, [4], 3).state_dict())


@pytest.mark.parametrize(("name", "kind"), [("relu", nn.ReLU), ("gelu", nn.GELU), ("silu", nn.SiLU), ("tanh", nn.Tanh)])
def test_the_activation_is_the_named_one(name, kind):
    assert isinstance(mlp_head(8, [4], 3, activation=name)[1], kind)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 9), max_size=4), st.integers(1, 9), st.integers(1, 9))
def test_a_head_turns_features_into_class_scores_through_all_widths(widths, features, classes):
    head = mlp_head(features, widths, classes)
    sides = [(layer.in_features, layer.out_features) for layer in head if isinstance(layer, nn.Linear)]
    assert sides == list(pairwise([features, *widths, classes]))
    assert head(torch.zeros(2, features)).shape == (2, classes)


def test_a_network_is_its_head_after_its_trunk():
    network = Network(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), mlp_head(4, [], 3))
    images = torch.randn(5, 3, 2, 2)
    torch.testing.assert_close(network(images), network.head(network.trunk(images)))
    assert {name.split(".")[0] for name in network.state_dict()} == {"trunk", "head"}
