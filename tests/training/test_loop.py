"""The loop on a tiny network: it learns, stops, goes on bit for bit, and never takes NaN for the best."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sightline.data.augment import View
from sightline.data.batches import Order, TrainBatches
from sightline.data.policy import POLICIES
from sightline.device import Device
from sightline.errors import TrainingError
from sightline.models.freeze import freeze
from sightline.models.head import Network
from sightline.settings import TrainSettings
from sightline.training.checkpoint import Checkpoints
from sightline.training.finite import Watch
from sightline.training.loop import Interruption, Trainer
from sightline.training.losses import build_loss
from sightline.training.optim import build_optimizer, parameter_names
from sightline.training.schedule import build_schedule
from sightline.training.stage import Phase, Plan, Row, Stage

CPU = Device("cpu", "float32", 1, channels_last=True)
N, SIDE = 26, 8


class FakePixels:
    """Two classes: dark and bright squares."""

    side = SIDE
    extents = np.full((N, 2), SIDE, dtype=np.int32)

    def __init__(self) -> None:
        draws = np.random.default_rng(0)
        labels = np.arange(N) % 2
        values = draws.integers(0, 120, (N, SIDE, SIDE, 3)) + 120 * labels[:, None, None, None]
        self.pixels = torch.from_numpy(values.astype(np.uint8))

    def read(self, rows: Any, into: torch.Tensor | None = None) -> torch.Tensor:
        return self.pixels[torch.from_numpy(rows)]


class Quiet:
    """A reporter that keeps what it hears."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.batches = 0

    def batch(self, epoch: int, done: int, batches: int, images: int, loss: Callable[[], float]) -> None:
        self.batches += 1

    def epoch(self, row: Row) -> None:
        self.rows.append(row)


def make_network() -> Network:
    torch.manual_seed(3)
    trunk = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return Network(trunk, nn.Linear(24, 2)).to(memory_format=torch.channels_last)


class Validator:
    """Figures on val: those given, epoch by epoch, or the network's own mean output. Notes the weights it sees."""

    def __init__(self, network: Network) -> None:
        self.network, self.values, self.seen = network, iter(()), []

    def __call__(self) -> Row:
        self.seen.append(digest(self.network))
        self.network.eval()
        with torch.inference_mode():
            own = self.network(torch.ones(2, 3, SIDE, SIDE)).mean().item()
        value = next(self.values, None)
        return {"val_loss": own, "val_accuracy": own} if value is None else {"val_loss": value, "val_accuracy": value}


def make_phase(network: Network, validate: Validator, train: TrainSettings, first: int, last: int, step: int = 0, **about: Any) -> Phase:
    view = View(SIDE, "squash", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    keys = np.arange(N, dtype=np.uint64)
    order = Order(N, train.batch_size, train.seed)
    parts = (FakePixels(), np.arange(N), np.arange(N) % 2, keys, view, POLICIES["strong"], order, train.seed, torch.device("cpu"))
    words = about.pop("freeze", "none")

    def open_stage(begins: bool) -> Stage:
        frozen = freeze(network, words)
        optimizer = build_optimizer(network, train, 0.01, fused=True)
        updates = -(-len(order) // train.accumulate)
        return Stage(
            batches=TrainBatches(*parts),
            forward=network,
            loss=build_loss(train, [13, 13]),
            optimizer=optimizer,
            names=parameter_names(network, optimizer),
            lr=0.01,
            schedule=build_schedule(train, updates, updates * (last - first)),
            first_step=step,
            frozen=frozen,
            accumulate=train.accumulate,
            clip_norm=train.clip_norm,
            validate=validate,
        )

    return Phase(first, open_stage, **about)


def settings_of(**settings: Any) -> TrainSettings:
    plain = {
        "label_smoothing": 0.1,
        "loss": "cross_entropy",
        "class_weights": "none",
        "sampler": "shuffle",
        "views_per_class": None,
        "logit_adjustment": 0.0,
    }
    return TrainSettings(
        **(plain | {"epochs": 3, "batch_size": 8, "optimizer": "adamw", "monitor": "accuracy", "schedule": "plateau"} | settings)
    )


def make_trainer(folder: Path, **settings: Any) -> Trainer:
    network, train = make_network(), settings_of(**settings)
    validate = Validator(network)
    phase = make_phase(network, validate, train, 0, train.epochs)
    trainer = Trainer(network, [phase], Plan.of(train), CPU, Checkpoints(folder / "checkpoints"))
    trainer.validator = validate  # type: ignore[attr-defined]
    return trainer


def two_phases(folder: Path, changes: dict[str, Any], **about: Any) -> Trainer:
    """Two epochs as ever, then two with other settings."""
    network, train = make_network(), settings_of(epochs=4)
    validate = Validator(network)
    first = make_phase(network, validate, train, 0, 2)
    second = make_phase(network, validate, settings_of(epochs=4, **changes), 2, 4, 8, **about)
    return Trainer(network, [first, second], Plan.of(train), CPU, Checkpoints(folder / "checkpoints"))


def give(trainer: Trainer, values: list[float]) -> Validator:
    """Val will show these figures."""
    found: Validator = trainer.validator  # type: ignore[attr-defined]
    found.values = iter(values)
    return found


def opened(trainer: Trainer, change: Callable[[Stage], None]) -> None:
    """The first phase is changed as it is opened."""
    phase = trainer.phases[0]

    def open_stage(begins: bool) -> Stage:
        stage = phase.open(begins)
        change(stage)
        return stage

    trainer.phases = [replace(phase, open=open_stage)]


def digest(network: nn.Module) -> str:
    return hashlib.sha256(b"".join(v.contiguous().numpy().tobytes() for v in network.state_dict().values())).hexdigest()


def never() -> bool:
    return False


def after(calls: int):
    """A `should_stop` that says yes from its n-th question on."""
    asked = iter(range(10**6))
    return lambda: next(asked) >= calls


def whole_run(folder: Path, **settings: Any) -> tuple[str, list[Row]]:
    trainer = make_trainer(folder, **settings)
    history = trainer.fit(Quiet(), never)
    return digest(trainer.network), history


def test_it_learns_dark_from_bright(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, epochs=15)
    history = trainer.fit(Quiet(), never)
    assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]
    assert history[-1]["train_accuracy"] > 0.9


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    first, again, other = (whole_run(tmp_path / name, seed=seed)[0] for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert first == again
    assert first != other


@pytest.mark.parametrize("settings", [{}, {"accumulate": 3}, {"optimizer": "sgd", "schedule": "onecycle"}, {"clip_norm": 0.1}])
@pytest.mark.parametrize("stop_after", range(9))
def test_stopped_anywhere_and_resumed_it_ends_with_the_same_weights(tmp_path: Path, stop_after: int, settings: dict[str, Any]) -> None:
    expected, rows = whole_run(tmp_path / "whole", **settings)
    trainer = make_trainer(tmp_path / "parts", **settings)
    try:
        trainer.fit(Quiet(), after(stop_after))
    except Interruption:
        trainer = make_trainer(tmp_path / "parts", **settings)
        state = trainer.checkpoints.newest()
        assert state is not None
        trainer.resume(state)
        trainer.fit(Quiet(), never)
    assert digest(trainer.network) == expected
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in trainer.progress.history] == [
        {k: v for k, v in row.items() if k != "seconds"} for row in rows
    ]


def test_a_stop_in_the_middle_of_an_epoch_is_saved_in_the_middle(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    with pytest.raises(Interruption):
        trainer.fit(Quiet(), after(1))
    state = trainer.checkpoints.newest()
    assert state is not None
    assert (state.facts["epoch"], state.facts["batch"]) == (0, 2)


def replanned(folder: Path, anew: int, **settings: Any) -> tuple[str, list[Row]]:
    """A run that is planned anew for so many epochs after its first one."""
    trainer = make_trainer(folder, **settings)
    train = settings_of(**(settings | {"epochs": anew}))

    class Planner(Quiet):
        def epoch(self, row: Row) -> None:
            if row["epoch"] == 1:
                phase = make_phase(trainer.network, trainer.validator, train, 0, anew)  # type: ignore[attr-defined]
                trainer.replan([phase], Plan.of(train))

    history = trainer.fit(Planner(), never)
    return digest(trainer.network), history


@pytest.mark.parametrize("schedule", ["plateau", "onecycle"])
def test_planned_anew_as_before_it_ends_with_the_same_weights(tmp_path: Path, schedule: str) -> None:
    plain = whole_run(tmp_path / "plain", schedule=schedule, epochs=4)
    assert replanned(tmp_path / "planned", 4, schedule=schedule, epochs=4)[0] == plain[0]


@pytest.mark.parametrize("epochs", [2, 6])
def test_planned_anew_it_ends_with_its_schedule_where_it_is_told(tmp_path: Path, epochs: int) -> None:
    history = replanned(tmp_path / "planned", epochs, schedule="onecycle", epochs=4)[1]
    plain = whole_run(tmp_path / "plain", schedule="onecycle", epochs=epochs)[1]
    assert [row["lr"] for row in history[1:]] == [row["lr"] for row in plain[1:]]


def test_accumulated_batches_are_one_step_of_their_mean(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, accumulate=4, epochs=2)
    trainer.fit(Quiet(), never)
    assert trainer.stage is not None
    assert len(trainer.stage.batches) == 4
    assert trainer.progress.step == 2


def test_the_best_epoch_is_restored(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    validate = give(trainer, [0.5, 0.9, 0.7])
    history = trainer.fit(Quiet(), never)
    assert [row["best"] for row in history] == [True, True, False]
    assert digest(trainer.network) == validate.seen[1]


def test_without_restoring_the_last_weights_stay(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, restore_best=False)
    validate = give(trainer, [0.5, 0.9, 0.7])
    trainer.fit(Quiet(), never)
    assert digest(trainer.network) == validate.seen[2]


def test_best_weights_that_no_checkpoint_knows_are_gone_when_training_goes_on(tmp_path: Path) -> None:
    make_trainer(tmp_path, epochs=2).fit(Quiet(), never)
    again = make_trainer(tmp_path, epochs=3)
    stray = again.checkpoints.folder / "best-000002"  # of a third epoch that was killed before its checkpoint
    stray.mkdir()
    state = again.checkpoints.newest()
    assert state is not None
    again.resume(state)
    assert not stray.exists()
    assert (again.checkpoints.folder / f"best-{again.progress.best_epoch:06d}").exists()


def test_for_a_loss_the_smallest_is_best(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, monitor="loss")
    give(trainer, [0.5, 0.2, 0.3])
    trainer.fit(Quiet(), never)
    assert trainer.progress.best_epoch == 1


def test_patience_counts_epochs_without_a_better_one(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, epochs=50, patience=2)
    give(trainer, [0.5, 0.6, 0.6, 0.4, 0.9])
    assert len(trainer.fit(Quiet(), never)) == 4


def test_a_loss_that_is_no_number_stops_and_the_batch_is_kept(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    before = digest(trainer.network)
    opened(trainer, lambda stage: setattr(stage, "loss", lambda logits, labels, partner, share: logits.sum() * math.nan))
    with pytest.raises(TrainingError, match=r"not finite in epoch 1, batch 1.*Lower train.lr"):
        trainer.fit(Quiet(), never)
    assert (tmp_path / "failed_batch" / "batch.safetensors").exists()
    # Only the running statistics of batch norm may have moved: the update was not made.
    assert trainer.progress.step == 0
    assert before != digest(trainer.network)


@pytest.mark.parametrize("rule", ["sgd", "adam", "adamw"])
def test_a_loss_looked_at_late_names_the_same_batch_and_leaves_the_same_weights(tmp_path: Path, rule: str) -> None:
    def failing(stage: Stage) -> None:
        whole, passed = stage.loss, itertools.count()
        stage.loss = lambda *words: whole(*words) * (math.nan if next(passed) == 1 else 1.0)

    kept = []
    for name, every in (("each", 1), ("late", 5)):
        trainer = make_trainer(tmp_path / name, optimizer=rule)
        trainer.watch = Watch(CPU.torch_device, every)
        opened(trainer, failing)
        with pytest.raises(TrainingError, match="not finite in epoch 1, batch 2"):
            trainer.fit(Quiet(), never)
        kept.append(load_file(tmp_path / name / "failed_batch" / "batch.safetensors"))
    parameters = [key for key in kept[0] if "running" not in key and "num_batches" not in key]  # batch norm saw more batches
    assert any(key.startswith("network.") for key in parameters)
    for key in parameters:
        assert torch.equal(kept[0][key], kept[1][key]), key


def test_figures_that_are_no_number_never_become_the_best(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    give(trainer, [0.5, math.nan, 0.7])
    with pytest.raises(TrainingError, match="not finite after epoch 2"):
        trainer.fit(Quiet(), never)
    assert trainer.progress.best_epoch == 0
    assert [p.name for p in (tmp_path / "checkpoints").glob("best-*")] == ["best-000000"]


def test_the_plateau_is_part_of_the_checkpoint(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, plateau_patience=0, epochs=3)
    give(trainer, [0.5, 0.4, 0.3])
    trainer.fit(Quiet(), never)
    state = trainer.checkpoints.newest()
    assert state is not None
    assert state.facts["plateau"] == [0.5, 0, pytest.approx(0.01)]


# ---- phases ------------------------------------------------------------------------------------------------------------

CHANGES = [
    pytest.param({}, {}, id="the same again"),
    pytest.param({"batch_size": 5, "accumulate": 2}, {}, id="other batches"),
    pytest.param({"optimizer": "sgd"}, {"keeps_optimizer": False, "keeps_schedule": False}, id="another rule"),
    pytest.param({}, {"freeze": "trunk"}, id="the trunk frozen"),
    pytest.param({}, {"freeze": ["0"], "keeps_optimizer": False}, id="one layer frozen, a fresh optimizer"),
]


@pytest.mark.parametrize(("changes", "about"), CHANGES)
@pytest.mark.parametrize("stop_after", range(0, 16, 3))
def test_stopped_in_any_phase_and_resumed_it_ends_with_the_same_weights(
    tmp_path: Path, stop_after: int, changes: dict[str, Any], about: dict[str, Any]
) -> None:
    whole = two_phases(tmp_path / "whole", changes, **about)
    whole.fit(Quiet(), never)
    trainer = two_phases(tmp_path / "parts", changes, **about)
    try:
        trainer.fit(Quiet(), after(stop_after))
    except Interruption:
        trainer = two_phases(tmp_path / "parts", changes, **about)
        state = trainer.checkpoints.newest()
        assert state is not None
        trainer.resume(state)
        trainer.fit(Quiet(), never)
    assert digest(trainer.network) == digest(whole.network)
    assert [row["phase"] for row in trainer.progress.history] == [1, 1, 2, 2]


def test_a_phase_that_changes_nothing_is_no_phase(tmp_path: Path) -> None:
    one = make_trainer(tmp_path / "one", epochs=4)
    one.fit(Quiet(), never)
    two = two_phases(tmp_path / "two", {})
    two.fit(Quiet(), never)
    assert digest(one.network) == digest(two.network)


def test_what_is_carried_into_a_phase_matters(tmp_path: Path) -> None:
    carried, fresh = two_phases(tmp_path / "a", {}), two_phases(tmp_path / "b", {}, keeps_optimizer=False)
    carried.fit(Quiet(), never)
    fresh.fit(Quiet(), never)
    assert digest(carried.network) != digest(fresh.network)


def test_what_a_phase_freezes_no_longer_moves(tmp_path: Path) -> None:
    trainer = two_phases(tmp_path, {}, freeze="trunk")
    trainer.plan = replace(trainer.plan, restore_best=False)
    with pytest.raises(Interruption):
        trainer.fit(Quiet(), after(7))  # the questions after epochs count: 4 in each
    kept = trainer.network.trunk.state_dict()
    kept = {name: value.clone() for name, value in kept.items()}
    assert trainer.progress.epoch == 2
    trainer.fit(Quiet(), never)
    assert all(torch.equal(value, kept[name]) for name, value in trainer.network.trunk.state_dict().items())


def test_a_phase_added_to_a_stopped_run_begins_its_epoch_again(tmp_path: Path) -> None:
    first = two_phases(tmp_path, {})
    first.phases = first.phases[:1]
    with pytest.raises(Interruption):
        first.fit(Quiet(), after(9))
    assert (first.progress.epoch, first.progress.batch) == (2, 2)
    second = two_phases(tmp_path, {"batch_size": 13})
    state = second.checkpoints.newest()
    assert state is not None
    second.resume(state)
    assert (second.progress.epoch, second.progress.batch, second.progress.phase) == (2, 0, 1)
    rows = second.fit(Quiet(), never)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]


def test_averaged_weights_are_judged_kept_and_resumed(tmp_path: Path) -> None:
    plain = make_trainer(tmp_path / "plain", restore_best=False)
    plain.fit(Quiet(), never)
    whole = make_trainer(tmp_path / "whole", ema=0.9, restore_best=False)
    whole.fit(Quiet(), never)
    assert digest(whole.network) != digest(plain.network)
    parts = make_trainer(tmp_path / "parts", ema=0.9, restore_best=False)
    with pytest.raises(Interruption):
        parts.fit(Quiet(), after(5))
    parts = make_trainer(tmp_path / "parts", ema=0.9, restore_best=False)
    state = parts.checkpoints.newest()
    assert state is not None
    parts.resume(state)
    parts.fit(Quiet(), never)
    assert digest(parts.network) == digest(whole.network)
    assert give(whole, []).seen[-1] == digest(whole.network)


def test_a_range_test_leaves_no_trace(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "tested")
    before = digest(trainer.network)
    found = trainer.range_test()
    assert len(found.rates) == len(found.losses) > 10
    assert digest(trainer.network) == before
    trainer.fit(Quiet(), never)
    assert digest(trainer.network) == whole_run(tmp_path / "plain")[0]


def largest_move(trainer: Trainer) -> float:
    """How far training moves a parameter at most."""
    trainer.plan = replace(trainer.plan, restore_best=False)
    start = [p.detach().clone() for p in trainer.network.parameters()]
    trainer.fit(Quiet(), never)
    return max((p - q).abs().max().item() for p, q in zip(trainer.network.parameters(), start, strict=True))


def test_clipping_bounds_the_update(tmp_path: Path) -> None:
    settings = {"optimizer": "sgd", "epochs": 1, "schedule": "constant", "weight_decay": 0.0}
    assert largest_move(make_trainer(tmp_path / "bound", **settings, clip_norm=1e-6)) < 1e-6
    assert largest_move(make_trainer(tmp_path / "free", **settings)) > 1e-4
