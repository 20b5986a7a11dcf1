"""Checkpoints: the newest two and the best, each in a folder of its own, written aside and renamed, with digests.

    keep = Checkpoints(run / "checkpoints")
    keep.save(state)                  State(tensors, facts), named by its step
    keep.save_best(weights, epoch)
    state = keep.newest()             the newest whole one, or None

Tensors are safetensors, the rest is JSON; nothing is ever unpickled. It gives up sharing tensors between checkpoints.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run."""

    folder: Path

    def save(self, state: State) -> None:
        """Writes a checkpoint named by `state.facts["step"]`; of the older ones one stays."""
        self._write(f"step-{state.facts['step']:09d}", state)
        for old in self._named("step-")[:-2]:
            shutil.rmtree(old, ignore_errors=True)

    def save_best(self, weights: dict[str, torch.Tensor], epoch: int) -> None:
        """Keeps the weights of the best epoch; the last best stays until a checkpoint knows the new one."""
        self._write(f"best-{epoch:06d}", State(weights, {"epoch": epoch}))

    def forget_other_bests(self, epoch: int) -> None:
        """Removes the weights of all epochs that are no longer the best."""
        for old in self._named("best-"):
            if old.name != f"best-{epoch:06d}":
                shutil.rmtree(old, ignore_errors=True)

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


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The state of an optimizer as {"optimizer.INDEX.NAME": tensor}; its groups are rebuilt from the settings."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{i}.{name}": torch.as_tensor(v) for i, values in state.items() for name, v in values.items() if v is not None}


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Puts the state back, each tensor in its parameter's device and memory order (fused kernels rely on it)."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for key, value in tensors.items():
        kind, _, rest = key.partition(".")
        if kind != "optimizer":
            continue
        index, _, name = rest.partition(".")
        parameter = parameters[int(index)]
        if value.shape == parameter.shape and value.ndim > 0:
            optimizer.state[parameter][name] = torch.empty_like(parameter).copy_(value)
        else:
            fused_on_device = optimizer.defaults.get("fused") and parameter.is_cuda
            optimizer.state[parameter][name] = value.to(parameter.device) if fused_on_device else value
