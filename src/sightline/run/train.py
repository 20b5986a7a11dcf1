"""Train a classifier from a folder, evaluate it, and leave a run folder behind.

    result = train("photos", ["train.epochs=20"])
    result.run.root, result.metrics["test"]["macro_f1"]
    result = resume("runs/photos-20261122-101500")

The order is: settings, network, policy (what nothing reads is refused here, before any work), pixels, split, training,
temperature on val, figures on val, figures on test once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sightline import files
from sightline.classifier import Classifier
from sightline.config import build, gather, may_change, phases_of, watch
from sightline.data.table import scan
from sightline.device import environment
from sightline.errors import SettingsError
from sightline.run.evaluate import reopen
from sightline.run.fit import Fit
from sightline.run.folder import RunFolder
from sightline.run.inert import refuse_what_does_nothing
from sightline.run.prepare import count_lines, prepare_table
from sightline.run.progress import Screen
from sightline.run.settle import check_freeze, class_counts, read_the_rest, settle
from sightline.training.checkpoint import Checkpoints, State


@dataclass(frozen=True)
class TrainResult:
    """What training leaves behind.

    Attributes:
        metrics: {"val": ..., "test": ...}, each the content of `metrics.json`.
        notes: sentences that the user should have seen.
    """

    run: RunFolder
    metrics: dict[str, dict[str, Any]]
    notes: tuple[str, ...]

    @property
    def classifier(self) -> Classifier:
        """The trained classifier."""
        return Classifier.load(self.run.root)


def train(
    folder: str | Path,
    settings: Sequence[str] = (),
    recipe: str | Path | dict[str, Any] | None = None,
    run: str | Path | None = None,
    transform: Callable[[Any], Any] | None = None,
) -> TrainResult:
    """Trains on a folder of labelled images, or on a CSV or Parquet table.

    Args:
        settings: `KEY=VALUE` words.
        recipe: YAML file or mapping; the words come after it.
        run: where to write; by default a new folder in runs/.
        transform: makes the training views in place of `augment.policy`: a PIL image to a PIL image, or to a (3, H, W) uint8
            tensor, such as torchvision's v2 transforms. It runs in worker processes, seeded for each image.

    Raises:
        SightlineError: anything that the user can mend.
    """
    given = gather(recipe, settings)
    phases = phases_of(given)  # what is wrong with them is known before anything is done
    reads: set[str] = set()
    config = watch(build(given), reads)
    with Screen() as screen:
        table = scan(folder)
        settled = settle(config, table)
        check_freeze(settled, phases)
        read_the_rest(config, table)
        refuse_what_does_nothing(given, reads, class_counts(table), transform is not None)
        opened = RunFolder.create(run, Path(folder))
        with opened.locked():
            opened.note("started", folder=str(Path(folder).expanduser().resolve()), given=given, transform=_name(transform))
            prepared = prepare_table(table, settled.config, settled.side, screen.counter("decoding"))
            if prepared.classes != table.classes:  # a class lost all of its images
                settled = settle(config, prepared.table)
            files.write_json(opened.environment, environment(settled.device))
            files.write_atomic(opened.images, prepared.images().write_parquet)
            notes = (*settled.built.notes, *count_lines(prepared))
            for line in notes:
                screen.say(line)
            metrics, more = Fit(opened, given, reads, settled, prepared, screen, transform).go()
            return TrainResult(opened, metrics, (*notes, *more))


def resume(
    run: str | Path, settings: Sequence[str] = (), accept_changes: bool = False, transform: Callable[[Any], Any] | None = None
) -> TrainResult:
    """Goes on with a run from its newest checkpoint.

    Settings that a phase may change begin a phase with the next epoch (an epoch that was interrupted begins again);
    those of the whole run (`train.epochs`, `train.patience`, `device.*`, ...) simply hold from now on.

    Args:
        accept_changes: go on although images are gone, new or changed; new ones join the train part.
        transform: the one that the run was started with, if it was; a run holds no Python code.

    Raises:
        SightlineError: anything that the user can mend.
    """
    opened = RunFolder.open(run)
    changed = gather(None, settings)
    before = opened.events("started")[0].get("transform")
    if before != _name(transform):
        raise SettingsError(f"The run was started with transform={before}: give the same to sightline.resume, a run holds no Python code.")
    with Screen() as screen, opened.locked():
        state = Checkpoints(opened.checkpoints).newest()
        given = _changed(given_of(opened), changed, state)
        phases = phases_of(given)
        reads: set[str] = set()
        config = watch(build(given), reads)
        prepared = reopen(opened, opened.read_config(), screen, accept_changes)
        settled = settle(config, prepared.table, fetch=state is None)
        check_freeze(replace(settled, built=replace(settled.built, weights="kept")), phases)
        read_the_rest(config, prepared.table)
        refuse_what_does_nothing(given, reads, class_counts(prepared.table), transform is not None, only=changed)
        opened.note("resumed", changed=changed, epoch=state.facts["epoch"] + 1 if state else 1, given=given)
        if accept_changes:
            files.write_atomic(opened.images, prepared.images().write_parquet)
        return TrainResult(opened, *Fit(opened, given, reads, settled, prepared, screen, transform).go())


def _name(transform: Callable[[Any], Any] | None) -> str | None:
    """What the ledger calls a callable."""
    return None if transform is None else getattr(transform, "__name__", type(transform).__name__)


# ---- settings of a run that goes on --------------------------------------------------------------------------------------


def given_of(run: RunFolder) -> dict[str, Any]:
    """What the user gave to a run, changes on resume included, and what was settled for the whole of it."""
    events = [*run.events("started"), *run.events("resumed")]
    given: dict[str, Any] = events[-1]["given"]
    measured = [event["lr"] for event in run.events("measured rate")]
    if measured and given.get("train.lr", "auto") == "auto":
        given["train.lr"] = measured[-1]
    pinned = gather(run.config, []) if run.config.exists() else {}
    rooms = ("data", "split", "model", "device")
    return given | {path: value for path, value in pinned.items() if path.partition(".")[0] in rooms and path != "model.freeze"}


def _changed(given: dict[str, Any], changed: Mapping[str, Any], state: State | None) -> dict[str, Any]:
    """The settings with the changes of a resume: a phase of their own, or in place where they hold for the whole run."""
    for path in changed:
        room = path.partition(".")[0]
        if room in ("data", "split") or (room == "model" and path != "model.freeze") or path == "train.seed":
            raise SettingsError(f"{path} cannot change on resume: it would be another run. Start one with `sightline train`.")
        if path == "phases":
            raise SettingsError("phases cannot change on resume: what is given makes a phase, which begins with the next epoch.")
    build({**given, **changed})  # unknown names and wrong values, before anything else
    first = 1 if state is None else state.facts["epoch"] + 1
    ofphase = {path: value for path, value in changed.items() if may_change(path) and first > 1}
    whole = {path: value for path, value in changed.items() if path not in ofphase}
    epochs = build({**given, **whole}).train.epochs
    if ofphase and first > epochs:
        raise SettingsError(
            f"{next(iter(ofphase))} would hold from epoch {first} on, and epoch {epochs} is the last: raise train.epochs too."
        )
    phases = [dict(raw) for raw in given.get("phases", ())]
    if ofphase:
        same = next((raw for raw in phases if raw["from"] == first), None)
        if same is None:
            phases.append({"from": first, **ofphase})
        else:
            same.update(ofphase)
    given = {**given, **whole}
    return given | {"phases": sorted(phases, key=lambda raw: raw["from"])} if phases else given
