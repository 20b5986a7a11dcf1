"""Sees that every loss is a number, without waiting for a GPU at every step.

    watch = Watch(device)
    watch.note(batch, loss)                   on the device; nothing waits
    watch.hold(optimizer)                     from the first bad loss on it changes nothing
    first = watch.first()                     waits; the number of the first bad batch, or None

A GPU works ahead of the processor, and each look at a number from it makes both wait. So it is looked at now and then,
and until then the optimizer itself leaves the weights as they were when the loss failed: the way in which gradient
scaling tells fused optimizers to skip a step (`found_inf`). A processor is looked at each time; there it costs nothing.
"""

from __future__ import annotations

import math

import torch

LOOK_EVERY = 16
"""Steps between two looks at a GPU. Not measured: no GPU was at hand. A step of a small network takes about a millisecond there,
so that a loss which is no number is told within a moment."""


class Watch:
    """The first batch of an epoch whose loss was not finite."""

    def __init__(self, device: torch.device, every: int | None = None) -> None:
        self.every = every or (LOOK_EVERY if device.type == "cuda" else 1)
        self._first = torch.full((), math.inf, device=device)

    def note(self, batch: int, loss: torch.Tensor) -> None:
        """Hears the loss (a scalar) of a batch, by its number."""
        bad = torch.where(loss.isfinite(), math.inf, float(batch))
        self._first = torch.minimum(self._first, bad)

    def due(self, batch: int, batches: int) -> bool:
        """Whether to look after this batch: each time on a processor, and always at the end of an epoch."""
        return (batch + 1) % self.every == 0 or batch + 1 == batches

    def hold(self, optimizer: torch.optim.Optimizer) -> None:
        """Keeps a fused optimizer from stepping once a loss has failed."""
        if self.every > 1:
            optimizer.found_inf = self._first.isfinite().float()  # type: ignore[attr-defined]

    def first(self) -> int | None:
        """The number of the first batch whose loss was not finite; waits for the device."""
        first = self._first.item()
        return None if math.isinf(first) else int(first)
