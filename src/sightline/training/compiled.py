"""The steps of training through torch.compile; judging, which sees other sizes and is short, stays as it is.

    forward = Compiled(network, device, heard)          forward(images) as network(images), with gradients

Weights, names and checkpoints are the network's own. On a GPU the steps are replayed as CUDA graphs (`reduce-overhead`).
Each size of picture and of batch is compiled when it first comes; with the first one it is measured what that costs and
saves. Sums are rounded otherwise than without, so a run that is repeated must say the same; therefore it is for the user
to decide, not for a clock. On two cores with AMX it does not pay: 53 s for the first step, then 1,232 images/s instead of
1,549 to 1,718 (docs/log.md). On a GPU it was never measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import nn

from sightline.device import Device
from sightline.errors import TrainingError, first_line

MEASURED = 5
"""Forward and backward passes of each kind, after one that settles memory and kernels; their middle one counts."""


@dataclass(frozen=True, slots=True)
class Payback:
    """Seconds of compiling, and of the forward and backward pass of a step without and with it."""

    compiling: float
    plain: float
    compiled: float

    def sentence(self, steps: int) -> str:
        """What it means for so many steps, for a person."""
        with_it, without = (f"{1e3 * seconds:.3g}" if seconds < 0.1 else f"{1e3 * seconds:,.0f}" for seconds in (self.compiled, self.plain))
        told = f"Compiling took {self.compiling:.0f} s; a step's passes take {with_it} ms instead of {without}"
        saved = self.plain - self.compiled
        if saved <= 0:
            return f"{told}: leave train.compile out."
        needed = round(self.compiling / saved)
        if needed > steps:
            return f"{told}, so it repays after {needed:,} steps, and there are {steps:,}: leave train.compile out."
        return f"{told}, so it repays after {needed:,} of {steps:,} steps."


class Compiled(nn.Module):
    """A network whose forward pass is compiled when it is first called."""

    def __init__(self, network: nn.Module, device: Device, heard: Callable[[Payback], None]) -> None:
        """Nothing is compiled yet.

        Args:
            heard: told with the first batch what compiling costs and saves.
        """
        super().__init__()
        self.network = network
        self.device = device.torch_device
        self.on_gpu = self.device.type == "cuda"
        self._heard: Callable[[Payback], None] | None = heard
        self._run = torch.compile(lambda images: network(images), dynamic=False, mode="reduce-overhead" if self.on_gpu else None)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (B, K), or whatever the network takes and gives.

        Raises:
            TrainingError: there is no compiler, or torch.compile does not know how.
        """
        if self._heard is not None:
            self._heard(self._measured(images))
            self._heard = None
        return self._compiled(images)

    def _compiled(self, images: torch.Tensor) -> torch.Tensor:
        try:
            if self.on_gpu:
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # what the last step gave is over
            logits: torch.Tensor = self._run(images)
            return logits
        except torch._dynamo.exc.TorchDynamoException as error:
            why = first_line(getattr(error, "inner_exception", error))
            raise TrainingError(f"torch.compile cannot compile this network here ({why}). Leave train.compile out.") from error

    def _measured(self, images: torch.Tensor) -> Payback:
        """Passes on one batch; running statistics, gradients and generators are as before afterwards."""
        before = [value.clone() for value in self.network.buffers()]
        with torch.random.fork_rng([self.device] if self.on_gpu else []):
            self._passes(self.network, images)
            plain = median(self._passes(self.network, images) for _ in range(MEASURED))
            first = self._passes(self._compiled, images)
            self._passes(self._compiled, images)  # on a GPU the graph is recorded now
            compiled = median(self._passes(self._compiled, images) for _ in range(MEASURED))
        for value, kept in zip(self.network.buffers(), before, strict=True):
            value.copy_(kept)
        return Payback(max(0.0, first - compiled), plain, compiled)

    def _passes(self, forward: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> float:
        """Seconds of a forward and a backward pass that leave no gradient behind."""
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self._wait()
        started = time.perf_counter()
        torch.autograd.grad(forward(images).float().square().mean(), trained, allow_unused=True)
        self._wait()
        return time.perf_counter() - started

    def _wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)
