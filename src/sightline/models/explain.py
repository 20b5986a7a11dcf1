"""Where a network looked: Grad-CAM for networks of convolutions, the same over tokens for transformers.

    layer = map_layer(network, images[:2], device)                    found by rule, once a network
    maps = heat_maps(network, images, classes, device, layer)         (B, h, w) float32, 0 and more

Grad-CAM (Selvaraju et al. 2017, equations 1 and 2): A is the last map of the trunk, a_k the mean over its places of the
derivative of the class's logit by channel k; the heat of a place is max(0, sum_k a_k A_k). A transformer's tokens are such
a map once they are laid out on their grid (Gildenblat et al., pytorch-grad-cam).

The rule: of all layers whose output is a map of the picture, the last that moves the logit, is no enlarged smaller map
and has at least MIN_SIDE places a side. In a residual network that is the input of the pooling; in a transformer with a
class token it is the norm in front of the last attention, after which only the class token counts. It gives up networks
whose tokens do not lie on a grid in rows.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sightline.device import Device
from sightline.errors import ModelError
from sightline.models.evaluating import evaluating
from sightline.models.head import Network

MIN_SIDE = 4
"""A map of 2 x 2 places says nothing about where; small pictures leave no more at the end of a deep network."""


@dataclass(frozen=True, slots=True)
class MapLayer:
    """A layer of the trunk whose output is a map.

    Attributes:
        name: of the module in the trunk; `call`: which of its calls in a pass, from 0.
        layout: "NCHW", "NHWC", or "NLC" for tokens.
        side: places along each side.
        skipped: tokens in front of the grid.
    """

    name: str
    call: int
    layout: str
    side: int
    skipped: int = 0

    def grid(self, output: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) of the layer's output, a view."""
        if self.layout == "NCHW":
            return output
        if self.layout == "NHWC":
            return output.permute(0, 3, 1, 2)
        return output[:, self.skipped :].transpose(1, 2).reshape(len(output), -1, self.side, self.side)


# ---- finding the layer -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class _Output:
    layer: MapLayer
    tensor: torch.Tensor


def map_layer(network: Network, example: torch.Tensor, device: Device) -> MapLayer:
    """The layer whose map says where the network looked, see the module's rule.

    Args:
        example: (B, 3, S, S) normalised images; two will do.

    Raises:
        ModelError: the network has no such layer.
    """
    if hasattr(network.trunk, "reroll"):
        raise ModelError("Heat maps are not defined for this network: Hiera's tokens do not lie in rows.")
    found: list[_Output] = []
    with evaluating(network), torch.enable_grad(), _hooked(network.trunk, _recorder(network.trunk, len(example), found)):
        inputs = _placed(network, example, device).requires_grad_()  # a frozen trunk has derivatives then, too
        with device.autocast():
            score = network(inputs).float().amax(1).sum()
        moved = torch.autograd.grad(score, [output.tensor for output in found], allow_unused=True) if found else ()
    fitting = [o.layer for o, by in zip(found, moved, strict=True) if by is not None and bool(o.layer.grid(by).any())]
    if not fitting:
        raise ModelError("Heat maps are not defined for this network: none of its layers gives a map of the picture.")
    enough = [layer for layer in fitting if layer.side >= MIN_SIDE]
    return enough[-1] if enough else max(reversed(fitting), key=lambda layer: layer.side)


def _recorder(trunk: nn.Module, count: int, found: list[_Output]) -> Callable[..., None]:
    """A hook for every module: keeps the outputs that are maps, outer modules after the inner ones that end with them."""
    names = {module: name for name, module in trunk.named_modules()}
    calls: Counter[str] = Counter()

    def record(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        name = names[module]
        call = calls[name]
        calls[name] += 1
        if not isinstance(output, torch.Tensor) or len(output) != count or not output.requires_grad or _in_attention(name):
            return
        layer = _as_map(trunk, name, call, output.shape)
        if layer is not None and not _enlarges(layer, args):
            found.append(_Output(layer, output))

    return record


def _in_attention(name: str) -> bool:
    """Queries, keys and weights of attention have shapes like maps, but are none."""
    return any("att" in part and "block" not in part for part in name.split("."))


def _as_map(trunk: nn.Module, name: str, call: int, shape: torch.Size) -> MapLayer | None:
    if len(shape) == 4:
        _, a, b, c = shape
        channels_last = a == b != c or (a == b == c and getattr(trunk, "output_fmt", "") == "NHWC")
        side = a if channels_last else b
        square = side > 1 and (channels_last or b == c)
        return MapLayer(name, call, "NHWC" if channels_last else "NCHW", side) if square else None
    return _tokens(trunk, name, call, shape[1]) if len(shape) == 3 else None


def _tokens(trunk: nn.Module, name: str, call: int, count: int) -> MapLayer | None:
    """Views are square, so the grid is: what is left over stands in front of it (class, distillation, registers)."""
    known = getattr(trunk, "num_prefix_tokens", None)
    side = math.isqrt(count - known) if isinstance(known, int) and count > known else math.isqrt(count)
    skipped = count - side**2
    fits = skipped in (0, known) if isinstance(known, int) else skipped <= 1
    return MapLayer(name, call, "NLC", side, skipped) if side > 1 and fits else None


def _enlarges(layer: MapLayer, args: tuple[Any, ...]) -> bool:
    """Whether the layer's map is a smaller one, blown up."""
    given = args[0] if args and isinstance(args[0], torch.Tensor) else None
    return layer.layout == "NCHW" and given is not None and given.ndim == 4 and given.shape[3] < layer.side


# ---- the heat --------------------------------------------------------------------------------------------------------


def heat_maps(
    network: Network, images: torch.Tensor, classes: npt.NDArray[np.int64], device: Device, layer: MapLayer | None = None
) -> npt.NDArray[np.float32]:
    """(B, h, w) float32, 0 and more: how much each place speaks for the class; all 0 where none does.

    The network is as it was afterwards, and no parameter has a gradient from it.

    Args:
        network: on the device.
        images: (B, 3, S, S) normalised views.
        classes: (B,) class numbers, what each map is to explain.
        layer: from `map_layer`; None: it is looked for with these images.

    Raises:
        ModelError: the network has no layer that is a map.
    """
    layer = layer or map_layer(network, images[:2], device)
    kept: list[torch.Tensor] = []
    wanted = torch.from_numpy(np.asarray(classes, dtype=np.int64)).to(device.torch_device)
    with evaluating(network), torch.enable_grad(), _hooked(network.trunk.get_submodule(layer.name), _keeper(layer, kept), deep=False):
        with device.autocast():
            logits = network(_placed(network, images, device)).float()
        score = logits.gather(1, wanted[:, None]).sum()  # each image's logit depends on its own map alone
        (slope,) = torch.autograd.grad(score, kept)
    return _weighed(layer.grid(kept[0].detach()).float(), layer.grid(slope).float())


def _keeper(layer: MapLayer, kept: list[torch.Tensor]) -> Callable[..., torch.Tensor | None]:
    """A hook for the layer: the derivatives begin at its output, whatever of the trunk is frozen."""
    calls = Counter[str]()

    def keep(module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor | None:
        call = calls[layer.name]
        calls[layer.name] += 1
        if call != layer.call:
            return None
        kept.append(output.detach().clone().requires_grad_())
        return kept[0].clone()  # what follows may change it in place

    return keep


def _weighed(activations: torch.Tensor, slopes: torch.Tensor) -> npt.NDArray[np.float32]:
    """Equations 1 and 2 of Grad-CAM: (B, C, h, w) twice to (B, h, w)."""
    weights = slopes.mean((2, 3), keepdim=True)
    heat: npt.NDArray[np.float32] = (weights * activations).sum(1).clamp_min(0).cpu().numpy()
    return heat


# ---- both ------------------------------------------------------------------------------------------------------------


def _placed(network: nn.Module, images: torch.Tensor, device: Device) -> torch.Tensor:
    """On the device, in its memory order and in the precision of the network's own weights."""
    weights = next((p.dtype for p in network.parameters()), torch.float32)
    return images.detach().to(device.torch_device, weights).contiguous(memory_format=device.memory_format)


@contextlib.contextmanager
def _hooked(module: nn.Module, hook: Callable[..., Any], deep: bool = True) -> Iterator[None]:
    """The forward hook on a module, and on all modules in it, meanwhile."""
    handles = [part.register_forward_hook(hook) for part in (module.modules() if deep else [module])]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
