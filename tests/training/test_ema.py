"""The moving average of the weights, against the sum it stands for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sightline.training.ema import Ema


def network(seed: int = 0) -> nn.Sequential:
    """With everything a state can hold: weights, a tied weight, running statistics, an integer, a channels-last kernel."""
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4), nn.Linear(4, 4)).to(memory_format=torch.channels_last)
    made[3].weight = made[2].weight
    return made


def move(net: nn.Module) -> None:
    """A step of training, and what batch norm does in it."""
    with torch.no_grad():
        for value in net.state_dict().values():
            value.add_(torch.randn_like(value) if value.is_floating_point() else 1)


def bits(net: nn.Module) -> dict[str, bytes]:
    return {name: value.contiguous().numpy().tobytes() for name, value in net.state_dict().items()}


@given(st.floats(0, 0.999), st.integers(0, 30))
def test_the_average_is_the_weighted_sum_of_all_weights_so_far(decay: float, steps: int) -> None:
    net = nn.Linear(2, 1).double()
    average = Ema(net, decay)
    expected = net.weight.detach().clone()
    for n in range(steps):
        move(net)
        d = min(decay, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * net.weight.detach()
        average.update(net)
    assert torch.allclose(average.state()["weight"], expected, rtol=1e-12, atol=1e-12)
    assert average.updates == steps


def test_long_runs_agree_with_torchs_own_average() -> None:
    net = network()
    ours, theirs = Ema(net, 0.5), torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5))
    theirs.update_parameters(net)
    ours.updates = 10_000  # past the first updates, in which the decay is smaller
    for _ in range(5):
        move(net)
        ours.update(net)
        theirs.update_parameters(net)
    for name, value in theirs.module.named_parameters():
        assert torch.allclose(ours.state()[name], value, atol=1e-6), name


def test_a_short_run_forgets_its_first_weights() -> None:
    net = nn.Linear(1, 1)
    nn.init.constant_(net.weight, 1000.0)
    average = Ema(net, 0.9999)
    nn.init.constant_(net.weight, 1.0)
    for _ in range(10):
        average.update(net)
    assert average.state()["weight"].item() == pytest.approx(1.0, abs=0.02)


def test_running_statistics_are_averaged_and_whole_numbers_copied() -> None:
    net = network()
    average = Ema(net, 0.9)
    net[1].running_mean.fill_(1.0)
    net[1].num_batches_tracked.fill_(7)
    average.update(net)
    assert average.state()["1.running_mean"].tolist() == pytest.approx([0.9] * 4)
    assert average.state()["1.num_batches_tracked"].item() == 7


def test_a_weight_that_stays_has_itself_as_average() -> None:
    net = network()
    before = bits(net)
    average = Ema(net, 0.97)
    for _ in range(50):
        average.update(net)
    with average.applied(net):
        assert bits(net) == before


def test_the_network_has_the_averages_inside_and_its_own_weights_afterwards() -> None:
    net = network()
    average = Ema(net, 0.9)
    move(net)
    average.update(net)
    own, kernel = bits(net), net[0].weight
    shared = nn.Sequential(net[0])  # a part of the network that is used elsewhere
    with average.applied(net):
        assert all(torch.equal(value, average.state()[name]) for name, value in net.state_dict().items())
        assert shared[0].weight is kernel
        assert torch.equal(shared[0].weight, average.state()["0.weight"])
        assert bits(net) != own
    assert bits(net) == own
    assert kernel.requires_grad
    assert kernel.is_contiguous(memory_format=torch.channels_last)


def test_own_weights_come_back_after_an_error_and_after_changes() -> None:
    net = network()
    average = Ema(net, 0.9)
    move(net)
    own, kept = bits(net), {name: value.clone() for name, value in average.state().items()}

    def change_and_fail() -> None:
        with average.applied(net):
            move(net)
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        change_and_fail()
    assert bits(net) == own
    assert all(torch.equal(value, kept[name]) for name, value in average.state().items())


def test_an_average_goes_on_as_if_it_had_never_stopped() -> None:
    net = network()
    whole, first = Ema(net, 0.99), Ema(net, 0.99)
    moves = torch.Generator().manual_seed(0)
    second = None
    for step in range(6):
        with torch.no_grad():
            net[2].weight.add_(torch.randn(4, 4, generator=moves))
        whole.update(net)
        if step < 3:
            first.update(net)
        else:
            second = second or Ema(network(1), 0.99)
            if step == 3:
                second.load({name: value.clone() for name, value in first.state().items()}, first.updates)
            second.update(net)
    assert second is not None
    assert second.updates == whole.updates == 6
    assert all(torch.equal(value, whole.state()[name]) for name, value in second.state().items())


def test_averages_of_another_network_are_refused() -> None:
    average = Ema(nn.Linear(2, 1), 0.9)
    with pytest.raises(ValueError, match="differ in bias"):
        average.load({"weight": torch.zeros(1, 2)}, 1)
    with pytest.raises(ValueError, match="differ in weight"):  # it would be broadcast
        average.load({"weight": torch.zeros(1, 1), "bias": torch.zeros(1)}, 1)
    assert average.updates == 0


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_is_no_share_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay"):
        Ema(nn.Linear(1, 1), decay)
