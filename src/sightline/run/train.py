"""Train a classifier from a folder, evaluate it, and leave a run folder behind.

    result = train("photos", ["train.epochs=20"])
    result.run.root, result.metrics["test"]["macro_f1"]
    result = resume("runs/photos-20261122-101500")

With `split.folds` or `train.seeds` the repeats follow (see run/repeats.py), and their sum stands beside the figures.
Under torchrun the main process looks for twins, divides, audits and writes the run folder; the others read from it how the
images are divided. A job that its agent started again goes on with its run.

The order is: settings, network, policy (what nothing reads is refused here, before any work), pixels, split, training,
temperature on val, figures on val, figures on test once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sightline import files, processes
from sightline.classifier import Classifier
from sightline.config import Config, Phase, build, gather, phases_of, show
from sightline.data.corrections import read_corrections
from sightline.data.store import Pixels, open_pixels
from sightline.data.table import ImageTable, scan
from sightline.data.upright import compile_ahead, standing
from sightline.device import choose, environment
from sightline.errors import RunError, SettingsError
from sightline.run.ahead import NOT_BEGUN, Ahead
from sightline.run.audit import audit_prepared
from sightline.run.budget import PLANNED, Budget, refuse_with_budget
from sightline.run.changes import begins_again, changed_settings, given_of, nothing_left
from sightline.run.decoding import limits
from sightline.run.fit import Fit
from sightline.run.folder import RunFolder
from sightline.run.inert import refuse_what_does_nothing
from sightline.run.phases import with_remedy
from sightline.run.planned import fit_into
from sightline.run.prefix import check_prefix
from sightline.run.prepare import Prepared, count_lines, divide, near_twins
from sightline.run.progress import Screen
from sightline.run.reopen import as_recorded, changed_images, gone_judges, reopen
from sightline.run.repeats import check_repeats, follow
from sightline.run.settle import Recipe, check_first_size, check_freeze, class_counts, idle_cores, read_the_rest, settle
from sightline.training.checkpoint import Checkpoints
from sightline.training.optim import import_ahead
from sightline.watched import watch


@dataclass(frozen=True)
class TrainResult:
    """What training leaves behind.

    Attributes:
        metrics: {"val": ..., "test": ...}, each the content of `metrics.json`; with split.folds "folds" too; with
            train.seeds "seeds", the content of `seeds.json`.
        notes: sentences that the user should have seen.
    """

    run: RunFolder
    metrics: dict[str, dict[str, Any]]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        """One line; the figures would be pages."""
        return f"TrainResult({str(self.run.root)!r}, figures on {', '.join(self.metrics)})"

    @property
    def classifier(self) -> Classifier:
        """The trained classifier."""
        return Classifier.load(self.run.root)


def train(
    folder: str | Path,
    settings: Sequence[str] | Mapping[str, Any] = (),
    recipe: str | Path | dict[str, Any] | None = None,
    run: str | Path | None = None,
    transform: Callable[[Any], Any] | None = None,
    budget: str | Budget | None = None,
    ahead: Ahead = NOT_BEGUN,
) -> TrainResult:
    """Trains on a folder of labelled images, or on a CSV or Parquet table.

    Args:
        settings: `KEY=VALUE` words, or a mapping of names to values.
        recipe: YAML file or mapping; the words come after it.
        run: where to write; by default a new folder in runs/.
        transform: makes the training views in place of `augment.policy`: a PIL image to a PIL image, or to a (3, H, W) uint8
            tensor, such as torchvision's v2 transforms. It runs in worker processes, seeded for each image.
        budget: time for all of it, such as "10m": the size of the pictures and the epochs are planned to fit, from rates measured
            here.
        ahead: decoding that the command line began while torch was imported.

    Raises:
        SightlineError: anything that the user can mend.
    """
    budget = Budget.of(budget) if isinstance(budget, str) else budget
    given = _for_training(recipe, settings, budgeted=budget is not None)
    if isinstance(given.get("data.corrections"), str):  # the run is repeated from elsewhere, too
        given["data.corrections"] = str(Path(given["data.corrections"]).expanduser().resolve())
    job = processes.job()
    begun = processes.from_main(lambda: RunFolder.of_job(job, run, Path(folder)))
    result = _train(folder, given, run, transform, budget, ahead) if begun is None else _resume(begun, {}, False, transform)
    return _with_repeats(result, given, folder, transform)


def _for_training(
    recipe: str | Path | dict[str, Any] | None, settings: Sequence[str] | Mapping[str, Any], budgeted: bool = False
) -> dict[str, Any]:
    """What the user gave, but for what of a recipe is not for this: its tune section, and with a budget its epochs."""
    of_recipe = gather(recipe, [])
    build(of_recipe)  # a section that is left aside may still not be wrong
    kept = {path: value for path, value in of_recipe.items() if not path.startswith("tune.")}
    for path in PLANNED if budgeted else ():
        if path in kept:
            Screen().say(f"{path}={show(kept.pop(path))} of the recipe does not count: --budget plans it.")
    return kept | gather(None, settings)


def _with_repeats(result: TrainResult, given: Mapping[str, Any], folder: str | Path, transform: Callable[[Any], Any] | None) -> TrainResult:
    """The result with the figures of the run's folds or seeds, where there are any."""

    def begin(settings: dict[str, Any], place: Path) -> TrainResult:
        return _train(folder, settings, place, transform)

    def go_on(place: Path) -> TrainResult:
        return _resume(place, {}, False, transform)

    config = build(given)
    if result.run.corrections.exists():  # the user's own file may have changed since
        given = {**given, "data.corrections": str(result.run.corrections.resolve())}
    with result.run.goes_on_by_resume(), result.run.locked():
        found = follow(result.run, config, given, result.metrics, begin, go_on)
        if config.train.report and processes.is_main():
            from sightline.run.pages import write_pages  # matplotlib, as in fit.py

            with processes.alone(), Screen() as screen:
                write_pages(result.run, screen)
    return replace(result, metrics=result.metrics | found)


def _train(
    folder: str | Path,
    given: dict[str, Any],
    run: str | Path | None,
    transform: Callable[[Any], Any] | None,
    budget: Budget | None = None,
    ahead: Ahead = NOT_BEGUN,
) -> TrainResult:
    if budget is not None:
        refuse_with_budget(given, processes.world())
    phases = phases_of(given)  # what is wrong with them is known before anything is done
    check_repeats(build(given))
    reads: set[str] = set()
    config = watch(build(given), reads)
    with Screen() as screen:
        table = scan(folder)
        if config.data.corrections is not None:
            read_corrections(config.data.corrections, table)  # what is wrong with them is known before anything is done
        with ahead.paused():
            choose(config.device)  # how many threads are fastest is measured once a process, and in peace
        settled = settle(config, table)
        check_freeze(settled, phases)
        check_first_size(settled.size, phases)
        read_the_rest(config, table)
        check_processes(table, phases)
        refuse_what_does_nothing(given, reads, class_counts(table), transform is not None)
        check_prefix(phases_of(with_remedy(given, class_counts(table))), settled.built.network, settled.size, transform is not None)
        opened = processes.from_main(lambda: RunFolder.create(run, Path(folder)))
        with opened.goes_on_by_resume(), opened.locked():
            import_ahead([phase.config for phase in phases])  # while images are decoded
            compile_ahead(settled.device.torch_device)
            source = str(Path(folder).expanduser().resolve())
            opened.note("started", folder=source, given=given, transform=_name(transform), passed_over=table.skipped, **_our_job())
            counter = screen.counter("decoding")
            ahead.wait(counter)
            decoded = open_pixels(table, settled.side, limits(settled.config), counter)  # finds what was decoded ahead
            prepared = _divided(opened, decoded, settled.config, screen)
            if prepared.classes != table.classes:  # a class lost all of its images
                settled = settle(config, prepared.table)
            notes = processes.from_main(lambda: _looked_at(opened, prepared, settled, screen))
            audit = _audit_of(opened, prepared, settled.config, screen, notes)
            fit = Fit(opened, given, reads, settled, prepared, screen, transform, aside=audit)
            if budget is not None:
                fit = fit_into(budget, fit)
            metrics, more = fit.go()
            return TrainResult(opened, metrics, (*notes, *more))


def check_processes(table: ImageTable, phases: Sequence[Phase]) -> None:
    """Raises SettingsError where torchrun started more processes than there are images, or several that would each compile."""
    if processes.world() > len(table.usable):
        raise SettingsError(
            f"torchrun started {processes.world()} processes for {len(table.usable)} images: use a smaller --nproc-per-node."
        )
    if processes.world() > 1 and any(phase.config.train.compile for phase in phases):
        raise SettingsError("train.compile is for one process: leave it out under torchrun.")


def _our_job() -> dict[str, Any]:
    """What the ledger says of torchrun."""
    return {} if processes.world() == 1 else {"processes": processes.world(), "job": processes.job()}


def _divided(opened: RunFolder, decoded: tuple[ImageTable, Pixels], config: Config, screen: Screen) -> Prepared:
    """The data, its twins found and divided, and written to the run folder; the main process does it, the others read it there."""
    prepared: Prepared | None = None

    def divide_and_write() -> None:
        nonlocal prepared
        prepared = divide(*decoded, config, screen.counter("looking for twins"))
        if config.data.corrections is not None:
            files.write_bytes(opened.corrections, Path(config.data.corrections).expanduser().read_bytes())
        files.write_atomic(opened.images, prepared.images().write_parquet)

    processes.from_main(divide_and_write)
    return as_recorded(opened, *decoded) if prepared is None else prepared


def _looked_at(opened: RunFolder, prepared: Prepared, settled: Recipe, screen: Screen) -> tuple[str, ...]:
    """What the user should know of the images; the environment is written."""
    files.write_json(opened.environment, environment(settled.device, views=standing(settled.device.torch_device)))
    notes = (*settled.built.notes, *count_lines(prepared))
    for line in (*notes, *idle_cores(settled)):
        screen.say(line)
    return notes


def _audit_of(
    opened: RunFolder, prepared: Prepared, config: Config, screen: Screen, notes: Sequence[str] | None = None
) -> Callable[[], None] | None:
    """What writes the audit of a run that will have a report and has no audit yet: it takes time, and training does not wait for it.

    Args:
        notes: by default those of the images.
    """
    if not config.train.report or opened.audit.exists():
        return None

    def write() -> None:
        known = prepared
        if known.twins is None and config.split.twins == "near":
            known = replace(prepared, twins=near_twins(prepared.table, prepared.pixels, config))
        told = count_lines(known) if notes is None else notes
        files.write_json(opened.audit, audit_prepared(known, told, screen.counter("auditing")).to_json())

    return write


def resume(
    run: str | Path,
    settings: Sequence[str] | Mapping[str, Any] = (),
    accept_changes: bool = False,
    transform: Callable[[Any], Any] | None = None,
) -> TrainResult:
    """Goes on with a run from its newest checkpoint.

    Settings that a phase may change begin a phase with the next epoch (an epoch that was interrupted begins again, and the first one
    from the first weights);
    those of the whole run (`train.epochs`, `train.patience`, `device.*`, ...) simply hold from now on.

    Args:
        accept_changes: go on although images are gone, new or changed; new ones go where their twins are, to train where they
            have none, and are left out where a twin judges.
        transform: the one that the run was started with, if it was; a run holds no Python code.

    Raises:
        SightlineError: anything that the user can mend.
    """
    changed = gather(None, settings)
    started = RunFolder.open(run).started()
    config = build(started["given"])
    if config.train.seeds > 1 or (config.split.folds is not None and config.split.fold is None):
        if changed:
            raise SettingsError(f"{run} has folds or seeds, which go on as they began: start another run to change {next(iter(changed))}.")
        if accept_changes:
            raise SettingsError(f"{run} has folds or seeds, all judged on the images that it began with: restore them, or train anew.")
    result = _resume(run, changed, accept_changes, transform)
    return _with_repeats(result, started["given"], started["folder"], transform)


def _resume(run: str | Path, changed: Mapping[str, Any], accept_changes: bool, transform: Callable[[Any], Any] | None) -> TrainResult:
    opened = RunFolder.open(run)
    before = opened.started().get("transform")
    if before != _name(transform):
        raise SettingsError(f"The run was started with transform={before}: give the same to sightline.resume, a run holds no Python code.")
    with Screen() as screen, opened.locked():
        checkpoints = Checkpoints(opened.checkpoints)
        state = checkpoints.newest()
        if state is None and opened.history.exists():
            raise RunError(f"{opened.root} has been trained, but its checkpoints are gone: train anew into another folder.")
        again = begins_again(changed, state)
        state = None if again else state
        given = changed_settings(given_of(opened), changed, state)
        phases = phases_of(given)
        reads: set[str] = set()
        config = watch(build(given), reads)
        prepared = reopen(opened, opened.read_config(), screen, accept_changes)
        settled = settle(config, prepared.table, fetch=state is None)
        check_freeze(replace(settled, built=replace(settled.built, weights="kept")), phases)
        read_the_rest(config, prepared.table)
        check_processes(prepared.table, phases)
        check_first_size(settled.size, phases)
        counts = class_counts(prepared.table)
        refuse_what_does_nothing(given, reads, counts, transform is not None, only=changed)
        check_prefix(phases_of(with_remedy(given, counts)), settled.built.network, settled.size, transform is not None)
        accepted = changed_images(opened, prepared.table)  # none, unless they were to be accepted
        if again:
            screen.say("The first epoch begins again, with what is changed.")
            processes.from_main(checkpoints.forget)
        elif told := nothing_left(config.train, state):
            screen.say(told)
        opened.note("resumed", changed=changed, epoch=state.facts["epoch"] + 1 if state else 1, given=given, images=accepted, **_our_job())
        notes = (*count_lines(prepared), *gone_judges(opened, prepared)) if accepted else ()
        for line in notes:
            screen.say(line)
        if accepted and processes.is_main():
            files.write_atomic(opened.images, prepared.images().write_parquet)
        audit = _audit_of(opened, prepared, config, screen)
        metrics, more = Fit(opened, given, reads, settled, prepared, screen, transform, aside=audit).go()
        return TrainResult(opened, metrics, (*notes, *more))


def _name(transform: Callable[[Any], Any] | None) -> str | None:
    """What the ledger calls a callable."""
    return None if transform is None else getattr(transform, "__name__", type(transform).__name__)
