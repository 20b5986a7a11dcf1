"""What a network makes of pictures in front of its class layer: the vectors that embeddings and distances are made from.

    features = features_of(network, batches, device)        (N, D) float32

    with listening(network) as heard:                       beside a pass that is made anyway
        logits = classifier.logits(batches)
    features = heard.features()

The class layer is the last linear layer of the head, whatever stands before it: the trunk itself, or hidden layers. It
gives up networks whose class scores do not come from one linear layer; none of the catalog is one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sightline.device import Device
from sightline.models.head import Network
from sightline.models.inference import logits_of


@dataclass(frozen=True, eq=False, slots=True)
class Heard:
    """What the class layer was given so far, a block a batch."""

    width: int
    blocks: list[npt.NDArray[np.float32]] = field(default_factory=list)

    def features(self) -> npt.NDArray[np.float32]:
        """(N, D) float32, in the order of the images; (0, D) where there were none."""
        return np.concatenate(self.blocks) if self.blocks else np.zeros((0, self.width), dtype=np.float32)


def class_layer(network: Network) -> nn.Linear:
    """The last linear layer of the head."""
    return [layer for layer in network.head.modules() if isinstance(layer, nn.Linear)][-1]


@contextlib.contextmanager
def listening(network: Network) -> Iterator[Heard]:
    """Keeps what the class layer is given while the network runs; the network is as before afterwards."""
    layer = class_layer(network)
    heard = Heard(layer.in_features)

    def keep(module: nn.Module, args: tuple[Any, ...]) -> None:
        given: torch.Tensor = args[0]
        heard.blocks.append(given.detach().float().cpu().numpy())

    hook = layer.register_forward_pre_hook(keep)
    try:
        yield heard
    finally:
        hook.remove()


def features_of(network: Network, batches: Iterable[torch.Tensor], device: Device) -> npt.NDArray[np.float32]:
    """(N, D) float32 of all images, in order, in evaluation mode and without gradients.

    Args:
        network: on the device.
        batches: (B, 3, S, S) normalised views, as `plain_batches` gives them.
    """
    with listening(network) as heard:
        logits_of(network, batches, device)
    return heard.features()
