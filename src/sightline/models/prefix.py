"""Cutting a network where its frozen part ends: what comes before computes features, what comes after is trained on them.

    made = cut(network, "until:layer4", example)
    if isinstance(made, str): print(made)             why it cannot be cut; it is trained the plain way then
    features = made.prefix(images)                    (B, 3, S, S) -> (B, ...), without gradients
    logits = made.suffix(features)                    shares every layer with the network: training it trains the network

The suffix is the network itself with what runs before the layer replaced by nothing, so that the family's own forward
does the rest: no family needs code of its own but vision transformers, whose position embedding is no layer. Whether
that was right is not assumed: both ways must agree on an example. It gives up cuts inside a block with a side path, and
layers that take more than one tensor.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sightline.models.evaluating import evaluating
from sightline.models.freeze import UNTIL, before, until_layer
from sightline.models.head import Network

AGREEMENT = 1e-5
"""Both ways run the same operations on the same numbers; of the largest logit they may differ by this share."""


@dataclass(frozen=True, eq=False, slots=True)
class Cut:
    """A network in two: `prefix` is frozen, `suffix` is trained.

    Attributes:
        network: the whole.
        layer: name of the module with which the suffix begins.
        suffix: features (B, *shape) -> logits (B, K); its `train()` and `eval()` reach the network's own layers.
        shape: of one image's features.
        dtype: of the features, as the example's were computed.
    """

    network: Network
    layer: str
    suffix: nn.Module
    shape: tuple[int, ...]
    dtype: torch.dtype

    def prefix(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalised -> features (B, *shape), in evaluation mode and without gradients."""
        return _features(self.network, self.layer, images)


class _NotCut(Exception):
    """Why the network cannot be cut, as a sentence."""


class _Arrived(Exception):
    """Carries what the layer was given out of the pass, which ends here."""

    def __init__(self, given: tuple[Any, ...]) -> None:
        self.given = given


def cut(network: Network, words: str | Sequence[str], example: torch.Tensor) -> Cut | str:
    """The network, cut where `freeze(network, words)` ends the frozen part; or a sentence that says why it cannot be.

    Args:
        words: as `freeze` takes them.
        example: (2, 3, S, S) normalised images; both ways are compared on them, under the caller's autocast.

    Raises:
        ModelError: the trunk has no such layer.
    """
    if words == "none":
        return "Nothing is frozen, so there is nothing to keep."
    if not isinstance(words, str):
        return "A list of frozen layers has no one place where the network could be cut; trunk and until:LAYER have."
    layer = until_layer(network, words) if words.startswith(UNTIL) else "head"
    try:
        features = _features(network, layer, example)
        suffix = network.head if layer == "head" else _after(network, layer.split("."))
        _compare(network, suffix, features, example, layer)
    except _NotCut as reason:
        return str(reason)
    return Cut(network, layer, suffix, tuple(features.shape[1:]), features.dtype)


def _features(network: Network, layer: str, images: torch.Tensor) -> torch.Tensor:
    """What `layer` is given when the network sees `images`."""

    def stop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise _Arrived((*args, *kwargs.values()))

    hook = network.get_submodule(layer).register_forward_pre_hook(stop, with_kwargs=True)
    try:
        with torch.no_grad(), evaluating(network):
            network(images)
    except _Arrived as arrived:
        return _only(arrived.given, layer)
    finally:
        hook.remove()
    raise _NotCut(f"The network cannot be cut at {layer}: it does not run as a layer of its own.")


def _only(given: tuple[Any, ...], layer: str) -> torch.Tensor:
    if len(given) != 1 or not isinstance(given[0], torch.Tensor):
        raise _NotCut(f"The network cannot be cut at {layer}: it takes more than one tensor.")
    return given[0]


# ---- the suffix ------------------------------------------------------------------------------------------------------


def _after(module: nn.Module, path: Sequence[str]) -> nn.Module:
    """A shallow copy in which what runs before the layer at `path` does nothing; all the rest is shared."""
    child, deeper = path[0], path[1:]
    passed = before(module, child)
    twin = copy.copy(module)
    twin._modules = {**module._modules, **{name: nn.Identity().train(module.training) for name in passed}}
    inner = module._modules[child]
    assert inner is not None
    if deeper:
        twin._modules[child] = _after(inner, deeper)
    if "pos_drop" in passed and hasattr(twin, "_pos_embed"):  # timm's transformers add class token and positions in it
        twin.__dict__["_pos_embed"] = _unchanged
    return twin


def _unchanged(x: torch.Tensor) -> torch.Tensor:
    return x


def _compare(network: Network, suffix: nn.Module, features: torch.Tensor, example: torch.Tensor, layer: str) -> None:
    """Raises _NotCut where the suffix cannot run on the features, or gives other logits than the network."""
    with torch.no_grad(), evaluating(network), evaluating(suffix):
        plain = network(example).float()
        try:
            after = suffix(features.clone()).float()  # a layer may change its input in place
        except Exception as error:  # each family breaks in its own way where more than the layer's input is needed
            raise _NotCut(f"The network cannot be cut at {layer}: what follows needs more than its input.") from error
    if after.shape != plain.shape or not (after - plain).abs().max() <= AGREEMENT * plain.abs().max():
        raise _NotCut(f"The network cannot be cut at {layer}: what follows needs more than its input, the answers differ.")
