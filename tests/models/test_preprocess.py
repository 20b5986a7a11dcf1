from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sightline.classifier import Classifier
from sightline.data.augment import FITS, View, plain_views
from sightline.data.batches import plain_batches
from sightline.data.store import Limits, open_pixels
from sightline.data.table import scan
from sightline.device import Device
from sightline.errors import UnreadableImage
from sightline.models.preprocess import Preprocess

SIDE = 20
CPU = Device("cpu", "float32", 1, True)


def preprocess(fit: str = "squash") -> Preprocess:
    return Preprocess(View(14, fit, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)), SIDE, 64_000_000)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of several formats, modes and shapes; one lies on its side."""
    root, draws = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("RGB", "png", {}),
        ("L", "png", {}),
        ("RGBA", "png", {}),
        ("P", "gif", {}),
        ("RGB", "jpg", {"quality": 90, "exif": turned}),
        ("CMYK", "jpg", {"quality": 90}),
        ("RGB", "webp", {"lossless": True}),
        ("RGB", "bmp", {}),
    ]
    for i, (mode, suffix, options) in enumerate(kinds * 2):
        (root / "ab"[i % 2]).mkdir(exist_ok=True)
        height, width = draws.integers(1, 60, 2)
        picture = Image.fromarray(draws.integers(0, 256, (height, width, 3), dtype=np.uint8))
        picture.convert(mode).save(root / "ab"[i % 2] / f"{i:02d}.{suffix}", **options)
    return root


class Sums(nn.Module):
    """Two scores that change with any bit of the image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        weights = torch.linspace(0.5, 1.5, images[0].numel()).view(images[0].shape)
        return torch.stack([(images * weights).sum((1, 2, 3)), (images * weights.flip(0)).sum((1, 2, 3))], 1)


@pytest.mark.parametrize("fit", FITS)
def test_a_file_gives_the_pixels_and_the_view_that_training_saw_bit_for_bit(photos: Path, tmp_path: Path, fit: str) -> None:
    way = preprocess(fit)
    table, pixels = open_pixels(scan(photos), SIDE, Limits(way.max_pixels, None, 2, tmp_path))
    rows = np.arange(len(table.usable))
    read = way.stack([way.shrunk((photos / path).read_bytes()) for path in table.usable["path"]])
    assert len(rows) == 16
    assert torch.equal(read.pixels, pixels.read(rows))
    np.testing.assert_array_equal(read.extents, pixels.extents)
    (stored,) = plain_batches(pixels, rows, way.view, 16, CPU.torch_device)
    assert torch.equal(plain_views(read, way.view), stored)


def test_a_classifier_says_of_files_what_the_network_says_of_stored_pixels_bit_for_bit(photos: Path, tmp_path: Path) -> None:
    way = preprocess()
    table, pixels = open_pixels(scan(photos), SIDE, Limits(way.max_pixels, None, 2, tmp_path))
    classifier = Classifier(Sums().eval(), {"classes": 2}, way, ("a", "b"), 1.0, CPU, {})
    answers = classifier.classify([photos / path for path in table.usable["path"]])
    (stored,) = plain_batches(pixels, np.arange(16), way.view, 16, CPU.torch_device)
    expected = Sums()(stored.to(memory_format=CPU.memory_format))
    np.testing.assert_array_equal(answers.logits, expected)


def test_a_batch_holds_each_picture_in_the_upper_left_of_a_black_square() -> None:
    pictures = [np.full((3, SIDE, 3), 7, np.uint8), np.full((SIDE, 1, 3), 9, np.uint8)]
    stored = preprocess().stack(pictures)
    assert stored.pixels.shape == (2, SIDE, SIDE, 3)
    assert (int(stored.pixels[0].sum()), int(stored.pixels[1].sum())) == (7 * 3 * SIDE * 3, 9 * SIDE * 3)
    assert (stored.pixels[0, :3] == 7).all()
    assert (stored.pixels[1, :, :1] == 9).all()
    assert stored.extents.tolist() == [[3, SIDE], [SIDE, 1]]


def test_no_pictures_are_an_empty_batch() -> None:
    stored = preprocess().stack([])
    assert stored.pixels.shape == (0, SIDE, SIDE, 3)
    assert stored.extents.shape == (0, 2)


def test_a_picture_above_the_pixel_budget_is_refused() -> None:
    file = io.BytesIO()
    Image.new("RGB", (5, 5)).save(file, "PNG")
    assert Preprocess(preprocess().view, SIDE, 25).shrunk(file.getvalue()).shape == (5, 5, 3)
    with pytest.raises(UnreadableImage):
        Preprocess(preprocess().view, SIDE, 24).shrunk(file.getvalue())


@pytest.mark.parametrize("fit", FITS)
def test_it_is_the_same_after_json(fit: str) -> None:
    assert Preprocess.from_json(json.loads(json.dumps(preprocess(fit).to_json()))) == preprocess(fit)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"fit": "stretch"}, ValueError),
        ({"std": [0.2, 0.2, 0.0]}, ValueError),
        ({"size": "large"}, ValueError),
        ({"mean": None}, TypeError),
        ({"mean": [0.5, 0.5]}, ValueError),
    ],
    ids=str,
)
def test_json_that_describes_no_preprocessing_is_refused(changed: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Preprocess.from_json({**preprocess().to_json(), **changed})


def test_json_that_lacks_a_value_is_refused() -> None:
    value = preprocess().to_json()
    del value["store_size"]
    with pytest.raises(KeyError):
        Preprocess.from_json(value)
