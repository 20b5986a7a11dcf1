"""RunFolder: owns every path of a run, its ledger, and the lock that keeps two trainings apart.

run = RunFolder.create("runs/flowers")
with run.locked():
    run.note("started", folder="...")
run = RunFolder.open("runs/flowers")
"""

from __future__ import annotations

import contextlib
import csv
import glob
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from sightline import files, processes
from sightline.config import Config
from sightline.errors import DiskError, RunError, SettingsError

PARTS = ("test", "val", "train")
"""Parts of a split, in the order in which a person asks for them."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    root: Path

    @classmethod
    def create(cls, root: str | Path | None, source: Path) -> RunFolder:
        """A new, empty run folder; by default runs/NAME-DATE-TIME.

        Raises:
            RunError: there is something there already.
            DiskError: it cannot be made.
        """
        path = Path(root) if root is not None else _fresh(source.resolve().stem or "run")
        if source.is_dir() and path.resolve().is_relative_to(source.resolve()):
            raise RunError(f"{path} would lie among the images of {source}, which is never written to: choose another place with --run.")
        _clear_unready(path)
        if path.exists() and (not path.is_dir() or any(p.name != ".lock" for p in path.iterdir())):
            hint = f"go on with `sightline train --resume {files.quoted(path)}`, or " if (path / "ledger.jsonl").exists() else ""
            raise RunError(f"{path} is there already: {hint}choose another place with --run.")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DiskError(f"{path} cannot be made: {error.strerror}. Choose another place with --run.") from None
        return cls(path)

    @classmethod
    def of_job(cls, job: str | None, root: str | Path | None, source: Path) -> Path | None:
        """The run that a job of torchrun has begun and that can go on, when its agent starts it again; None where there is none."""
        if job is None:
            return None
        base = source.resolve().stem or "run"
        for place in [Path(root)] if root is not None else sorted(Path("runs").glob(f"{glob.escape(base)}-*"), reverse=True):
            if (place / "config.yaml").exists() and (place / "ledger.jsonl").is_file():
                found = cls(place)
                if any(event.get("job") == job for event in [*found.events("started"), *found.events("resumed")]):
                    return place
        return None

    @classmethod
    def open(cls, root: str | Path) -> RunFolder:
        """A run folder that is there; raises RunError where it is none."""
        path = Path(root)
        if not (path / "ledger.jsonl").is_file():
            raise RunError(f"{path} is not a run folder: it has no ledger.jsonl. Give the folder that `sightline train` wrote.")
        return cls(path)

    @property
    def config(self) -> Path:
        """The resolved settings."""
        return self.root / "config.yaml"

    @property
    def environment(self) -> Path:
        """Versions, device, threads, git."""
        return self.root / "environment.json"

    @property
    def images(self) -> Path:
        """The one truth about the data."""
        return self.root / "images.parquet"

    @property
    def corrections(self) -> Path:
        """The corrections of labels that the run used, if any."""
        return self.root / "corrections.csv"

    @property
    def audit(self) -> Path:
        """What the audit found when the run began."""
        return self.root / "audit.json"

    @property
    def ledger(self) -> Path:
        """What happened, a JSON line an event."""
        return self.root / "ledger.jsonl"

    @property
    def history(self) -> Path:
        """A row an epoch."""
        return self.root / "history.csv"

    @property
    def curves(self) -> Path:
        """The picture of the history."""
        return self.root / "curves.png"

    @property
    def lr_range(self) -> Path:
        """The picture of the learning-rate range test."""
        return self.root / "lr_range.png"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's event files."""
        return self.root / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """The newest two and the best."""
        return self.root / "checkpoints"

    @property
    def classifier(self) -> Path:
        """All that predict, export and serve need."""
        return self.root / "classifier"

    @property
    def report(self) -> Path:
        """The page that shows all of it."""
        return self.root / "report.html"

    @property
    def labels(self) -> Path:
        """Labels that look wrong: `suspects.csv`, `labels.html`."""
        return self.root / "labels"

    @property
    def folds(self) -> Path:
        """A run folder a fold: 1, 2, ..."""
        return self.root / "folds"

    @property
    def seeds(self) -> Path:
        """A run folder for each seed after the first: 1, 2, ..."""
        return self.root / "seeds"

    @property
    def seeds_summary(self) -> Path:
        """Mean and spread of the figures over the seeds."""
        return self.root / "seeds.json"

    def evaluation(self, split: str) -> Path:
        """Where the figures of a part of the split go."""
        return self.root / "evaluation" / split

    def embedding(self, split: str) -> Path:
        """Where the plane of a part of the split goes."""
        return self.root / "embedding" / split

    def explanation(self, split: str) -> Path:
        """Where the heat maps of a part of the split go."""
        return self.root / "explain" / split

    def other_parts(self) -> str:
        """What to look at instead, where the run has no part of that name: a sentence that begins with a space."""
        judged = f", or at what a fold judged: RUN = {self.folds / '1'}" if (self.folds / "1" / "ledger.jsonl").exists() else ""
        return f" Look at another part (`--split val`){judged}."

    # ---- settings, ledger, tables ------------------------------------------------------------------------------------

    def read_config(self) -> Config:
        """The settings of the run; raises RunError where they are gone."""
        try:
            return Config.load(self.config)
        except SettingsError as error:
            raise RunError(f"{self.root} cannot be continued: {error}") from None

    def read_images(self) -> pl.DataFrame:
        """The table of images; raises RunError where it is gone."""
        try:
            return pl.read_parquet(self.images)
        except (OSError, pl.exceptions.PolarsError):
            raise RunError(f"{self.images} is missing or damaged: the run stopped before its data was ready. Start it again.") from None

    def started(self) -> dict[str, Any]:
        """The ledger's first line; raises RunError where it is damaged."""
        found = self.events("started")
        if not found or "folder" not in found[0]:
            raise RunError(f"{self.ledger} is damaged: it does not say how the run was started. Train anew into another folder.")
        return found[0]

    def note(self, event: str, **facts: Any) -> None:
        """Adds a line to the ledger; of several processes the main one does."""
        if processes.is_main():
            files.append_line(self.ledger, {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **facts})

    def events(self, name: str) -> list[dict[str, Any]]:
        """The ledger's lines of one kind, oldest first."""
        return [line for line in files.read_lines(self.ledger) if isinstance(line, dict) and line.get("event") == name]

    def write_history(self, rows: Sequence[dict[str, Any]]) -> None:
        """`history.csv`, whole; of several processes the main one writes it."""
        if not processes.is_main():
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        files.write_text(self.history, text.getvalue())

    @contextlib.contextmanager
    def goes_on_by_resume(self) -> Iterator[None]:
        """For a first training: after a full disk the same command would find the run folder there, what goes on is a resume."""
        try:
            yield
        except DiskError as error:
            again = f"go on with `sightline train --resume {files.quoted(self.root)}`"
            told = str(error).replace("run the same command again", again) if self.config.exists() else str(error)
            raise DiskError(told) from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process at a time trains in a run folder, or torchrun's together; raises RunError where another does."""
        import fcntl

        if not processes.is_main():
            yield
            return
        with files.disk_errors(self.root), (self.root / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunError(f"Another process is training in {self.root}. Wait for it, or choose another place with --run.") from None
            yield


def refuse_among_images(place: Path, images: str | Path, option: str = "--out") -> None:
    """Raises RunError where a place to write to lies in the user's folder."""
    if Path(images).is_dir() and place.expanduser().resolve().is_relative_to(Path(images).resolve()):
        raise RunError(f"{place} would lie among the images of {images}, which is never written to: choose another place with {option}.")


def _clear_unready(path: Path) -> None:
    """A run that stopped before its first step holds nothing that anybody could go on from; one that is alive keeps its lock."""
    if (path / "ledger.jsonl").is_file() and _is_unready(path):
        with RunFolder(path).locked():
            for found in path.iterdir() if _is_unready(path) else ():
                if found.name != ".lock":
                    found.unlink()


def _is_unready(path: Path) -> bool:
    known = {".lock", "ledger.jsonl", "environment.json", "images.parquet", "corrections.csv", "audit.json", "lr_range.png"}
    return all(found.name in known or (found.name.startswith(".") and found.name.endswith(".part")) for found in path.iterdir())


def _fresh(name: str) -> Path:
    """A path in runs/ that is not taken."""
    base = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    tries = [base, *(base.with_name(f"{base.name}-{i}") for i in range(2, 1000))]
    return next(p for p in tries if not p.exists())
