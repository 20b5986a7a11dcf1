"""The command `sightline train`, as a user types it: scan, decoding, near twins, audit, training, judging, report.

`history.csv` is written anew after each epoch, and watched. "imported" is where the code that trains is there; images are
decoded since before. "ready" is where the resolved settings are written: the data is decoded, audited and divided, and the
network is there.
"""

from __future__ import annotations

import csv
import io
import sys
import threading
import time
from pathlib import Path

from benchmarks.peers.wire import asked, tell
from sightline.cli import main as sightline


def watch(run: Path, ended: threading.Event) -> None:
    """Tells each epoch when its row is there; the last look comes after the end."""
    epochs, imported, ready = 0, False, False
    while True:
        last = ended.is_set()
        if not imported and hasattr(sys.modules.get("sightline.run.train"), "resume"):
            imported = True
            tell(event="imported")
        if not ready and (run / "config.yaml").exists():
            ready = True
            tell(event="ready")
        history = run / "history.csv"
        rows = list(csv.DictReader(io.StringIO(history.read_text()))) if history.exists() else []
        for row in rows[epochs:]:
            tell(epoch=int(row["epoch"]), accuracy=float(row["val_accuracy"]))
        epochs = len(rows)
        if last:
            return
        time.sleep(0.02)


def main() -> None:
    """Trains; the whole of it is the time until the process ends."""
    given = asked()
    words = [f"data.size={given.size}", f"train.epochs={given.epochs}", f"train.seed={given.seed}", f"device.threads={given.threads}"]
    words += [f"model.name={given.network}", "model.weights=none"] if given.network else []
    ended = threading.Event()
    watcher = threading.Thread(target=watch, args=(given.out / "run", ended), daemon=True)
    watcher.start()
    sys.argv = ["sightline", "train", str(given.data), *words, *given.set, "--run", str(given.out / "run")]
    try:
        sightline()
    finally:  # it leaves with its exit status
        ended.set()
        watcher.join()


if __name__ == "__main__":
    main()
