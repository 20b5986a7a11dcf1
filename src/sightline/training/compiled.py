"""The steps of training through torch.compile; judging, which sees other sizes and is short, stays as it is.

    forward = Compiled(network, device)          forward(images) as network(images), with gradients

Weights, names and checkpoints are the network's own. On a GPU the steps are replayed as CUDA graphs (`reduce-overhead`).
Each size of picture and of batch is compiled when it first comes. Sums are rounded otherwise than without, so a run that
is repeated must say the same. On two cores with AMX it does not pay: 53 s for the first step, then 1,232 images/s instead
of 1,549 to 1,718 (docs/log.md). On a GPU it was never measured.
"""

from __future__ import annotations

import torch
from torch import nn

from sightline.device import Device
from sightline.errors import TrainingError, first_line


class Compiled(nn.Module):
    """A network whose forward pass is compiled when it is first called."""

    def __init__(self, network: nn.Module, device: Device) -> None:
        """Nothing is compiled yet."""
        super().__init__()
        self.network = network
        self.on_gpu = device.torch_device.type == "cuda"
        self._run = torch.compile(lambda images: network(images), dynamic=False, mode="reduce-overhead" if self.on_gpu else None)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (B, K), or whatever the network takes and gives.

        Raises:
            TrainingError: there is no compiler, or torch.compile does not know how.
        """
        try:
            if self.on_gpu:
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # what the last step gave is over
            logits: torch.Tensor = self._run(images)
            return logits
        except torch._dynamo.exc.TorchDynamoException as error:
            why = first_line(getattr(error, "inner_exception", error))
            raise TrainingError(f"torch.compile cannot compile this network here ({why}). Leave train.compile out.") from error
