"""What a classifier says of files: a table, CSV, JSON, Parquet, pictures with bars, or a filled submission file.

    report = predict("runs/flowers", ["a.jpg", "folder", "more/*.png"], top=5)
    report.write(Path("answers.csv"))

Every input has its row, in order; one that cannot be read has the reason instead of an answer.
"""

from __future__ import annotations

import glob
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sightline import files
from sightline.classifier import Answers, Classifier
from sightline.data.images import decode
from sightline.data.table import list_images
from sightline.errors import DataError, SettingsError
from sightline.run.evaluate import check_views


@dataclass(frozen=True)
class PredictionReport:
    """Answers with the names of the classes; `top` of them an image.

    Attributes:
        left_out: {reason: count} of files in given folders that are no images.
    """

    classifier: Classifier
    answers: Answers
    top: int
    left_out: dict[str, int]

    def rows(self) -> list[dict[str, Any]]:
        """A row an input.

        Returns:
            `path`; `predictions`: class and probability, likeliest first; `reason` why it cannot be read, or None; `set`:
            the classes it may be of, likeliest first; `abstain`: why no single answer should be relied on, or None;
            `novelty`: how unlike the training images it is. `set` and `novelty` are None for an unreadable file, and where
            the classifier has no thresholds.
        """
        places = {int(i): k for k, i in enumerate(self.answers.readable)}
        return [self._row(str(path), places.get(i), self.answers.unreadable.get(i)) for i, path in enumerate(self.answers.paths)]

    def _row(self, path: str, k: int | None, reason: str | None) -> dict[str, Any]:
        """The row of the k-th readable file, or of one that cannot be read."""
        if k is None:
            return {"path": path, "predictions": [], "reason": reason, "set": None, "abstain": None, "novelty": None}
        answers, names = self.answers, self.classifier.classes
        chances = answers.probabilities[k]
        ranked = np.argsort(-chances, kind="stable")[: self.top]
        return {
            "path": path,
            "predictions": [{"class": names[c], "probability": float(chances[c])} for c in ranked],
            "reason": None,
            "set": None if answers.sets is None else self.classifier.members(chances, answers.sets[k]),
            "abstain": answers.abstain[k],
            "novelty": None if answers.novelty is None else float(answers.novelty[k]),
        }

    def frame(self) -> pl.DataFrame:
        """The rows as a table: `path`, `predicted`, `confidence`, `predicted_2`, ..., `reason`, `set` (a|b), `abstain`, `novelty`."""
        columns: dict[str, list[Any]] = {"path": []}
        for rank in range(1, min(self.top, len(self.classifier.classes)) + 1):
            columns |= {_ranked("predicted", rank): [], _ranked("confidence", rank): []}
        columns |= {"reason": [], "set": [], "abstain": [], "novelty": []}
        for row in self.rows():
            columns["set"].append(None if row["set"] is None else "|".join(row["set"]))
            columns["abstain"].append(row["abstain"])
            columns["novelty"].append(row["novelty"])
            columns["path"].append(row["path"])
            columns["reason"].append(row["reason"])
            for rank in range(1, min(self.top, len(self.classifier.classes)) + 1):
                answer = row["predictions"][rank - 1] if row["predictions"] else {"class": None, "probability": None}
                columns[_ranked("predicted", rank)].append(answer["class"])
                columns[_ranked("confidence", rank)].append(answer["probability"])
        numbers = ("confidence", "novelty")
        return pl.DataFrame(columns, schema={name: pl.Float64 if name.startswith(numbers) else pl.String for name in columns})

    def text(self) -> str:
        """A line an image: its likeliest classes with their probabilities and why it abstains, or why it cannot be read."""
        lines = []
        for row in self.rows():
            said = [f"{p['class']} {100 * p['probability']:.1f} %" for p in row["predictions"]]
            said += [f"abstains: {row['abstain']}"] if row["abstain"] else []
            lines.append(f"{row['path']}  {'  '.join(said) if said else 'unreadable: ' + str(row['reason'])}")
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """As .csv, .json or .parquet, by the suffix; raises SettingsError for others."""
        kind = path.suffix.lower()
        if kind == ".json":
            files.write_json(path, self.rows())
        elif kind == ".csv":
            files.write_text(path, self.frame().write_csv())
        elif kind == ".parquet":
            files.write_atomic(path, self.frame().write_parquet)
        else:
            raise SettingsError(f"--out {path}: the name must end in .csv, .json or .parquet.")

    def plot(self, folder: Path) -> list[Path]:
        """Each readable picture beside its bars, as PNG files in `folder`."""
        from sightline.evaluation.figures import predictions_picture

        with files.disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        written: dict[Path, None] = {}
        for row in self.rows():
            if row["reason"] is not None:
                continue
            source = Path(row["path"])
            target, copy = folder / f"{source.stem}.png", 2
            while target in written:
                target, copy = folder / f"{source.stem}-{copy}.png", copy + 1
            pixels = decode(source.read_bytes(), max_pixels=self.classifier.preprocess.max_pixels).pixels
            names = [p["class"] for p in row["predictions"]]
            title = f"{row['path']} ({row['abstain']})" if row["abstain"] else row["path"]
            with files.disk_errors(target):
                predictions_picture(pixels, names, [p["probability"] for p in row["predictions"]], target, title)
            written[target] = None
        return list(written)

    def fill(self, template: Path) -> str:
        """A submission file as CSV text: the template's columns and row order, its second column filled.

        The first column names the files, with or without suffix. The row of an unreadable file stays empty.

        Raises:
            DataError: a name in the template has no answer, or has several.
        """
        frame = _read_template(template)
        name_column, answer_column = frame.columns[0], frame.columns[1]
        full, stems = self._by_name()
        filled, missing = [], []
        for name in frame[name_column]:
            found = full.get(name) or stems.get(name) or stems.get(Path(name).stem) or {}
            if len(found) > 1:
                raise DataError(f"{template}: the name '{name}' fits several files: {', '.join(sorted(found)[:3])}.")
            missing += [] if found else [name]
            filled.append(next(iter(found.values())) if found else None)
        if missing:
            shown = ", ".join(missing[:3])
            raise DataError(f"{template} names {len(missing)} files that were not given to predict, such as {shown}.")
        text: str = frame.with_columns(pl.Series(answer_column, filled, dtype=pl.String)).write_csv()
        return text

    def _by_name(self) -> tuple[dict[str, dict[str, str | None]], dict[str, dict[str, str | None]]]:
        """{name: {path: answer}} by full name and by name without suffix."""
        full: dict[str, dict[str, str | None]] = {}
        stems: dict[str, dict[str, str | None]] = {}
        for row in self.rows():
            path = Path(row["path"])
            answer = row["predictions"][0]["class"] if row["predictions"] else None
            full.setdefault(path.name, {})[str(path)] = answer
            stems.setdefault(path.stem, {})[str(path)] = answer
        return full, stems


def predict(run: str | Path, paths: Sequence[str | Path], top: int = 5, views: int = 1) -> PredictionReport:
    """What the classifier of a run, or of a classifier folder, says of files, folders and glob patterns.

    Args:
        top: classes to name for each image.
        views: test-time augmentation: the mean of so many views, 1 to 10.

    Raises:
        RunError: there is no classifier.
        DataError: a path is not there, or nothing was given.
    """
    if top < 1:
        raise SettingsError(f"--top must be at least 1, not {top}.")
    check_views(views)
    found, left_out = find_inputs(paths)
    classifier = Classifier.load(run)
    return PredictionReport(classifier, classifier.classify(found, views), min(top, len(classifier.classes)), left_out)


def find_inputs(paths: Iterable[str | Path]) -> tuple[list[Path], dict[str, int]]:
    """The files that paths, folders and patterns stand for, in the order given; and what was left out of folders.

    Raises:
        DataError: something is not there, or there is no image at all.
    """
    found: list[Path] = []
    left_out: dict[str, int] = {}
    for given in paths:
        path = Path(given).expanduser()
        if path.is_dir():
            images, skipped = list_images(path)
            found += images
            for reason, n in skipped.items():
                left_out[reason] = left_out.get(reason, 0) + n
        elif path.exists() or path.is_symlink():
            found.append(path)
        elif glob.has_magic(str(given)):
            matches = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file())
            if not matches:
                raise DataError(f"No file fits the pattern {given}.")
            found += matches
        else:
            raise DataError(f"There is no file or folder {given}.")
    if not found:
        raise DataError("No image was given: name files, folders or patterns, or - to read a list from standard input.")
    return found, left_out


def _ranked(name: str, rank: int) -> str:
    return name if rank == 1 else f"{name}_{rank}"


def _read_template(template: Path) -> pl.DataFrame:
    try:
        frame = pl.read_csv(template, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"The template {template} cannot be read: {' '.join(str(error).split())[:200]}") from None
    if len(frame.columns) < 2:
        raise DataError(f"The template {template} has one column; it needs one with file names and one to fill.")
    return frame


def show_predictions(report: PredictionReport, out: str | None, plot: str | None, template: str | None, as_json: bool) -> None:
    """Writes and prints what the command line was asked for; the answers go to standard output unless a file takes them."""
    if template is not None:
        text = report.fill(Path(template))
        files.write_text(Path(out), text) if out is not None else print(text, end="")
    elif out is not None:
        report.write(Path(out))
    if plot is not None:
        report.plot(Path(plot))
    written = [str(path) for path in (out, plot) if path is not None]
    if written and not as_json:
        unsure = sum(reason is not None for reason in report.answers.abstain)
        abstaining = f", {unsure:,} of them abstain" if unsure else ""
        print(f"{len(report.answers.paths):,} images{abstaining}: see {' and '.join(written)}", file=sys.stderr)
    if as_json:
        print(json.dumps({"predictions": report.rows(), "left_out": report.left_out}, ensure_ascii=False))
    elif out is None and template is None:
        print(report.text())
