"""Training on several processes: what one process would do with the whole batch, within the order of additions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sightline import processes
from sightline.data.augment import View
from sightline.data.batches import Batch, Mixing, Order, TrainBatches
from sightline.data.policy import POLICIES
from sightline.device import Device
from sightline.errors import Elsewhere, TrainingError
from sightline.models.freeze import freeze
from sightline.models.head import Network
from sightline.processes import Share
from sightline.settings import TrainSettings
from sightline.training.batch_norm import synchronised
from sightline.training.checkpoint import Checkpoints
from sightline.training.loop import Interruption, Trainer
from sightline.training.losses import build_loss
from sightline.training.optim import build_optimizer, parameter_names
from sightline.training.schedule import build_schedule
from sightline.training.stage import Phase, Plan, Row, Stage

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forked with threads, from Python 3.12 on

InProcesses = Callable[..., list[Any]]
CPU = Device("cpu", "float32", 1, channels_last=True)
N, SIDE, K = 43, 8, 3
UNMIXED = Mixing()
LABELS = np.arange(N) ** 2 % 7 % K  # of unequal sizes


class FakePixels:
    """Each image another noise."""

    side = SIDE
    extents = np.full((N, 2), SIDE, dtype=np.int32)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (N, SIDE, SIDE, 3)).astype(np.uint8))

    def read(self, rows: Any, into: torch.Tensor | None = None) -> torch.Tensor:
        return self.pixels[torch.from_numpy(rows)]


class Quiet:
    """A reporter that hears nothing."""

    def batch(self, epoch: int, done: int, batches: int, images: int, loss: Callable[[], float]) -> None:
        pass

    def epoch(self, row: Row) -> None:
        pass


def make_network(norm: bool = True) -> Network:
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU()] if norm else [nn.Conv2d(3, 6, 3), nn.ReLU()]
    return Network(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten()), nn.Linear(24, K))


def make_batches(train: TrainSettings, mixing: Mixing = UNMIXED) -> TrainBatches:
    view = View(SIDE, "squash", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    order, keys = Order(N, train.batch_size, train.seed, share=processes.share()), np.arange(N, dtype=np.uint64)
    pixels: Any = FakePixels()
    return TrainBatches(pixels, np.arange(N), LABELS, keys, view, POLICIES["strong"], order, train.seed, torch.device("cpu"), mixing=mixing)


def settings_of(**changed: Any) -> TrainSettings:
    plain = {"loss": "cross_entropy", "class_weights": "none", "sampler": "shuffle", "views_per_class": None, "logit_adjustment": 0.0}
    plain |= {"label_smoothing": 0.1, "epochs": 2, "batch_size": 13, "monitor": "accuracy", "schedule": "onecycle", "optimizer": "sgd"}
    return TrainSettings(**(plain | changed))


def make_trainer(folder: Path, norm: bool = True, mixing: Mixing = UNMIXED, words: str = "none", **changed: Any) -> Trainer:
    network, train = make_network(norm), settings_of(**changed)
    batches = make_batches(train, mixing)

    def validate() -> Row:
        return {"val_loss": 1.0, "val_accuracy": float(processes.gathered(0.5)[0])}

    def open_stage(begins: bool) -> Stage:
        frozen = freeze(network, words)
        optimizer = build_optimizer(network, train, 0.05, fused=True)
        updates = -(-len(batches) // train.accumulate)
        loss, schedule = build_loss(train, np.bincount(LABELS).tolist()), build_schedule(train, updates, updates * train.epochs)
        names = parameter_names(network, optimizer)
        more = (optimizer, names, 0.05, schedule, 0, frozen, train.accumulate, train.clip_norm, validate, train.sync_batch_norm)
        return Stage(batches, network, loss, *more)

    return Trainer(network, [Phase(0, open_stage)], Plan.of(train), CPU, Checkpoints(folder / "checkpoints"))


def trained(folder: Path, settings: dict[str, Any], stop_after: int | None = None) -> dict[str, Any]:
    """What training leaves behind; stopped after some questions, or gone on with where a checkpoint is."""
    trainer = make_trainer(folder, **settings)
    state = trainer.checkpoints.newest()
    if state is not None:
        trainer.resume(state)
    asked = iter(range(10**6))
    try:
        trainer.fit(Quiet(), lambda: stop_after is not None and processes.is_main() and next(asked) >= stop_after)
    except Interruption:
        return {"stopped": (trainer.progress.epoch, trainer.progress.batch)}
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in trainer.progress.history]
    weights = {name: value.numpy() for name, value in trainer.network.state_dict().items()}
    return {"rows": rows, "weights": weights, "seen": trainer.progress.step}


def assert_close(some: dict[str, Any], others: dict[str, Any]) -> None:
    for row, other in zip(some["rows"], others["rows"], strict=True):
        assert row == pytest.approx(other, rel=2e-5)
    for name, value in some["weights"].items():
        np.testing.assert_allclose(value, others["weights"][name], rtol=1e-4, atol=2e-6, err_msg=name)


def assert_same(some: dict[str, Any], others: dict[str, Any]) -> None:
    assert some["rows"] == others["rows"]
    assert all(np.array_equal(value, others["weights"][name]) for name, value in some["weights"].items())


CASES = [
    pytest.param({}, id="batch norm over all parts"),
    pytest.param({"norm": False, "sync_batch_norm": False}, id="no batch norm"),
    pytest.param({"class_weights": "inverse", "loss": "focal"}, id="class weights"),
    pytest.param({"class_weights": "effective", "logit_adjustment": 1.0, "accumulate": 3}, id="accumulated"),
    pytest.param({"mixing": Mixing(0.4, 1.0), "class_weights": "inverse"}, id="mixed"),
    pytest.param({"clip_norm": 0.05, "optimizer": "adamw", "ema": 0.9, "restore_best": False}, id="clipped and averaged"),
    pytest.param({"words": "trunk"}, id="a frozen trunk"),
]


FOUR = [pytest.param(4, CASES[0].values[0], id="4")] + [
    pytest.param(4, *case.values, id=f"4 {case.id}", marks=pytest.mark.slow) for case in CASES[1:]
]


@pytest.mark.parametrize(("count", "settings"), [*(pytest.param(2, *case.values, id=case.id) for case in CASES), *FOUR])
def test_several_processes_train_what_one_trains(in_processes: InProcesses, tmp_path: Path, count: int, settings: dict[str, Any]) -> None:
    one = trained(tmp_path / "one", settings)
    answers = in_processes(count, trained, tmp_path / "many", settings)
    for answer in answers:
        assert not isinstance(answer, (str, BaseException)), answer
        assert_close(answer, one)
        assert_same(answer, answers[0])


def test_own_batch_norms_differ_from_the_whole_ones_and_end_alike_on_all(in_processes: InProcesses, tmp_path: Path) -> None:
    one = trained(tmp_path / "one", {})
    answers = in_processes(2, trained, tmp_path / "many", {"sync_batch_norm": False})
    assert_same(*answers)
    assert answers[0]["rows"][-1]["train_loss"] != pytest.approx(one["rows"][-1]["train_loss"], rel=1e-4)


@pytest.mark.parametrize("stop_after", [0, 2, 4])
@pytest.mark.parametrize("sync", [True, False])
def test_stopped_and_resumed_by_as_many_it_ends_with_the_same_weights(
    in_processes: InProcesses, tmp_path: Path, stop_after: int, sync: bool
) -> None:
    settings = {"sync_batch_norm": sync, "ema": 0.9}
    whole = in_processes(2, trained, tmp_path / "whole", settings)
    stopped = in_processes(2, trained, tmp_path / "parts", settings, stop_after)
    assert stopped[0]["stopped"] == stopped[1]["stopped"]
    assert_same(in_processes(2, trained, tmp_path / "parts", settings)[1], whole[0])


def test_another_number_of_processes_goes_on_in_the_middle_of_an_epoch(in_processes: InProcesses, tmp_path: Path) -> None:
    one = trained(tmp_path / "one", {})
    assert in_processes(3, trained, tmp_path / "many", {}, 1)[2]["stopped"] == (0, 2)
    assert in_processes(2, trained, tmp_path / "many", {}, 2)[0]["stopped"] == (1, 1)
    assert_close(trained(tmp_path / "many", {}), one)


def nan_on(rank: int, folder: Path) -> Any:
    trainer = make_trainer(folder)
    opening = trainer.phases[0].open

    def open_stage(begins: bool) -> Stage:
        stage = opening(begins)
        if processes.rank() == rank:
            with torch.no_grad():
                trainer.network.head.bias.fill_(torch.nan)  # type: ignore[union-attr, operator]
        return stage

    trainer.phases = [Phase(0, open_stage)]
    trainer.fit(Quiet(), lambda: False)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_loss_that_is_no_number_in_one_part_stops_all_and_the_main_process_speaks(
    in_processes: InProcesses, tmp_path: Path, rank: int
) -> None:
    answers = in_processes(2, nan_on, rank, tmp_path)
    assert isinstance(answers[0], TrainingError)
    assert "not finite in epoch 1, batch 1" in str(answers[0])
    assert isinstance(answers[1], Elsewhere)
    assert (tmp_path / "failed_batch" / ("batch-1.safetensors" if rank else "batch.safetensors")).exists()


# ---- parts of batches ---------------------------------------------------------------------------------------------------


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 9), st.integers(0, 5))
def test_every_image_is_in_one_part_of_one_batch_whatever_the_number_of_processes(count: int, size: int, parts: int, epoch: int) -> None:
    whole = Order(count, size, 0).epoch(epoch)
    shares = [Order(count, size, 0, share=Share(part, parts)).epoch(epoch) for part in range(parts)]
    for number, (positions, _) in enumerate(whole):
        assert np.array_equal(np.concatenate([share[number][0] for share in shares]), positions)
    assert sorted(np.concatenate([positions for share in shares for positions, _ in share])) == list(range(count))


@pytest.mark.parametrize("mixing", [Mixing(), Mixing(0.4, None), Mixing(None, 1.0)])
def test_the_parts_of_a_batch_are_the_batch(mixing: Mixing, monkeypatch: pytest.MonkeyPatch) -> None:
    def batches(share: Share) -> Iterator[Batch]:
        monkeypatch.setattr(processes, "share", lambda: share)
        return make_batches(settings_of(), mixing).epoch(1)

    for whole, *parts in zip(batches(Share()), *(batches(Share(part, 3)) for part in range(3)), strict=True):
        for value, *pieces in zip(whole, *parts, strict=True):
            assert (value is None) == (pieces[0] is None)
            if value is not None:
                torch.testing.assert_close(torch.cat(pieces), value, atol=2e-4, rtol=0)  # float32 products of another shape


# ---- batch norm ----------------------------------------------------------------------------------------------------------


def normalised(shape: tuple[int, ...]) -> dict[str, Any]:
    """A batch norm over this process's part of a batch: outputs, gradients and running statistics."""
    torch.manual_seed(1)
    whole = torch.randn(shape) * 3 + 100  # far from 0, where differences of squares would cancel
    slope = torch.randn(shape)
    norm = nn.BatchNorm2d(shape[1]) if len(shape) == 4 else nn.BatchNorm1d(shape[1])
    nn.init.uniform_(norm.weight)
    part = whole[processes.share().of(len(whole))].clone().requires_grad_()
    with synchronised(processes.world() > 1):
        made = norm(part)
    (made * slope[processes.share().of(len(whole))]).sum().backward()
    assert part.grad is not None
    gradients = [norm.weight.grad, norm.bias.grad]
    processes.sum_over([g for g in gradients if g is not None])
    found = {"made": processes.rows(made.detach().numpy(), len(whole)), "slope": processes.rows(part.grad.numpy(), len(whole))}
    return (
        found | {name: value.detach().numpy() for name, value in norm.state_dict().items()} | {"gradients": [g.numpy() for g in gradients]}
    )


@pytest.mark.parametrize("shape", [(7, 4, 3, 5), (7, 4), (3, 2, 6)])
def test_batch_norm_over_the_parts_is_torchs_over_the_whole(in_processes: InProcesses, shape: tuple[int, ...]) -> None:
    expected = normalised(shape)
    for found in in_processes(3, normalised, shape):
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=2e-5, err_msg=name)
