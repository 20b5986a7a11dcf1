"""What hears of a training while it runs: the history, TensorBoard, the screen, and what waits for the end of an epoch.

recorder = Recorder(folder, trainer, screen, config, task, planned)
trainer.fit(recorder, should_stop)
recorder.close()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sightline.config import Config
from sightline.run.folder import RunFolder
from sightline.run.task import Planned, Task, train_batches
from sightline.training.loop import Reporter, Trainer
from sightline.training.stage import Row

if TYPE_CHECKING:
    from sightline.run.board import Board


class Nobody:
    """The reporter of a process that does not speak."""

    def batch(self, epoch: int, done: int, batches: int, images: int, loss: Callable[[], float]) -> None:
        pass

    def epoch(self, row: Row) -> None:
        pass

    def close(self) -> None:
        pass


class Recorder:
    """A reporter that writes `history.csv` and TensorBoard's files, and passes everything on to the screen."""

    def __init__(
        self,
        run: RunFolder,
        trainer: Trainer,
        screen: Reporter,
        config: Config,
        task: Task,
        planned: Sequence[Planned],
        listen: Callable[[Row], None] | None = None,
        aside: Callable[[], None] | None = None,
    ) -> None:
        self.run, self.trainer, self.screen, self.listen, self.aside = run, trainer, screen, listen, aside
        self.task, self.beginnings = task, {one.phase.first: one for one in planned}
        self.log_weights = config.train.log_weights
        self.board = None
        if config.train.tensorboard:
            from sightline.run.board import Board

            self.board = Board(run.tensorboard, trainer.progress.epoch + 1)

    def batch(self, epoch: int, done: int, batches: int, images: int, loss: Callable[[], float]) -> None:
        self.screen.batch(epoch, done, batches, images, loss)

    def epoch(self, row: Row) -> None:
        self.run.write_history(self.trainer.progress.history)
        self.screen.epoch(row)
        if self.board is not None:
            self._draw(self.board, row)
        if self.aside is not None:
            self.aside()
            self.aside = None
        if self.listen is not None:
            self.listen(row)

    def _draw(self, board: Board, row: Row) -> None:
        board.scalars(row, self.trainer.rates())
        if row["epoch"] in self.beginnings:
            batch = next(train_batches(self.task, self.beginnings[row["epoch"]]).epoch(row["epoch"] - 1))
            names = [self.task.prepared.classes[i] for i in batch.labels.tolist()]
            board.views(batch.inputs, self.task.view.mean, self.task.view.std, names, row["epoch"])
        if self.log_weights is not None and (row["epoch"] % self.log_weights == 0 or row["epoch"] == 1):
            network = self.trainer.network
            gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
            board.histograms(network, row["epoch"], gradients)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()
