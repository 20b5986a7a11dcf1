"""The training loop: every step is visible here, and a run that was killed goes on bit for bit.

    trainer = Trainer(network, batches, loss, optimizer, schedule, lr, plan, device, checkpoints)
    trainer.resume(checkpoints.newest())
    history = trainer.fit(validate, report, should_stop)

Nothing random is carried from step to step: torch's generators are set from (seed, step) before each step, the order
and the views of an epoch from (seed, epoch). So a checkpoint is the weights, the optimizer's state and a few numbers.
The best epoch is chosen on val alone. It gives up callbacks inside the step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from torch import nn

from sightline import files
from sightline.config import TrainSettings
from sightline.data.batches import TrainBatches
from sightline.device import Device
from sightline.errors import TrainingError
from sightline.randomness import seed_torch
from sightline.training.checkpoint import Checkpoints, State, pack_optimizer, unpack_optimizer
from sightline.training.losses import Loss
from sightline.training.schedule import Schedule

Row = dict[str, Any]  # of history.csv
LOWER_IS_BETTER = frozenset({"val_loss"})


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to train, and which epoch is best."""

    epochs: int
    accumulate: int
    clip_norm: float | None
    monitor: str  # a column of the history, such as "val_macro_f1"
    patience: int | None
    restore_best: bool
    seed: int
    checkpoint_seconds: float

    @classmethod
    def of(cls, settings: TrainSettings) -> Plan:
        """The plan that the settings describe."""
        return cls(
            settings.epochs,
            settings.accumulate,
            settings.clip_norm,
            f"val_{settings.monitor}",
            settings.patience,
            settings.restore_best,
            settings.seed,
            settings.checkpoint_minutes * 60,
        )


class Reporter(Protocol):
    """Hears how training goes."""

    def batch(self, epoch: int, done: int, batches: int, images: int, loss: float) -> None:
        """After each step: batches done of this epoch, images seen in it, mean loss so far."""

    def epoch(self, row: Row) -> None:
        """After each epoch: its row of the history."""


@dataclass
class Progress:
    """Where a run stands; all of it is in every checkpoint."""

    epoch: int = 0  # the epoch that is running, from 0
    batch: int = 0  # the next batch of it
    step: int = 0  # updates done
    seen: int = 0  # images of this epoch so far
    seconds: float = 0.0  # of this epoch so far
    best_epoch: int | None = None
    best_value: float | None = None
    history: list[Row] = field(default_factory=list)


class Interruption(Exception):
    """Raised inside `fit` when it was asked to stop; the state is saved."""


@dataclass
class Trainer:
    """One network and all that changes while it is trained."""

    network: nn.Module
    batches: TrainBatches
    loss: Loss
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    lr: float
    plan: Plan
    device: Device
    checkpoints: Checkpoints
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self.sums = torch.zeros(2, dtype=torch.float64, device=self.device.torch_device)  # loss and hits of this epoch

    def fit(self, validate: Callable[[], Row], report: Reporter, should_stop: Callable[[], bool]) -> list[Row]:
        """Trains to the last epoch or until patience ends; the network then has the best epoch's weights.

        Args:
            validate: figures of the network on val, as columns `val_...`.
            should_stop: asked after each step; True saves and raises Interruption.

        Returns:
            A row an epoch.

        Raises:
            TrainingError: the loss is not finite; the batch is kept beside the checkpoints.
            Interruption: stopped; `resume` goes on from here.
        """
        while not self._finished():
            self._run_epoch(report, should_stop)
            self._close_epoch(validate())
            report.epoch(self.progress.history[-1])
            self._save()
            if should_stop() and not self._finished():
                raise Interruption
        if self.plan.restore_best and self.progress.best_epoch is not None:
            self.network.load_state_dict(self.checkpoints.best(self.progress.best_epoch))
        return self.progress.history

    def _run_epoch(self, report: Reporter, should_stop: Callable[[], bool]) -> None:
        p, plan = self.progress, self.plan
        saved = started = time.perf_counter()
        before = p.seconds
        self.network.train()
        for images, labels in self.batches.epoch(p.epoch, p.batch):
            if p.batch % plan.accumulate == 0:
                self.optimizer.zero_grad(set_to_none=True)
            self._step(images, labels)
            p.batch += 1
            p.seen += len(labels)
            p.seconds = before + time.perf_counter() - started
            report.batch(p.epoch, p.batch, len(self.batches), p.seen, float(self.sums[0]) / p.seen)
            between_updates = p.batch % plan.accumulate == 0 or p.batch == len(self.batches)
            if between_updates and p.batch < len(self.batches):
                stop = should_stop()
                if stop or time.perf_counter() - saved > plan.checkpoint_seconds:
                    self._save()
                    saved = time.perf_counter()
                if stop:
                    raise Interruption

    def _step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """One batch: forward, loss, backward, and the update when enough batches are added up."""
        p, plan = self.progress, self.plan
        images = images.to(memory_format=self.device.memory_format)
        seed_torch(plan.seed, "step", p.epoch, p.batch)  # dropout depends on where we are, not on how we came here
        with self.device.autocast():
            logits = self.network(images)
        loss = self.loss(logits.float(), labels)
        if not math.isfinite(loss.item()):
            raise TrainingError(self._keep_for_replay(images, labels))
        (loss / self._group(p.batch)).backward()  # type: ignore[no-untyped-call]
        self.sums[0] += loss.detach() * len(labels)
        self.sums[1] += (logits.argmax(1) == labels).sum()
        if (p.batch + 1) % plan.accumulate == 0 or p.batch + 1 == len(self.batches):
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr * self.schedule.factor(p.step)
            if plan.clip_norm is not None:
                nn.utils.clip_grad_norm_(self.network.parameters(), plan.clip_norm)
            self.optimizer.step()
            p.step += 1

    def _group(self, batch: int) -> int:
        """How many batches are added up for the update that `batch` belongs to; the epoch's last may be fewer."""
        first = batch - batch % self.plan.accumulate
        return min(self.plan.accumulate, len(self.batches) - first)

    def _close_epoch(self, figures: Row) -> None:
        p = self.progress
        value = float(figures[self.plan.monitor])
        if not math.isfinite(value) or not math.isfinite(float(figures["val_loss"])):
            raise TrainingError(
                f"The network's answers on val are not finite after epoch {p.epoch + 1}; nothing of this epoch was kept as best. "
                "Lower train.lr or set train.clip_norm=1."
            )
        better = p.best_value is None or (value < p.best_value if self.plan.monitor in LOWER_IS_BETTER else value > p.best_value)
        if better:
            p.best_value, p.best_epoch = value, p.epoch
            self.checkpoints.save_best(self.network.state_dict(), p.epoch)
        if self.schedule.plateau is not None:
            self.schedule.plateau.update(value)
        loss, hits = (self.sums / p.seen).tolist()
        row = {"epoch": p.epoch + 1, "train_loss": loss, "train_accuracy": hits, **figures}
        row |= {"lr": self.optimizer.param_groups[0]["lr"], "seconds": round(p.seconds, 3), "best": better}
        p.history.append(row)
        p.epoch, p.batch, p.seen, p.seconds = p.epoch + 1, 0, 0, 0.0
        self.sums.zero_()

    def _finished(self) -> bool:
        p, patience = self.progress, self.plan.patience
        if p.epoch >= self.plan.epochs:
            return True
        without_better = 0 if p.best_epoch is None else p.epoch - 1 - p.best_epoch
        return patience is not None and without_better >= patience and p.batch == 0

    # ---- saving and going on -----------------------------------------------------------------------------------------

    def _save(self) -> None:
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= pack_optimizer(self.optimizer) | {"sums": self.sums}
        plateau = self.schedule.plateau
        facts = dict(vars(self.progress)) | {"plateau": None if plateau is None else [plateau.best, plateau.bad, plateau.scale]}
        self.checkpoints.save(State(tensors, facts))
        if self.progress.best_epoch is not None:
            self.checkpoints.forget_other_bests(self.progress.best_epoch)

    def resume(self, state: State) -> None:
        """Goes on from a checkpoint: the next step is the one that would have followed."""
        network = {k.removeprefix("network."): v for k, v in state.tensors.items() if k.startswith("network.")}
        self.network.load_state_dict(network)
        unpack_optimizer(self.optimizer, state.tensors)
        self.sums.copy_(state.tensors["sums"])
        facts = dict(state.facts)
        kept = facts.pop("plateau")
        if kept is not None and self.schedule.plateau is not None:
            self.schedule.plateau.best, self.schedule.plateau.bad, self.schedule.plateau.scale = kept
        self.progress = Progress(**facts)

    def _keep_for_replay(self, images: torch.Tensor, labels: torch.Tensor) -> str:
        """Saves the batch and the weights that gave a loss which is no number; gives the message for the user."""
        p = self.progress
        folder: Path = self.checkpoints.folder.parent / "failed_batch"
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"images": images, "labels": labels, **{f"network.{k}": v for k, v in self.network.state_dict().items()}}
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, folder / "batch.safetensors")
        files.write_json(folder / "where.json", {"epoch": p.epoch + 1, "batch": p.batch, "seed": self.plan.seed})
        return (
            f"The loss is not finite in epoch {p.epoch + 1}, batch {p.batch + 1}. The batch and the weights are kept in {folder}. "
            "Lower train.lr, set train.clip_norm=1 or device.precision=float32."
        )
