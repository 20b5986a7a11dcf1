"""The end of a study: its best trial is trained again and judged once on test; table, pictures and page are written.

    result = conclude(order, bench, search)

Validation chose the trial, so its figure there is the luckiest of many; test has seen none of them. Where more trials find another
best one, test judges that too, and it is told. Of several workers the first to come here does it.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sightline import files
from sightline.config import build, to_yaml
from sightline.errors import Interrupted, StudyError
from sightline.reporting.words import count
from sightline.run.folder import RunFolder
from sightline.run.pages import write_pages
from sightline.run.progress import Screen
from sightline.run.repeats import follow
from sightline.run.study import StudyFolder
from sightline.run.train import resume
from sightline.run.trial import Bench
from sightline.run.tune_order import Order
from sightline.run.tune_result import TuneResult
from sightline.tuning.pruner import ENDS, choose_pruner
from sightline.tuning.record import Trial, best_of, front_of, write_csv
from sightline.tuning.sampler import PROPOSES
from sightline.tuning.search import Search


def conclude(order: Order, bench: Bench, search: Search) -> TuneResult:
    """The best is trained again and judged; table, pictures and page are written."""
    records = search.records()
    best = best_of(records, order.objectives)
    if best is None:
        reasons = [trial.reason for trial in records if trial.state == "failed" and trial.reason]
        why = f" The last one failed: {reasons[-1]}" if reasons else ""
        raise StudyError(f"Of {count(len(records), 'trial')} none was finished.{why}")
    with _alone(order.folder) as alone:
        elsewhere = search.others()
        metrics = _refit(order, bench, best) if order.tune.refit and alone and not elsewhere else {}
        notes = _notes(order, alone, elsewhere)
        front = front_of(records, order.objectives) if len(order.objectives) > 1 else []
        result = TuneResult(order.folder.root, order.objectives, tuple(records), best, tuple(front), metrics, tuple(notes))
        if alone:
            _write(order, bench, search, result)
    return result


def _notes(order: Order, alone: bool, elsewhere: int) -> list[str]:
    """What the user should know of the end."""
    notes = []
    if elsewhere:
        are = "1 trial is" if elsewhere == 1 else f"{elsewhere} trials are"
        notes.append(f"{are} still running elsewhere; the same command, when they are over, trains the best.")
    elif not alone:
        notes.append("Another worker trains the best trial again; its figures will be in the study's folder.")
    judged = len(order.folder.as_run.events("judged"))
    if judged > 1:
        notes.append(f"Test has judged {judged} times in this study, each time another best trial: it is less strict than the first time.")
    return notes


def _write(order: Order, bench: Bench, search: Search, result: TuneResult) -> None:
    """trials.csv, pictures/ and tune.html."""
    from sightline.tuning.page import StudyFacts, study_page
    from sightline.tuning.pictures import draw_pictures

    assert result.best is not None
    write_csv(result.trials, order.objectives, search.space.names, order.folder.table)
    given = {**bench.fixed, **result.best.chosen}
    pictures = draw_pictures(result.trials, order.objectives, search.space, search.importances(), order.folder.pictures)
    facts = StudyFacts(
        order.folder.name,
        str(order.source),
        search.storage.name,
        search.space,
        order.objectives,
        result.trials,
        result.metrics,
        to_yaml(build(given), given),
        order.command,
        pictures,
        _searched_by(order),
        result.notes,
    )
    files.write_text(order.folder.page, study_page(facts))


def _searched_by(order: Order) -> str:
    """A sentence for the page."""
    pruner = choose_pruner(order.tune, order.objectives)
    judged = f"the mean of {order.tune.folds} folds of train and validation" if order.tune.folds else "validation"
    figures = " and ".join(f"{one.name} ({'larger' if one.larger else 'smaller'} is better)" for one in order.objectives)
    return f"{PROPOSES[order.tune.sampler]}. They were compared by {figures}, of {judged}. {ENDS[pruner]}."


@contextlib.contextmanager
def _alone(folder: StudyFolder) -> Iterator[bool]:
    """Whether no other worker is at the end of the study."""
    with (folder.root / ".end.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def _refit(order: Order, bench: Bench, best: Trial) -> dict[str, dict[str, Any]]:
    """The best trial as a run of its own, with its repeats, judged on test; what is there already stays."""
    place, marker = order.folder.best, order.folder.best / "trial.json"
    known = files.read_json(marker) if marker.exists() else None
    if known is not None and known["trial"] != best.number:  # more trials found a better one
        place.rename(_free(place.with_name(f"best-was-{known['trial']}")))
        known = None
    if known is not None and known["done"]:
        return _figures_of(RunFolder(place))
    try:
        metrics = resume(place).metrics if (place / "config.yaml").exists() else _train_best(order, bench, best)
    except Interrupted as error:
        raise Interrupted(str(error).partition(" Go on with")[0], order.command) from None
    order.folder.as_run.note("judged", trial=best.number)
    files.write_json(marker, {"trial": best.number, "done": True})
    return metrics


def _free(path: Path) -> Path:
    """A path that is not taken."""
    return next(one for one in (path, *(path.with_name(f"{path.name}-{k}") for k in range(2, 1000))) if not one.exists())


def _figures_of(run: RunFolder) -> dict[str, dict[str, Any]]:
    """What a run that is over was found to be."""
    places = {part: run.evaluation(part) / "metrics.json" for part in ("val", "test")} | {"seeds": run.seeds_summary}
    return {part: files.read_json(path) for part, path in places.items() if path.exists()}


def _train_best(order: Order, bench: Bench, best: Trial) -> dict[str, dict[str, Any]]:
    place = order.folder.best
    given = {**bench.fixed, **best.chosen, "train.seeds": order.tune.seeds}

    def begin(settings: dict[str, Any], where: Path) -> Any:
        with Screen() as screen:
            fit = bench.fit(settings, where, screen, None)
            if where == place:
                files.write_json(place / "trial.json", {"trial": best.number, "done": False})
            with fit.folder.locked():
                return fit.go()

    with Screen() as screen:
        times = "once" if order.tune.seeds == 1 else f"{order.tune.seeds} times"
        screen.say(f"Trial {best.number} is trained again, {times}, and judged:")
    metrics, _ = begin(given, place)
    run, config = RunFolder(place), build(given)
    found: dict[str, dict[str, Any]] = metrics | follow(run, config, given, metrics, begin, resume)
    if config.train.report:
        with Screen() as screen:
            write_pages(run, screen)
    return found
