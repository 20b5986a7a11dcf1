"""A moving average of the weights, which is often a better network than the weights themselves.

    average = Ema(network, decay=0.999)
    average.update(network)                  after each step of the optimizer
    with average.applied(network): ...       the network has the averages in here, and its own weights afterwards
    state, updates = average.state(), average.updates

Polyak and Juditsky (1992) averaged the iterates of stochastic approximation; exponential averages of a network's
weights as here are the "mean teacher" of Tarvainen and Valpola (2017, equation 1). The running statistics of batch norm
are averaged too, so that they belong to the averaged weights. It gives up memory: one more copy of the network, and a
second one while `applied`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

Tensors = dict[str, torch.Tensor]


class Ema:
    """The averages of everything in a network's state that is a floating-point number; the rest is copied."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Starts at the weights as they are.

        Args:
            decay: the share of the old average that an update keeps, in [0, 1).
        """
        if not 0 <= decay < 1:
            raise ValueError("the decay must lie in [0, 1)")
        self.decay, self.updates = decay, 0
        self._averages: Tensors = {name: value.clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """average = d average + (1 - d) weights, with d = min(decay, (1 + n) / (10 + n)) after n updates.

        The smaller decay of the first updates is TensorFlow's ExponentialMovingAverage(num_updates): a short run forgets
        its random first weights too.
        """
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        weights = network.state_dict()
        pairs = [(average, weights[name]) for name, average in self._averages.items()]
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        # lerp, not mul and add: it leaves the average of a frozen weight exactly where it is.
        torch._foreach_lerp_([average for average, _ in floats], [weight for _, weight in floats], 1 - decay)
        for average, weight in pairs:
            if not average.is_floating_point():
                average.copy_(weight)
        self.updates += 1

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Puts the averages into the network, in place, and afterwards its own weights back, bit for bit.

        What is changed in between is lost.
        """
        own = {name: value.clone() for name, value in network.state_dict().items()}
        try:
            self._write(self._averages, network.state_dict())
            yield
        finally:
            self._write(own, network.state_dict())

    def state(self) -> Tensors:
        """The averages, named as in the network's `state_dict`; the tensors themselves, which the next update changes."""
        return dict(self._averages)

    def load(self, state: Tensors, updates: int) -> None:
        """Goes on from the averages that `state` gave after `updates` updates.

        Raises:
            ValueError: they are of another network.
        """
        differing = sorted(name for name in state.keys() | self._averages.keys() if not self._fits(name, state.get(name)))
        if differing:
            raise ValueError(f"the averages are of another network; they differ in {', '.join(differing[:3])}")
        self._write(state, self._averages)
        self.updates = updates

    def _fits(self, name: str, value: torch.Tensor | None) -> bool:
        average = self._averages.get(name)
        return average is not None and value is not None and average.shape == value.shape

    @staticmethod
    @torch.no_grad()
    def _write(source: Tensors, target: Tensors) -> None:
        for name, value in target.items():
            value.copy_(source[name])
