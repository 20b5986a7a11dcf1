"""Two pictures in one: MixUp and CutMix, on a batch that is ready for the network.

    views, partner, share = mix(views, labels, mixup=0.2, cutmix=1.0, seed=seed, epoch=epoch, batch=batch)
    loss = share * loss(logits, labels) + (1 - share) * loss(logits, partner)        per image; partner None: as ever

Each picture meets another of its batch, all with the same share, as in both papers. Draws come from (seed, "mix", epoch,
batch) alone. It gives up a share of its own for each image, and so can cut all rectangles at once.
"""

from __future__ import annotations

import numpy as np
import torch

from sightline.randomness import stream

Mixed = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]


def mix(images: torch.Tensor, labels: torch.Tensor, mixup: float | None, cutmix: float | None, seed: int, epoch: int, batch: int) -> Mixed:
    """The batch with MixUp (Zhang et al. 2018) or CutMix (Yun et al. 2019); with both, a fair coin says which.

    Args:
        images: (B, 3, S, S), of any floating type and device; they stay as they are, the result is a new tensor.
        labels: (B,) class numbers.
        mixup, cutmix: a of Beta(a, a), from which the share is drawn; None: never.
        batch: number of the batch in its epoch.

    Returns:
        The mixed images, (B,) labels of the other pictures and (B,) float32 shares of the first ones. Where neither is
        asked for: the images themselves, None and None.
    """
    if mixup is None and cutmix is None:
        return images, None, None
    draws = stream(seed, "mix", epoch, batch)
    cuts = mixup is None or (cutmix is not None and draws.random() < 0.5)
    alpha = cutmix if cuts else mixup
    assert alpha is not None
    share = draws.beta(alpha, alpha)
    partner = torch.from_numpy(draws.permutation(len(images))).to(images.device)
    if cuts:
        mixed, share = _cut(images, partner, share, draws)
    else:
        mixed = images.index_select(0, partner).lerp_(images, share)
    return mixed, labels.index_select(0, partner.to(labels.device)), torch.full((len(images),), share, device=images.device)


def _cut(images: torch.Tensor, partner: torch.Tensor, share: float, draws: np.random.Generator) -> tuple[torch.Tensor, float]:
    """The images with a rectangle of their partners, and what share of them is left: the centre lies anywhere in the
    picture, so the border may clip the rectangle (Yun et al. 2019, Algorithm 1)."""
    height, width = images.shape[2:]
    middle = draws.integers((height, width))
    half = (np.array([height, width]) * np.sqrt(1 - share) / 2).astype(np.int64)
    (top, left), (bottom, right) = np.maximum(middle - half, 0), np.minimum(middle + half, (height, width))
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[:, :, top:bottom, left:right].index_select(0, partner)
    return mixed, 1 - float((bottom - top) * (right - left)) / (height * width)
