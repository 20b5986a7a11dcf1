"""Checkpoints are whole or are not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sightline.errors import RunError
from sightline.models.head import Network
from sightline.settings import TrainSettings
from sightline.training.checkpoint import Checkpoints, State, pack_optimizer, unpack_optimizer
from sightline.training.optim import build_optimizer, parameter_names


def state(step: int) -> State:
    return State({"w": torch.full((3,), float(step)), "n": torch.tensor(step)}, {"step": step, "history": [{"loss": 0.1 + step}]})


def test_what_was_saved_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    keep = Checkpoints(tmp_path / "checkpoints")
    assert keep.newest() is None
    keep.save(state(7))
    found = keep.newest()
    assert found is not None
    assert found.facts == state(7).facts
    assert torch.equal(found.tensors["w"], torch.full((3,), 7.0))


def test_the_newest_two_stay(tmp_path: Path) -> None:
    keep = Checkpoints(tmp_path, every=0)
    for step in (5, 10, 100, 15):
        keep.save(state(step))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000015", "step-000000100"]


def test_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    keep = Checkpoints(tmp_path, every=0)
    keep.save(state(1))
    keep.save(state(2))
    newest = tmp_path / "step-000000002" / "tensors.safetensors"
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1  # safetensors itself would load this
    newest.write_bytes(data)
    found = keep.newest()
    assert found is not None
    assert found.facts["step"] == 1


def test_one_without_its_manifest_does_not_count(tmp_path: Path) -> None:
    keep = Checkpoints(tmp_path, every=0)
    keep.save(state(1))
    (tmp_path / "step-000000001" / "manifest.json").unlink()
    with pytest.raises(RunError, match="damaged"):
        keep.newest()


def test_the_last_best_stays_until_it_is_forgotten(tmp_path: Path) -> None:
    keep = Checkpoints(tmp_path, every=0)
    keep.save_best({"w": torch.ones(1)}, 0)
    keep.save(state(1))
    keep.save_best({"w": torch.zeros(1)}, 3)
    keep.forget_other_bests(3)  # which the disk does not know yet
    assert torch.equal(Checkpoints(tmp_path).best(0)["w"], torch.ones(1))
    keep.save(state(2))
    assert torch.equal(keep.best(0)["w"], torch.ones(1))
    keep.forget_other_bests(3)
    assert torch.equal(keep.best(3)["w"], torch.zeros(1))
    with pytest.raises(RunError, match="gone or damaged"):
        keep.best(0)


def test_writing_takes_a_tenth_of_the_time_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("sightline.training.checkpoint.time.monotonic", lambda: now[0])
    monkeypatch.setattr(Checkpoints, "_write", lambda self, name, state: now.__setitem__(0, now[0] + 1.0))  # it takes a second
    keep = Checkpoints(tmp_path)
    written = []
    for step in range(60):
        before = now[0]
        keep.save(state(step))
        written.append(now[0] > before)
        now[0] += 0.5  # an epoch
    assert written[0]
    assert 3 <= sum(written) <= 4  # of 30 s of epochs
    before = now[0]
    keep.finish()
    assert now[0] > before or written[-1]


@pytest.mark.parametrize(
    "settings", [TrainSettings(optimizer=o, amsgrad=a) for o, a in [("sgd", False), ("adam", True), ("adamw", True), ("muon", False)]]
)
def test_an_optimizer_goes_on_as_if_it_had_never_stopped(settings: TrainSettings) -> None:
    def make() -> tuple[Network, torch.optim.Optimizer]:
        torch.manual_seed(0)
        network = Network(nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 2, 3)).to(memory_format=torch.channels_last)
        return network, build_optimizer(network, settings, 0.01, fused=True)

    def step(network: Network, optimizer: torch.optim.Optimizer, seed: int) -> None:
        images = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        network(images).square().mean().backward()
        optimizer.step()

    whole, whole_rule = make()
    for seed in range(4):
        step(whole, whole_rule, seed)
    first, first_rule = make()
    for seed in range(2):
        step(first, first_rule, seed)
    second, second_rule = make()
    second.load_state_dict(first.state_dict())
    packed = pack_optimizer(first_rule, parameter_names(first, first_rule))
    unpack_optimizer(second_rule, parameter_names(second, second_rule), {k: v.clone().contiguous() for k, v in packed.items()})
    for seed in range(2, 4):
        step(second, second_rule, seed)
    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_state_finds_its_parameter_by_name_though_groups_differ() -> None:
    network = Network(nn.Linear(2, 2), nn.Linear(2, 2))
    whole = build_optimizer(network, TrainSettings(optimizer="adamw"), 0.01, fused=False)
    network(torch.ones(1, 2)).sum().backward()
    whole.step()
    network.trunk.requires_grad_(False)
    head_alone = build_optimizer(network, TrainSettings(optimizer="adamw", layer_decay=0.5), 0.01, fused=False)
    names = parameter_names(network, head_alone)
    unpack_optimizer(head_alone, names, pack_optimizer(whole, parameter_names(network, whole)))
    assert sorted(names) == ["head.bias", "head.weight"]
    assert torch.equal(head_alone.state[network.head.weight]["exp_avg"], whole.state[network.head.weight]["exp_avg"])
    assert len(head_alone.state) == 2


def test_checkpoints_that_are_spared_are_kept_in_memory_and_written_when_asked(tmp_path: Path) -> None:
    sparing = Checkpoints(tmp_path / "checkpoints", every=1000.0)
    weight = torch.ones(3)
    sparing.save_best({"w": weight}, 0)
    sparing.save(State({"network.w": weight}, {"step": 7}))
    sparing.forget_other_bests(0)
    weight += 1  # training goes on; the best stays as it was
    assert sparing.best(0)["w"].tolist() == [1, 1, 1]
    assert not (tmp_path / "checkpoints").exists()
    sparing.save(State({"network.w": weight}, {"step": 8}))
    sparing.flush()
    again = Checkpoints(tmp_path / "checkpoints")
    newest = again.newest()
    assert newest is not None
    assert newest.facts["step"] == 8
    assert again.best(0)["w"].tolist() == [1, 1, 1]


def test_best_weights_that_no_checkpoint_knows_go_where_training_goes_on(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, every=0.0)
    for epoch in (1, 3):  # killed after the second, before its checkpoint
        checkpoints.save_best({"weight": torch.full((2,), float(epoch))}, epoch)
        checkpoints.save(State({"x": torch.zeros(1)}, {"step": epoch}))
    again = Checkpoints(tmp_path, every=0.0)
    again.go_on(1)
    assert [path.name for path in sorted(tmp_path.glob("best-*"))] == ["best-000001"]
    again.save_best({"weight": torch.full((2,), 9.0)}, 3)  # the epoch is trained again
    again.save(State({"x": torch.zeros(1)}, {"step": 4}))
    assert Checkpoints(tmp_path).best(3)["weight"].tolist() == [9.0, 9.0]
    again.go_on(None)
    assert not list(tmp_path.glob("best-*"))


def test_the_best_that_the_disk_knows_stays_until_it_knows_another(tmp_path: Path) -> None:
    sparing = Checkpoints(tmp_path, every=1000.0)
    for epoch in (0, 1):
        sparing.save_best({"w": torch.full((2,), float(epoch))}, epoch)
        sparing.save(State({}, {"step": epoch}))
        if epoch == 0:
            sparing.flush()
        sparing.forget_other_bests(epoch)
    assert Checkpoints(tmp_path).best(0)["w"].tolist() == [0, 0]
    sparing.flush()
    sparing.forget_other_bests(1)
    assert [path.name for path in tmp_path.glob("best-*")] == ["best-000001"]
