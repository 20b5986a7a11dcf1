"""A network that answers and does not learn, for a while.

with evaluating(network): ...
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """In evaluation mode meanwhile; then each part as it was: not `network.train()`, parts that are frozen stay as they are."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
