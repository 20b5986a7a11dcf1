"""Checkpoints: the newest two and the best, each in a folder of its own, written aside and renamed, with digests.

    keep = Checkpoints(run / "checkpoints")
    keep.save(state)                  State(tensors, facts), named by its step
    keep.save_best(weights, epoch)
    state = keep.newest()             the newest whole one, or None

Tensors are safetensors, the rest is JSON; nothing is ever unpickled. It gives up sharing tensors between checkpoints.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from sightline import files
from sightline.errors import RunError

_TENSORS, _FACTS = "tensors.safetensors", "facts.json"


@dataclass(frozen=True)
class State:
    """All that training goes on from: named tensors, and facts that JSON can hold."""

    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]


@dataclass
class _Held:
    """What is not on the disk yet: the best weights and their epoch, and the state of the moment.

    written: when the last checkpoint was; took: how many seconds.
    """

    best: dict[str, torch.Tensor] | None = None
    epoch: int | None = None
    state: State | None = None
    written: float = field(default_factory=lambda: time.monotonic())
    took: float = 0.0


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run.

    Attributes:
        every: seconds between checkpoints; the best weights are kept in memory meanwhile. None: nine times what the last one took,
            because an epoch of a kept prefix is shorter than writing the network that it belongs to.
    """

    folder: Path
    every: float | None = None
    held: _Held = field(default_factory=_Held)

    def save(self, state: State) -> None:
        """Writes a checkpoint named by `state.facts["step"]`, where it is time; of the older ones one stays."""
        self.held.state = state
        every = 9 * self.held.took if self.every is None else self.every
        if time.monotonic() - self.held.written >= every:
            self.flush()

    def finish(self) -> None:
        """Right after the last `save`: writes it, unless `every` is for a run whose last state nobody needs."""
        if self.every is None:
            self.flush()

    def flush(self) -> None:
        """Writes what is held. Only right after `save`: the tensors of a state are the network's own, which train on."""
        state, best, began = self.held.state, self.held.best, time.monotonic()
        if state is None:
            return
        if best is not None and self.held.epoch is not None and not (self.folder / f"best-{self.held.epoch:06d}").exists():
            self._write(f"best-{self.held.epoch:06d}", State(best, {"epoch": self.held.epoch}))
        self._write(f"step-{state.facts['step']:09d}", state)
        self.held.state, self.held.written = None, time.monotonic()
        self.held.took = self.held.written - began
        for old in self._named("step-")[:-2]:
            shutil.rmtree(old, ignore_errors=True)

    def save_best(self, weights: dict[str, torch.Tensor], epoch: int) -> None:
        """Keeps the weights of the best epoch; the last best stays until a checkpoint knows the new one."""
        self.held.best, self.held.epoch = {name: value.detach().clone() for name, value in weights.items()}, epoch

    def forget_other_bests(self, epoch: int) -> None:
        """Removes the weights of all epochs that are no longer the best, where the disk knows the best."""
        if not (self.folder / f"best-{epoch:06d}").exists():
            return
        for old in self._named("best-"):
            if old.name != f"best-{epoch:06d}":
                shutil.rmtree(old, ignore_errors=True)

    def forget(self) -> None:
        """Removes all of them."""
        for old in (*self._named("step-"), *self._named("best-")):
            shutil.rmtree(old)

    def go_on(self, best: int | None) -> None:
        """Removes the best weights but those of this epoch, the one that the newest checkpoint knows: a process may have been killed
        between writing others and a checkpoint, and their epoch is trained again, perhaps with other settings."""
        for old in self._named("best-"):
            if best is None or old.name != f"best-{best:06d}":
                shutil.rmtree(old)

    def newest(self) -> State | None:
        """The newest checkpoint that is whole; None where there is none.

        Raises:
            RunError: there are checkpoints and all of them are damaged.
        """
        found = self._named("step-")
        for folder in reversed(found):
            state = _read(folder)
            if state is not None:
                return state
        if found:
            raise RunError(f"Every checkpoint in {self.folder} is damaged; start again with `sightline train` into a new folder.")
        return None

    def best(self, epoch: int) -> dict[str, torch.Tensor]:
        """The weights of the best epoch.

        Raises:
            RunError: they are gone or damaged.
        """
        if self.held.best is not None and self.held.epoch == epoch:
            return self.held.best
        state = _read(self.folder / f"best-{epoch:06d}")
        if state is None:
            raise RunError(f"The best weights, {self.folder / f'best-{epoch:06d}'}, are gone or damaged.")
        return state.tensors

    def _named(self, start: str) -> list[Path]:
        return sorted(p for p in self.folder.glob(f"{start}*") if p.is_dir())

    def _write(self, name: str, state: State) -> None:
        final = self.folder / name
        with files.scratch_folder(self.folder) as part:
            save_file({k: v.detach().cpu().contiguous() for k, v in state.tensors.items()}, part / _TENSORS)
            files.write_json(part / _FACTS, state.facts)
            files.write_manifest(part, {"kind": "sightline checkpoint"})
            if final.exists():  # damaged, or of the same step: the one that is whole takes its place
                shutil.rmtree(final)
            files.publish(part, final)


def _read(folder: Path) -> State | None:
    if files.read_manifest(folder) is None:
        return None
    return State(load_file(folder / _TENSORS), files.read_json(folder / _FACTS))


# ---- what torch keeps, as tensors and facts --------------------------------------------------------------------------


def pack_optimizer(optimizer: torch.optim.Optimizer, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """The state of an optimizer as {"optimizer.KEY.PARAMETER": tensor}; its groups are rebuilt from the settings.

    Args:
        names: of the parameters, in the optimizer's order. By name they can go into another one with other groups.
    """
    state = zip(names, _parameters(optimizer), strict=True)
    return {
        f"optimizer.{key}.{name}": torch.as_tensor(value)
        for name, parameter in state
        for key, value in optimizer.state.get(parameter, {}).items()
        if value is not None
    }


def unpack_optimizer(optimizer: torch.optim.Optimizer, names: Sequence[str], tensors: dict[str, torch.Tensor]) -> None:
    """Puts the state of those parameters back that it has, in their device and memory order (fused kernels rely on it)."""
    parameters = dict(zip(names, _parameters(optimizer), strict=True))
    for entry, value in tensors.items():
        kind, _, rest = entry.partition(".")
        key, _, name = rest.partition(".")
        if kind != "optimizer" or name not in parameters:
            continue
        parameter = parameters[name]
        if value.shape == parameter.shape and value.ndim > 0:
            optimizer.state[parameter][key] = torch.empty_like(parameter).copy_(value)
        else:
            fused_on_device = optimizer.defaults.get("fused") and parameter.is_cuda
            optimizer.state[parameter][key] = value.to(parameter.device) if fused_on_device else value.clone()


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
