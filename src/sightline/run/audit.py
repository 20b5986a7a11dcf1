"""Audit a folder: what is in there, and what is wrong with it. Nothing is trained, and the folder is never written to.

    result = audit("photos", out="photos-audit")        prints nothing; writes audit.json and audit.html
    print(result.text())
    result.strict_failures()                            what makes `--strict` end with exit status 1

What `train` would do first is done here with the same settings: scan, decode, find twins, split. So nothing is decoded
again when training follows. `audit_prepared` gives the same of data that is prepared already.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline import files
from sightline.auditing.checks import run_checks
from sightline.auditing.finding import Finding
from sightline.auditing.material import Material
from sightline.auditing.measures import measure
from sightline.auditing.record import as_record
from sightline.auditing.text import summary
from sightline.config import Config, build, gather
from sightline.data.groups import group_rows
from sightline.data.split import Split
from sightline.data.store import Pixels, open_pixels
from sightline.data.table import ImageTable, scan
from sightline.data.twins import Twins
from sightline.errors import DataError, SettingsError
from sightline.reporting.audit_page import audit_page, audit_pictures
from sightline.reporting.pictures import Read, from_folder, make_pictures
from sightline.run.decoding import choose_size, limits, store_size
from sightline.run.prepare import Prepared, divide, near_twins
from sightline.run.progress import Screen
from sightline.threads import available_cores
from sightline.watched import refuse_inert, watch

Progress = Callable[[int, int], None]
_ROOMS = ("data", "split")
_FEW_PIXELS = 96  # stored pictures that were shrunk to less would give a blurred thumbnail


@dataclass(frozen=True, eq=False)
class AuditResult:
    """What an audit found.

    Attributes:
        findings: one a check, those that flag nothing too.
        record: the content of audit.json.
        root: the folder that its paths are relative to.
        read: the pixels of a path, for the pictures of the page.
    """

    findings: tuple[Finding, ...]
    record: dict[str, Any]
    root: Path
    read: Read

    def __repr__(self) -> str:
        """One line; the findings would be pages."""
        told = ", ".join(f"{one.name} {one.count:,}" for one in self.findings if one.count)
        return f"AuditResult({str(self.root)!r}, {told or 'nothing found'})"

    def text(self, width: int | None = None) -> str:
        """The summary for a terminal, as wide as it is, or 120 cells where there is none."""
        return summary(self.record, width or max(72, min(160, shutil.get_terminal_size((120, 24)).columns)))

    def to_json(self) -> dict[str, Any]:
        """The content of audit.json."""
        return self.record

    def strict_failures(self) -> list[str]:
        """What needs a person before figures can be trusted: every error and every warning that flags an image.

        Errors: images that cannot be used, twins across the user's own split, equal pixels with different labels.
        Warnings: near twins with different labels, classes that cannot be judged, blank images, animations, hidden
        transparency. What is only unusual (dark, blurred, odd sizes ...) or dealt with already (twins, turned photographs) never fails.
        """
        return [f"{one.title}: {one.count:,}" for one in self.findings if one.count and one.level != "info"]

    def write(self, folder: str | Path, progress: Progress | None = None) -> Path:
        """Writes audit.json and audit.html there, and gives the page's path.

        Args:
            progress: called with (done, all) while thumbnails are made.

        Raises:
            SettingsError: the folder lies among the images.
            DiskError: no room, or no right to write there.
        """
        place = _outside(Path(folder), self.root)
        files.make_folder(place)
        files.write_json(place / "audit.json", self.record)
        pictures = make_pictures(audit_pictures(self.record), self.read, workers=available_cores(), done=progress)
        files.write_text(place / "audit.html", audit_page(self.record, pictures))
        return place / "audit.html"


def audit(folder: str | Path, settings: Sequence[str] | Mapping[str, Any] = (), out: str | Path | None = None) -> AuditResult:
    """Looks through a folder of labelled images, or a CSV or Parquet table.

    Args:
        settings: `KEY=VALUE` words of `data` and `split`, or a mapping: those that training will be given.
        out: where to write audit.json and audit.html; nothing is written without it.

    Raises:
        SightlineError: anything that the user can mend.
    """
    given = gather(None, settings)
    reads: set[str] = set()
    config = watch(build(given), reads)
    strange = [path for path in given if path.partition(".")[0] not in _ROOMS]
    if strange:
        raise SettingsError(f"An audit reads the settings of {' and '.join(_ROOMS)} only: leave {', '.join(strange)} out.")
    table = scan(folder, least=0)
    if out is not None:
        _outside(Path(out), table.root)
    side = store_size(config, choose_size(config, table, None))
    _read_the_rest(config, table)
    limit = limits(config)
    refuse_inert(build(given), given, reads)
    with Screen() as screen:
        prepared = _prepared(*open_pixels(table, side, limit, screen.counter("decoding")), config)
        result = audit_prepared(prepared, progress=screen.counter("measuring"))
        if out is not None:
            result.write(out, screen.counter("pictures"))
    return result


def audit_prepared(prepared: Prepared, notes: Sequence[str] | None = None, progress: Progress | None = None) -> AuditResult:
    """The audit of data that is prepared already; each image is read once from its stored pixels.

    Args:
        notes: sentences about the folder; by default those of the scan and the split.
        progress: called with (done, all).
    """
    table, split = prepared.table, prepared.split
    material = Material(
        table,
        split.part,
        prepared.groups,
        prepared.twins or _no_twins(),
        measure(prepared.pixels, progress, available_cores()),
        split.left_out,
    )
    findings = run_checks(material)
    record = as_record(material, findings, (*table.notes, *split.notes) if notes is None else notes)
    return AuditResult(tuple(findings), record, table.root, _reader(material.frame["path"], prepared.pixels, table.root))


# ---- preparing what may not be fit for training ------------------------------------------------------------------------


def _read_the_rest(config: Config, table: ImageTable) -> None:
    """Reads the settings of the split, and of corrections, that will have an effect."""
    if config.data.corrections is not None:
        _ = config.data.correct_test
    split, given = config.split, set(table.frame["given"])
    _ = split.twins, split.folds
    if split.folds is not None:
        _ = split.fold
    if given - {"train", None} and split.fold is None:
        _ = split.repair
    if given != {"train", "val", "test"} or split.folds is not None:
        _ = split.fractions, split.seed


def _prepared(table: ImageTable, pixels: Any, config: Config) -> Prepared:
    """Twins and split; a folder that cannot be divided, since nothing in it is different, is audited all the same."""
    try:
        return divide(table, pixels, config)
    except DataError as error:
        if config.data.corrections is not None:
            raise
        usable = table.usable
        twins = near_twins(table, pixels, config) if len(usable) else _no_twins()
        groups = group_rows([usable["pixel_digest"], usable["group"]])
        part = usable["given"].fill_null("train").to_numpy().astype("<U5")
        split = Split(part, np.zeros(len(part), dtype=bool), (f"It cannot be trained on as it is: {error}",))
        none = np.zeros(len(part), dtype=np.int64)
        return Prepared(table, pixels, groups, split, none, none.astype(np.uint64), twins)


def _no_twins() -> Twins:
    none = np.zeros(0, dtype=np.int64)
    return Twins(none, none, np.zeros(0, dtype=np.float32))


# ---- places and pictures -----------------------------------------------------------------------------------------------


def _outside(place: Path, root: Path) -> Path:
    """The place, where it does not lie among the images."""
    if place.expanduser().resolve().is_relative_to(root):
        raise SettingsError(f"{place} would lie among the images of {root}, which is never written to: choose another place with --out.")
    return place.expanduser()


def _reader(paths: pl.Series, pixels: Pixels, root: Path) -> Read:
    """Reads stored pixels where they are enough for a thumbnail, else the file."""
    from_file = from_folder(root)

    def read(path: str) -> npt.NDArray[np.uint8]:
        row = paths.index_of(path)
        if row is None:
            return from_file(path)
        height, width = pixels.extents[row]
        if pixels.side < _FEW_PIXELS and max(height, width) == pixels.side:
            return from_file(path)
        stored: npt.NDArray[np.uint8] = pixels.read(np.array([row]))[0, :height, :width].numpy()
        return stored

    return read
