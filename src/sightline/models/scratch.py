"""The networks of the five described systems, layer by layer as their authors gave them, with evident slips mended.

    network = springfield_best(42)      # (B, 3, S, S) -> (B, 42), PyTorch's default first weights

Each works at every input side, though its author used one: where a picture is smaller than the layers need, it is
enlarged inside the network (`AtLeast`), and where a linear layer needs a map of a fixed side, the map is resized to it
(`Resize`, bilinear, corners not aligned), which changes nothing at the author's own size. They are here to be compared
with; for new work `sightline_small` is faster and better.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from sightline.models.head import Network

FIRST_SIDE = 94
"""The smallest side from which five rounds of convolution and pooling leave one value: 94-92-46-44-22-20-10-8-4-2-1."""

BEST_SIDE = 91
"""The same for `springfield_best`: 91-43-21-9-4-4-4-4-3-1."""


class AtLeast(nn.Module):
    """Enlarges pictures smaller than `side` to it, bilinearly: (B, C, H, W) -> (B, C, max(H, side), max(W, side))."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _resize(x, max(x.shape[2], self.side), max(x.shape[3], self.side))


class Resize(nn.Module):
    """Maps of one side, whatever came in: (B, C, H, W) -> (B, C, side, side)."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _resize(x, self.side, self.side)


class Mean(nn.Module):
    """Average pool to 1 x 1: (B, C, H, W) -> (B, C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


class Block(nn.Module):
    """The residual block of `simpsons_residual`; its convolutions keep their bias, as the author's do."""

    def __init__(self, before: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *_conv(before, width, 3, stride, 1, norm=True),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
        )
        projection = nn.Sequential(nn.Conv2d(before, width, 1, stride), nn.BatchNorm2d(width))
        self.skip = nn.Identity() if before == width and stride == 1 else projection

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.branch(x) + self.skip(x))


def springfield_first(classes: int) -> Network:
    """System E, first network: five convolutions and two linear layers; the author's input is 224 x 224.

    As printed, commas are missing and the norm of the first linear layer is given 2,048 features where 512 arrive:
    here it has 512. Five valid convolutions and pools leave 96 x 5 x 5 at 224; at other sides the last map is resized
    to 5 x 5, and pictures under 94 pixels are enlarged to 94 first.
    """
    layers: list[nn.Module] = [AtLeast(FIRST_SIDE)]
    for before, width in ((3, 8), (8, 16), (16, 32), (32, 64), (64, 96)):
        layers += [*_conv(before, width, 3), nn.MaxPool2d(2)]
    trunk = nn.Sequential(*layers, Resize(5), nn.Flatten())
    return Network(trunk, nn.Sequential(*_linear(96 * 5 * 5, 512), nn.Linear(512, classes)))


def springfield_best(classes: int) -> Network:
    """System E, best network: six convolutions and four linear layers, batch norm throughout but after the first.

    Pictures under 91 pixels are enlarged to 91 first. The bilinear resize to 4 x 4 is the author's own.
    """
    trunk = nn.Sequential(
        AtLeast(BEST_SIDE),
        *_conv(3, 32, 7, 2),
        nn.AvgPool2d(3, 2),
        *_conv(32, 64, 5, 2, norm=True),
        nn.AvgPool2d(3, 2),
        *_conv(64, 128, 3, 1, 1, norm=True),
        *_conv(128, 256, 3, 1, 1, norm=True),
        *_conv(256, 256, 3, 1, 1, norm=True),
        *_conv(256, 256, 2, norm=True),
        nn.MaxPool2d(3, 2),
        Resize(4),
        nn.Flatten(),
    )
    head = nn.Sequential(*_linear(4096, 2048), *_linear(2048, 2048), *_linear(2048, 2048), nn.Linear(2048, classes))
    return Network(trunk, head)


def simpsons_residual(classes: int, dropout: float) -> Network:
    """System B: a residual network of six blocks, average pool, and a hidden layer of 512; any input side."""
    trunk = nn.Sequential(
        *_conv(3, 64, 5, 2, 3, norm=True),
        Block(64, 64),
        Block(64, 64),
        Block(64, 128, 2),
        Block(128, 128),
        Block(128, 256, 2),
        Block(256, 256),
        Mean(),
    )
    hidden = (nn.Linear(256, 512), nn.BatchNorm1d(512), nn.Dropout(dropout), nn.ReLU())
    return Network(trunk, nn.Sequential(*hidden, nn.Linear(512, classes)))


def skilltest_cnn(classes: int) -> Network:
    """System C, from scratch: a small plain CNN; any input side, the author's is 512.

    The author's layers are not known. Here: four times convolution, ReLU and max pool with 16 to 128 channels, the map
    resized to 4 x 4, and a hidden layer of 256; no norm and no dropout.
    """
    layers: list[nn.Module] = []
    for before, width in ((3, 16), (16, 32), (32, 64), (64, 128)):
        layers += [*_conv(before, width, 3, padding=1), nn.MaxPool2d(2, ceil_mode=True)]
    trunk = nn.Sequential(*layers, Resize(4), nn.Flatten())
    return Network(trunk, nn.Sequential(nn.Linear(128 * 4 * 4, 256), nn.ReLU(), nn.Linear(256, classes)))


def searchable_cnn(classes: int, depth: int, width: int, dropout: float) -> Network:
    """System A, part 1: a CNN for a search over `depth` (blocks), `width` (channels of the first) and `dropout`.

    The author's layers are not known. Here a block is convolution, batch norm, ReLU and max pool; channels double from
    block to block up to 512; then average pool, dropout and the class layer; any input side.
    """
    widths = [min(width * 2**i, 512) for i in range(depth)]
    layers: list[nn.Module] = []
    for before, after in zip([3, *widths], widths, strict=False):
        layers += [*_conv(before, after, 3, padding=1, norm=True), nn.MaxPool2d(2, ceil_mode=True)]
    head = nn.Sequential(nn.Dropout(dropout), nn.Linear(widths[-1], classes))
    return Network(nn.Sequential(*layers, Mean()), head)


def _conv(before: int, width: int, kernel: int, stride: int = 1, padding: int = 0, norm: bool = False) -> list[nn.Module]:
    conv = nn.Conv2d(before, width, kernel, stride, padding)
    return [conv, *([nn.BatchNorm2d(width)] if norm else []), nn.ReLU()]


def _linear(before: int, width: int) -> list[nn.Module]:
    return [nn.Linear(before, width), nn.BatchNorm1d(width), nn.ReLU()]


def _resize(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    if x.shape[2:] == (height, width):
        return x
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=False)
