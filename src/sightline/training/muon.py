"""Muon: the matrices of a network move by orthogonal steps, everything else by AdamW.

    optimizer = Muon([{"params": matrices, "matrices": True}, {"params": rest, "matrices": False}], lr=4e-3)

Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks": the averaged gradient of a weight matrix is
replaced by the nearest orthogonal one, so that all its directions move equally far. As Liu et al. 2025 ("Muon is scalable
for LLM training", section 2.2) scale it, a step is as long as AdamW's would be, and its rates and weight decay serve here
too. A convolution's weight (O, C, k, k) is the matrix (O, k k C); the order of the columns makes no difference.
torch.optim.Muon takes two-dimensional parameters only.

Of a matrix whose shorter side is above `BLOCK`, blocks of so many rows are turned each by itself (Khaled et al. 2025,
"MuonBP", which calls it BlockMuon): the time then grows with the side, not with its third power.
It gives up some time: nineteen products of matrices for each weight and step, all but two of at most `BLOCK` x `BLOCK`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F

MOMENTUM = 0.95  # of the averaged gradient, which is looked ahead with (Nesterov), as by Jordan et al.
RMS = 0.2  # of AdamW's updates, which an orthogonal one is scaled to (Liu et al. 2025, equation 4)
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, five times: singular values end between 0.7 and 1.2 (Jordan et al.)
ITERATIONS = 5

BLOCK = 64
"""Rows of the shorter side that are made orthogonal together. For the weights of `sightline_small` a step of Muon took 2.3 ms with
blocks of 64, 4.9 of 128 and 11.1 ms without (two threads of an EPYC, all else 27 ms); docs/log.md has the accuracies."""


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """About U V' of a float32 matrix (M, N) = U S V', block by block; as (M, N)."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    rows, blocks = len(x), -(-len(x) // BLOCK)
    whole = F.pad(x, (0, 0, 0, blocks * BLOCK - rows)) if blocks > 1 else x  # rows of zeros change nothing, and stay zero
    found = _turned(whole.reshape(blocks, -1, x.shape[1])).flatten(0, 1)[:rows]
    return found.T if matrix.shape[0] > matrix.shape[1] else found


def _turned(x: torch.Tensor) -> torch.Tensor:
    """The same of each of (B, M, N), M <= N, by Newton and Schulz's iteration.

    A round is X <- (a + b X X' + c (X X')^2) X. Its factor depends on X X' alone, and takes that to factor^2 X X': so the
    rounds are made with matrices of the shorter side, and X itself is used before and after them only. This needs
    float32: the squares of small singular values are below the precision of bfloat16.
    """
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    square = x @ x.mT
    turn = factor = _factor(square)
    for _ in range(ITERATIONS - 1):
        square = factor @ (factor @ square)
        factor = _factor(square)
        turn = factor @ turn
    return turn @ x


def _factor(square: torch.Tensor) -> torch.Tensor:
    """a + b S + c S^2 of symmetric S (B, M, M)."""
    a, b, c = COEFFICIENTS
    factor = torch.baddbmm(square, square, square, beta=b, alpha=c)
    factor.diagonal(dim1=1, dim2=2).add_(a)
    return factor


# torch's optimizers import its compiler (0.7 to 2.4 s of a processor) to say of a few methods, and in each step, that they are not to be
# compiled. These are the functions under what says so; where torch hides them otherwise, it imports as before.

_ADAMW_STEP: Callable[..., Any] = getattr(torch.optim.AdamW.step, "__wrapped__", torch.optim.AdamW.step)


def _leave_the_compiler_out() -> None:
    for name in ("add_param_group", "zero_grad", "state_dict"):
        method = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
        if method is not None and not hasattr(method, "__dynamo_disable"):
            method.__dynamo_disable = method


class Muon(torch.optim.AdamW):
    """AdamW, but for groups with `matrices`, whose parameters are of two or more dimensions."""

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, **adamw: Any) -> None:
        """Other words are AdamW's, for the other groups."""
        _leave_the_compiler_out()
        super().__init__(list(groups), lr=lr, **adamw)

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
            return _ADAMW_STEP(self, closure)
        finally:
            self.param_groups = groups

    def _turn(self, weight: torch.Tensor, lr: float, weight_decay: float, failed: torch.Tensor | None) -> None:
        """The orthogonal step of one weight; none where `failed` is above 0, as fused AdamW has it (training/finite.py)."""
        assert weight.grad is not None
        average = self.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight.grad))
        average.lerp_(weight.grad, 1 - MOMENTUM)
        ahead = weight.grad.lerp(average, MOMENTUM).movedim(1, -1)  # channels last, as they lie in memory: flattened without a copy
        step = orthogonal(ahead.flatten(1)).view(ahead.shape).movedim(-1, 1)
        length = RMS * math.sqrt(max(len(weight), weight[0].numel()))
        moved = torch.add(weight * (1 - lr * weight_decay), step, alpha=-lr * length)
        weight.copy_(moved if failed is None else torch.where(failed > 0, weight, moved))
