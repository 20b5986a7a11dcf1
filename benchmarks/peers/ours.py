"""`sightline train` at its defaults: scan, decoding, near twins, audit, training, judging, report.

`history.csv` is written anew after each epoch, and watched. "ready" is where the resolved settings are written: the data
is decoded, audited and divided, and the network is there.
"""

from __future__ import annotations

import csv
import io
import threading
import time
from pathlib import Path

from benchmarks.peers.wire import asked, tell


def watch(run: Path, ended: threading.Event) -> None:
    """Tells each epoch when its row is there; the last look comes after the end."""
    epochs, ready = 0, False
    while True:
        last = ended.is_set()
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
    from sightline.run.train import train

    tell(event="imported")
    words = [f"data.size={given.size}", f"train.epochs={given.epochs}", f"train.seed={given.seed}", f"device.threads={given.threads}"]
    words += [f"model.name={given.network}", "model.weights=none"] if given.network else []
    ended = threading.Event()
    watcher = threading.Thread(target=watch, args=(given.out / "run", ended), daemon=True)
    watcher.start()
    train(given.data, [*words, *given.set], run=given.out / "run")
    ended.set()
    watcher.join()


if __name__ == "__main__":
    main()
