"""sightline's own network for training from scratch on a few thousand images: a compact residual network.

    network = compact_resnet(10, widths=(64, 128, 256), blocks=(0, 1, 0), stem_width=32, stem_stride=stem_stride(28))

In the spirit of DAWNBench's ResNet-9 and of airbench: few wide stages, each one convolution, a max pool and then
residual blocks; global max pooling; a linear layer whose output is scaled down. The pool comes before the norm and the
activation (with a positive scale the maximum is the same), so these touch a quarter of the values. Widths are multiples
of 32, which fill the tiles of a processor's matrix unit. It gives up depth: on a million images a deeper network is
better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from sightline.models.head import Network

LARGEST_MAP = 32
"""The stem brings larger pictures down to maps of at most this side: the cost follows the map."""

FIRST_MAP = 18
"""The side of the maps of the first pictures, where pictures grow."""


class Residual(nn.Module):
    """conv-BN-ReLU-conv-BN beside the input, then ReLU: (B, C, H, W) -> (B, C, H, W).

    The last norm starts at zero, so that the block starts as the identity (Goyal et al. 2017, section 5.1).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = _conv(width, width)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width)
        self.norm2 = nn.BatchNorm2d(width)
        self.act = nn.ReLU(inplace=True)
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = self.act(self.norm1(self.conv1(x)))
        out: torch.Tensor = self.act(self.norm2(self.conv2(branch)) + x)
        return out


class GlobalMaxPool(nn.Module):
    """The largest value of each channel: (B, C, H, W) -> (B, C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.amax((2, 3))


class Scale(nn.Module):
    """A fixed factor; small first logits make the first steps gentle."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


def stem_stride(size: int) -> int:
    """1, 2, 4 or 8: how far the first convolution shrinks pictures of `size` pixels; see `LARGEST_MAP`."""
    return next((stride for stride in (1, 2, 4) if -(-size // stride) <= LARGEST_MAP), 8)


def first_side(size: int) -> int:
    """The side of the pictures that a network for `size` should see first (`train.first_size`): its maps are 18 or 20 wide then.

    Measured for 28 and 128 pixels (docs/log.md): with smaller maps too little is left to learn from.
    """
    return 4 * math.ceil(FIRST_MAP * stem_stride(size) / 4)


def compact_resnet(
    classes: int,
    widths: Sequence[int],
    blocks: Sequence[int],
    stem_width: int,
    stem_stride: int = 1,
    dropout: float = 0.0,
) -> Network:
    """Images (B, 3, S, S) to logits (B, classes), for any S.

    The stem divides the side by `stem_stride`; stage i halves it and has `blocks[i]` residual blocks of `widths[i]`
    channels.
    """
    stages: list[nn.Module] = [_stem(stem_width, stem_stride)]
    before = stem_width
    for width, count in zip(widths, blocks, strict=True):
        stages += [nn.Sequential(_down(before, width), *(Residual(width) for _ in range(count)))]
        before = width
    head = nn.Sequential(nn.Dropout(dropout), nn.Linear(before, classes), Scale(1 / 8))
    return Network(nn.Sequential(*stages, GlobalMaxPool()), head)


def _stem(width: int, stride: int) -> nn.Sequential:
    """(B, 3, S, S) -> (B, width, ceil(S / stride), ...); a kernel of 2 stride + 1 lets windows overlap, at any S."""
    conv = nn.Conv2d(3, width, 2 * stride + 1, stride=stride, padding=stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def _down(before: int, width: int) -> nn.Sequential:
    """(B, before, H, W) -> (B, width, ceil(H / 2), ceil(W / 2)); the ceiling keeps the last row and any side alive."""
    pool = nn.MaxPool2d(2, ceil_mode=True)
    return nn.Sequential(_conv(before, width), pool, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def _conv(before: int, width: int) -> nn.Conv2d:
    return nn.Conv2d(before, width, 3, padding=1, bias=False)
