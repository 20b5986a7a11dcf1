"""What training makes smaller.

loss = build_loss(config.train)          (logits (B, K) float32, labels (B,) int64) -> scalar
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from sightline.config import TrainSettings

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def build_loss(settings: TrainSettings) -> Loss:
    """Cross entropy, its targets smoothed by `train.label_smoothing` (Szegedy et al. 2016, section 7)."""
    smoothing = settings.label_smoothing

    def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)

    return cross_entropy
