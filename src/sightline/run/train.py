"""Train a classifier from a folder, evaluate it, and leave a run folder behind.

    result = train("photos", ["train.epochs=20"])
    result.run.root, result.metrics["test"]["macro_f1"]
    result = resume("runs/photos-20261122-101500")

The order is: settings, network, policy (what nothing reads is refused here, before any work), pixels, split, training,
temperature on val, figures on val, figures on test once.
"""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from sightline import files
from sightline.classifier import Classifier
from sightline.config import Config, build, gather, refuse_inert, to_yaml, watch
from sightline.data.augment import Policy, View, choose_policy
from sightline.data.batches import TrainBatches, mean_and_std, plain_batches
from sightline.data.table import ImageTable, scan
from sightline.device import Device, choose, environment
from sightline.errors import Interrupted, SettingsError, TrainingError
from sightline.evaluation import metrics as figures
from sightline.evaluation.calibration import fit_temperature
from sightline.evaluation.figures import curves_picture
from sightline.models.catalog import Built, native_size
from sightline.models.catalog import build as build_network
from sightline.models.inference import logits_of
from sightline.models.preprocess import Preprocess
from sightline.randomness import seed_torch
from sightline.run.evaluate import EVAL_BATCH, evaluate_part, reopen
from sightline.run.folder import RunFolder
from sightline.run.prepare import Prepared, choose_size, count_lines, limits, prepare_table, store_size
from sightline.run.progress import Screen
from sightline.training.checkpoint import Checkpoints
from sightline.training.loop import Interruption, Plan, Reporter, Row, Trainer
from sightline.training.losses import build_loss
from sightline.training.optim import automatic_lr, build_optimizer
from sightline.training.schedule import build_schedule


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


@dataclass(frozen=True)
class _Recipe:
    """All that is settled before an image is decoded."""

    config: Config  # resolved but for mean and std, watched
    device: Device
    built: Built
    policy: Policy
    size: int
    side: int


def train(
    folder: str | Path,
    settings: Sequence[str] = (),
    recipe: str | Path | dict[str, Any] | None = None,
    run: str | Path | None = None,
) -> TrainResult:
    """Trains on a folder of labelled images, or on a CSV or Parquet table.

    Args:
        settings: `KEY=VALUE` words.
        recipe: YAML file or mapping; the words come after it.
        run: where to write; by default a new folder in runs/.

    Raises:
        SightlineError: anything that the user can mend.
    """
    given = gather(recipe, settings)
    reads: set[str] = set()
    config = watch(build(given), reads)
    with Screen() as screen:
        table = scan(folder)
        settled = _settle(config, table)
        _read_the_rest(config, table)
        refuse_inert(build(given), given, reads)
        opened = RunFolder.create(run, Path(folder))
        with opened.locked():
            opened.note("started", folder=str(Path(folder).expanduser().resolve()), given=given)
            prepared = prepare_table(table, settled.config, settled.side, screen.counter("decoding"))
            if prepared.classes != table.classes:  # a class lost all of its images
                settled = _settle(config, prepared.table)
            view = _view(settled, prepared)
            resolved = _resolved(build(given), settled, view)
            files.write_text(opened.config, to_yaml(resolved, reads))
            files.write_json(opened.environment, environment(settled.device))
            files.write_atomic(opened.images, prepared.images().write_parquet)
            notes = (*settled.built.notes, *count_lines(prepared))
            for line in notes:
                screen.say(line)
            return _run(opened, resolved, settled, prepared, view, screen, notes)


def resume(run: str | Path, settings: Sequence[str] = ()) -> TrainResult:
    """Goes on with a run from its newest checkpoint; settings of `train.*` and `augment.*` may change.

    Raises:
        SightlineError: anything that the user can mend.
    """
    opened = RunFolder.open(run)
    changed = gather(None, settings)
    fixed = [path for path in changed if path.partition(".")[0] not in ("train", "augment", "device")]
    if fixed:
        raise SettingsError(f"{fixed[0]} cannot change on resume: it would be another run. Start one with `sightline train`.")
    with Screen() as screen, opened.locked():
        plain = opened.read_config().with_values(changed)
        reads: set[str] = set()
        config = watch(plain, reads)
        prepared = reopen(opened, plain, screen)
        state = Checkpoints(opened.checkpoints).newest()
        settled = _settle(config, prepared.table, fetch=state is None)
        _read_the_rest(config, prepared.table)
        refuse_inert(plain, changed, reads)
        view = _view(settled, prepared)
        opened.note("resumed", changed=changed)
        resolved = _resolved(plain, settled, view)
        files.write_text(opened.config, to_yaml(resolved, reads))
        return _run(opened, resolved, settled, prepared, view, screen, ())


# ---- settling what is automatic --------------------------------------------------------------------------------------


def _settle(config: Config, table: ImageTable, fetch: bool = True) -> _Recipe:
    """The device, the network and the policy; `fetch` is False where a checkpoint replaces all weights anyway."""
    device = choose(config.device)
    seed_torch(config.train.seed, "weights")
    size = choose_size(config, table, native_size(config.model.name))
    if fetch:
        built = build_network(config.model, len(table.classes), size=size)
    else:
        kept = config.model.weights
        built = build_network(config.model.model_copy(update={"weights": "none"}), len(table.classes), size=size)
        built = replace(built, weights=kept)
    policy = choose_policy(config.augment, config.data.fit)
    return _Recipe(config, device, built, policy, size, store_size(config, size))


def _read_the_rest(config: Config, table: ImageTable) -> None:
    """Reads, before any work, what is otherwise read later; so that what is inert is known now."""
    Plan.of(config.train)
    build_loss(config.train)
    build_schedule(config.train, 1)
    build_optimizer(torch.nn.Linear(1, 1), config.train, 1.0, fused=False)
    limits(config)
    _ = config.train.lr, config.train.batch_size, config.train.judge, config.train.tensorboard
    _ = config.data.mean, config.data.std
    if set(table.frame["given"]) != {"train", "val", "test"}:
        _ = config.split.fractions, config.split.seed


def _view(settled: _Recipe, prepared: Prepared) -> View:
    """How pixels are normalised: as the settings say, as the pretrained weights want it, or as the train part is."""
    data, built = settled.config.data, settled.built
    mean, std = built.mean, built.std
    if mean is None or std is None:
        mean, std = mean_and_std(prepared.pixels, prepared.split.rows("train"))
    return View(settled.size, data.fit, mean if data.mean == "auto" else data.mean, std if data.std == "auto" else data.std)


def _resolved(plain: Config, settled: _Recipe, view: View) -> Config:
    """The settings without any "auto"."""
    device, pretrained = settled.device, settled.built.weights != "none"
    lr = automatic_lr(plain.train.optimizer, pretrained) if plain.train.lr == "auto" else plain.train.lr
    limit = limits(plain)
    half_free = round(shutil.disk_usage(limit.cache).free / 2e9, 1)
    return plain.with_values(
        {
            "data.size": settled.size,
            "data.store_size": settled.side,
            "data.mean": view.mean,
            "data.std": view.std,
            "data.store_gb": half_free if limit.store_gb is None else limit.store_gb,
            "data.workers": limit.workers,
            "model.weights": settled.built.weights,
            "train.lr": lr,
            "device.name": device.name,
            "device.precision": device.precision,
            "device.threads": device.threads,
        }
    )


# ---- training and judging --------------------------------------------------------------------------------------------


def _run(
    run: RunFolder, config: Config, settled: _Recipe, prepared: Prepared, view: View, screen: Screen, notes: tuple[str, ...]
) -> TrainResult:
    device, checkpoints = settled.device, Checkpoints(run.checkpoints)
    network = settled.built.network.to(device.torch_device).to(memory_format=device.memory_format)
    train_rows = prepared.split.rows("train")
    batches = TrainBatches(
        prepared.pixels,
        train_rows,
        prepared.labels,
        prepared.keys,
        view,
        settled.policy,
        config.train.batch_size,
        config.train.seed,
        device.torch_device,
        getattr(torch, device.precision),
    )
    assert config.train.lr != "auto"
    updates = -(-len(batches) // config.train.accumulate)
    trainer = Trainer(
        network,
        batches,
        build_loss(config.train),
        build_optimizer(network, config.train, config.train.lr, device.fused()),
        build_schedule(config.train, updates),
        config.train.lr,
        Plan.of(config.train),
        device,
        checkpoints,
    )
    state = checkpoints.newest()
    if state is not None:
        trainer.resume(state)
    _fit(run, trainer, _validator(network, prepared, view, device), config, screen)
    classifier = _finish(run, network, settled, prepared, view, config)
    return TrainResult(run, _judge(run, classifier, prepared, config), notes)


def _fit(run: RunFolder, trainer: Trainer, validate: Callable[[], Row], config: Config, screen: Screen) -> None:
    drawn = screen.reporter(config.train.epochs, len(trainer.batches))
    reporter = _Recorder(run, trainer, drawn, config.train.tensorboard)
    command = f"sightline train --resume {run.root}"
    try:
        with _stop_signals() as should_stop:
            history = trainer.fit(validate, reporter, should_stop)
    except Interruption:
        run.note("interrupted", epoch=trainer.progress.epoch + 1, step=trainer.progress.step)
        raise Interrupted(f"Stopped in epoch {trainer.progress.epoch + 1}; everything is saved.", command) from None
    except TrainingError as error:
        run.note("failed", reason=str(error))
        raise
    finally:
        reporter.close()
    run.write_history(history)
    curves_picture(history, run.curves)
    run.note("trained", epochs=len(history), best_epoch=(trainer.progress.best_epoch or 0) + 1, best_value=trainer.progress.best_value)


def _validator(network: torch.nn.Module, prepared: Prepared, view: View, device: Device) -> Callable[[], Row]:
    """The figures on val that an epoch's row holds."""
    rows = prepared.split.rows("val")
    labels, k = prepared.labels[rows], len(prepared.classes)

    def validate() -> Row:
        logits = logits_of(network, plain_batches(prepared.pixels, rows, view, EVAL_BATCH, device.torch_device), device)
        predicted = logits.argmax(1)
        loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)).item()
        return {
            "val_loss": loss,
            "val_accuracy": figures.accuracy(labels, predicted),
            "val_balanced_accuracy": figures.balanced_accuracy(labels, predicted, k),
            "val_macro_f1": figures.macro_f1(labels, predicted, k),
        }

    return validate


def _finish(run: RunFolder, network: torch.nn.Module, settled: _Recipe, prepared: Prepared, view: View, config: Config) -> Classifier:
    """Fits the temperature on val and saves the classifier."""
    rows = prepared.split.rows("val")
    network.eval()
    logits = logits_of(network, plain_batches(prepared.pixels, rows, view, EVAL_BATCH, settled.device.torch_device), settled.device)
    temperature = fit_temperature(logits, prepared.labels[rows])
    preprocess = Preprocess(view, settled.side, config.data.max_pixels)
    about = {
        "run": run.root.name,
        "model": config.model.name,
        "trained_on": int((prepared.split.part == "train").sum()),
        "temperature_note": temperature.note,
    }
    classifier = Classifier(network, settled.built.spec, preprocess, prepared.classes, temperature.value, settled.device, about)
    classifier.save(run.classifier)
    return classifier


def _judge(run: RunFolder, classifier: Classifier, prepared: Prepared, config: Config) -> dict[str, dict[str, Any]]:
    """Figures on val, and once on test where there is one and it may be read."""
    found = {"val": evaluate_part(classifier, prepared, "val", run.evaluation("val"))}
    tests = int((prepared.split.part == "test").sum())
    if config.train.judge and tests:
        run.note("evaluated", split="test", images=tests)
        found["test"] = evaluate_part(classifier, prepared, "test", run.evaluation("test"))
    return found


class _Recorder:
    """A reporter that writes `history.csv` and TensorBoard's scalars, and passes everything on to the screen."""

    def __init__(self, run: RunFolder, trainer: Trainer, screen: Reporter, tensorboard: bool) -> None:
        self.run, self.trainer, self.screen = run, trainer, screen
        self.board = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(run.tensorboard), purge_step=trainer.progress.epoch + 1)

    def batch(self, epoch: int, done: int, batches: int, images: int, loss: float) -> None:
        self.screen.batch(epoch, done, batches, images, loss)

    def epoch(self, row: Row) -> None:
        self.run.write_history(self.trainer.progress.history)
        self.screen.epoch(row)
        if self.board is not None:
            for name, value in row.items():
                if name not in ("epoch", "best"):
                    self.board.add_scalar(name.replace("train_", "train/").replace("val_", "val/"), value, row["epoch"])

    def close(self) -> None:
        if self.board is not None:
            self.board.close()


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
