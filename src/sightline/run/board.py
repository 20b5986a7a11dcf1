"""TensorBoard in full: numbers, histograms of weights and gradients, training views, the confusion matrix, F1 a class.

    board = Board(run.tensorboard, first_epoch=1)
    board.scalars(row, {"trunk": 1e-4, "head": 1e-3})
    board.histograms(network, epoch=5, gradients={"conv1.weight": gradient})
    board.views(images, mean, std, names, epoch=1)
    board.confusion(counts, classes, epoch=5)
    board.per_class_f1(classes, f1, epoch=5)
    board.close()

The step of everything is the epoch, from 1; what an earlier, interrupted process wrote from `first_epoch` on is hidden.
Each call is on the disk when it returns, so that TensorBoard shows it at once. Every call raises OSError where the disk
is full or the folder cannot be written. It gives up curves inside an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from sightline.evaluation.intervals import wilson

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter

NOT_DRAWN = frozenset({"epoch", "phase", "best"})  # columns of the history that are no curves
MOST_VIEWS = 32
LARGEST_VIEW = 224  # pixels
LARGEST_VALUE = 1e19  # TensorBoard's bins end at 1e20


class Board:
    """The event file of one process."""

    def __init__(self, folder: Path, first_epoch: int) -> None:
        """Opens an event file in `folder`, which is made where it is not there.

        Args:
            first_epoch: the epoch, from 1, with which this process begins.
        """
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._writer = SummaryWriter(str(folder), purge_step=first_epoch)
        self._failed = False

    def scalars(self, row: Mapping[str, Any], rates: Mapping[str, float] | None = None) -> None:
        """A row of the history: `train_loss` becomes train/loss, `val_macro_f1` val/macro_f1; others keep their names.

        Args:
            row: with `epoch`; what is None, no number or not finite is left out.
            rates: the learning rate of each group of parameters; lr/NAME where there are several.
        """
        named = {_tag(name): value for name, value in row.items() if name not in NOT_DRAWN}
        if rates is not None and len(rates) > 1:
            named |= {f"lr/{name}": rate for name, rate in rates.items()}
        with self._writing() as writer:
            for tag, value in named.items():
                if isinstance(value, int | float) and math.isfinite(value):
                    writer.add_scalar(tag, value, row["epoch"])

    def histograms(self, network: nn.Module, epoch: int, gradients: Mapping[str, torch.Tensor] | None = None) -> None:
        """weights/NAME of each parameter that is trained, and gradients/NAME of those given.

        Values that are not finite or at least 1e19 are left out, and so is a histogram without values.
        """
        weights = {f"weights/{name}": p for name, p in network.named_parameters() if p.requires_grad}
        given = {f"gradients/{name}": gradient for name, gradient in (gradients or {}).items()}
        with self._writing() as writer:
            for tag, tensor in (weights | given).items():
                values = tensor.detach().float().flatten()
                values = values[values.abs() < LARGEST_VALUE]  # nan is not less
                if len(values):
                    writer.add_histogram(tag, values.cpu(), epoch)

    def views(self, images: torch.Tensor, mean: Sequence[float], std: Sequence[float], labels: Sequence[str], epoch: int) -> None:
        """A sheet of the first 32 views, as they are before normalisation, each with its class.

        Args:
            images: (B, 3, S, S), normalised: (x - mean) / std with x in [0, 1]; at least one.
            labels: names of the B classes.
        """
        from sightline.evaluation.figures import sheet_figure

        if len(images) != len(labels):
            raise ValueError("there must be one label a view")
        pixels = _plain_pixels(images[:MOST_VIEWS], mean, std)
        self._draw("train/views", sheet_figure(pixels, labels[:MOST_VIEWS]), epoch)

    def confusion(self, counts: np.ndarray, classes: Sequence[str], epoch: int) -> None:
        """The confusion matrix on val as a picture.

        Args:
            counts: (K, K); rows are true classes.
        """
        from sightline.evaluation.figures import confusion_figure

        table = np.asarray(counts)
        right, n = int(np.trace(table)), int(table.sum())
        low, high = wilson(right, n)
        accuracy = {"value": right / n if n else math.nan, "low": float(low), "high": float(high)}
        figure = confusion_figure({"n": n, "classes": list(classes), "confusion": table, "accuracy": accuracy})
        self._draw("val/confusion", figure, epoch)

    def per_class_f1(self, names: Sequence[str], f1: Sequence[float], epoch: int) -> None:
        """F1 of each class on val as bars, the weakest on top.

        Args:
            f1: (K,) in [0, 1], nan for a class without images.
        """
        from sightline.evaluation.figures import per_class_f1_figure

        self._draw("val/f1_per_class", per_class_f1_figure(names, f1), epoch)

    def close(self) -> None:
        """Closes the file. An error that was raised before is not raised again, so this may stand in a `finally`."""
        if self._failed:
            with suppress(OSError):
                self._writer.close()
        else:
            self._writer.close()

    def _draw(self, tag: str, figure: Figure, epoch: int) -> None:
        # SummaryWriter.add_figure would import pyplot, which looks for a screen.
        from sightline.evaluation.drawing import pixels

        image = pixels(figure)
        with self._writing() as writer:
            writer.add_image(tag, image, epoch, dataformats="HWC")

    @contextmanager
    def _writing(self) -> Iterator[SummaryWriter]:
        """The writer's thread only tells of an error when it is asked; so ask."""
        try:
            yield self._writer
            self._writer.flush()
        except OSError:
            self._failed = True
            raise


def _tag(column: str) -> str:
    part, _, figure = column.partition("_")
    return f"{part}/{figure}" if part in ("train", "val") and figure else column


def _plain_pixels(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """(B, S, S, 3) uint8; views larger than 224 pixels are shrunk."""
    views = images.detach().float().cpu()
    if views.shape[-1] > LARGEST_VIEW:
        views = nn.functional.interpolate(views, size=(LARGEST_VIEW, LARGEST_VIEW), mode="bilinear", antialias=True)
    shares = views * torch.tensor(std).view(1, 3, 1, 1) + torch.tensor(mean).view(1, 3, 1, 1)
    return (shares.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
