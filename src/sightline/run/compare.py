"""Runs beside each other, on the images that all of them have judged: which is better, and is it chance?

    found = compare(["runs/plain", "runs/pretrained"])
    print(found.text())
    found.write(Path("comparison.json"))

It reads what `evaluate` wrote, no image and no network. Runs that were split differently have fewer test images in common;
an image is known by its path, and its content must not have changed from run to run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from sightline import files
from sightline.errors import DataError, RunError, SettingsError
from sightline.evaluation.compare import compare as compare_answers
from sightline.evaluation.predictions import Predictions
from sightline.evaluation.text import comparison_report
from sightline.run.folder import RunFolder, refuse_among_images
from sightline.run.repeats import seeds_text


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        found: of `evaluation.compare.compare`, with `split`, and `path` in each of its `runs`.
        notes: sentences that the user should have seen.
    """

    found: dict[str, Any]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        """One line; `text()` has the figures."""
        return f"Comparison({', '.join(row['name'] for row in self.found['runs'])}, on {self.found['n']:,} images)"

    def text(self) -> str:
        """Sentences first, then the figures, then the classes that differ."""
        return comparison_report(self.found) + "".join(f"\n{note}\n" for note in self.notes)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts."""
        return self.found | {"notes": list(self.notes)}

    def write(self, path: Path) -> None:
        """As .json or .txt, by the suffix; raises SettingsError for others, RunError for a place among the images of a run."""
        for row in self.found["runs"]:
            refuse_among_images(path, RunFolder.open(row["path"]).started()["folder"])
        kind = path.suffix.lower()
        if kind == ".json":
            files.write_json(path, self.to_json())
        elif kind == ".txt":
            files.write_text(path, self.text())
        else:
            raise SettingsError(f"--out {path}: the name must end in .json or .txt.")


def compare(runs: Sequence[str | Path], split: str = "test") -> Comparison:
    """Each run against the first, and which is best.

    Args:
        runs: two run folders or more.
        split: "test", "val", or the name of another folder that all of them have evaluated.

    Raises:
        SettingsError: fewer than two runs, or one twice.
        RunError: a run was not evaluated on that split.
        DataError: images, labels or classes do not belong together.
    """
    opened = [RunFolder.open(run) for run in runs]
    names = _names(opened)
    answers = {name: _answers(run, split) for name, run in zip(names, opened, strict=True)}
    _refuse_changed(dict(zip(names, opened, strict=True)), answers)
    _refuse_other_folders(opened, split)
    found = compare_answers(answers)
    for row, run in zip(found["runs"], opened, strict=True):
        row["path"] = str(run.root)
    return Comparison({"split": split} | found, (*_notes(found, split), *_seeds(opened, found, split)))


def _names(runs: Sequence[RunFolder]) -> list[str]:
    """The names of the folders, or their paths where names repeat."""
    if len(runs) < 2:
        raise SettingsError("A comparison needs two runs or more: sightline compare RUN RUN.")
    places = [run.root.resolve() for run in runs]
    twice = next((run for run, place in zip(runs, places, strict=True) if places.count(place) > 1), None)
    if twice is not None:
        raise SettingsError(f"{twice.root} is named twice: a run cannot be compared with itself.")
    names = [place.name for place in places]
    return names if len(set(names)) == len(names) else [str(run.root) for run in runs]


def _answers(run: RunFolder, split: str) -> Predictions:
    path = run.evaluation(split) / "predictions.parquet"
    if not path.is_file():
        if (run.evaluation("folds") / "predictions.parquet").is_file():
            raise RunError(f"{run.root} was not judged on {split} but by its folds: compare runs with folds, with `--split folds`.")
        word = (
            f"sightline evaluate {files.quoted(run.root)} --split {split}"
            if split in ("test", "val")
            else f"sightline evaluate {files.quoted(run.root)} FOLDER"
        )
        raise RunError(f"{run.root} has not been evaluated on {split}: run `{word}` first.")
    return Predictions.load(path)


def _refuse_changed(runs: Mapping[str, RunFolder], answers: Mapping[str, Predictions]) -> None:
    """Paths that stand for other pictures than in the first run: two folders may name their files alike."""
    digests = {name: _digests(run) for name, run in runs.items()}
    (first, known), *others = digests.items()
    judged = set(answers[first].ids)
    for name, digest in others:
        common = judged & set(answers[name].ids) & known.keys() & digest.keys()
        differs = sorted(path for path in common if known[path] != digest[path])
        if differs:
            raise DataError(
                f"{first} and {name} were not judged on the same images: {differs[0]} is another picture in each ({len(differs):,} such). "
                "Train and evaluate them on the same folder."
            )


def _refuse_other_folders(runs: Sequence[RunFolder], split: str) -> None:
    """Figures of another folder are kept by its name: two folders may be called alike."""
    sources = [run.evaluation(split) / "source.txt" for run in runs]
    folders = {source.read_text().strip() for source in sources if source.exists()}
    if len(folders) > 1 or (folders and not all(source.exists() for source in sources)):
        raise DataError(f"The runs were not judged on the same folder: {' and '.join(sorted(folders))}. Evaluate them on one.")


def _digests(run: RunFolder) -> dict[str, str]:
    """{path: digest of the file} of the run's own images; none where they are not known."""
    try:
        return dict(run.read_images().select("path", pl.col("digest").cast(pl.String)).iter_rows())
    except RunError:
        return {}


def _notes(found: Mapping[str, Any], split: str) -> list[str]:
    notes = []
    left = [f"{row['left_out']:,} of {row['name']}" for row in found["runs"] if row["left_out"]]
    if left:
        notes.append(f"Only the {found['n']:,} images that all have judged were compared; left out: {', '.join(left)}.")
    if split == "val":
        notes.append("val chose the epoch and the temperature of each run, so the one that tried more looks better than it is.")
    return notes


def _seeds(runs: Sequence[RunFolder], found: Mapping[str, Any], split: str) -> list[str]:
    """Of runs that were trained with several seeds: that the first one is compared, and what the others are like."""
    notes = []
    for row, run in zip(found["runs"], runs, strict=True):
        if run.seeds_summary.is_file():
            seeds = files.read_json(run.seeds_summary)
            all_of_them = f" ({seeds_text(seeds)})" if seeds["split"] == split else ""
            notes.append(
                f"Of {row['name']} the network of its first seed, {seeds['seeds'][0]}, was compared, not all of them{all_of_them}."
            )
    return notes
