"""The update rule.

    optimizer = build_optimizer(network, config.train, lr, fused=True)

Biases and the scales of norms are not decayed (Goyal et al. 2017; He et al. 2019, "Bag of tricks").
"""

from __future__ import annotations

import torch
from torch import nn

from sightline.config import TrainSettings

# The highest rate of each optimizer. From scratch: measured with sightline_small on flowers-128px and simpsons-28px
# (docs/log.md); pretrained: the common fine-tuning rates (Kornblith et al. 2019 for sgd, timm's recipes for adamw).
SCRATCH_LR = {"sgd": 0.1, "adam": 2e-3, "adamw": 4e-3}
PRETRAINED_LR = {"sgd": 0.01, "adam": 2e-4, "adamw": 2e-4}


def automatic_lr(optimizer: str, pretrained: bool) -> float:
    """What `train.lr=auto` stands for."""
    return (PRETRAINED_LR if pretrained else SCRATCH_LR)[optimizer]


def build_optimizer(network: nn.Module, settings: TrainSettings, lr: float, fused: bool) -> torch.optim.Optimizer:
    """SGD, Adam or AdamW over the parameters that are trained, in two groups: with weight decay and without."""
    groups = _groups(network, settings.weight_decay)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            groups,
            lr=lr,
            momentum=settings.momentum,
            nesterov=settings.momentum > 0 and settings.nesterov,
            fused=fused,
        )
    rule = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return rule(groups, lr=lr, betas=settings.betas, amsgrad=settings.amsgrad, fused=fused)


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    trained = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
