"""Muon, against torch's own for two dimensions, against AdamW for the rest, and against the singular value decomposition."""

from __future__ import annotations

import copy
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from sightline.models.head import Network
from sightline.settings import TrainSettings
from sightline.training.checkpoint import pack_optimizer, unpack_optimizer
from sightline.training.muon import BLOCK, COEFFICIENTS, ITERATIONS, Muon, orthogonal
from sightline.training.optim import build_optimizer, parameter_names


@pytest.mark.parametrize("shape", [(32, 32), (16, 72), (72, 16)])
def test_the_iteration_comes_near_the_orthogonal_factor(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonal(matrix)
    assert found.shape == matrix.shape
    s = torch.linalg.svdvals(found)
    assert s.max() < 1.25
    assert s[: int(0.9 * len(s))].min() > 0.65  # the least of a square matrix's directions need more than five rounds
    assert (found * (u @ v)).sum() / (found.norm() * (u @ v).norm()) > 0.97


@pytest.mark.parametrize("shape", [(32, 32), (16, 72), (72, 16)])
def test_the_rounds_are_those_of_jordan_et_al(shape: tuple[int, int]) -> None:
    draws = torch.Generator().manual_seed(0)
    matrix = torch.randn(shape, generator=draws) * torch.logspace(0, -3, shape[1])  # some directions are faint
    a, b, c = COEFFICIENTS
    x = matrix.double() / matrix.double().norm()
    for _ in range(ITERATIONS):
        x = a * x + (b * x @ x.T + c * (x @ x.T) @ (x @ x.T)) @ x
    torch.testing.assert_close(orthogonal(matrix).double(), x, rtol=0, atol=1e-3)  # the squares of the faintest are near rounding


@pytest.mark.parametrize("rows", [2 * BLOCK, 2 * BLOCK + 10])
def test_a_large_matrix_is_turned_in_blocks_of_its_shorter_side(rows: int) -> None:
    matrix = torch.randn(rows, 300, generator=torch.Generator().manual_seed(0))
    blocks = torch.cat([orthogonal(block) for block in matrix.split(BLOCK)])
    torch.testing.assert_close(orthogonal(matrix), blocks, rtol=0, atol=1e-5)
    torch.testing.assert_close(orthogonal(matrix.T), blocks.T, rtol=0, atol=1e-5)
    assert torch.linalg.svdvals(blocks).max() > 1.25  # the whole would be nearer to orthogonal: blocks are not it


def test_of_matrices_it_is_torchs_muon() -> None:
    torch.manual_seed(0)
    ours = nn.Parameter(torch.randn(12, 20))
    theirs = nn.Parameter(ours.detach().clone())
    a = Muon([{"params": [ours], "matrices": True, "weight_decay": 0.1}], lr=0.03)
    b = torch.optim.Muon([theirs], lr=0.03, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        gradient = torch.randn(12, 20)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        a.step()
        b.step()
        torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-4)  # torch's rounds are made in bfloat16


def test_a_convolution_is_the_matrix_of_its_filters_in_any_memory_order() -> None:
    torch.manual_seed(0)
    flat = nn.Parameter(torch.randn(8, 4 * 9))
    gradient = torch.randn(8, 4 * 9)
    flat.grad = gradient.clone()
    Muon([{"params": [flat], "matrices": True, "weight_decay": 0.0}], lr=0.1).step()
    for order in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        conv = nn.Parameter(torch.randn(8, 4 * 9).view(8, 4, 3, 3).to(memory_format=order))
        conv.grad = gradient.view(8, 4, 3, 3).to(memory_format=order)
        Muon([{"params": [conv], "matrices": True, "weight_decay": 0.0}], lr=0.1).step()
        torch.testing.assert_close(conv.flatten(1), flat)


def test_it_is_made_and_steps_without_torchs_compiler() -> None:
    code = """
        import sys, torch
        from sightline.training.muon import Muon
        weights = [torch.nn.Parameter(torch.ones(4, 4)) for _ in range(2)]
        groups = [{"params": weights[:1], "matrices": True, "weight_decay": 0.1}, {"params": weights[1:], "matrices": False}]
        optimizer = Muon(groups, lr=0.1, fused=True)
        for weight in weights:
            weight.grad = torch.ones(4, 4)
        optimizer.step()
        optimizer.zero_grad()
        optimizer.state_dict()
        assert weights[1][0, 0] < 0.95
        print("torch._dynamo" in sys.modules)
    """
    told = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"


def network() -> Network:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 6, 3), nn.Flatten())
    return Network(trunk, nn.Linear(6 * 4, 2))


def test_first_layer_head_norms_and_single_filters_are_adamws() -> None:
    one, other = network(), network()
    muon = build_optimizer(one, TrainSettings(optimizer="muon", weight_decay=0.3), 0.1, fused=False)
    adamw = build_optimizer(other, TrainSettings(optimizer="adamw", weight_decay=0.3), 0.1, fused=False)
    turned = [id(p) for group in muon.param_groups if group["matrices"] for p in group["params"]]
    names = {name for name, p in one.named_parameters() if id(p) in turned}
    assert names == {"trunk.3.weight"}
    for _ in range(2):
        for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
            gradient = torch.randn(p.shape, generator=torch.Generator().manual_seed(len(name)))
            p.grad, q.grad = gradient.clone(), gradient.clone()
        muon.step()
        adamw.step()
    for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q) == (name not in names)
    decays = {group["weight_decay"] for group in muon.param_groups if group["matrices"]}
    assert decays == {0.3}


def test_a_packed_state_goes_on_bit_for_bit() -> None:
    def steps(net: Network, optimizer: torch.optim.Optimizer, numbers: range) -> None:
        for number in numbers:
            draws = torch.Generator().manual_seed(number)
            for p in net.parameters():
                p.grad = torch.randn(p.shape, generator=draws)
            optimizer.step()

    settings = TrainSettings(optimizer="muon")
    straight = network()
    steps(straight, build_optimizer(straight, settings, 0.1, fused=True), range(4))
    first = network()
    before = build_optimizer(first, settings, 0.1, fused=True)
    steps(first, before, range(2))
    second = copy.deepcopy(first)
    after = build_optimizer(second, settings, 0.1, fused=True)
    unpack_optimizer(after, parameter_names(second, after), pack_optimizer(before, parameter_names(first, before)))
    steps(second, after, range(2, 4))
    assert all(torch.equal(p, q) for p, q in zip(straight.parameters(), second.parameters(), strict=True))


def test_a_failed_loss_leaves_every_weight_as_it_was() -> None:
    net = network()
    before = copy.deepcopy(net)
    optimizer = build_optimizer(net, TrainSettings(optimizer="muon"), 0.1, fused=True)
    assert any(group["matrices"] for group in optimizer.param_groups)
    for p in net.parameters():
        p.grad = torch.full_like(p, torch.nan)
    optimizer.found_inf = torch.tensor(1.0)  # type: ignore[attr-defined]
    optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before.parameters(), strict=True))
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    optimizer.found_inf = torch.tensor(0.0)  # type: ignore[attr-defined]
    optimizer.state.clear()
    optimizer.step()
    assert not any(torch.equal(p, q) for p, q in zip(net.parameters(), before.parameters(), strict=True))
