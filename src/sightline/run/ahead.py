"""What can be done before torch is there: a process of its own decodes the images while `sightline train` imports it.

    with decoding_ahead("photos", ["data.size=64"], recipe=None) as ahead:
        from sightline.run.train import train          1 to 2 s, on one core
        train("photos", ["data.size=64"], ahead=ahead)

It scans the folder and fills the cache, as training would; training waits for it and finds all decoded. Where it fails,
was wrong about what would be asked for, or was never begun, training decodes by itself, and says what is wrong. So nothing
that it finds out is passed on but its progress: a wrong setting is told once, by who always tells it. It ends with the `with`.

It gives up networks whose own size is only known once they are there (timm's, unless `data.size` is given), and torchrun.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import FrameType

from sightline import processes
from sightline.threads import available_cores


@dataclass(frozen=True)
class Ahead:
    """A process that decodes, the leader of a group of its own; None where there is none."""

    process: subprocess.Popen[bytes] | None

    def wait(self, progress: Callable[[int, int], None]) -> None:
        """Until it is done; `progress` hears of all it did, from the start."""
        if self.process is None:
            return
        assert self.process.stdout is not None
        for line in self.process.stdout:
            done, whole = line.split()
            progress(int(done), int(whole))
        self.process.wait()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Within it the process and its helpers stand still, and leave the cores to what is measured."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            with contextlib.suppress(OSError):  # it has ended
                os.killpg(self.process.pid, number)


NOT_BEGUN = Ahead(None)


@contextlib.contextmanager
def decoding_ahead(folder: str, words: Sequence[str], recipe: str | None) -> Iterator[Ahead]:
    """Decodes a folder by the settings of a recipe and of `KEY=VALUE` words; what is not done at the end is put away."""
    if processes.world() > 1 or available_cores() == 1:
        yield NOT_BEGUN
        return
    try:
        process = processes.start(__name__, [folder, [*words], recipe], stdin=subprocess.DEVNULL, process_group=0)
    except OSError:
        yield NOT_BEGUN
        return
    with process:
        try:
            yield Ahead(process)
        finally:
            process.terminate()
            process.wait()


# ---- the other process -----------------------------------------------------------------------------------------------


def _decode(folder: str, words: Sequence[str], recipe: str | None) -> None:
    gc.disable()  # a fifth of the time that these take; see cli.py
    from sightline.config import Config
    from sightline.data.store import decode_all
    from sightline.data.table import scan
    from sightline.run.decoding import choose_size, limits, store_size

    gc.enable()
    config = Config.load(recipe, words)
    if config.data.size == "auto" and not config.model.name.startswith("sightline_"):
        return
    table = scan(folder)
    allowed = limits(config)
    allowed = replace(allowed, workers=min(allowed.workers, available_cores() - 1))  # one core is torch's
    decode_all(table, store_size(config, choose_size(config, table, None)), allowed, _say)


def _say(done: int, whole: int) -> None:
    print(done, whole, flush=True)  # where nobody listens any more, this ends it


def _end(number: int, frame: FrameType | None) -> None:
    """Once: what was begun is put away in peace."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    _decode(*json.loads(sys.argv[1]))
    os._exit(0)  # all is on the disk, and its end is waited for: putting away its modules takes a twentieth of a second
