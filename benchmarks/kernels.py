"""Which of oneDNN's kernels a training step runs, with their time: the proof that the matrix unit (AMX) is in use.

    python -m benchmarks kernels --model sightline_small --size 128 --threads 2

A process of its own trains on random tensors with `ONEDNN_VERBOSE=1`; the first steps, which make kernels, do not count.
What torch computes without oneDNN (norms, activations, pooling, the update) is the rest of a step's time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

STEPS, SETTLING, BATCH, MARK = 10, 3, 64, "step begins"


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """A row a kernel, the dearest first: milliseconds a step, of how many calls; and AMX's share of all of oneDNN's."""
    size, threads = given.size or 128, given.threads or 1
    command = [sys.executable, "-m", "benchmarks.kernels", given.model, str(size), str(threads)]
    words = subprocess.run(command, env=os.environ | {"ONEDNN_VERBOSE": "1"}, stdout=subprocess.PIPE, text=True, check=True).stdout
    steps = words.split(MARK)[1 + SETTLING :]
    whole = [float(step.splitlines()[-1]) for step in steps]
    rows = by_kernel(line for step in steps for line in step.splitlines())
    inside = sum(row["ms a step"] for row in rows)
    amx = sum(row["ms a step"] for row in rows if "amx" in row["kernel"])
    return {
        "model": given.model,
        "side": size,
        "threads": threads,
        "ms a step": round(sum(whole) / len(whole), 1),
        "of them in oneDNN": round(inside, 1),
        "share of oneDNN's time with AMX": round(amx / inside, 3) if inside else 0.0,
        "table": rows,
    }


def by_kernel(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Calls and milliseconds of each operation and kernel, from lines `onednn_verbose,v1,primitive,exec,cpu,OPERATION,KERNEL,...,MS`."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for line in lines:
        fields = line.split(",")
        if fields[0] == "onednn_verbose" and "exec" in fields[:5]:
            at = fields.index("exec")
            found[fields[at + 2], fields[at + 3]].append(float(fields[-1]))
    rows = [
        {"operation": operation, "kernel": kernel, "calls a step": round(len(times) / STEPS, 1), "ms a step": round(sum(times) / STEPS, 3)}
        for (operation, kernel), times in found.items()
    ]
    return sorted(rows, key=lambda row: -row["ms a step"])


def _train(model: str, size: int, threads: int) -> None:
    """Steps of training; before each a mark, after each its milliseconds."""
    import time

    import torch

    from sightline.device import choose
    from sightline.models.catalog import build
    from sightline.models.small_maps import speed_up
    from sightline.settings import DeviceSettings, ModelSettings

    device = choose(DeviceSettings(name="cpu", threads=threads))
    network = build(ModelSettings(name=model, weights="none"), 10, size=size).network.to(memory_format=device.memory_format)
    speed_up(network)
    precision = torch.bfloat16 if device.precision == "bfloat16" else torch.float32
    images = torch.randn(BATCH, 3, size, size).to(precision, memory_format=device.memory_format)
    labels = torch.arange(BATCH) % 10
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    for _ in range(SETTLING + STEPS):
        print(MARK, flush=True)
        started = time.perf_counter()
        with device.autocast():
            logits = network(images)
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        print(1000 * (time.perf_counter() - started), flush=True)


if __name__ == "__main__":
    _train(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
