"""How every network here is put together: a trunk turns pictures into features, a head turns features into logits.

    network = Network(trunk, mlp_head(2048, [1600, 1024], 102, dropout=0.1))
    logits = network(images)            # (B, 3, S, S) float -> (B, K)
    features = network.trunk(images)    # (B, F), for freezing, for keeping features, for embeddings

One shape for all networks lets later code freeze, keep and embed without knowing which network it has. It gives up
networks whose class scores are not computed from one feature vector a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

Activation = Literal["relu", "gelu", "silu", "tanh"]

ACTIVATIONS: dict[Activation, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}

CLASS_LAYER = "classifier"
"""The name of the last layer of `mlp_head`."""


class Network(nn.Module):
    """A classifier in two parts: `trunk` (B, 3, S, S) -> (B, F) and `head` (B, F) -> (B, K)."""

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, K) of a batch of normalised images (B, 3, S, S)."""
        logits: torch.Tensor = self.head(self.trunk(images))
        return logits


def mlp_head(
    features: int,
    widths: Sequence[int],
    classes: int,
    activation: Activation = "relu",
    dropout: float = 0.0,
    batch_norm: bool = False,
    feature_dropout: float = 0.0,
) -> nn.Sequential:
    """Linear layers from `features` over `widths` to `classes`: (B, features) -> (B, classes).

    Each hidden layer is Linear, [BatchNorm], activation; `dropout` acts once, in front of the class layer, and
    `feature_dropout` on the features themselves. Without `widths` it is a linear classifier.
    """
    head = nn.Sequential()  # named layers: a dropout, which has no weights, must not shift the keys of a weight file
    if feature_dropout:
        head.add_module("feature_dropout", nn.Dropout(feature_dropout))
    for i, width in enumerate(widths):
        head.add_module(f"hidden{i}", nn.Linear(features, width))
        if batch_norm:
            head.add_module(f"norm{i}", nn.BatchNorm1d(width))
        head.add_module(f"activation{i}", ACTIVATIONS[activation]())
        features = width
    if dropout:
        head.add_module("dropout", nn.Dropout(dropout))
    head.add_module(CLASS_LAYER, nn.Linear(features, classes))
    return head
