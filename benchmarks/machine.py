"""What a figure depends on besides the code: the machine, how busy it is, and the version of everybody measured."""

from __future__ import annotations

import datetime
import os
import platform
from importlib import metadata
from typing import Any

from sightline.device import processor_name
from sightline.threads import available_cores

PACKAGES = ("sightline", "torch", "torchvision", "timm", "numpy", "pillow", "polars", "albumentations", "kornia", "fastai", "lightning")
PACKAGES += ("ultralytics", "onnxruntime", "imagehash", "imagededup", "cleanvision")


def facts() -> dict[str, Any]:
    """Date, processor, memory, GPU, and how many processes wanted to run in the last minute (a quiet machine: 0 to 1)."""
    import torch

    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9 if hasattr(os, "sysconf") else None
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor_name(),
        "cores": available_cores(),
        "memory_gb": None if gigabytes is None else round(gigabytes),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_before": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def versions() -> dict[str, str]:
    """Of Python and of each package that is installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
