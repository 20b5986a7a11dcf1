"""Freezing a part of a network, in words that hold for every network: `none`, `trunk`, `until:LAYER`, or a list.

    frozen = freeze(network, "until:layer4")      layer4, what follows it and the head are trained, the rest is not
    network.train()
    frozen.hold(network)                          after each network.train(): frozen parts stay in evaluation mode

What runs before a layer is what was registered before it, on each level down to it, as every network of timm and of
sightline does; parameters that belong to no layer (class tokens, position embeddings) count as before. A frozen batch
norm keeps its running statistics too, and a frozen dropout drops nothing. It gives up freezing a part of one tensor.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from sightline.errors import ModelError
from sightline.models.head import Network
from sightline.models.weights import few

UNTIL = "until:"
_TRUNK = "trunk"


@dataclass(frozen=True, slots=True)
class Frozen:
    """What of a network is not trained.

    Attributes:
        modules: names of all modules that stay in evaluation mode.
        tensors: names of the frozen parameters, and of the buffers that belong with them.
    """

    modules: tuple[str, ...]
    tensors: tuple[str, ...]

    def hold(self, network: Network) -> None:
        """Puts the frozen modules in evaluation mode."""
        found = dict(network.named_modules())
        for name in self.modules:
            found[name].eval()

    def state(self, network: Network) -> dict[str, torch.Tensor]:
        """The frozen parameters and buffers by name: all that decides what the frozen part computes."""
        every = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        return {name: every[name] for name in self.tensors}


@dataclass(frozen=True, slots=True)
class _Part:
    """What is chosen: whole modules, single parameters, and modules whose own tensors are chosen but not their children's."""

    whole: frozenset[str] = frozenset()
    single: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()

    def covers(self, module: str) -> bool:
        """Whether a module lies in one that is chosen whole."""
        return any(f"{module}.".startswith(f"{name}.") for name in self.whole)

    def has(self, tensor: str) -> bool:
        """Whether a parameter or buffer is chosen."""
        owner = tensor.rpartition(".")[0]
        return tensor in self.single or owner in self.own or self.covers(owner)


def freeze(network: Network, words: str | Sequence[str]) -> Frozen:
    """Sets for every parameter anew whether it is trained; what an earlier call froze may be trained again.

    Args:
        words: `none`; `trunk`, all but the head; `until:LAYER`, all of the trunk that runs before that layer; or names of
            modules and parameters, those of the trunk with or without "trunk." in front.

    Raises:
        ModelError: there is no such layer, or all or nothing would be frozen.
    """
    part = _part(network, words)
    parameters = dict(network.named_parameters())
    chosen = {name for name in parameters if part.has(name)}
    if words != "none":
        _check(words, len(chosen), len(parameters))
    for name, parameter in parameters.items():
        parameter.requires_grad_(name not in chosen)
        if name in chosen:
            parameter.grad = None  # what is left of an earlier phase would count in the norm of the gradient
    tensors = [*parameters, *(name for name, _ in network.named_buffers())]
    return Frozen(tuple(_held(network, part)), tuple(name for name in tensors if part.has(name)))


def until_layer(network: Network, words: str) -> str:
    """The module's name in the network that `until:LAYER` means, such as "trunk.layer4".

    Raises:
        ModelError: the trunk has no such layer; the message names the nearest.
    """
    wanted = words.removeprefix(UNTIL)
    layers = [name for name, _ in network.trunk.named_modules() if name]
    found = next((name for name in (wanted, wanted.removeprefix(f"{_TRUNK}.")) if name in layers), None)
    if found is None:
        raise ModelError(
            f"model.freeze={words}: until: takes a layer of the trunk, and there is none of this name. {_near(wanted, layers)}"
        )
    return f"{_TRUNK}.{found}"


def before(module: nn.Module, child: str) -> list[str]:
    """The children that run before `child`, in the order in which they were registered."""
    names = list(module._modules)
    return [name for name in names[: names.index(child)] if module._modules[name] is not None]


def _part(network: Network, words: str | Sequence[str]) -> _Part:
    if not isinstance(words, str):
        return _listed(network, words)
    if words == "none":
        return _Part()
    if words == "trunk":
        return _Part(whole=frozenset({_TRUNK}))
    if not words.startswith(UNTIL):
        raise ModelError(f"model.freeze={words} is not none, trunk, until:LAYER, or a list of layers such as [{words}].")
    return _earlier(network, until_layer(network, words))


def _earlier(network: Network, layer: str) -> _Part:
    """All of the trunk that runs before `layer`, and what the modules around it hold themselves."""
    whole, own, parent = set(), set(), _TRUNK
    for child in layer.split(".")[1:]:
        whole |= {f"{parent}.{name}" for name in before(network.get_submodule(parent), child)}
        own.add(parent)
        parent = f"{parent}.{child}"
    return _Part(whole=frozenset(whole), own=frozenset(own))


def _listed(network: Network, names: Sequence[str]) -> _Part:
    modules = {name for name, _ in network.named_modules() if name}
    parameters = {name for name, _ in network.named_parameters()}
    found = set()
    for name in names:
        full = next((n for n in (name, f"{_TRUNK}.{name}") if n in modules or n in parameters), None)
        if full is None:
            short = [n.removeprefix(f"{_TRUNK}.") for n in sorted(modules | parameters)]
            raise ModelError(f"model.freeze: the network has no layer {name}. {_near(name, short)}")
        found.add(full)
    return _Part(whole=frozenset(found & modules), single=frozenset(found - modules))


def _held(network: Network, part: _Part) -> list[str]:
    """Modules inside frozen ones; and a layer of which every parameter is named by itself."""
    named = [(name, module) for name, module in network.named_modules() if name]
    return [name for name, module in named if part.covers(name) or _is_all_single(name, module, part)]


def _is_all_single(name: str, module: nn.Module, part: _Part) -> bool:
    own = [f"{name}.{parameter}" for parameter, _ in module.named_parameters()]
    return bool(own) and not list(module.children()) and part.single.issuperset(own)


def _check(words: str | Sequence[str], chosen: int, parameters: int) -> None:
    shown = words if isinstance(words, str) else f"[{','.join(words)}]"
    if chosen == parameters:
        raise ModelError(f"model.freeze={shown} leaves nothing to train; leave out at least the last layer.")
    if not chosen:
        raise ModelError(f"model.freeze={shown} freezes nothing that could be trained; choose a later layer, or model.freeze=none.")


def _near(name: str, known: Sequence[str]) -> str:
    """A sentence with the names most like this one; where none is, with the first ones."""
    near = difflib.get_close_matches(name, known, 3, 0.4)
    if near:
        return f"The nearest are {', '.join(near)}."
    first = list(dict.fromkeys(n.partition(".")[0] for n in known))
    return f"There are {few(first, 6)}."
