"""Convolutions on small maps whose weight gradient is one matrix product: the same sum, several times as fast.

    speed_up(network)          in place, before it is trained in bfloat16 on a processor

oneDNN's bfloat16 kernel for weight gradients does not become cheaper as the map shrinks. For 512 to 512 channels, 3 x 3,
on 4 x 4 maps, batch 32, two threads of a Xeon with AMX: 31 to 33 ms, the product of the output's gradient with the
input's patches 6 ms; 256 channels on 8 x 8: 13 and 8 ms; 128 channels on 16 x 16: 7.5 and 9.4 ms, hence `LARGEST_MAP`. In
float32 the kernels are as fast as the product, and stay. Names, weights and forward passes are what they were.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

LARGEST_MAP = 64
"""Positions of the output, such as 8 x 8, up to which the product is faster."""

Pair = tuple[int, int]


class SmallMapConv2d(nn.Conv2d):
    """nn.Conv2d with a faster weight gradient under bfloat16 autocast on a processor, where its output is small."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, O, H', W')."""
        if not self._pays(input):
            return super().forward(input)
        weight = self.weight.to(torch.bfloat16)
        bias = None if self.bias is None else self.bias.to(torch.bfloat16)
        with torch.autocast("cpu", enabled=False):
            out: torch.Tensor = _Convolution.apply(input.to(torch.bfloat16), weight, bias, self.stride, self.padding)
            return out

    def _pays(self, x: torch.Tensor) -> bool:
        learns = self.weight.requires_grad and torch.is_grad_enabled()
        if not learns or x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return False
        if torch.get_autocast_dtype("cpu") != torch.bfloat16:
            return False
        pads = (int(self.padding[0]), int(self.padding[1]))
        height, width = ((x.shape[i + 2] + 2 * pads[i] - self.kernel_size[i]) // self.stride[i] + 1 for i in (0, 1))
        return bool(0 < height * width <= LARGEST_MAP)


class _Convolution(torch.autograd.Function):
    """F.conv2d whose weight gradient is patches' x gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: Pair, padding: Pair) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        to_input = None
        if ctx.needs_input_grad[0]:
            arguments = (None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), 1, (True, False, False))
            to_input = torch.ops.aten.convolution_backward(gradient, x, weight, *arguments)[0]
        to_bias = gradient.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return to_input, _weight_gradient(x, gradient, weight.shape, ctx.stride, ctx.padding), to_bias, None, None


def _weight_gradient(x: torch.Tensor, gradient: torch.Tensor, shape: torch.Size, stride: Pair, padding: Pair) -> torch.Tensor:
    """(O, C, k, k): each position's gradient (O,) times the patch (k, k, C) that it was computed from, summed."""
    outputs, channels, *kernel = shape
    batch, _, height, width = gradient.shape
    rows = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding[1], padding[1], padding[0], padding[0]))
    image, down, right, channel = rows.stride()
    patches = rows.as_strided(
        (batch, height, width, *kernel, channels), (image, down * stride[0], right * stride[1], down, right, channel)
    ).reshape(batch * height * width, -1)
    found = gradient.permute(0, 2, 3, 1).reshape(-1, outputs).t() @ patches
    return found.view(outputs, *kernel, channels).permute(0, 3, 1, 2)


def speed_up(network: nn.Module) -> None:
    """Replaces the plain convolutions of a network; their parameters are the same objects under the same names."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Conv2d and _is_plain(child):
                setattr(parent, name, _like(child))


def _is_plain(conv: nn.Conv2d) -> bool:
    return conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def _like(conv: nn.Conv2d) -> SmallMapConv2d:
    with torch.device("meta"):  # its own weights are never used
        sizes: dict[str, Any] = {"kernel_size": conv.kernel_size, "stride": conv.stride, "padding": conv.padding}
        new = SmallMapConv2d(conv.in_channels, conv.out_channels, bias=conv.bias is not None, **sizes)
    new.weight, new.bias = conv.weight, conv.bias
    return new.train(conv.training)
