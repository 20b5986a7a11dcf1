"""For tests that train many tiny networks: what costs most of such a run and decides nothing is left out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture of a run is drawn, and the disk is not waited for."""

    def draw(what: Any, path: Path, *more: Any) -> None:
        path.write_bytes(b"")

    for name in ("figures.confusion_picture", "reliability.reliability_picture", "curves.curves_picture", "curves.range_picture"):
        monkeypatch.setattr(f"sightline.evaluation.{name}", draw)
    monkeypatch.setattr("sightline.run.pages.write_pages", lambda run, screen: None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
