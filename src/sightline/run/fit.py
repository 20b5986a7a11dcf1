"""A run whose data is ready: trained, calibrated, saved and judged.

    metrics, notes = Fit(folder, given, reads, recipe, prepared, screen).go()
    fitted = Fit(folder, given, reads, recipe, prepared, screen, listen=heard).fit()        trained only, as a trial is

It goes on from the newest checkpoint of the run folder, where there is one. Of torchrun's processes all train and answer,
each its share; the main one writes and speaks.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from sightline import files, processes
from sightline.classifier import Classifier
from sightline.config import Config, show, to_yaml
from sightline.data.albumentations_file import load_albumentations
from sightline.data.pipelines import Pipeline, from_callable
from sightline.errors import Interrupted, SettingsError, TrainingError
from sightline.models.head import Network
from sightline.models.preprocess import Preprocess
from sightline.models.small_maps import speed_up
from sightline.run.budget import Deadline, epochs_that_fit, pace
from sightline.run.decoding import limits
from sightline.run.evaluate import evaluate_part
from sightline.run.folder import RunFolder
from sightline.run.phases import never_begun, notes_of, plan_phases, settled_phases
from sightline.run.prepare import Prepared
from sightline.run.progress import Screen, TrainingScreen
from sightline.run.recorder import Nobody, Recorder
from sightline.run.settle import Recipe, choose_view, settled_values
from sightline.run.stages import loop_phase, shift_of
from sightline.run.task import Planned, Task, on_device
from sightline.run.thresholds import choose_thresholds
from sightline.training.checkpoint import Checkpoints
from sightline.training.loop import Interruption, Trainer
from sightline.training.stage import Plan, Row

TRIAL_SECONDS = 20.0
"""Seconds between the checkpoints of a trial: what it loses at most, beside the epoch that runs, when its worker is killed."""


@dataclass(frozen=True)
class Fitted:
    """A trained network, before it is made a classifier.

    Attributes:
        shift: what is added to its logits, if anything is.
        kept: the epoch whose weights it has, from 0.
        notes: sentences that the user should have seen.
    """

    task: Task
    config: Config
    history: list[Row]
    kept: int
    shift: npt.NDArray[np.float32] | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Fit:
    """A run whose data is ready.

    Attributes:
        listen: hears of each epoch of a trial; what it raises ends training.
        aside: what is to be done too, and may wait until the first epoch is over.
        deadline: when training must be over; the epochs are then as many as fit.
    """

    folder: RunFolder
    given: dict[str, Any]
    reads: set[str]
    recipe: Recipe
    prepared: Prepared
    screen: Screen
    transform: Callable[[Any], Any] | None = None
    listen: Callable[[Row], None] | None = None
    deadline: Deadline | None = None
    aside: Callable[[], None] | None = None

    def go(self) -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
        """Trains, fits the temperature, saves the classifier and judges it; gives the figures, and what the user should know."""
        fitted = self.fit()
        classifier = self._classifier(fitted.task, fitted.config, fitted.shift)
        metrics = self._judge(classifier, fitted.config)
        self.folder.note("finished")
        return metrics, fitted.notes

    def fit(self) -> Fitted:
        """Trains, from the newest checkpoint where there is one."""
        recipe, device = self.recipe, self.recipe.device
        view = choose_view(recipe, self.prepared)
        network = recipe.built.network.to(device.torch_device).to(memory_format=device.memory_format)
        speed_up(network)
        pipeline = self._pipeline()
        workers = limits(recipe.config).workers
        prepared = self.prepared if pipeline else on_device(self.prepared, device)
        task = Task(network, recipe.built.weights != "none", prepared, view, device, self.screen.say, pipeline, workers)
        given = self.given | settled_values(recipe, view)
        state = Checkpoints(self.folder.checkpoints).newest()
        planned = plan_phases(given, task)
        trainer = self._trainer(task, planned)
        if state is not None:
            trainer.resume(state)
        elif planned[0].config.train.find_lr:
            given |= self._measured_rate(trainer, task, planned)
            planned = plan_phases(given, task)
            trainer = self._trainer(task, planned)
        config = planned[0].config
        repeats = config.with_values({"phases": settled_phases(given, planned)})
        if processes.is_main():
            files.write_text(self.folder.config, to_yaml(repeats, self.reads | {"phases"}))
        notes = notes_of(planned)
        for line in notes:
            self.screen.say(line)
        self._fit(trainer, task, planned, given)
        if self.deadline is not None:
            repeats = repeats.with_values({"train.epochs": trainer.plan.epochs})
            files.write_text(self.folder.config, to_yaml(repeats, self.reads | {"phases"}))
        for line in (more := never_begun(planned, trainer.progress.epoch)):
            self.screen.say(line)
        kept = trainer.progress.best_epoch if config.train.restore_best else trainer.progress.epoch - 1
        shift = shift_of(next(one for one in reversed(planned) if one.epochs.start <= (kept or 0)).config, task.counts)
        return Fitted(task, config, trainer.progress.history, kept or 0, shift, (*notes, *more))

    def _pipeline(self) -> Pipeline | None:
        """What makes the training views in place of augment.policy, if anything does."""
        path = self.recipe.config.augment.albumentations
        if self.transform is not None:
            return from_callable(self.transform)
        if path is None:
            return None
        pipeline = load_albumentations(Path(path))
        before = self.folder.events("pipeline")
        if before and before[0]["identity"] != pipeline.identity:
            raise SettingsError(f"{path}, or Albumentations, is not what it was when the run began: put it back, or start another run.")
        if not before:
            self.folder.note("pipeline", identity=pipeline.identity)
        for line in pipeline.notes:
            self.screen.say(line)
        return pipeline

    def _trainer(self, task: Task, planned: Sequence[Planned]) -> Trainer:
        phases = [loop_phase(task, one) for one in planned]
        checkpoints = Checkpoints(self.folder.checkpoints, None if self.listen is None else TRIAL_SECONDS)
        return Trainer(task.network, phases, Plan.of(planned[0].config.train), task.device, checkpoints)

    def _measured_rate(self, trainer: Trainer, task: Task, planned: Sequence[Planned]) -> dict[str, Any]:
        """The learning-rate range test: its picture, and the rate that `train.lr=auto` takes."""
        found = trainer.range_test()
        if processes.is_main():
            from sightline.evaluation.curves import range_picture

            range_picture(found, self.folder.lr_range)
        self.folder.note("measured rate", lr=found.suggestion)
        if found.suggestion is None:
            self.screen.say(f"The range test found no rate at which the loss falls; see {self.folder.lr_range}.")
            return {}
        taken = self.given.get("train.lr", "auto") == "auto"
        self.screen.say(
            f"The range test suggests a rate of {found.suggestion:.2g}{'' if taken else ', train.lr is kept'}; see {self.folder.lr_range}."
        )
        return {"train.lr": found.suggestion} if taken else {}

    def _fit(self, trainer: Trainer, task: Task, planned: Sequence[Planned], given: dict[str, Any]) -> None:
        config, folder = planned[0].config, self.folder
        reporter: Recorder | Nobody = Nobody()
        if processes.is_main():
            drawn = self.screen.reporter(config.train.epochs, len(planned[0].order))
            listen = self.listen if self.deadline is None else self._keep_to(self.deadline, trainer, task, given, drawn)
            reporter = Recorder(folder, trainer, drawn, config, task, planned, listen, self.aside)
        command = f"sightline train --resume {files.quoted(folder.root)}"
        try:
            with _stop_signals() as should_stop:
                history = trainer.fit(reporter, should_stop)
        except Interruption:
            folder.note("interrupted", epoch=trainer.progress.epoch + 1, step=trainer.progress.step)
            raise Interrupted(f"Stopped in epoch {trainer.progress.epoch + 1}; everything is saved.", command) from None
        except TrainingError as error:
            folder.note("failed", reason=str(error))
            raise
        finally:
            reporter.close()
        folder.write_history(history)
        if self.listen is None and processes.is_main():
            from sightline.evaluation.curves import curves_picture  # matplotlib: half a second, not before training

            curves_picture(history, folder.curves, phase_labels(planned))
        best = trainer.progress
        folder.note("trained", epochs=len(history), best_epoch=(best.best_epoch or 0) + 1, best_value=best.best_value)

    def _keep_to(
        self, deadline: Deadline, trainer: Trainer, task: Task, given: dict[str, Any], drawn: TrainingScreen
    ) -> Callable[[Row], None]:
        """Hears of each epoch, and moves the last one so that training ends in time."""
        ended = [time.perf_counter()]

        def heard(row: Row) -> None:
            ended.append(time.perf_counter())
            before, left = trainer.plan.epochs, deadline.left()
            slowness = pace(ended, before, deadline.plan, left)
            epochs = before if slowness is None else epochs_that_fit(row["epoch"], before, deadline.plan, slowness, left)
            if epochs != before:
                told = f"Epochs take {slowness:.1f} times as long as planned, and {max(0.0, left):,.0f} s are left for them"
                self.screen.say(f"{told}: training ends with epoch {epochs}, not {before}.")
                planned = plan_phases({**given, "train.epochs": epochs}, task)
                trainer.replan([loop_phase(task, one) for one in planned], Plan.of(planned[0].config.train))
                drawn.end_with(epochs, len(planned[0].order))
                self.folder.note("budget", values={"train.epochs": epochs})

        return heard

    def _classifier(self, task: Task, config: Config, shift: npt.NDArray[np.float32] | None) -> Classifier:
        """Fits the temperature and the thresholds on val, and saves the classifier."""
        prepared, recipe = self.prepared, self.recipe
        preprocess = Preprocess(task.view, recipe.side, config.data.max_pixels)
        added = None if shift is None else tuple(float(value) for value in shift)
        plain = Classifier(task.network.eval(), recipe.built.spec, preprocess, prepared.classes, 1.0, task.device, {}, added)
        found = choose_thresholds(replace(task, network=cast(Network, plain.answering)), shift)
        for note in found.notes:
            self.screen.say(note)
        about = {
            "run": self.folder.root.name,
            "model": config.model.name,
            "trained_on": int((prepared.split.part == "train").sum()),
            "temperature_note": found.temperature.note,
        }
        classifier = replace(plain, temperature=found.temperature.value, about=about, sets=found.sets, novelty=found.novelty)
        if processes.is_main():
            classifier.save(self.folder.classifier)
        return classifier

    def _judge(self, classifier: Classifier, config: Config) -> dict[str, dict[str, Any]]:
        """Figures on val, and once on test where there is one and it may be read."""
        folder, prepared = self.folder, self.prepared
        found = {"val": evaluate_part(classifier, prepared, "val", folder.evaluation("val"))}
        if config.train.tensorboard and processes.is_main():
            _draw_figures(folder, config.train.epochs, found["val"])
        tests = int((prepared.split.part == "test").sum())
        if config.train.judge and tests:
            folder.note("evaluated", split="test", images=tests)
            found["test"] = evaluate_part(classifier, prepared, "test", folder.evaluation("test"))
        return found


def _draw_figures(folder: RunFolder, epoch: int, metrics: dict[str, Any]) -> None:
    """The confusion matrix and each class's F1 on val, of the weights that were kept, for TensorBoard."""
    from sightline.run.board import Board

    board = Board(folder.tensorboard, epoch + 1)
    try:
        board.confusion(np.array(metrics["confusion"]), metrics["classes"], epoch)
        rows = metrics["per_class"]
        f1 = [np.nan if row["f1"]["value"] is None else row["f1"]["value"] for row in rows]
        board.per_class_f1([row["name"] for row in rows], f1, epoch)
    finally:
        board.close()


def phase_labels(planned: Sequence[Planned]) -> list[tuple[int, str]]:
    """The first epoch of each phase after the first, and what it changes."""
    return [(one.phase.first, ", ".join(f"{k}={show(v)}" for k, v in one.phase.changed.items())) for one in planned[1:]]


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM has come; a second Ctrl-C stops at once. Only the main thread can hear signals."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
