"""Steps through torch.compile: the same numbers, the same parameters, one sentence where it cannot be had."""

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
from sightline.training.compiled import Compiled

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
    forward = Compiled(twin, CPU)
    forward.train()
    assert twin.training
    for images in (torch.randn(6, 3, 16, 16), torch.randn(6, 3, 16, 16), torch.randn(4, 3, 24, 24)):  # growing pictures, a last batch
        torch.testing.assert_close(step(forward, images), step(plain, images))
    assert twin.state_dict().keys() == plain.state_dict().keys()
    for (name, ours), (_, theirs) in zip(twin.state_dict().items(), plain.state_dict().items(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)
    for ours, theirs in zip(twin.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_what_cannot_be_compiled_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("no working C++ compiler")

    with_backend(monkeypatch, broken)
    with pytest.raises(TrainingError, match=r"cannot compile this network here \(.*no working C\+\+ compiler.*Leave train\.compile out"):
        Compiled(network(), CPU)(torch.randn(2, 3, 16, 16))


@pytest.mark.parametrize("given", [{"train.compile": True}, {"phases": [{"from": 2, "train.compile": True}]}])
def test_it_is_for_one_process(folder: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]) -> None:
    monkeypatch.setattr(processes, "world", functools.partial(int, 2))
    with pytest.raises(SettingsError, match="for one process"):
        check_processes(scan(folder), phases_of(given))
    check_processes(scan(folder), phases_of({}))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a processor")
def test_a_compiled_training_is_the_same_training(folder: Path, tmp_path: Path) -> None:
    words = ["model.name=sightline_tiny", "data.size=16", "train.epochs=2", "train.batch_size=8", "train.report=false"]
    words += ["train.tensorboard=false", "device.precision=float32"]
    losses = []
    for compiles in ("false", "true"):
        run = train(folder, [*words, f"train.compile={compiles}"], run=tmp_path / compiles).run
        losses.append([float(line.split(",")[2]) for line in run.history.read_text().splitlines()[1:]])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
