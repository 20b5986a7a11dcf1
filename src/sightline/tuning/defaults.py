"""Search spaces for those who bring none: for a network from scratch, a pretrained one, and one with a frozen part.

    raw = default_space("frozen", "adamw", searchable=False)          as a recipe would write it

Ranges lie around the rates that training takes by itself (training/optim.py), a decade to each side or nearly so. Where a part
of the network is frozen the augmentation is left alone: each policy would ask for kept features of its own. What the user has
fixed, and what would have no effect beside it, is left out by who asks.
"""

from __future__ import annotations

from typing import Any, Literal

from sightline.training.optim import PRETRAINED_LR, SCRATCH_LR

Kind = Literal["scratch", "transfer", "frozen"]


def default_space(kind: Kind, optimizer: str, searchable: bool) -> dict[str, Any]:
    """{setting: range or list}, as `tune.space` has it.

    Args:
        kind: scratch: random weights; transfer: pretrained, all of it trained; frozen: a part is not trained.
        optimizer: `train.optimizer`, which the rates depend on.
        searchable: whether depth and width of the network can be set.
    """
    rate = SCRATCH_LR[optimizer] if kind != "transfer" else PRETRAINED_LR[optimizer]
    space: dict[str, Any] = {
        "train.lr": {"from": round(rate / 10, 10), "to": round(rate * (5 if kind == "scratch" else 10), 10), "log": True},
        "train.weight_decay": {"from": 1e-4, "to": 0.3, "log": True},
        "train.label_smoothing": {"from": 0.0, "to": 0.2, "step": 0.05},
    }
    if searchable:
        space |= {"model.depth": {"from": 2, "to": 6}, "model.width": [16, 32, 48, 64]}
    if kind != "frozen":
        space |= {"augment.policy": ["light", "standard", "strong"]}
    if kind == "transfer":
        return space | {"train.trunk_lr": {"from": 0.03, "to": 1.0, "log": True}}
    return space | {"model.dropout": {"from": 0.0, "to": 0.5, "step": 0.1}}
