"""How a competitor is asked, and how it answers: words in, JSON lines out.

given = asked()
tell(event="imported")              then "ready", where training can begin
tell(epoch=1, accuracy=0.61)        of the images in val, after each epoch
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def asked() -> argparse.Namespace:
    """`data` holds train/CLASS/image and val/CLASS/image; `out` is an empty folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--network", default=None)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[])
    return parser.parse_args()


def tell(**facts: Any) -> None:
    """One line, at once: the clock is on the other side."""
    print(json.dumps(facts), flush=True)
