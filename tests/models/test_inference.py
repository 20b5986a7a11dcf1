from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sightline.device import Device
from sightline.models.inference import logits_of

CPU = Device("cpu", "float32", 1, True)


class Watched(nn.Module):
    """Two scores an image, its mean and its place in the batch; remembers how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.dropout, self.calls = nn.BatchNorm2d(3), nn.Dropout(0.9), []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        ordered = images.is_contiguous(memory_format=torch.channels_last)
        self.calls.append((self.training, self.dropout.training, torch.is_grad_enabled(), ordered))
        return torch.stack([images.mean((1, 2, 3)), torch.arange(len(images)).to(images)], 1).bfloat16()


def test_logits_come_in_order_as_float32() -> None:
    batches = [torch.arange(start, stop).float().view(-1, 1, 1, 1).expand(-1, 3, 4, 4) for start, stop in ((0, 5), (5, 7))]
    logits = logits_of(Watched(), batches, CPU)
    np.testing.assert_array_equal(logits, [[0, 0], [1, 1], [2, 2], [3, 3], [4, 4], [5, 0], [6, 1]])
    assert logits.dtype == np.float32


def test_the_network_predicts_in_evaluation_mode_without_gradients_in_the_devices_memory_order() -> None:
    network = Watched()
    logits_of(network, [torch.zeros(2, 3, 4, 4)], CPU)
    assert network.calls == [(False, False, False, True)]


@pytest.mark.parametrize("training", [True, False])
def test_each_part_of_the_network_is_afterwards_as_it_was(training: bool) -> None:
    network = Watched().train(training)
    network.frozen.eval()
    logits_of(network, [torch.zeros(2, 3, 4, 4)], CPU)
    assert (network.training, network.dropout.training, network.frozen.training) == (training, training, False)


def test_the_mode_comes_back_when_the_images_end_in_an_error() -> None:
    def broken():
        yield torch.zeros(2, 3, 4, 4)
        raise OSError("gone")

    network = Watched().train()
    with pytest.raises(OSError, match="gone"):
        logits_of(network, broken(), CPU)
    assert network.training


def test_no_images_give_no_logits() -> None:
    assert logits_of(Watched(), [], CPU).shape[0] == 0
