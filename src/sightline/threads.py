"""How many processor threads are fastest here and now: measured, not assumed.

    torch.set_num_threads(asked() or fastest(available_cores()))

More threads are not always faster. They wait for each other in a loop, so that on cores which others use too, each waits
for one that is not running: an epoch with two threads on two busy cores took 20 times as long as with one (docs/log.md).
Where `OMP_NUM_THREADS` is set, outside of torchrun (which always sets it), the user has decided. It gives up noticing
that a machine became busy later.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path

from sightline import processes

WORTHWHILE = 1.25
"""Fewer threads must be so many times as fast as all to be taken: on a quiet machine noise must not decide, since another
number of threads adds up in another order. There two threads measured 0.6 to 0.9 of one thread's seconds (docs/log.md)."""

ROUNDS = 3
"""Each number of threads is measured so often, in turn; its fastest counts."""


def available_cores() -> int:
    """Processor cores that this process may use: affinity and container limits counted, and shared among torchrun's processes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:  # cgroup v2: "max 100000" or "200000 100000"
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass
    return max(1, cores // processes.local().parts)


def asked() -> int | None:
    """What `OMP_NUM_THREADS` says, where a user set it; torchrun sets it for its processes by itself."""
    text = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(text) if text.isdecimal() and int(text) > 0 and processes.world() == 1 else None


def why_idle() -> str:
    """Why fewer threads than cores were chosen, for a person."""
    return "OMP_NUM_THREADS says so" if asked() else "all of them were measured to be slower: others use them too"


@functools.cache
def fastest(cores: int) -> int:
    """As `choice` says of a training step of one convolution; measured once a process, so that all its trainings compute alike."""
    return choice(cores, _convolution()) if cores > 1 else cores


def choice(cores: int, seconds: Callable[[int], float]) -> int:
    """All cores, or a half, a quarter ... of them where that is faster by `WORTHWHILE`.

    Args:
        seconds: of a fixed piece of work with so many threads.
    """
    counts = [cores]
    while counts[-1] > 1:
        counts.append(counts[-1] // 2)
    rounds = [[seconds(count) for count in counts] for _ in range(ROUNDS)]
    best = {count: min(found) for count, found in zip(counts, zip(*rounds, strict=True), strict=True)}
    chosen = min(counts, key=lambda count: best[count])
    return chosen if best[cores] > WORTHWHILE * best[chosen] else cores


def _convolution() -> Callable[[int], float]:
    """One step of training on 32 pictures of 16 x 16 with 64 channels; ones, so that no generator is touched."""
    import torch  # here, since cores are counted before it is there

    pictures = torch.ones(32, 64, 16, 16).to(memory_format=torch.channels_last)
    weights = torch.ones(64, 64, 3, 3).to(memory_format=torch.channels_last).requires_grad_()

    def seconds(threads: int) -> float:
        torch.set_num_threads(threads)
        started = time.perf_counter()
        torch.nn.functional.conv2d(pictures, weights, padding=1).sum().backward()  # type: ignore[no-untyped-call]
        return time.perf_counter() - started

    seconds(1)  # kernels are made on the first call
    return seconds
