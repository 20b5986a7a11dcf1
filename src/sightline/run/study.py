"""StudyFolder: owns every path of a study, and knows whether it is of the same images.

folder = StudyFolder.at("flowers-lr", source)
STUDY/study.yaml                  what is searched, on what, by what
STUDY/images.parquet              the images and their split, the same for all trials
STUDY/study.db                    Optuna's storage, unless another one is given
STUDY/trials/0007/                a run folder a trial
STUDY/best/                       the best one, trained again and judged
STUDY/trials.csv, tune.html, pictures/
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from sightline import files
from sightline.errors import RunError, SettingsError
from sightline.run.folder import RunFolder, refuse_among_images
from sightline.yaml12 import dump


@dataclass(frozen=True)
class StudyFolder:
    """The folder of one study."""

    root: Path

    @classmethod
    def at(cls, study: str | None, source: Path) -> StudyFolder:
        """The folder of a study, made where it is not there: runs/NAME, or where a path is given, that.

        Raises:
            SettingsError: no such name can be.
            RunError: there is something else there already, or it would lie among the images.
        """
        name = study or f"{source.expanduser().resolve().stem or 'images'}-tune"
        if not re.fullmatch(r"[\w.-]+", Path(name).name) or Path(name).name in (".", ".."):
            raise SettingsError(f"--study {name}: a study's name is made of letters, digits, points, hyphens and underscores.")
        path = Path(name).expanduser() if "/" in name else Path("runs") / name
        refuse_among_images(path, source, "--study")
        there = path.exists() and (not path.is_dir() or any(path.iterdir()))
        if there and not (path / "workers").is_dir():
            raise RunError(f"{path} is there already and is no study: choose another --study NAME.")
        files.make_folder(path / "workers")
        return cls(path)

    @property
    def name(self) -> str:
        """Of the study."""
        return self.root.resolve().name

    @property
    def images(self) -> Path:
        """The images and their split."""
        return self.root / "images.parquet"

    @property
    def description(self) -> Path:
        """What is searched, on what, by what."""
        return self.root / "study.yaml"

    @property
    def best(self) -> Path:
        """The run folder of the best trial, trained again."""
        return self.root / "best"

    @property
    def table(self) -> Path:
        """A row a trial."""
        return self.root / "trials.csv"

    @property
    def page(self) -> Path:
        """All of it to look at."""
        return self.root / "tune.html"

    @property
    def pictures(self) -> Path:
        """The drawings, each as a file."""
        return self.root / "pictures"

    @property
    def token(self) -> Path:
        """A name of its own, which the storage knows too; so trials of another study are never taken for its own."""
        return self.root / "workers" / ".study"

    @property
    def has_trials(self) -> bool:
        """Whether some have begun."""
        return self.best.exists() or (self.root / "trials").exists()

    def trial(self, number: int) -> Path:
        """The run folder of a trial."""
        return self.root / "trials" / f"{number:04d}"

    @property
    def as_run(self) -> RunFolder:
        """For what only reads the table of images and the ledger."""
        return RunFolder(self.root)

    def describe(self, facts: dict[str, Any]) -> None:
        """Writes study.yaml."""
        files.write_text(self.description, dump(facts))


def digest_of(images: pl.DataFrame) -> str:
    """Of the content, label and part of every image: the same wherever the folder lies."""
    rows = images.select("path", "label", "digest", "split").sort("path").rows()
    return hashlib.sha256("\n".join(map(repr, rows)).encode("utf-8", "surrogateescape")).hexdigest()[:24]
