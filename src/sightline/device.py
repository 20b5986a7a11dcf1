"""Where training happens: device, precision, threads; and the environment as a record.

    device = choose(config.device)          Device(name="cpu", precision="bfloat16", threads=2, ...)
    with device.autocast(): logits = network(images)

bfloat16 is used where the hardware computes it natively (AMX or AVX512-BF16 on processors, compute capability 8 on
CUDA); weights, losses and optimizer stay float32. It gives up float16, which needs loss scaling.
"""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from sightline import processes
from sightline.errors import SettingsError
from sightline.settings import DeviceSettings
from sightline.threads import asked, available_cores, fastest


@dataclass(frozen=True, slots=True)
class Device:
    """A resolved place to compute."""

    name: str  # "cpu", "cuda", "cuda:1", "mps"; of several processes each has a GPU of its own, and "cuda" is that one
    precision: str  # "float32" or "bfloat16"
    threads: int
    channels_last: bool

    @property
    def torch_device(self) -> torch.device:
        """The torch.device of that name."""
        return torch.device(self.name)

    @property
    def memory_format(self) -> torch.memory_format:
        """How image batches and convolution weights lie in memory."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self) -> torch.autocast:
        """The context in which the network runs; does nothing in float32."""
        return torch.autocast(self.torch_device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")

    def fused(self) -> bool:
        """Whether torch has fused optimizers for this device."""
        return self.torch_device.type in ("cpu", "cuda")


def choose(settings: DeviceSettings) -> Device:
    """The device, precision and threads of this run; torch's thread count is set to it.

    Raises:
        SettingsError: the device named is not there, cannot compute in the precision named, or is there for one process only.
    """
    name = settings.name
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    _require(name)
    if processes.world() > 1 and torch.device(name).type == "cuda":
        _take_own_gpu(name)
    native = has_bfloat16(name)
    precision = ("bfloat16" if native else "float32") if settings.precision == "auto" else settings.precision
    if precision == "bfloat16" and torch.device(name).type == "mps":
        raise SettingsError("device.precision=bfloat16 is not supported on mps: use float32.")
    _keep_memory()
    threads = settings.threads
    if threads == "auto":
        threads = asked() or (fastest(available_cores()) if torch.device(name).type == "cpu" else available_cores())
    torch.set_num_threads(threads)
    if torch.device(name).type == "cuda":  # promise 4: the same weights again, bit for bit
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
    return Device(name, precision, threads, settings.channels_last)


KEPT = 1 << 28
"""Bytes that glibc keeps instead of giving them back to the system, and up to which it takes memory from what it has."""


def _keep_memory() -> None:
    """Has glibc reuse memory from step to step.

    It gives large pieces back when they are free, and each time they are asked for again the system fills them with zeros, a page at a
    time: a tenth of a step at 20 and 28 px, nothing at 128 px (docs/log.md). Other C libraries are left alone, and who has set
    MALLOC_TRIM_THRESHOLD_ or the like has decided.
    """
    decided = [name for name in os.environ if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"]
    if sys.platform != "linux" or decided or platform.libc_ver()[0] != "glibc":
        return
    set_option = ctypes.CDLL(None).mallopt
    set_option(-1, KEPT)  # M_TRIM_THRESHOLD
    set_option(-3, KEPT)  # M_MMAP_THRESHOLD


def _require(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SettingsError(f"device.name={name} is not a device: use auto, cpu, cuda, cuda:N or mps.") from None
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }.get(device.type)
    if there is None:
        raise SettingsError(f"device.name={name} is not supported: use auto, cpu, cuda, cuda:N or mps.")
    if not there:
        raise SettingsError(f"device.name={name} is not available on this machine: use device.name=auto, or see `sightline doctor`.")


def _take_own_gpu(name: str) -> None:
    """Makes "cuda" mean this process's own GPU, by its number among the processes of the machine."""
    own, there = processes.local(), torch.cuda.device_count()
    if name != "cuda":
        raise SettingsError(f"device.name={name} names one GPU, and each of torchrun's processes needs its own: use device.name=cuda.")
    if own.parts > there:
        raise SettingsError(
            f"torchrun started {own.parts} processes on a machine with {there} GPU{'s' if there > 1 else ''}: "
            f"use --nproc-per-node {there}, or device.name=cpu."
        )
    torch.cuda.set_device(own.part)


def has_bfloat16(name: str) -> bool:
    """Whether the device multiplies bfloat16 natively."""
    kind = torch.device(name).type
    if kind == "cuda":
        return torch.cuda.get_device_capability(torch.device(name))[0] >= 8
    if kind == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return False


def environment(device: Device, **more: str) -> dict[str, Any]:
    """What the run depends on outside of its settings: versions, machine, device, command, and what rooms below this one know."""
    names = ("sightline", "torch", "torchvision", "timm", "numpy", "pillow", "polars", "scikit-learn")
    record: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in names},
        "device": asdict(device),
        "cores": available_cores(),
        "processor": processor_name(),
        "command": sys.argv,
        "git": _git_commit(),
        **more,
    }
    if device.torch_device.type == "cuda":
        record["gpu"] = torch.cuda.get_device_name(device.torch_device)
        record["cuda"] = torch.version.cuda
    return record


def processor_name() -> str:
    """The processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of the folder the command runs in, where it is a git checkout."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
