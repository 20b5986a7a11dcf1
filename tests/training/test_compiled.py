"""Steps through torch.compile: the same numbers, the same parameters, what it saves, one sentence where it cannot be had."""

from __future__ import annotations

import copy
import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline import processes
from sightline.config import phases_of
from sightline.data.table import scan
from sightline.device import choose
from sightline.errors import SettingsError, TrainingError
from sightline.models.compact import compact_resnet
from sightline.run.train import check_processes, train
from sightline.settings import DeviceSettings
from sightline.training.compiled import Compiled, Payback

CPU = choose(DeviceSettings(name="cpu", precision="float32", threads=1))


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()


def with_backend(monkeypatch: pytest.MonkeyPatch, backend: Any) -> None:
    """torch.compile without its C++ compiler, which takes half a minute."""
    real = torch.compile

    def compile_(function: Any, dynamic: bool, mode: str | None) -> Any:
        assert not dynamic
        assert mode is None
        return real(function, dynamic=dynamic, backend=backend)

    monkeypatch.setattr(torch, "compile", compile_)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return compact_resnet(3, widths=[8, 16, 16], blocks=[0, 1, 0], stem_width=8, stem_stride=1, dropout=0.0)


def step(forward: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    logits = forward(images)
    torch.nn.functional.cross_entropy(logits, torch.arange(len(images)) % 3).backward()
    return logits.detach()


def test_logits_gradients_and_running_means_are_those_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    with_backend(monkeypatch, "aot_eager")
    plain = network()
    twin = copy.deepcopy(plain)
    heard: list[Payback] = []
    forward = Compiled(twin, CPU, heard.append)
    forward.train()
    assert twin.training
    for images in (torch.randn(6, 3, 16, 16), torch.randn(6, 3, 16, 16), torch.randn(4, 3, 24, 24)):  # growing pictures, a last batch
        torch.testing.assert_close(step(forward, images), step(plain, images))
    assert twin.state_dict().keys() == plain.state_dict().keys()
    for (name, ours), (_, theirs) in zip(twin.state_dict().items(), plain.state_dict().items(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)
    for ours, theirs in zip(twin.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    (payback,) = heard  # of the first batch alone
    assert min(payback.plain, payback.compiled) > 0
    assert payback.compiling > payback.compiled


def test_what_is_measured_draws_nothing_from_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    with_backend(monkeypatch, "eager")
    drops = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Conv2d(3, 4, 3))
    images = torch.randn(4, 3, 8, 8)
    torch.manual_seed(0)
    plain = drops(images)
    torch.manual_seed(0)
    torch.testing.assert_close(Compiled(drops, CPU, lambda payback: None)(images), plain)


@pytest.mark.parametrize(
    ("compiled", "steps", "told"),
    [
        (1.07, 10_000, "1,070 ms instead of 30: leave train.compile out."),
        (0.031, 10_000, "31 ms instead of 30: leave train.compile out."),
        (0.020, 5_001, "20 ms instead of 30, so it repays after 5,000 of 5,001 steps."),
        (0.020, 1_200, "20 ms instead of 30, so it repays after 5,000 steps, and there are 1,200: leave train.compile out."),
    ],
)
def test_whether_it_repays_is_said(compiled: float, steps: int, told: str) -> None:
    assert Payback(50.0, 0.030, compiled).sentence(steps) == f"Compiling took 50 s; a step's passes take {told}"


def test_what_cannot_be_compiled_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("no working C++ compiler")

    with_backend(monkeypatch, broken)
    with pytest.raises(TrainingError, match=r"cannot compile this network here \(.*no working C\+\+ compiler.*Leave train\.compile out"):
        Compiled(network(), CPU, lambda payback: None)(torch.randn(2, 3, 16, 16))


@pytest.mark.parametrize("given", [{"train.compile": True}, {"phases": [{"from": 2, "train.compile": True}]}])
def test_it_is_for_one_process(folder: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]) -> None:
    monkeypatch.setattr(processes, "world", functools.partial(int, 2))
    with pytest.raises(SettingsError, match="for one process"):
        check_processes(scan(folder), phases_of(given))
    check_processes(scan(folder), phases_of({}))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a processor")
def test_a_compiled_training_is_the_same_training_and_says_what_it_saves(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["model.name=sightline_tiny", "data.size=16", "train.epochs=2", "train.batch_size=8", "train.report=false"]
    words += ["train.tensorboard=false", "device.precision=float32"]
    losses = []
    for compiles in ("false", "true"):
        run = train(folder, [*words, f"train.compile={compiles}"], run=tmp_path / compiles).run
        losses.append([float(line.split(",")[2]) for line in run.history.read_text().splitlines()[1:]])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert capfd.readouterr().err.count("Compiling took") == 1
