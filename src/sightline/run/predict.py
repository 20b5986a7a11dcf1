"""What a classifier says of files: a table, CSV, JSON, Parquet, pictures with bars, or a filled submission file.

    report = predict("runs/flowers", ["a.jpg", "folder", "more/*.png"], top=5)
    report.write(Path("answers.csv"))

Every input has its row, in order; one that cannot be read, or is not there, has the reason instead of an answer. Nothing
is written among the images that the classifier was trained on.
"""

from __future__ import annotations

import glob
import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sightline import files
from sightline.classifier import UNLIKE, Answers, Classifier
from sightline.data.images import decode
from sightline.data.walk import list_images
from sightline.errors import DataError, RunError, SettingsError
from sightline.run.classify import check_views, classify
from sightline.run.folder import RunFolder, refuse_among_images

SEVERAL = "could be several classes"


@dataclass(frozen=True)
class PredictionReport:
    """Answers with the names of the classes; `top` of them an image.

    Attributes:
        left_out: {reason: count} of files in given folders that are no images.
        source: the folder of images that it was trained on; None where only a classifier is there.
    """

    classifier: Classifier
    answers: Answers
    top: int
    left_out: dict[str, int]
    source: Path | None = None

    def __repr__(self) -> str:
        """One line; `text()` has a line an image."""
        return f"PredictionReport({self.summary()})"

    def rows(self) -> list[dict[str, Any]]:
        """A row an input.

        Returns:
            `path`; `predictions`: class and probability, likeliest first; `reason` why it cannot be read, or None; `set`:
            the classes it may be of, likeliest first; `abstain`: why no single answer should be relied on, or None;
            `novelty`: how unlike the training images it is (see `to_json`). `set` and `novelty` are None for an unreadable
            file, and where the classifier has no thresholds.
        """
        places = {int(i): k for k, i in enumerate(self.answers.readable)}
        return [self._row(_shown(path), places.get(i), self.answers.unreadable.get(i)) for i, path in enumerate(self.answers.paths)]

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

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints and a .json file holds.

        Returns:
            `predictions`: the rows; `left_out`; `unreadable`: how many; `abstained`: {reason: images}; `novelty`: None, or the
            `threshold` above which an image abstains as unlike the training images, on a scale whose 0 is the middle one of
            the validation images.
        """
        novelty = self.classifier.novelty
        return {
            "predictions": self.rows(),
            "left_out": self.left_out,
            "unreadable": len(self.answers.unreadable),
            "abstained": self.abstained(),
            "novelty": None if novelty is None else {"middle": 0.0, "threshold": novelty.threshold},
        }

    def abstained(self) -> dict[str, int]:
        """{"could be several classes" or "unlike the training images": images that abstain for it}."""
        reasons = [UNLIKE if reason == UNLIKE else SEVERAL for reason in self.answers.abstain if reason is not None]
        return {reason: reasons.count(reason) for reason in (SEVERAL, UNLIKE) if reason in reasons}

    def summary(self) -> str:
        """A line: how many images, how many of them cannot be read, and how many abstain and why."""
        n, unread = len(self.answers.paths), len(self.answers.unreadable)
        told = [f"{n:,} image{'' if n == 1 else 's'}"]
        told += [f"{unread:,} of them cannot be read"] if unread else []
        why = self.abstained()
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in why.items())
        told += [f"{sum(why.values()):,} abstain{'s' if sum(why.values()) == 1 else ''} ({reasons})"] if why else []
        return ", ".join(told)

    def frame(self) -> pl.DataFrame:
        """The rows as a table: `path`, `predicted`, `confidence`, `predicted_2`, ..., `reason`, `set` (a|b), `abstain`, `novelty`.

        `novelty_threshold`, the last column, is the same in each row: the novelty above which an image abstains.
        """
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
        threshold = None if self.classifier.novelty is None else self.classifier.novelty.threshold
        columns["novelty_threshold"] = [threshold] * len(columns["path"])
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
        """As .csv, .json (see `to_json`) or .parquet, by the suffix.

        Raises:
            SettingsError: another suffix.
            RunError: the place lies among the images that the classifier was trained on.
        """
        _check_out(path, self.source)
        kind = path.suffix.lower()
        if kind == ".json":
            files.write_json(path, self.to_json())
        elif kind == ".csv":
            files.write_text(path, self.frame().write_csv())
        else:
            files.write_atomic(path, self.frame().write_parquet)

    def plot(self, folder: Path) -> list[Path]:
        """Each readable picture beside its bars, as PNG files in `folder`; raises RunError where that lies among the training images."""
        from sightline.evaluation.figures import predictions_picture

        _check_plot(folder, self.source)
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
            several = row["abstain"] not in (None, UNLIKE) and len(row["set"]) > 2  # all their names would not fit
            why = f"could be any of {len(row['set'])} classes" if several else row["abstain"]
            title = f"{source.name}: {why}" if why else source.name
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
        DataError: nothing was given, or nothing of it is there; else what is not there has its row.
    """
    if top < 1:
        raise SettingsError(f"--top must be at least 1, not {top}.")
    check_views(views)
    found, left_out = find_inputs(paths)
    classifier = Classifier.load(run)
    return PredictionReport(classifier, classify(classifier, found, views), min(top, len(classifier.classes)), left_out, source_of(run))


def source_of(run: str | Path) -> Path | None:
    """The folder of images that a run was trained on; None where only a classifier is there."""
    try:
        return Path(RunFolder.open(run).started()["folder"])
    except RunError:
        return None


def check_places(run: str | Path, out: str | None, plot: str | None, template: str | None) -> None:
    """What is wrong with where to write is known before anything is read.

    Raises:
        SettingsError: the suffix of `out` is none that can be written.
        RunError: a place lies among the images that the classifier was trained on.
    """
    source = source_of(run)
    if out is not None:
        _check_out(Path(out), source, filled=template is not None)
    if plot is not None:
        _check_plot(Path(plot), source)


def _check_out(path: Path, source: Path | None, filled: bool = False) -> None:
    if source is not None:
        refuse_among_images(path, source)
    if not filled and path.suffix.lower() not in (".csv", ".json", ".parquet"):
        raise SettingsError(f"--out {path}: the name must end in .csv, .json or .parquet.")


def _check_plot(folder: Path, source: Path | None) -> None:
    if source is not None:
        refuse_among_images(folder, source, "--plot")


def find_inputs(paths: Iterable[str | Path]) -> tuple[list[Path], dict[str, int]]:
    """The files that paths, folders and patterns stand for, in the order given; and what was left out of folders.

    What is not there is a file too, which cannot be read: of a thousand paths one may be mistyped.

    Raises:
        DataError: nothing was given, or nothing of it is there.
    """
    found: list[Path] = []
    left_out: dict[str, int] = {}
    missing: list[str] = []
    for given in paths:
        path = Path(given).expanduser()
        if os.path.isdir(path):  # of a name that no file can have, Path would raise
            images, skipped = list_images(path)
            found += images
            for reason, n in skipped.items():
                left_out[reason] = left_out.get(reason, 0) + n
            continue
        matches = [path] if os.path.lexists(path) else _matching(path)
        missing += [] if matches else [str(given)]
        found += matches or [path]
    if len(missing) == len(found) > 0:
        more = f" ({len(missing) - 1:,} more are not there either)" if len(missing) > 1 else ""
        what = "No file fits the pattern" if glob.has_magic(missing[0]) else "There is no file or folder"
        raise DataError(f"{what} {missing[0]}{more}.")
    if not found:
        raise DataError("No image was given: name files, folders or patterns, or - to read a list from standard input.")
    return found, left_out


def _shown(path: Path) -> str:
    """As text that a file can hold, whatever bytes the name is of."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _matching(pattern: Path) -> list[Path]:
    return sorted(Path(p) for p in glob.glob(str(pattern), recursive=True) if os.path.isfile(p))


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
    if as_json:
        print(json.dumps(report.to_json(), ensure_ascii=False))
        return
    if out is None and template is None:
        print(report.text())
    if written or report.abstained():
        print(f"{report.summary()}{': see ' + ' and '.join(written) if written else '.'}", file=sys.stderr)
