"""Muon: the matrices of a network move by orthogonal steps, everything else by AdamW.

    optimizer = Muon([{"params": matrices, "matrices": True}, {"params": rest, "matrices": False}], lr=4e-3)

Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks": the averaged gradient of a weight matrix is
replaced by the nearest orthogonal one, so that all its directions move equally far. As Liu et al. 2025 ("Muon is scalable
for LLM training", section 2.2) scale it, a step is as long as AdamW's would be, and its rates and weight decay serve here
too. A convolution's weight (O, C, k, k) is the matrix (O, C k k). torch.optim.Muon takes two-dimensional parameters only.
It gives up some time: five products of matrices for each weight and step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

MOMENTUM = 0.95  # of the averaged gradient, which is looked ahead with (Nesterov), as by Jordan et al.
RMS = 0.2  # of AdamW's updates, which an orthogonal one is scaled to (Liu et al. 2025, equation 4)
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, five times: singular values end between 0.7 and 1.2 (Jordan et al.)
ITERATIONS = 5


def orthogonal(matrix: torch.Tensor, precision: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """About U V' of a matrix (M, N) = U S V', by Newton and Schulz's iteration; in `precision`, as (M, N)."""
    a, b, c = COEFFICIENTS
    x = matrix.to(precision)
    x = x.T if x.shape[0] > x.shape[1] else x
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.AdamW):
    """AdamW, but for groups with `matrices`, whose parameters are of two or more dimensions."""

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, precision: torch.dtype = torch.bfloat16, **adamw: Any) -> None:
        """`precision` is that of the matrix products; other words are AdamW's, for the other groups."""
        super().__init__(list(groups), lr=lr, **adamw)
        self.precision = precision

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of all groups."""
        groups, failed = self.param_groups, getattr(self, "found_inf", None)
        for group in groups:
            if group["matrices"]:
                for weight in group["params"]:
                    if weight.grad is not None:
                        self._turn(weight, group["lr"], group["weight_decay"], failed)
        self.param_groups = [group for group in groups if not group["matrices"]]
        try:
            return super().step(closure)
        finally:
            self.param_groups = groups

    def _turn(self, weight: torch.Tensor, lr: float, weight_decay: float, failed: torch.Tensor | None) -> None:
        """The orthogonal step of one weight; none where `failed` is above 0, as fused AdamW has it (training/finite.py)."""
        assert weight.grad is not None
        average = self.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight.grad))
        average.lerp_(weight.grad, 1 - MOMENTUM)
        ahead = weight.grad.lerp(average, MOMENTUM).flatten(1)
        step = orthogonal(ahead, self.precision).to(weight.dtype).reshape(weight.shape)
        moved = weight * (1 - lr * weight_decay) - lr * RMS * math.sqrt(max(ahead.shape)) * step
        weight.copy_(moved if failed is None else torch.where(failed > 0, weight, moved))
