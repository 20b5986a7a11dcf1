"""The update rule, and which parameters it moves how fast.

    optimizer = build_optimizer(network, config.train, lr, fused=True)
    for group in optimizer.param_groups: group["lr"] = lr * group["lr_scale"] * schedule.factor(step)
    names = parameter_names(network, optimizer)         of its parameters, in its order

Biases and the scales of norms are not decayed (Goyal et al. 2017; He et al. 2019, "Bag of tricks"). With
`train.layer_decay` the rate falls from each layer to the one before it (Clark et al. 2020, ELECTRA; as timm does it),
with `train.trunk_lr` it is lower for all but the head. It gives up rates for single layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from itertools import chain
from threading import Thread
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from sightline.config import Config
from sightline.models.head import Network
from sightline.settings import ModelSettings, TrainSettings
from sightline.training.muon import Muon

# The highest rate of each optimizer. From scratch: measured with sightline_small on flowers-128px and simpsons-28px
# (docs/log.md); pretrained: the common fine-tuning rates (Kornblith et al. 2019 for sgd, timm's recipes for adamw).
SCRATCH_LR = {"sgd": 0.1, "adam": 2e-3, "adamw": 4e-3, "muon": 4e-3}
PRETRAINED_LR = {"sgd": 0.01, "adam": 2e-4, "adamw": 2e-4, "muon": 2e-4}

FEWEST_UPDATES = 15
"""Of an epoch, for an average. With 11 (digits) it cost two to four points at the end, from 16 on (flowers) it did no harm."""

_HEAD = "head."
_TRUNK = "trunk."


def automatic_optimizer(model: ModelSettings) -> str:
    """What `train.optimizer=auto` stands for; measured for sightline's own networks (docs/log.md)."""
    return "muon" if _ours_from_scratch(model) else "adamw"


def automatic_ema(model: ModelSettings, updates: float) -> float | None:
    """What `train.ema=auto` stands for: some fifty steps, measured for the same networks (docs/log.md).

    Args:
        updates: of an epoch; where they are few the average is of weights that were much worse, to the end.
    """
    return 0.98 if _ours_from_scratch(model) and updates >= FEWEST_UPDATES else None


def _ours_from_scratch(model: ModelSettings) -> bool:
    """They have no published weights, which auto would take."""
    return model.name.startswith("sightline_") and model.weights in ("auto", "none")


def automatic_lr(optimizer: str, pretrained: bool) -> float:
    """What `train.lr=auto` stands for."""
    return (PRETRAINED_LR if pretrained else SCRATCH_LR)[optimizer]


def build_optimizer(network: Network, settings: TrainSettings, lr: float, fused: bool) -> torch.optim.Optimizer:
    """SGD, Adam, AdamW or Muon over the parameters that are trained.

    Groups are by weight decay (or none) and by `lr_scale`, the factor of `lr`; the group with the highest comes first.
    Of Muon, the weights between the first layer and the head are groups of their own.

    Args:
        settings: the optimizer is settled, not auto.
        lr: the highest rate.
        fused: whether torch has fused kernels for the device.
    """
    return plan_optimizer(network, settings, lr, fused)()


def plan_optimizer(network: Network, settings: TrainSettings, lr: float, fused: bool) -> Callable[[], torch.optim.Optimizer]:
    """What `build_optimizer` makes, not made yet: all settings that it depends on are read."""
    if settings.optimizer == "auto":
        raise ValueError("train.optimizer must be settled")
    groups = _groups(network, settings, lr)
    if settings.optimizer == "sgd":
        nesterov = settings.momentum > 0 and settings.nesterov
        return partial(torch.optim.SGD, groups, lr=lr, momentum=settings.momentum, nesterov=nesterov, fused=fused)
    if settings.optimizer == "muon":
        return partial(Muon, groups, lr=lr, betas=settings.betas, fused=fused)
    rule = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return partial(rule, groups, lr=lr, betas=settings.betas, amsgrad=settings.amsgrad, fused=fused)


def import_ahead(phases: Iterable[Config]) -> None:
    """Has a thread import torch's compiler (1 to 2 s), if the phases of a training need it.

    Torch's own optimizers import it when the first of them is made, compiled or not; Muon does without.
    """
    if any(phase.train.compile or _chosen(phase.model, phase.train) != "muon" for phase in phases):
        Thread(target=import_module, args=["torch._dynamo"], daemon=True, name="import").start()


def _chosen(model: ModelSettings, train: TrainSettings) -> str:
    return automatic_optimizer(model) if train.optimizer == "auto" else train.optimizer


def parameter_names(network: Network, optimizer: torch.optim.Optimizer) -> list[str]:
    """The network's names of an optimizer's parameters, in the order of its groups."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _groups(network: Network, settings: TrainSettings, lr: float) -> list[dict[str, Any]]:
    scales = _lr_scales(network, settings.layer_decay, settings.trunk_lr)
    found: dict[tuple[float, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            turns = settings.optimizer == "muon" and _is_inner_matrix(name, parameter)
            found.setdefault((scales[name], parameter.ndim > 1, turns), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": settings.weight_decay if decays else 0.0, "lr": lr * scale, "lr_scale": scale}
        | ({"matrices": turns} if settings.optimizer == "muon" else {})
        for (scale, decays, turns), parameters in sorted(found.items(), key=lambda item: item[0], reverse=True)
    ]


def _is_inner_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether it maps many channels to many: not the first layer, the head, or a filter of a single channel."""
    return name.startswith(_TRUNK) and parameter.ndim in (2, 4) and parameter.shape[1] > 3


def _lr_scales(network: Network, layer_decay: float, trunk_lr: float) -> dict[str, float]:
    """The factor of the rate for each parameter."""
    distances = {} if layer_decay == 1 else distances_from_head(network)
    return {
        name: layer_decay ** distances.get(name, 0) * (1.0 if name.startswith(_HEAD) else trunk_lr)
        for name, _ in network.named_parameters()
    }


def distances_from_head(network: Network) -> dict[str, int]:
    """How many layers each parameter lies before the head, which has 0.

    Layers of timm's networks are those that timm counts; what it counts to the class layer (a last norm) has 0 too. In
    other trunks each of the outermost layers with parameters is one.
    """
    trunk = network.trunk
    layers = _timm_layers(trunk) if hasattr(trunk, "group_matcher") else _outermost_layers(trunk)
    last = layers.pop(_HEAD)
    distances = {f"{_TRUNK}{name}": last - layer for name, layer in layers.items()}
    return {name: distances.get(name, 0) for name, _ in network.named_parameters()}


def _timm_layers(trunk: Any) -> dict[str, int]:
    from timm.models import group_parameters

    # A name that timm's patterns do not know counts to the class layer, which the trunk itself does not have.
    named: Any = SimpleNamespace(named_parameters=lambda: chain(trunk.named_parameters(), [(_HEAD, None)]))
    layers: dict[str, int] = group_parameters(named, trunk.group_matcher(coarse=False), reverse=True)
    return layers


def _outermost_layers(trunk: nn.Module) -> dict[str, int]:
    names = [name for name, _ in trunk.named_parameters()]
    order = list(dict.fromkeys(name.partition(".")[0] for name in names))
    return {**{name: order.index(name.partition(".")[0]) for name in names}, _HEAD: len(order)}
