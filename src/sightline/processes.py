"""The processes that torchrun started together, and what they tell each other. For one process all of it does nothing.

    if is_main(): ...                        one process writes and speaks
    with together(): work()                  an error of one process ends all of them; it is told once
    value = told(value)                      what the main process has
    own = data[share().of(len(data))]        each its part
    whole = rows(f(own), len(data))          all parts, in order
    sum_over(gradients)                      in place, on every process

The words are those of torchrun's environment (RANK, WORLD_SIZE, MASTER_ADDR, ...). torch.distributed is imported with the
first exchange: gloo for processors, NCCL for tensors on GPUs. Code that only the main process runs, and that might
exchange something, stands under `alone()`. `start` begins a process of one's own. It gives up processes that do different
things at the same time.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sightline.errors import Elsewhere

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

Value = TypeVar("Value")

_WORDS = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_PATIENCE = timedelta(days=7)  # the others wait while the main process looks for twins; who died is known at once
_GONE = ("closed by peer", "reset by peer", "Broken pipe", "Connection refused", "failed to recv", "Socket closed", "Timed out waiting")

_alone = False
_told: BaseException | None = None  # the error that the others have heard of


@dataclass(frozen=True, slots=True)
class Share:
    """Part `part` of `parts` contiguous ones, whose sizes differ by one at most."""

    part: int = 0
    parts: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.part < self.parts:
            raise ValueError(f"part {self.part} of {self.parts}")

    def of(self, count: int) -> slice:
        """Which of `count` things are this part's."""
        small, more = divmod(count, self.parts)
        first = self.part * small + min(self.part, more)
        return slice(first, first + small + (self.part < more))


ALL = Share()


def world() -> int:
    """How many processes there are; 1 where torchrun started none, and under `alone()`."""
    return 1 if _alone or not all(word in os.environ for word in _WORDS) else int(os.environ["WORLD_SIZE"])


def rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ["RANK"]) if world() > 1 else 0


def local() -> Share:
    """Which of the processes of this machine this is."""
    return Share(int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))) if world() > 1 else ALL


def share() -> Share:
    """This process's part of all work."""
    return Share(rank(), world())


def is_main() -> bool:
    """Whether this is the process that writes and speaks."""
    return os.environ.get("RANK", "0") == "0" or not all(word in os.environ for word in _WORDS)


def job() -> str | None:
    """The name of torchrun's job, which its restarts keep; None where it has none of its own (--rdzv-id, --standalone)."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return None if world() == 1 or name == "none" else name


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Within it this process is the only one."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


@contextlib.contextmanager
def untold() -> Iterator[None]:
    """Within it an error is told to nobody, because the others are adding up numbers: they find this process gone.

    But for an exception with an attribute `agreed`, which all raise at the same point.
    """
    global _told
    try:
        yield
    except Exception as error:
        if not getattr(error, "agreed", False):
            _told = error
        raise


# ---- words -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Ends when all have come to its end. Where some raised, the first of them raises its error, all others Elsewhere."""
    global _told
    try:
        yield
    except Elsewhere:
        raise
    except Exception as error:
        if world() == 1 or _is_told(error):
            raise
        _told, status = error, getattr(error, "exit_status", 1)
        failed = [rank()]
        with contextlib.suppress(Elsewhere):  # nobody is left to be told
            failed = [number for number, (theirs, _) in enumerate(_exchange((status, None))) if theirs is not None]
        if failed[0] != rank():
            raise Elsewhere(status) from error
        raise
    gathered(None)


def _is_told(error: BaseException) -> bool:
    """Whether the others know of an error, or of one that it was raised in place of."""
    known: BaseException | None = error
    while known is not None and known is not _told:
        known = known.__cause__ or known.__context__
    return known is not None


def gathered(value: Value) -> list[Value]:
    """The value of each process, by rank; small ones that can be pickled. Raises Elsewhere where another has failed."""
    if world() == 1:
        return [value]
    found = _exchange((None, value))
    failed = next((status for status, _ in found if status is not None), None)
    if failed is not None:
        raise Elsewhere(failed)
    return [theirs for _, theirs in found]


def told(value: Value) -> Value:
    """The main process's value, on all of them."""
    return gathered(value)[0]


def from_main(make: Callable[[], Value]) -> Value:
    """What `make` gives on the main process, which alone runs it."""
    if world() == 1:
        return make()
    made = None
    with together():
        if is_main():
            with alone():
                made = make()
    return told(made)  # type: ignore[return-value]


def any_of(asked: Callable[[], bool]) -> Callable[[], bool]:
    """A question that is true for all where it is true for one; all must ask it at the same point."""
    if world() == 1:
        return asked
    import torch

    def ask() -> bool:
        votes = torch.tensor([float(asked())])
        sum_over([votes])
        return bool(votes)

    return ask


def _exchange(value: tuple[int | None, Any]) -> list[tuple[int | None, Any]]:
    found: list[Any] = [None] * world()
    with _peers():
        _group().all_gather_object(found, value)
    return found


# ---- numbers ---------------------------------------------------------------------------------------------------------


def sum_over(tensors: Sequence[torch.Tensor]) -> None:
    """Each tensor becomes its sum over all processes, in place; all of one type and device."""
    if world() == 1 or not tensors:
        return
    import torch

    flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    with _peers():
        _group().all_reduce(flat)
    for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.detach().copy_(part.view(tensor.shape))


def rows(own: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """(count, ...) rows of all processes in order, from each one's `share().of(count)` of them; each comes once."""
    if world() == 1:
        return own
    import numpy as np
    import torch

    shapes = gathered((len(own), own.shape[1:]))
    width = next((shape for length, shape in shapes if length), own.shape[1:])
    whole = np.zeros((count, *width), dtype=own.dtype)
    if len(own):
        whole[share().of(count)] = own
    sum_over([torch.from_numpy(whole)])  # the others have zeros there
    return whole


# ---- disks -----------------------------------------------------------------------------------------------------------


def sharing(folder: Path) -> tuple[Share, int]:
    """This process's share among those that see the same folder, and the rank of the first of them.

    Processes of one machine always do; those of several where the folder lies on a disk that all have.
    """
    if world() == 1:
        return ALL, 0
    sign = folder / f".{uuid.uuid4().hex[:12]}.here"
    with together():
        if local().part == 0:
            folder.mkdir(parents=True, exist_ok=True)
            sign.touch()
    try:
        signs = gathered(sign.name if local().part == 0 else None)
        seen = next((number for number, name in enumerate(signs) if name is not None and (folder / name).exists()), rank())
        theirs = gathered(seen)
    finally:
        sign.unlink(missing_ok=True)
    mates = [number for number, first in enumerate(theirs) if first == seen]
    return Share(mates.index(rank()), len(mates)), mates[0]


# ---- helpers ---------------------------------------------------------------------------------------------------------


def start(module: str, asked: Any, **options: Any) -> subprocess.Popen[bytes]:
    """`python -m module`, which sees the same modules and nothing of the folder the user is in; its first word is `asked`, in JSON.

    What it prints comes back over a pipe, its errors go nowhere. Raises OSError where no process can start.
    """
    there = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-P", "-m", module, json.dumps(asked)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=there, **options)


# ---- the group -------------------------------------------------------------------------------------------------------


def _group() -> Any:
    """torch.distributed, its group started."""
    import torch
    import torch.distributed as group

    if not group.is_initialized():
        from torch.distributed import PrefixStore  # type: ignore[attr-defined]
        from torch.distributed.rendezvous import rendezvous

        store, number, count = next(rendezvous("env://", timeout=_PATIENCE))
        # An agent's store outlives its workers: those that are started again must not find the addresses of the dead.
        store = PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        group.init_process_group(backend, store=store, rank=number, world_size=count, timeout=_PATIENCE)
    return group


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    """Where another process has died there is nothing to add: torchrun tells who, and it said why itself."""
    try:
        yield
    except RuntimeError as error:
        if any(sign in str(error) for sign in _GONE):
            raise Elsewhere(1) from error
        raise
