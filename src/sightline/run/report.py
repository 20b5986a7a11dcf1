"""report.html of a run: everything it knows, in one file that opens anywhere.

    path = report("runs/flowers")               RUN/report.html

It reads the run folder and, for thumbnails, the pixel store or the image files; the network is not asked, so it works
where images or weights are gone. A run that has no test figures is shown with those on val, and says that they flatter.
"""

from __future__ import annotations

import base64
import contextlib
import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline import files
from sightline.config import Config, describe, gather, show
from sightline.data.shelf import Shelf, map_pixels, read_rows
from sightline.errors import RunError, SightlineError
from sightline.evaluation.embedding import Embedding
from sightline.evaluation.predictions import Predictions
from sightline.reporting.facts import HeatMap, Judged, RunFacts, SettingRow
from sightline.reporting.pictures import Read, from_folder, make_pictures, side_of
from sightline.reporting.run_page import run_page, wanted_pictures
from sightline.run.folder import PARTS, RunFolder
from sightline.run.progress import Screen
from sightline.threads import available_cores

_Seen = TypeVar("_Seen")
_FIGURES = ("n", "classes", "accuracy", "per_class", "confusion")  # what metrics.json has to have
_FEW_PIXELS = 64  # a store smaller than this and than the picture would give a blurred thumbnail


def report(run: str | Path, workers: int | None = None) -> Path:
    """Writes RUN/report.html and gives its path.

    Args:
        workers: threads that make thumbnails; None: one a core.

    Raises:
        RunError: there is no such run, or a file of it is damaged.
        DiskError: the page cannot be written.
    """
    opened = RunFolder.open(run)
    facts = read_facts(opened)
    with Screen() as screen:
        threads = workers or available_cores()
        wanted = wanted_pictures(facts)
        pictures = make_pictures(wanted, _reader(opened, facts, side_of(wanted)), workers=threads, done=screen.counter("pictures"))
    files.write_text(opened.report, run_page(facts, pictures))
    return opened.report


def read_facts(run: RunFolder) -> RunFacts:
    """All that a run folder holds, with None or nothing for what it does not."""
    events = [event for event in files.read_lines(run.ledger) if isinstance(event, dict)]
    started = run.started()
    config = _config(run)
    judged, others = _evaluations(run)
    trained = run.events("trained")
    history = _history(run.history)
    return RunFacts(
        name=run.root.resolve().name,
        place=str(run.root),
        source=str(started["folder"]),
        judged=judged,
        others=others,
        images=_parquet(run.images),
        history=history,
        phases=_phases(run, config),
        best=int(trained[-1]["best_epoch"]) if trained else _best(history),
        settings=_settings(run, config, started),
        events=events,
        environment=_json(run.environment),
        card=_json(run.classifier / "model.json"),
        audit=_json(run.audit, "findings"),
        embeddings=_of_parts(judged, lambda part: _embedding(run.embedding(part))),
        heat_maps=_of_parts(judged, lambda part: _heat_maps(run.explanation(part))),
        seeds=_json(run.seeds_summary),
        folds=_json(run.evaluation("folds") / "metrics.json", *_FIGURES),
        suspects=_suspects(run.labels / "suspects.csv"),
        passed_over=started.get("passed_over") or {},
    )


# ---- reading -------------------------------------------------------------------------------------------------------------


def _json(path: Path, *names: str) -> Any:
    """The content, or None where there is no such file; raises RunError where it is damaged, or lacks one of these names."""
    try:
        found = files.read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    for one in found if isinstance(found, list) else [found]:
        lacking = [name for name in names if not isinstance(one, dict) or name not in one]
        if lacking:
            raise _damaged(path, f"it lacks {lacking[0]}")
    return found


def _damaged(path: Path, why: str) -> RunError:
    return RunError(f"{path} is damaged: {why}. Make it again, or remove it, and ask for the report again.")


def _parquet(path: Path) -> pl.DataFrame | None:
    if not path.exists():
        return None
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _damaged(path, str(error).splitlines()[0]) from None


def _history(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except OSError:
        return []
    except (ValueError, csv.Error) as error:
        raise _damaged(path, str(error)) from None


def _best(history: Sequence[Mapping[str, str]]) -> int | None:
    """The last epoch that was the best so far, of a run that has not finished."""
    marked = [int(row["epoch"]) for row in history if row.get("best") == "True"]
    return marked[-1] if marked else None


def _config(run: RunFolder) -> Config | None:
    """The resolved settings; None where the run stopped before it wrote them."""
    return run.read_config() if run.config.exists() else None


def _settings(run: RunFolder, config: Config | None, started: Mapping[str, Any]) -> list[SettingRow]:
    """The settings that the run read, in their order; those given at the start or on resume are marked."""
    if config is None:
        return []
    values = gather(run.config, [])
    given = {*started.get("given", {}), *(name for event in run.events("resumed") for name in event.get("changed", {}))}
    known = describe()
    return [SettingRow(name, show(values[name]), known[name].description or "", name in given) for name in known if name in values]


def _phases(run: RunFolder, config: Config | None) -> list[tuple[int, str]]:
    """The first epoch of each phase after the first, and what it changes; those that a remedy brings too."""
    if config is None:
        return []
    given = gather(run.config, [])
    images = _parquet(run.images)
    if images is not None:
        from sightline.run.phases import with_remedy

        counts = images.filter(pl.col("split") == "train").group_by("label").len().sort("label")["len"].to_list()
        with contextlib.suppress(SightlineError):
            given = with_remedy(given, counts)
    found = []
    for raw in given.get("phases", ()):
        changes = [f"{name}={show(value)}" for name, value in raw.items() if name not in ("from", "restart")]
        restart = raw.get("restart") or ()
        names = [restart] if isinstance(restart, str) else list(restart)
        found.append((int(raw["from"]), ", ".join([*changes, *(f"{name} restarted" for name in names)])))
    return found


def _evaluations(run: RunFolder) -> tuple[Judged | None, list[Judged]]:
    """The evaluation that the report is about, test, else the folds, else val; and the others."""
    found: dict[str, Judged] = {}
    for place in sorted((run.root / "evaluation").glob("*/metrics.json")):
        found[place.parent.name] = _judged(place.parent, place.parent.name)
    main = next((found.pop(name) for name in ("test", "folds", "val") if name in found), None)
    found.pop("folds", None)  # beside a test part they have a section of their own
    return main, list(found.values())


def _judged(folder: Path, name: str) -> Judged:
    source = folder / "source.txt"
    predictions = folder / "predictions.parquet"
    return Judged(
        name,
        _json(folder / "metrics.json", *_FIGURES),
        Predictions.load(predictions) if predictions.exists() else None,
        source.read_text(encoding="utf-8") if source.exists() else None,
    )


def _of_parts(judged: Judged | None, read: Callable[[str], _Seen | None]) -> dict[str, _Seen]:
    """{part: what was drawn of it}, of the parts that have something; the one that the report is about first."""
    first = [judged.name] if judged is not None and judged.name in PARTS else []
    return {part: found for part in dict.fromkeys([*first, *PARTS]) if (found := read(part))}


def _embedding(folder: Path) -> Embedding | None:
    """The plane that `embed` drew."""
    about, table = _json(folder / "embedding.json", "method", "notes", "of"), _parquet(folder / "embedding.parquet")
    if about is None or table is None:
        return None
    classes = tuple(sorted({*table["label"], *table["predicted"]}))
    numbers = {name: k for k, name in enumerate(classes)}
    labels, predicted = (np.array([numbers[name] for name in table[column]], dtype=np.int64) for column in ("label", "predicted"))
    places = table.select("x", "y").to_numpy().astype(np.float32)
    return Embedding(
        tuple(table["path"]),
        classes,
        labels,
        predicted,
        table["confidence"].to_numpy(),
        places,
        about["method"],
        tuple(about["notes"]),
        about["of"],
    )


def _heat_maps(folder: Path) -> list[HeatMap]:
    """The pictures that `explain` drew, with what they show."""
    found = []
    for row in _json(folder / "explain.json", "picture", "path", "label", "predicted", "confidence") or []:
        with contextlib.suppress(OSError):  # one that was removed is one less
            code = base64.b64encode((folder / row["picture"]).read_bytes()).decode("ascii")
            panels = tuple(row.get("panels", ()))
            found.append(HeatMap(row["path"], row["label"], row["predicted"], row["confidence"], code, panels))
    return found


def _suspects(path: Path) -> dict[str, str] | None:
    """{path: label} of doubted images."""
    if not path.exists():
        return None
    table = pl.read_csv(path, infer_schema=False)
    return dict(table.select("path", "label").iter_rows())


# ---- pictures --------------------------------------------------------------------------------------------------------------


def _reader(run: RunFolder, facts: RunFacts, side: int) -> Read:
    """From the pixel store where there is one, which needs no file, else from the files of the folder."""
    source = Path(facts.source)
    root = source.parent if source.suffix.lower() in (".csv", ".parquet") and not source.is_dir() else source
    if facts.images is None:
        return from_folder(root, side=side)
    known = facts.images.filter(pl.col("digest").is_not_null())
    read_file = from_folder(root, dict(known.select("path", "digest").iter_rows()), side=side)
    stored = _stored(run, known)

    def read(path: str) -> npt.NDArray[np.uint8]:
        if stored is not None and (pixels := stored(path)) is not None:
            return pixels
        return read_file(path)

    return read


def _stored(run: RunFolder, known: pl.DataFrame) -> Callable[[str], npt.NDArray[np.uint8] | None] | None:
    """A function from a path to its stored pixels or None; None where the store is not there, or its pictures are too small."""
    config = _config(run)
    if config is None or config.data.store_size == "auto":
        return None
    side = int(config.data.store_size)
    shelf = Shelf(files.cache_folder() / "stores", side, config.data.max_pixels)
    folder = shelf.find(known["digest"], keep=True)
    if folder is None:
        return None
    rows = pl.concat([known.select("path"), read_rows(folder, known["digest"])], how="horizontal").drop_nulls("place")
    places = {row[0]: row[1:] for row in rows.select("path", "place", "stored_height", "stored_width", "height", "width").iter_rows()}
    pixels = map_pixels(folder, side)

    def read(path: str) -> npt.NDArray[np.uint8] | None:
        place, height, width, full_height, full_width = places.get(path, (None,) * 5)
        small = side < _FEW_PIXELS and height is not None and max(height, width) < max(full_height, full_width)
        if place is None or height is None or small:
            return None
        return np.asarray(pixels[place, :height, :width])

    return read
