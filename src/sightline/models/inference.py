"""A network's answers for batches of images: one forward pass, in float32 on the way out.

logits = logits_of(network, batches, device)         (N, K) float32 numpy
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sightline.device import Device


def logits_of(network: nn.Module, batches: Iterable[torch.Tensor], device: Device) -> npt.NDArray[np.float32]:
    """Logits of all images, in order; the network is in evaluation mode meanwhile, each part of it then as it was.

    Args:
        network: (B, 3, S, S) -> (B, K), on the device.
        batches: views as `plain_batches` gives them.
    """
    training = [part for part in network.modules() if part.training]
    network.eval()
    found = []
    try:
        with torch.inference_mode():
            for images in batches:
                with device.autocast():
                    found.append(network(images.to(device.torch_device, memory_format=device.memory_format)).float())
        return torch.cat(found).cpu().numpy() if found else np.zeros((0, 0), dtype=np.float32)
    finally:
        for part in training:  # not network.train(): parts that are frozen stay in evaluation mode
            part.training = True
