"""What this machine has, and what sightline will do with it.

    found = diagnose()          facts;  diagnosis_table(found) for people

The one command that asks the network anything: whether the hub of pretrained weights answers within three seconds.
"""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sightline import files
from sightline.data.upright import standing
from sightline.device import choose, environment
from sightline.settings import DeviceSettings
from sightline.threads import why_idle


def diagnose() -> dict[str, Any]:
    """Device, precision, threads, memory, disk, versions, and whether the hub can be reached."""
    device = choose(DeviceSettings())
    record = environment(device, views=standing(device.torch_device))
    cache = files.cache_folder()
    return {
        "device": record["device"],
        "gpu": record.get("gpu"),
        "processor": record["processor"],
        "cores": record["cores"],
        "views": record["views"],
        "memory_gb": _memory_gb(),
        "cache": str(cache),
        "cache_free_gb": round(shutil.disk_usage(_existing(cache)).free / 1e9, 1),
        "cache_used_gb": round(_used(cache) / 1e9, 2),
        "cache_writable": os.access(_existing(cache), os.W_OK),
        "hub": _hub(),
        "hub_reachable": _reachable(_hub()),
        "versions": {"python": record["python"], **record["packages"]},
    }


def diagnosis_table(found: dict[str, Any]) -> str:
    """The facts as lines, each with what follows from it."""
    device = found["device"]
    kind = found["gpu"] or found["processor"]
    why = "the hardware computes it natively" if device["precision"] == "bfloat16" else "no native bfloat16 here"
    idle = device["name"] == "cpu" and device["threads"] < found["cores"]
    lines = {
        "device": f"{device['name']} ({kind})",
        "precision": f"{device['precision']} ({why})",
        "threads": f"{device['threads']} of {found['cores']} cores that this process may use" + (f", since {why_idle()}" if idle else ""),
        "views": found["views"],
        "memory": f"{found['memory_gb']} GB" if found["memory_gb"] else "unknown",
        "pixel store": _store_line(found),
        "pretrained": _hub_line(found),
        "versions": ", ".join(f"{name} {version}" for name, version in found["versions"].items() if version),
    }
    return "\n".join(f"{name:<12} {text}" for name, text in lines.items())


def _store_line(found: dict[str, Any]) -> str:
    if not found["cache_writable"]:
        return f"{found['cache']} cannot be written: set SIGHTLINE_CACHE to a folder that can"
    budget = found["cache_free_gb"] / 2
    photographs = round(budget * 1e9 / (128 * 128 * 3))
    return f"{found['cache']}, {found['cache_used_gb']} GB used, up to {budget:.0f} GB more: {photographs:,} images at 128 px"


def _hub_line(found: dict[str, Any]) -> str:
    if found["hub_reachable"]:
        return f"{found['hub']} can be reached: weights are fetched when a timm network is named"
    return f"{found['hub']} cannot be reached: only cached weights or a local file; model.weights=auto then trains from scratch"


def _hub() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")


def _reachable(address: str) -> bool:
    """Whether the hub accepts a connection within three seconds."""
    parts = urlsplit(address)
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "TRUE", "YES", "ON") or not parts.hostname:
        return False
    try:
        with socket.create_connection((parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)), timeout=3):
            return True
    except OSError:
        return False


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _existing(path: Path) -> Path:
    """The nearest folder that is there."""
    return next(p for p in (path, *path.parents) if p.exists())


def _used(cache: Path) -> int:
    return sum(p.stat().st_size for p in cache.rglob("*") if p.is_file()) if cache.exists() else 0
