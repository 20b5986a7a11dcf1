"""What a device is set up with before anything is computed on it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import textwrap

import pytest


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back so soon")
@pytest.mark.parametrize(("variable", "kept"), [({}, True), ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False)])
def test_memory_is_used_again_from_step_to_step_unless_the_user_has_decided(variable: dict[str, str], kept: bool) -> None:
    code = """
        import resource, torch
        from sightline.device import choose
        from sightline.settings import DeviceSettings
        choose(DeviceSettings(name="cpu", threads=1))
        faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        def step():
            before = faults()
            torch.ones(25_000_000)  # 100 MB, 24,000 pages
            return faults() - before
        print(min(step() for _ in range(10)))  # what is free finds its place after some steps; what is given back never does
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | variable
    told = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True, check=True)
    assert (int(told.stdout) < 1000) == kept
