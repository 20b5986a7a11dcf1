"""Settings of a run that goes on: what it was given, and what a resume may change of it.

given = given_of(run)
given = changed_settings(given, {"train.lr": 1e-4}, checkpoints.newest())
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sightline import processes
from sightline.config import build, gather, may_change
from sightline.errors import SettingsError
from sightline.run.folder import RunFolder
from sightline.run.phases import late_phases
from sightline.settings import TrainSettings
from sightline.training.checkpoint import State
from sightline.training.stage import Plan

_FROM_THE_START = frozenset({"train.seed", "train.seeds", "train.monitor", "train.find_lr", "augment.albumentations"})
"""Settings of the whole run that cannot change within it, beside those of the data and the network."""


def given_of(run: RunFolder) -> dict[str, Any]:
    """What the user gave to a run, changes on resume included, and what was settled for the whole of it."""
    events = [run.started(), *run.events("resumed")]
    given: dict[str, Any] = events[-1]["given"]
    for event in run.events("budget") if len(events) == 1 else ():
        given |= event["values"]
    measured = [event["lr"] for event in run.events("measured rate") if event["lr"] is not None]
    if measured and given.get("train.lr", "auto") == "auto":
        given["train.lr"] = measured[-1]
    pinned = gather(run.config, []) if run.config.exists() else {}
    rooms, free = ("data", "split", "model", "device"), {"model.freeze"}
    if events[-1].get("processes", 1) != processes.world():  # they share the cores in another way
        free.add("device.threads")
    return given | {path: value for path, value in pinned.items() if path.partition(".")[0] in rooms and path not in free}


def begins_again(changed: Mapping[str, Any], state: State | None) -> bool:
    """Whether the first epoch, which was interrupted, has to begin again: with what is changed now, as no phase begins before it."""
    return state is not None and state.facts["epoch"] == 0 and any(may_change(path) for path in changed)


def nothing_left(settings: TrainSettings, state: State | None) -> str | None:
    """A sentence where training is over and what follows is only judged again."""
    if state is None or state.facts["batch"] > 0:
        return None
    epoch, plan = state.facts["epoch"], Plan.of(settings)
    if epoch >= plan.epochs:
        return f"Training is over after epoch {epoch}, so the classifier is only judged again: train.epochs={2 * epoch} would train it on."
    if plan.gives_up(epoch, state.facts["best_epoch"]):
        return f"train.patience={plan.patience} ended training with epoch {epoch}, so the classifier is only judged again."
    return None


def changed_settings(given: dict[str, Any], changed: Mapping[str, Any], state: State | None) -> dict[str, Any]:
    """The settings with the changes of a resume: a phase of their own, or in place where they hold for the whole run.

    Args:
        given: as `given_of` says.
        state: where the run stands; None before its first checkpoint, and where it begins again.

    Raises:
        SettingsError: a setting is unknown or cannot change, or no epoch is left for it.
    """
    for path in changed:
        room = path.partition(".")[0]
        if room in ("data", "split") or (room == "model" and path != "model.freeze") or path in _FROM_THE_START:
            raise SettingsError(f"{path} cannot change on resume: it would be another run. Start one with `sightline train`.")
        if path == "phases":
            raise SettingsError("phases cannot change on resume: what is given makes a phase, which begins with the next epoch.")
    build({**given, **changed})  # unknown names and wrong values, before anything else
    if state is None:
        return {**given, **changed}
    first = state.facts["epoch"] + 1
    ofphase = {path: value for path, value in changed.items() if may_change(path)}
    whole = {path: value for path, value in changed.items() if path not in ofphase}
    _refuse_without_epochs(build({**given, **whole}).train, changed, next(iter(ofphase), None), state)
    by_epoch: dict[int, dict[str, Any]] = {}
    own = [*given.get("phases", ()), {"from": first, **ofphase}] if ofphase else given.get("phases", ())
    for raw in (*_begun(given, whole, state), *own):  # of two that begin with the same epoch, the later one's values hold
        by_epoch[raw["from"]] = {**by_epoch.get(raw["from"], {}), **raw}
    given = {**given, **whole}
    return given | {"phases": [by_epoch[epoch] for epoch in sorted(by_epoch)]} if by_epoch else given


def _refuse_without_epochs(settings: TrainSettings, changed: Mapping[str, Any], ofphase: str | None, state: State) -> None:
    """Raises SettingsError where no epoch is left for what was changed.

    Args:
        settings: those that hold for the whole run, changed.
        ofphase: one of the changed settings that would begin a phase, if any does.
    """
    epoch, batch, best = (state.facts[name] for name in ("epoch", "batch", "best_epoch"))
    what = ofphase or ("train.epochs" if changed.get("train.epochs", 0) > epoch else None)
    if what is None:
        return
    if epoch >= settings.epochs:
        raise SettingsError(
            f"{what} would hold from epoch {epoch + 1} on, and epoch {settings.epochs} is the last: raise train.epochs too."
        )
    if batch == 0 and Plan.of(settings).gives_up(epoch, best):
        raise SettingsError(f"train.patience={settings.patience} ended the run, so {what} would do nothing: give train.patience=null too.")


def _begun(given: Mapping[str, Any], whole: Mapping[str, Any], state: State) -> list[dict[str, Any]]:
    """The phase of a remedy (`ldam`, `crt`) that has begun, where it would otherwise move with the number of epochs."""
    before = build(given)
    if whole.get("train.epochs", 0) <= before.train.epochs:
        return []
    begun = state.facts["epoch"] + (state.facts["batch"] > 0)  # epochs
    return [raw for raw in late_phases(given, before.imbalance) if raw["from"] <= begun]
