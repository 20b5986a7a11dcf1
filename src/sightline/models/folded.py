"""Batch norm folded into the layer in front of it, for a network that only answers: the same function in fewer passes.

    answering = folded(network, example)        the network itself stays as it is

In evaluation mode a batch norm is a factor and a shift for each channel, which the weights and the bias of the
convolution or linear layer in front of it can carry (Jacob et al. 2018, section 3.2). A max pool may stand between the
two, as in our own networks, where no factor is negative: only then is the largest value still the largest.

Which layers stand together is seen, not guessed: the network answers once, and a norm is folded where the tensor that it
is given came out of a layer and went nowhere else. So any network will do, traceable or not. It gives up the last bits:
the answers of both differ by rounding, and figures have to come from the network that is used later.
"""

from __future__ import annotations

import contextlib
import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from sightline.models.evaluating import evaluating

AGREEMENT = 0.01
"""Of the largest logit, by how much both may differ: rounding makes 1e-6 of it in float32, and more where a GPU uses TF32."""

_ROWS = 64  # 512 x 512 x 3 x 3: 1.4 ms, all at once 12


def folded(network: nn.Module, example: torch.Tensor) -> nn.Module:
    """The network with its batch norms folded where they can be, or the network itself where none can.

    Layers that are not changed are the network's own, under their own names. A folded norm is an identity, or what it did
    besides; the folded layers have weights of their own, without gradients. The same weights give the same network,
    bit for bit: the products are made on the processor, in float64.

    Args:
        example: (B, 3, S, S) normalised images on the network's device; one will do.
    """
    if not any(isinstance(module, _BatchNorm) for module in network.modules()):
        return network
    with torch.no_grad():
        plain, pairs = _watched(network, example)
        changed: dict[nn.Module, nn.Module] = {}
        for pair in pairs:
            layer, rest = _carrying(pair), _rest(pair.norm)
            if layer is not None and rest is not None:
                changed |= {pair.layer: layer, pair.norm: rest}
        twin = _with(network, changed, {})
        with evaluating(twin):
            agrees = bool((twin(example) - plain).abs().max() <= AGREEMENT * plain.abs().max())
    return twin if agrees else network


# ---- which norms follow a layer --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """A norm and the layer whose output it is given, `pooled` on the way or not."""

    layer: nn.Module
    norm: _BatchNorm
    pooled: bool


class _Watch(TorchFunctionMode):
    """Follows each layer's output through max pools to a norm, and counts what else is done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, tuple[nn.Module, tuple[torch.Tensor, ...]]] = {}  # the tensors are held: their ids stay theirs
        self.uses: Counter[int] = Counter()
        self.calls: Counter[nn.Module] = Counter()
        self.inside = False  # a norm or a pool, which ask their input for its shape
        self.met: list[tuple[_BatchNorm, nn.Module, tuple[torch.Tensor, ...]]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if not self.inside:
            self.use([*args, *given.values()])
        return func(*args, **given)

    def use(self, values: Iterable[Any]) -> None:
        self.uses.update(id(tensor) for tensor in _tensors(values))

    def begin(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.use(args)
        self.inside = True

    def end(self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> None:
        self.inside = False
        self.calls[module] += 1
        layer, way = self.made.get(id(args[0]), (None, ())) if args else (None, ())
        if layer is not None and isinstance(module, _BatchNorm):
            self.met.append((module, layer, way))
        elif layer is not None:
            self.follow(layer, (*way, output))

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> None:
        self.calls[module] += 1
        if output.ndim == (2 if isinstance(module, nn.Linear) else 4):  # the channels are the second axis
            self.follow(module, (output,))

    def follow(self, layer: nn.Module, way: tuple[torch.Tensor, ...]) -> None:
        self.made[id(way[-1])] = layer, way
        self.uses[id(way[-1])] = 0  # what was counted until now was another tensor's, or was looked at here

    def pairs(self) -> list[_Pair]:
        return [
            _Pair(layer, norm, len(way) > 1)
            for norm, layer, way in self.met
            if self.calls[norm] == self.calls[layer] == 1 and all(self.uses[id(tensor)] == 1 for tensor in way)
        ]


def _tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _watched(network: nn.Module, example: torch.Tensor) -> tuple[torch.Tensor, list[_Pair]]:
    """The network's answers, and the pairs in it."""
    watch = _Watch()
    with evaluating(network), contextlib.ExitStack() as stack:
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                stack.callback(module.register_forward_hook(watch.leave).remove)
            elif isinstance(module, _BatchNorm | nn.MaxPool2d):
                stack.callback(module.register_forward_pre_hook(watch.begin).remove)
                stack.callback(module.register_forward_hook(watch.end).remove)
        with watch:
            answers: torch.Tensor = network(example)
    return answers, watch.pairs()


# ---- folding ---------------------------------------------------------------------------------------------------------


def _carrying(pair: _Pair) -> nn.Module | None:
    """The layer, with the norm's factors and shifts in its weights; None where they cannot be."""
    layer, norm = pair.layer, pair.norm
    mean, variance = norm.running_mean, norm.running_var
    weight, bias = layer._parameters.get("weight"), layer._parameters.get("bias")  # a parametrised weight is none
    if mean is None or variance is None or weight is None:
        return None
    factor = _wide(norm.weight, 1.0, variance) / (_wide(variance) + norm.eps).sqrt()
    if pair.pooled and bool((factor < 0).any()):
        return None
    shift = _wide(norm.bias, 0.0, variance) + (_wide(bias, 0.0, variance) - _wide(mean)) * factor
    carrying = copy.copy(layer)
    carrying._parameters = {
        "weight": _parameter(_product(weight.detach().cpu(), factor), weight.device),
        "bias": _parameter(shift.to(weight.dtype), weight.device),
    }
    return carrying


def _wide(values: torch.Tensor | None, otherwise: float = 0.0, like: torch.Tensor | None = None) -> torch.Tensor:
    """In float64 on the processor; where there are none, `otherwise` in the shape of `like`."""
    if values is None:
        assert like is not None
        return torch.full(like.shape, otherwise, dtype=torch.float64)
    return values.detach().cpu().double()


def _product(weight: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """(O, ...) times (O,), in the type and the memory order of the weight; by few channels, whose float64 stays in the cache."""
    product = torch.empty_like(weight)
    for into, part, by in zip(*(torch.split(values, _ROWS) for values in (product, weight, factor)), strict=True):
        into.copy_(part.double() * by.view(-1, *[1] * (weight.ndim - 1)))
    return product


def _parameter(values: torch.Tensor, device: torch.device) -> nn.Parameter:
    return nn.Parameter(values.to(device), requires_grad=False)


def _rest(norm: _BatchNorm) -> nn.Module | None:
    """What a norm does besides: nothing, or timm's dropout and activation; None where that is not known."""
    if type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d):
        return nn.Identity().train(norm.training)
    if list(norm._modules) == ["drop", "act"]:
        rest = nn.Sequential().train(norm.training)
        for name, part in norm.named_children():
            rest.add_module(name, part)
        return rest
    return None


def _with(module: nn.Module, changed: Mapping[nn.Module, nn.Module], made: dict[nn.Module, nn.Module]) -> nn.Module:
    """The module with others in the place of some; what holds none of them is shared."""
    if module in changed:
        return changed[module]
    if module not in made:
        parts = {name: None if part is None else _with(part, changed, made) for name, part in module._modules.items()}
        made[module] = module
        if any(part is not module._modules[name] for name, part in parts.items()):
            made[module] = copy.copy(module)
            made[module]._modules = parts
    return made[module]
