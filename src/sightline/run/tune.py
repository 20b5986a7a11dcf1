"""Search settings by many trainings on train, judged on val; train the best once more, and judge it once on test.

    result = tune("photos", recipe="recipe.yaml", trials=30, study="flowers-lr")
    result.best.chosen, result.metrics["test"]["macro_f1"]

The recipe's `tune` section says what is searched and how; its other settings hold for every trial, and those that are
searched too are the first trial's. The same call, or another process with it, goes on with the same study: see
tuning/search.py for workers that die, tuning/storage.py for where the study is kept, run/trial.py for what trials share.
"""

from __future__ import annotations

import contextlib
import gc
import time
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sightline import files
from sightline.errors import DiskError, Interrupted, SettingsError, SightlineError, StudyError
from sightline.models.catalog import OURS
from sightline.run.progress import Screen
from sightline.run.trial import Bench, Pruned, clear_up, facts_of, short_of_memory
from sightline.run.tune_end import conclude
from sightline.run.tune_order import Order, read_order
from sightline.run.tune_result import TuneResult
from sightline.run.tune_screen import StudyScreen
from sightline.training.optim import automatic_optimizer
from sightline.tuning.defaults import Kind, default_space
from sightline.tuning.record import finished, write_csv
from sightline.tuning.sampler import check_sampler
from sightline.tuning.search import Search, Ticket, go_on_from, refuse_difference
from sightline.tuning.space import Choice, Range, Space, read_space
from sightline.tuning.storage import Storage, open_storage

PAUSE = 2.0
"""Seconds between looks at what other workers do."""


def tune(
    folder: str | Path,
    settings: Sequence[str] | Mapping[str, Any] = (),
    recipe: str | Path | dict[str, Any] | None = None,
    trials: int = 30,
    study: str | None = None,
    storage: str | None = None,
    timeout: str | float | None = None,
) -> TuneResult:
    """Searches settings for a folder of labelled images; goes on where such a study has begun.

    Args:
        settings: `KEY=VALUE` words, or a mapping of names to values; `tune.*` says how to search.
        recipe: YAML file or mapping; the words come after it.
        trials: of the whole study, all workers together.
        study: its name, for a folder in runs/; or the path of a folder.
        storage: None: SQLite in that folder; "journal"; or a database's address.
        timeout: no trial begins later than so many seconds from now ("90m" and "2h" too).

    Raises:
        SightlineError: anything that the user can mend.
    """
    order = read_order(folder, settings, recipe, trials, study, storage, timeout)
    try:
        return _search(order)
    except KeyboardInterrupt:
        raise Interrupted("Stopped between trials; everything is saved.", order.command) from None


def _search(order: Order) -> TuneResult:
    with Screen() as screen, contextlib.ExitStack() as held:
        storage_ = open_storage(order.storage, order.folder.root, screen.say, _told(go_on_from, screen))
        held.callback(storage_.close)
        bench = Bench.of(order.source, order.fixed, order.folder, screen)
        if order.tune.folds is not None:
            bench.fold(order.tune.folds)
        order = _with_space(order, bench)
        bench.fixed = _pinned(order, bench)
        search = _open(order, bench, storage_, screen)
        held = held.pop_all()
    with held:
        _work(order, bench, search)
        return conclude(order, bench, search)


# ---- the study ---------------------------------------------------------------------------------------------------------


def _told(go_on: Callable[[Any, Any], None], screen: Screen) -> Callable[[Any, Any], None]:
    """The same, and a word of it."""

    def stale(study: Any, trial: Any) -> None:
        screen.say(f"Nothing was heard of the worker of trial {trial.number}; the trial goes on from its checkpoint.")
        go_on(study, trial)

    return stale


def _with_space(order: Order, bench: Bench) -> Order:
    """The order with the default space for its network, where it has none of its own."""
    if order.space is not None:
        _refuse_idle(order.space, order.fixed, bench)
        return order
    settled, _ = bench.settled(bench.fixed)
    model, train = settled.config.model, settled.config.train
    kind: Kind = "frozen" if model.freeze not in ("none", ()) else "transfer" if settled.built.weights != "none" else "scratch"
    optimizer = automatic_optimizer(model) if train.optimizer == "auto" else train.optimizer
    raw = default_space(kind, optimizer, model.name == "searchable_cnn")
    fixed = order.fixed
    space = read_space({path: value for path, value in raw.items() if path not in fixed and _has_effect(bench, fixed, path, value)})
    if not len(space):
        raise SettingsError("All settings of the default space are fixed: name others in tune.space.")
    check_sampler(order.tune, space, order.objectives)
    return replace(order, space=space)


def _refuse_idle(space: Space, fixed: Mapping[str, Any], bench: Bench) -> None:
    """Raises SettingsError where a searched setting would do nothing in any trial: neither beside the fixed settings alone, nor
    beside any one value of another that is chosen from a list. What depends on several is left to the trials."""
    for one in space:
        given = {**fixed, one.path: one.domain.setting(one.domain.low) if isinstance(one.domain, Range) else one.domain.values[0]}
        lists = {other.path: other.domain.values for other in space if other is not one and isinstance(other.domain, Choice)}
        others = [(path, value) for path, values in lists.items() for value in values]
        if not one.needs and _is_idle(bench, given, one.path) and all(_is_idle(bench, given | dict([pair]), one.path) for pair in others):
            raise SettingsError(
                f"tune.space has {one.path}, which would do nothing in any trial: leave it out, or change what it depends on."
            )


def _is_idle(bench: Bench, given: Mapping[str, Any], path: str) -> bool:
    """Whether the setting is refused for having no effect."""
    try:
        bench.settled(given, fetch=False)
    except SightlineError as error:
        return f"{path} has no effect" in str(error)
    return False


def _has_effect(bench: Bench, fixed: Mapping[str, Any], path: str, raw: Any) -> bool:
    """Whether a setting would be read beside those that are fixed."""
    try:
        bench.settled({**fixed, path: raw[0] if isinstance(raw, list) else raw["to"]}, fetch=False)
    except SettingsError:
        return False
    return True


def _pinned(order: Order, bench: Bench) -> dict[str, Any]:
    """The fixed settings; the weights are those that could be had at the start, so that no trial asks the network for them again."""
    fixed = order.fixed
    assert order.space is not None
    if fixed.get("model.weights", "auto") != "auto" or {"model.name", "model.weights"} & set(order.space.names):
        return fixed
    if fixed.get("model.name", "sightline_small") in OURS:
        return fixed
    return fixed | {"model.weights": bench.settled(fixed)[0].built.weights}


def _open(order: Order, bench: Bench, storage: Storage, screen: Screen) -> Search:
    """The study: begun, or gone on with where it is the same."""
    assert order.space is not None
    search = Search.open(storage, order.folder.name, order.folder.root, order.tune, order.space, order.objectives, order.epochs, screen.say)
    own: dict[str, Any] = {
        "images": bench.digest,
        "space": order.space.plain(),
        "objective": {one.name: one.direction for one in order.objectives},
        "folds": order.tune.folds,
        "setting": {path: _plain(value) for path, value in sorted(bench.fixed.items())},
    }
    begun = search.identity(own)
    if begun["images"] != own["images"]:
        raise StudyError(
            f"The study {order.folder.name} in {storage.name} is of other images than {order.source}: choose another --study NAME."
        )
    refuse_difference(begun, _as_json(own), order.folder.name)
    _join(order, search)
    order.folder.describe(
        {"study": order.folder.name, "folder": str(order.source), "storage": storage.name, **own, "searched": order.command}
    )
    search.begin_with(order.space.first(order.given))
    for line in check_sampler(order.tune, order.space, order.objectives):
        screen.say(line)
    over = len(finished(search.records()))
    goes_on = f"goes on with {over} finished" if over else "begins"
    what = " and ".join(f"{one.name} ({one.direction})" for one in order.objectives)
    screen.say(f"Study {order.folder.name} {goes_on}: {what} over {', '.join(order.space.names)}; kept in {storage.name}.")
    return search


def _join(order: Order, search: Search) -> None:
    """The folder and the study in the storage know each other; trials of another one would be taken for its own."""
    token = order.folder.token
    with files.locked(order.folder.root):
        name = token.read_text() if token.exists() else None
        if name is not None and search.knows(name):
            return
        if order.folder.has_trials and (name is not None or not search.records()):
            raise StudyError(
                f"{order.folder.root} has trials that {search.storage.name} knows nothing of: "
                "give the --storage that they are kept in, or another --study NAME."
            )
        name = uuid.uuid4().hex[:12]
        search.join(name)
        files.write_text(token, name)


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def _as_json(value: Any) -> Any:
    """As a storage gives it back."""
    import json

    return json.loads(json.dumps(value))


# ---- trials ----------------------------------------------------------------------------------------------------------------


def _work(order: Order, bench: Bench, search: Search) -> None:
    """Trial after trial, until there are enough; and until those of other workers are over, who may die."""
    with StudyScreen(order.folder.name, order.objectives, order.trials) as screen:
        screen.update(search.records())
        search.say = screen.say
        while order.deadline is None or time.monotonic() < order.deadline:
            ticket = search.take(order.trials)
            if ticket is not None:
                _try(order, bench, search, ticket, screen)
            elif search.others():
                screen.update(search.records())
                time.sleep(PAUSE)
            else:
                return


def _try(order: Order, bench: Bench, search: Search, ticket: Ticket, screen: StudyScreen) -> None:
    """One trial, whatever becomes of it."""
    place = order.folder.trial(ticket.place)
    history: list[dict[str, Any]] = []
    first, alone, wilcoxon = order.objectives[0], len(order.objectives) == 1, search.pruner == "wilcoxon"

    def heard(row: dict[str, Any]) -> None:
        history.append(row)
        if not first.of_an_epoch or not alone:
            return
        values = [float(one[first.name]) for one in history]
        told = values[-1] if wilcoxon or "epoch" in row else sum(values) / len(values)
        if ticket.tell(int(row["epoch"] if "epoch" in row else row["fold"]), told):
            raise Pruned

    with ticket.running(), screen.trial(ticket.number, ticket.chosen) as quiet_screen:
        try:
            try_it = bench.try_folds if order.tune.folds else bench.try_out
            outcome = try_it(ticket.chosen, place, heard, quiet_screen, order.objectives)
            search.finish(ticket, outcome.values, outcome.facts)
        except Pruned:
            search.prune(ticket, {"folds": len(history)} if order.tune.folds else facts_of(history))
            clear_up(place)
        except (Interrupted, KeyboardInterrupt):
            search.set_aside(ticket)
            raise Interrupted(f"Stopped in trial {ticket.number}; everything is saved.", order.command) from None
        except (StudyError, DiskError):
            raise
        except Exception as error:  # whatever one trial dies of, the others go on
            search.fail(ticket, _reason(error, place))
            clear_up(place)
            gc.collect()  # what it died of may still be held
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    records = search.records()
    screen.ended(next(one for one in records if one.number == ticket.number), records)
    write_csv(records, order.objectives, search.space.names, order.folder.table)


def _reason(error: Exception, place: Path) -> str:
    """Why a trial failed, in a sentence; the whole of what was not foreseen is kept."""
    if short_of_memory(error):
        return "too little memory: a smaller network, data.size or train.batch_size needs less"
    if isinstance(error, SightlineError):
        return str(error)
    files.make_folder(place)
    with contextlib.suppress(SightlineError):
        files.write_text(place / "failure.txt", traceback.format_exc())
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''} (more in {place / 'failure.txt'})"
