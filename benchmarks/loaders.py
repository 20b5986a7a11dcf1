"""Files to augmented batches as other libraries do it: torchvision v1 and v2, Albumentations, Kornia, each in a DataLoader.

All make the views of sightline's policy `standard`: random resized crop, flip, brightness, contrast, saturation, hue,
normalisation. Each as its own documentation has it: v1 on PIL images, v2 on uint8 tensors, Albumentations on what OpenCV
read, Kornia on whole batches of squeezed images. A library is imported when its loader is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sightline.data.policy import POLICIES

BATCH = 64
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
POLICY = POLICIES["standard"]
COLOURS = (POLICY.brightness, POLICY.contrast, POLICY.saturation, POLICY.hue)


@dataclass(frozen=True)
class Maker:
    """How one library makes a view of a file, and what it does to a whole batch."""

    view: Callable[[Any], Any]
    read: Callable[[str], Any] | None = None  # None: PIL, as ImageFolder does
    batch: Callable[[torch.Tensor], torch.Tensor] = lambda images: images


def torchvision_v1(side: int) -> Maker:
    """The transforms of most tutorials, on PIL images."""
    from torchvision import transforms as v1

    steps = [v1.RandomResizedCrop(side, scale=POLICY.crop_scale), v1.RandomHorizontalFlip(POLICY.flip), v1.ColorJitter(*COLOURS)]
    return Maker(v1.Compose([*steps, v1.ToTensor(), v1.Normalize(MEAN, STD)]))


def torchvision_v2(side: int) -> Maker:
    """The newer ones, on uint8 tensors as they advise."""
    from torchvision.transforms import v2

    steps = [v2.ToImage(), v2.RandomResizedCrop(side, scale=POLICY.crop_scale, antialias=True), v2.RandomHorizontalFlip(POLICY.flip)]
    return Maker(v2.Compose([*steps, v2.ColorJitter(*COLOURS), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]))


def albumentations(side: int) -> Maker:
    """On numpy arrays that OpenCV read."""
    import albumentations as a
    import cv2
    from albumentations.pytorch import ToTensorV2

    cv2.setNumThreads(torch.get_num_threads())
    steps = [a.RandomResizedCrop(size=(side, side), scale=POLICY.crop_scale), a.HorizontalFlip(p=POLICY.flip)]
    pipeline = a.Compose([*steps, a.ColorJitter(*COLOURS, p=1), a.Normalize(MEAN, STD), ToTensorV2()])
    return Maker(lambda image: pipeline(image=image)["image"], lambda path: cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB))


def kornia(side: int) -> Maker:
    """On whole batches, after each image was squeezed to the square."""
    from kornia import augmentation as k
    from torchvision.transforms import v2

    steps = [
        k.RandomResizedCrop((side, side), scale=POLICY.crop_scale),
        k.RandomHorizontalFlip(p=POLICY.flip),
        k.ColorJitter(*COLOURS, p=1),
    ]
    whole = torch.nn.Sequential(*steps, k.Normalize(torch.tensor(MEAN), torch.tensor(STD)))
    return Maker(v2.Compose([v2.Resize((side, side)), v2.PILToTensor()]), batch=lambda images: whole(images.float() / 255))


MAKERS = {"torchvision v1": torchvision_v1, "torchvision v2": torchvision_v2, "Albumentations": albumentations, "Kornia": kornia}


class Loader:
    """ImageFolder and DataLoader with one library's views; workers stay from epoch to epoch."""

    def __init__(self, maker: Maker, folder: Path, workers: int) -> None:
        from torch.utils.data import DataLoader
        from torchvision.datasets import ImageFolder
        from torchvision.datasets.folder import default_loader

        images = ImageFolder(str(folder), maker.view, loader=maker.read or default_loader)
        self.maker = maker
        self.batches = DataLoader(images, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)

    def epoch(self) -> Iterator[torch.Tensor]:
        """(B, 3, side, side) float32, normalised."""
        for images, _ in self.batches:
            yield self.maker.batch(images)
