"""What TensorBoard reads back is what was written."""

from __future__ import annotations

import errno
import io
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import nn

from sightline.evaluation.drawing import pixels
from sightline.evaluation.figures import per_class_f1_figure
from sightline.run.board import Board

ROW: dict[str, Any] = {
    "epoch": 3,
    "phase": 1,
    "train_loss": 0.5,
    "train_accuracy": 0.75,
    "val_loss": 0.625,
    "val_balanced_accuracy": None,
    "val_macro_f1": float("nan"),
    "lr": 0.125,
    "grad_norm": 2.5,
    "seconds": 8,
    "best": True,
}


def read(folder: Path) -> EventAccumulator:
    everything = {"scalars": 0, "images": 0, "histograms": 0}
    return EventAccumulator(str(folder), size_guidance=everything).Reload()


def scalars(events: EventAccumulator) -> dict[str, list[tuple[int, float]]]:
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def image(events: EventAccumulator, tag: str) -> np.ndarray:
    (event,) = events.Images(tag)
    with Image.open(io.BytesIO(event.encoded_image_string)) as opened:
        return np.asarray(opened)


def test_a_row_becomes_curves_and_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    board = Board(tmp_path / "new" / "folder", 1)
    board.scalars(ROW, {"all": 0.125})
    expected = {"train/loss": 0.5, "train/accuracy": 0.75, "val/loss": 0.625, "lr": 0.125, "grad_norm": 2.5, "seconds": 8.0}
    assert scalars(read(tmp_path / "new" / "folder")) == {tag: [(3, value)] for tag, value in expected.items()}  # not yet closed
    board.close()


def test_each_group_of_parameters_has_its_rate(tmp_path: Path) -> None:
    board = Board(tmp_path, 1)
    board.scalars({"epoch": 1, "lr": 0.5}, {"trunk": 0.25, "head": 0.5})
    board.close()
    assert scalars(read(tmp_path)) == {"lr": [(1, 0.5)], "lr/trunk": [(1, 0.25)], "lr/head": [(1, 0.5)]}


def test_a_resumed_run_hides_what_the_interrupted_one_wrote_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Board(tmp_path, 1)
    for epoch in (1, 2, 3):
        before.scalars({"epoch": epoch, "lr": 1.0})
    before.close()
    # File names begin with whole seconds, by which they are put in order.
    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer.time.time", lambda: 4e9)
    after = Board(tmp_path, 3)
    after.scalars({"epoch": 3, "lr": 2.0})
    after.close()
    assert scalars(read(tmp_path)) == {"lr": [(1, 1.0), (2, 1.0), (3, 2.0)]}


def test_histograms_of_trained_weights_and_gradients_hold_their_finite_values(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1).requires_grad_(False), nn.ParameterList([torch.empty(0)]))
    gradient = torch.tensor([1.0, float("nan"), float("inf"), -3.0, 1e30])
    board = Board(tmp_path, 1)
    board.histograms(network, 4, {"0.weight": gradient, "0.bias": torch.full((2,), float("nan")), "half": torch.ones(2).bfloat16()})
    board.close()
    events = read(tmp_path)
    assert sorted(events.Tags()["histograms"]) == ["gradients/0.weight", "gradients/half", "weights/0.bias", "weights/0.weight"]
    (weights,) = events.Histograms("weights/0.weight")
    assert weights.step == 4
    assert weights.histogram_value.num == sum(weights.histogram_value.bucket) == 6
    assert weights.histogram_value.sum == pytest.approx(network[0].weight.sum().item())
    (found,) = events.Histograms("gradients/0.weight")
    assert (found.histogram_value.num, found.histogram_value.min, found.histogram_value.max) == (2, -3, 1)


def test_weights_alone_without_gradients(tmp_path: Path) -> None:
    board = Board(tmp_path, 1)
    board.histograms(nn.Linear(1, 1), 1)
    board.close()
    assert sorted(read(tmp_path).Tags()["histograms"]) == ["weights/bias", "weights/weight"]


MEAN, STD = (0.5, 0.25, 0.75), (0.2, 0.3, 0.1)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_views_are_shown_as_before_normalisation(tmp_path: Path, precision: torch.dtype) -> None:
    original = torch.randint(0, 256, (40, 3, 140, 140), dtype=torch.uint8)
    normalised = (original / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    normalised[0, :, 0, 0] = 1e9  # a mixture or a colour that leaves the range
    board = Board(tmp_path, 1)
    board.views(normalised.to(precision), MEAN, STD, [f"class {k}" for k in range(40)], 2)
    board.close()
    sheet = image(read(tmp_path), "train/views")
    assert sheet.shape == (4 * (140 + 26 + 10) + 10, 8 * (140 + 10) + 10, 3)  # 32 of the 40
    first = sheet[10:150, 10:150].astype(int)
    assert first[0, 0].tolist() == [255, 255, 255]
    difference = np.abs(first - original[0].permute(1, 2, 0).numpy())
    difference[0, 0] = 0
    assert difference.max() <= (0 if precision == torch.float32 else 2)


def test_large_views_are_shrunk_and_every_view_has_a_label(tmp_path: Path) -> None:
    board = Board(tmp_path, 1)
    board.views(torch.zeros(1, 3, 500, 500), MEAN, STD, ["grey"], 1)
    with pytest.raises(ValueError, match="one label a view"):
        board.views(torch.zeros(2, 3, 8, 8), MEAN, STD, ["grey"], 1)
    board.close()
    sheet = image(read(tmp_path), "train/views")
    assert sheet.shape == (224 + 26 + 20, 224 + 20, 3)
    assert sheet[100, 100].tolist() == [128, 64, 191]


def test_the_confusion_matrix_is_a_picture_with_its_accuracy(tmp_path: Path) -> None:
    board = Board(tmp_path, 1)
    board.confusion(np.array([[3, 1], [0, 4]]), ["cat", "dog"], 5)
    board.close()
    events = read(tmp_path)
    assert events.Images("val/confusion")[0].step == 5
    assert image(events, "val/confusion").std() > 0


def test_f1_of_each_class_is_the_picture_that_evaluation_draws(tmp_path: Path) -> None:
    names, f1 = ["cat", "dog", "owl"], [0.5, 0.25, float("nan")]
    board = Board(tmp_path, 1)
    board.per_class_f1(names, f1, 5)
    board.close()
    assert np.array_equal(image(read(tmp_path), "val/f1_per_class"), pixels(per_class_f1_figure(names, f1)))


def test_a_folder_that_cannot_be_made_is_an_error_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError, match="taken"):
        Board(tmp_path / "taken" / "tensorboard", 1)


def test_a_full_disk_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(tmp_path, 1)

    def full(self: RecordWriter, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RecordWriter, "write", full)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)  # of the writer's thread
    with pytest.raises(OSError, match="No space left"):
        board.scalars({"epoch": 1, "lr": 1.0})
    board.close()
    for thread in threading.enumerate():
        if "AsyncWriter" in type(thread).__name__:
            thread.join(5)


def test_pyplot_is_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # an import of it raises ImportError
    board = Board(tmp_path, 1)
    board.confusion(np.eye(2, dtype=int), ["a", "b"], 1)
    board.per_class_f1(["a", "b"], [1.0, 1.0], 1)
    board.views(torch.zeros(1, 3, 8, 8), MEAN, STD, ["a"], 1)
    board.close()
    assert sorted(read(tmp_path).Tags()["images"]) == ["train/views", "val/confusion", "val/f1_per_class"]
