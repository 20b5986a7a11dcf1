"""Batch norm over the whole batch, where several processes each have a part of it.

    with synchronised(on=True):
        logits = network(part)

Every call of `F.batch_norm` in training mode inside takes mean and variance over the parts of all processes, whatever
module made it; the network stays as it is. torch's SyncBatchNorm does the same by other modules, on GPUs only. Mean and
squared deviations of the parts are joined as Chan, Golub and LeVeque (1979) do, so nothing cancels; parts may differ in
size. It gives up torch's fused kernels: a few passes over the activations instead of one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from sightline import processes


def synchronised(on: bool) -> contextlib.AbstractContextManager[Any]:
    """The context of a forward pass in training."""
    return _Whole() if on else contextlib.nullcontext()


def running_statistics(network: nn.Module) -> list[torch.Tensor]:
    """The running means and variances that a training step moves."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    return [value for norm in norms for value in (norm.running_mean, norm.running_var) if value is not None]


class _Whole(TorchFunctionMode):
    """Answers `F.batch_norm` itself."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _batch_norm(*args, **(kwargs or {})) if func is F.batch_norm else func(*args, **(kwargs or {}))


def _batch_norm(
    x: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    normal: torch.Tensor
    normal, mean, var, count = _Normalise.apply(x, eps)
    if running_mean is not None and running_var is not None:
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(var * (count / (count - 1).clamp_min(1)), momentum)
    shape = (1, -1, *[1] * (x.ndim - 2))
    if weight is not None:
        normal = normal * weight.view(shape)
    if bias is not None:
        normal = normal + bias.view(shape)
    return normal.to(x.dtype)


class _Normalise(torch.autograd.Function):
    """(B, C, ...) of any type to float32 of mean 0 and variance 1 a channel, over the parts of all processes."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        ctx.kind = x.dtype
        x = x.float()
        dims = [d for d in range(x.ndim) if d != 1]
        shape = (1, -1, *[1] * (x.ndim - 2))
        number = x.numel() // x.shape[1]
        own = x.mean(dims)
        count, total = x.new_tensor([number]), own * number
        processes.sum_over([total, count])
        mean = total / count
        squares = (x - own.view(shape)).square().sum(dims) + number * (own - mean).square()
        processes.sum_over([squares])
        var = squares / count
        scale = (var + eps).rsqrt()
        normal = (x - mean.view(shape)) * scale.view(shape)
        ctx.save_for_backward(normal, scale, count)
        ctx.mark_non_differentiable(mean, var, count)
        return normal, mean, var, count

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor, None]:
        normal, scale, count = ctx.saved_tensors
        dims = [d for d in range(slope.ndim) if d != 1]
        shape = (1, -1, *[1] * (slope.ndim - 2))
        sums = [slope.sum(dims), (slope * normal).sum(dims)]
        processes.sum_over(sums)
        level, tilt = ((value / count).view(shape) for value in sums)
        return (scale.view(shape) * (slope - level - normal * tilt)).to(ctx.kind), None
