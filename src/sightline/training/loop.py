"""The training loop: every step is visible here, and a run that was killed goes on bit for bit.

    trainer = Trainer(network, phases, plan, device, checkpoints)
    trainer.resume(checkpoints.newest())
    history = trainer.fit(report, should_stop)

Nothing random is carried from step to step: torch's generators are set from (seed, epoch, batch) before each step, the
order and the views of an epoch from (seed, epoch). So a checkpoint is the weights, the optimizer's state and a few
numbers. What changes in the middle of a run (batches, loss, update rule, what is frozen) is a `Stage`, opened when its
first epoch comes. The best epoch is chosen on val alone. It gives up callbacks inside the step.

Of several processes each has its part of every batch. Before a step they add up the loss and what it divides by, after
it the gradients, so that each makes the same update as one process with the whole batch would. That is a few lines here,
and works with whatever is frozen, cut, averaged or accumulated; it gives up sending gradients while others are still
computed, as DistributedDataParallel does. Only dropout differs with the number of processes: each draws its own.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from torch import nn

from sightline import files, processes
from sightline.data.batches import Batch
from sightline.device import Device
from sightline.errors import TrainingError
from sightline.models.head import Network
from sightline.randomness import seed_torch
from sightline.training.batch_norm import running_statistics, synchronised
from sightline.training.checkpoint import Checkpoints, State, pack_optimizer, unpack_optimizer
from sightline.training.ema import Ema
from sightline.training.finite import Watch
from sightline.training.lr_range import Range, range_test
from sightline.training.stage import Phase, Plan, Row, Stage

LOWER_IS_BETTER = frozenset({"val_loss"})


class Reporter(Protocol):
    """Hears how training goes."""

    def batch(self, epoch: int, done: int, batches: int, images: int, loss: Callable[[], float]) -> None:
        """After each step: batches done of this epoch, images seen in it; `loss()` is the mean so far, and waits for the device."""

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
    phase: int = 0  # which the optimizer's state is of
    best_epoch: int | None = None
    best_value: float | None = None
    history: list[Row] = field(default_factory=list)


class Interruption(Exception):
    """Raised inside `fit` when it was asked to stop, on all processes at once; the state is saved."""

    agreed = True


@dataclass
class Trainer:
    """One network and all that changes while it is trained."""

    network: Network
    phases: Sequence[Phase]
    plan: Plan
    device: Device
    checkpoints: Checkpoints
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        # Of this epoch: loss and hits, each times images; norm of the gradients, and how many of them.
        self.sums = torch.zeros(4, dtype=torch.float64, device=self.device.torch_device)
        self.ema = None if self.plan.ema is None else Ema(self.network, self.plan.ema)
        self.watch = Watch(self.device.torch_device)
        self.stage: Stage | None = None
        self.many, self.rank = processes.world() > 1, processes.rank()

    def fit(self, report: Reporter, should_stop: Callable[[], bool]) -> list[Row]:
        """Trains to the last epoch or until patience ends; the network then has the best epoch's weights.

        Args:
            should_stop: asked after each step; True saves and raises Interruption.

        Returns:
            A row an epoch.

        Raises:
            TrainingError: the loss is not finite; the batch is kept beside the checkpoints.
            Interruption: stopped; `resume` goes on from here.
        """
        with processes.untold():
            return self._fit(report, processes.any_of(should_stop))

    def _fit(self, report: Reporter, should_stop: Callable[[], bool]) -> list[Row]:
        while not self._finished():
            stage = self._enter_phase()
            self._run_epoch(stage, report, should_stop)
            self._close_epoch(stage, self._judged(stage))
            self._save()  # before history.csv says that there is something to go on from
            report.epoch(self.progress.history[-1])
            if should_stop() and not self._finished():
                self.checkpoints.flush()
                raise Interruption
        self.checkpoints.finish()
        if processes.is_main() and self.progress.best_epoch is not None:
            self.checkpoints.forget_other_bests(self.progress.best_epoch)
        if self.plan.restore_best and self.progress.best_epoch is not None:
            processes.gathered(None)  # the main process may be writing it yet
            with processes.together():
                self.network.load_state_dict(self.checkpoints.best(self.progress.best_epoch))
        elif self.ema is not None:
            self.network.load_state_dict(self.ema.state())
        return self.progress.history

    def _run_epoch(self, stage: Stage, report: Reporter, should_stop: Callable[[], bool]) -> None:
        p = self.progress
        saved = started = time.perf_counter()
        before = p.seconds
        self.network.train()
        stage.forward.train()
        stage.frozen.hold(self.network)
        for batch in stage.batches.epoch(p.epoch, p.batch):
            if p.batch % stage.accumulate == 0:
                stage.optimizer.zero_grad(set_to_none=True)
            p.seen += self._step(stage, batch)
            p.batch += 1
            p.seconds = before + time.perf_counter() - started
            report.batch(p.epoch, p.batch, len(stage.batches), p.seen, lambda: float(self.sums[0]) / p.seen)
            between_updates = p.batch % stage.accumulate == 0 or p.batch == len(stage.batches)
            if between_updates and p.batch < len(stage.batches):
                stop = should_stop()
                if stop or time.perf_counter() - saved > self.plan.checkpoint_seconds:
                    self._look(stage, p.batch - 1, batch)
                    self._save()
                    self.checkpoints.flush()
                    saved = time.perf_counter()
                if stop:
                    raise Interruption

    def _step(self, stage: Stage, batch: Batch) -> int:
        """One batch: forward, loss, backward, and the update when enough batches are added up; gives the images of all processes."""
        p = self.progress
        self._seed("step", p.epoch, p.batch)  # dropout depends on where we are, not on how we came here
        loss, logits = self._loss(stage, batch)
        hits, images = (logits.argmax(1) == batch.labels).sum(), len(batch.labels)
        whole = loss.detach()
        if self.many:
            loss, whole, hits, images = _of_all(stage, batch, loss, hits)
        self.watch.note(p.batch, whole)
        if self.watch.due(p.batch, len(stage.batches)):
            self._look(stage, p.batch, batch)
        (loss / _group(stage, p.batch)).backward()  # type: ignore[no-untyped-call]
        self.sums[0] += whole * images
        self.sums[1] += hits
        if (p.batch + 1) % stage.accumulate == 0 or p.batch + 1 == len(stage.batches):
            self._update(stage)
        return images

    def _seed(self, *place: object) -> None:
        """Torch's generators for this place; those of the main process are what one process would have."""
        seed_torch(self.plan.seed, *place, *([self.rank] if self.rank else []))

    def _loss(self, stage: Stage, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of a batch, and its logits."""
        inputs = batch.inputs.to(memory_format=self.device.memory_format) if batch.inputs.ndim == 4 else batch.inputs
        with self.device.autocast(), synchronised(self.many and stage.sync_norm):
            logits = stage.forward(inputs)
        return stage.loss(logits.float(), batch.labels, batch.partner, batch.share), logits

    def _update(self, stage: Stage) -> None:
        """The optimizer's step at this step's rate."""
        p, factor = self.progress, stage.schedule.factor(self.progress.step - stage.first_step)
        for group in stage.optimizer.param_groups:
            group["lr"] = stage.lr * group["lr_scale"] * factor
        trained = [parameter for group in stage.optimizer.param_groups for parameter in group["params"]]
        self._add_up(stage, trained)
        norm = nn.utils.get_total_norm([parameter.grad for parameter in trained if parameter.grad is not None])
        if stage.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(trained, stage.clip_norm, norm)
        self.watch.hold(stage.optimizer)
        stage.optimizer.step()
        if self.ema is not None:
            self.ema.update(self.network)
        self.sums[2] += norm
        self.sums[3] += 1
        p.step += 1

    def _add_up(self, stage: Stage, trained: Sequence[nn.Parameter]) -> None:
        """The gradients of all processes' parts; and their running statistics, where each has its own batch norm."""
        if not self.many:
            return
        running = [] if stage.sync_norm else running_statistics(self.network)
        for value in running:
            value.div_(processes.world())
        processes.sum_over([parameter.grad for parameter in trained if parameter.grad is not None] + running)

    def replan(self, phases: Sequence[Phase], plan: Plan) -> None:
        """Between two epochs: goes on as planned anew, with as many phases, as if resumed from a checkpoint with them."""
        assert self.stage is not None
        before, self.phases, self.plan = self.stage, phases, plan
        self.stage = phases[self.progress.phase].open(False)
        unpack_optimizer(self.stage.optimizer, self.stage.names, pack_optimizer(before.optimizer, before.names))
        self.stage.schedule.load(before.schedule.state())

    def rates(self) -> dict[str, float]:
        """The learning rate of the last step, for each factor that groups of parameters have."""
        if self.stage is None:
            return {}
        return {f"x{group['lr_scale']:.3g}": float(group["lr"]) for group in self.stage.optimizer.param_groups}

    def range_test(self) -> Range:
        """The learning-rate range test on the first phase; network and optimizer are as before afterwards."""
        before = {name: value.clone() for name, value in self.network.state_dict().items()}
        stage = self.phases[0].open(False)
        batches = enumerate(batch for epoch in itertools.count() for batch in stage.batches.epoch(epoch))
        self.network.train()
        stage.forward.train()
        stage.frozen.hold(self.network)

        def step(rate: float) -> float:
            number, batch = next(batches)
            self._seed("range", number)
            stage.optimizer.zero_grad(set_to_none=True)
            loss, logits = self._loss(stage, batch)
            whole = loss.detach()
            if self.many:
                loss, whole, *_ = _of_all(stage, batch, loss, logits.new_zeros(()))
            loss.backward()  # type: ignore[no-untyped-call]
            self._add_up(stage, [parameter for group in stage.optimizer.param_groups for parameter in group["params"]])
            for group in stage.optimizer.param_groups:
                group["lr"] = rate * group["lr_scale"]
            stage.optimizer.step()
            return whole.item()

        found = range_test(step)
        self.network.load_state_dict(before)
        return found

    def _judged(self, stage: Stage) -> Row:
        """Figures on val of the weights that would be kept."""
        if self.ema is None:
            return stage.validate()
        with self.ema.applied(self.network):
            return stage.validate()

    def _close_epoch(self, stage: Stage, figures: Row) -> None:
        p = self.progress
        value = float(figures[self.plan.monitor])
        if not math.isfinite(value) or not math.isfinite(float(figures["val_loss"])):
            with processes.together():
                raise TrainingError(
                    f"The network's answers on val are not finite after epoch {p.epoch + 1}; nothing of this epoch was kept as best. "
                    "Lower train.lr or set train.clip_norm=1."
                )
        better = p.best_value is None or (value < p.best_value if self.plan.monitor in LOWER_IS_BETTER else value > p.best_value)
        if better:
            p.best_value, p.best_epoch = value, p.epoch
            if processes.is_main():
                self.checkpoints.save_best(self.network.state_dict() if self.ema is None else self.ema.state(), p.epoch)
        if stage.schedule.plateau is not None:
            stage.schedule.plateau.update(value)
        loss, hits, norm, updates = self.sums.tolist()
        row = {"epoch": p.epoch + 1, "phase": p.phase + 1, "train_loss": loss / p.seen, "train_accuracy": hits / p.seen, **figures}
        row |= {"lr": stage.lr * stage.schedule.factor(p.step - 1 - stage.first_step), "grad_norm": norm / updates}
        p.history.append(row | {"seconds": round(p.seconds, 3), "best": better})
        p.epoch, p.batch, p.seen, p.seconds = p.epoch + 1, 0, 0, 0.0
        self.sums.zero_()

    def _finished(self) -> bool:
        p = self.progress
        return p.epoch >= self.plan.epochs or (p.batch == 0 and self.plan.gives_up(p.epoch, p.best_epoch))

    # ---- phases ------------------------------------------------------------------------------------------------------

    def _enter_phase(self) -> Stage:
        """The stage of the epoch that comes; where a phase begins, what fits of the one before goes into it."""
        p = self.progress
        number = max(i for i, phase in enumerate(self.phases) if phase.first <= p.epoch)
        if self.stage is not None and number == p.phase:
            return self.stage
        with processes.together():
            before, self.stage = self.stage, self.phases[number].open(True)
        if number > p.phase:
            if before is not None:
                self._begin(self.stage, number, pack_optimizer(before.optimizer, before.names), before.schedule.state())
            p.phase = number
        return self.stage

    def _begin(self, stage: Stage, number: int, tensors: dict[str, torch.Tensor], plateau: Sequence[Any] | None) -> None:
        """A phase begins: the optimizer's state and the schedule go on where it says so, on what it still trains."""
        passed = self.phases[self.progress.phase + 1 : number + 1]
        if all(phase.keeps_optimizer for phase in passed):
            unpack_optimizer(stage.optimizer, stage.names, tensors)
        if all(phase.keeps_schedule for phase in passed):
            stage.schedule.load(plateau)
        if self.ema is not None and self.phases[number].resets_head:  # an average with the old head would be of neither
            for name, value in self.network.head.state_dict().items():
                self.ema.state()[f"head.{name}"].copy_(value)

    # ---- saving and going on -----------------------------------------------------------------------------------------

    def _save(self) -> None:
        assert self.stage is not None
        if not processes.is_main():
            return
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= pack_optimizer(self.stage.optimizer, self.stage.names) | {"sums": self.sums}
        if self.ema is not None:
            tensors |= {f"ema.{name}": value for name, value in self.ema.state().items()}
        facts = dict(vars(self.progress)) | {
            "plateau": self.stage.schedule.state(),
            "ema_updates": 0 if self.ema is None else self.ema.updates,
        }
        self.checkpoints.save(State(tensors, facts))
        if self.progress.best_epoch is not None:
            self.checkpoints.forget_other_bests(self.progress.best_epoch)

    def resume(self, state: State) -> None:
        """Goes on from a checkpoint: the next step is the one that would have followed."""
        facts = dict(state.facts)
        plateau, updates = facts.pop("plateau"), facts.pop("ema_updates")
        self.progress = p = Progress(**facts)
        if processes.is_main():
            self.checkpoints.go_on(p.best_epoch)
        self.network.load_state_dict(_part(state.tensors, "network"))
        if self.ema is not None:  # where the run had none so far, it begins with these weights
            self.ema.load(_part(state.tensors, "ema") or self.network.state_dict(), updates)
        self.sums.copy_(state.tensors["sums"])
        if self._finished():
            return
        number = max(i for i, phase in enumerate(self.phases) if phase.first <= p.epoch)
        self.stage = self.phases[number].open(number > p.phase)
        if number > p.phase:  # a new phase takes over; an epoch that is running begins again
            self._begin(self.stage, number, state.tensors, plateau)
            p.phase, p.batch, p.seen, p.seconds = number, 0, 0, 0.0
            self.sums.zero_()
        else:
            unpack_optimizer(self.stage.optimizer, self.stage.names, state.tensors)
            self.stage.schedule.load(plateau)

    def _look(self, stage: Stage, number: int, batch: Batch) -> None:
        """Raises TrainingError where a loss was no number; the main process speaks, and each keeps its part of the batch that did it.

        Args:
            number, batch: the last one.
        """
        first = self.watch.first()
        if first is None:
            return
        failed = batch if first == number else next(iter(stage.batches.epoch(self.progress.epoch, first)))
        with processes.together():
            raise TrainingError(self._keep_for_replay(failed, first))

    def _keep_for_replay(self, batch: Batch, number: int) -> str:
        """Saves the batch and the weights that gave a loss which is no number; gives the message for the user."""
        p, part = self.progress, f"-{self.rank}" if self.rank else ""
        folder: Path = self.checkpoints.folder.parent / "failed_batch"
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: value for name, value in batch._asdict().items() if value is not None}
        tensors |= {f"network.{k}": v for k, v in self.network.state_dict().items()}
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, folder / f"batch{part}.safetensors")
        files.write_json(folder / f"where{part}.json", {"epoch": p.epoch + 1, "batch": number, "seed": self.plan.seed})
        return (
            f"The loss is not finite in epoch {p.epoch + 1}, batch {number + 1}. The batch and the weights are kept in {folder}. "
            "Lower train.lr, set train.clip_norm=1 or device.precision=float32."
        )


def _of_all(stage: Stage, batch: Batch, loss: torch.Tensor, hits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
    """From the loss of this process's part of a batch: its share of the whole batch's loss, that loss, the hits and images.

    A loss divides by what its images weigh, and parts weigh differently: the shares add up to what one process would have.
    """
    own = stage.loss.weight(batch.labels, batch.partner, batch.share).double()
    sums = torch.stack([loss.detach() * own, own, hits.double(), torch.full_like(own, len(batch.labels))])
    processes.sum_over([sums])
    return loss * (own / sums[1]).float(), (sums[0] / sums[1]).float(), sums[2], int(sums[3].item())


def _group(stage: Stage, batch: int) -> int:
    """How many batches are added up for the update that `batch` belongs to; the epoch's last may be fewer."""
    first = batch - batch % stage.accumulate
    return min(stage.accumulate, len(stage.batches) - first)


def _part(tensors: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """The entries below NAME. without that word."""
    return {key.partition(".")[2]: value for key, value in tensors.items() if key.startswith(f"{name}.")}
