"""fastai at its defaults: from_folder with Resize and aug_transforms, vision_learner, fit_one_cycle.

ResNet18 from random weights; its head is fastai's own (two pooled halves, two linear layers).
"""

from __future__ import annotations

import warnings

from benchmarks.peers.wire import asked, tell


def main() -> None:
    """The example of its documentation, without pretrained weights."""
    given = asked()
    import torch
    import torchvision
    from fastai.vision.all import Callback, ImageDataLoaders, Resize, accuracy, aug_transforms, default_device, set_seed, vision_learner

    tell(event="imported")
    warnings.simplefilter("ignore")
    set_seed(given.seed)
    torch.set_num_threads(given.threads)
    default_device(torch.cuda.is_available())

    class Tell(Callback):
        order = 70  # after the Recorder

        def after_epoch(self) -> None:
            tell(epoch=self.epoch + 1, accuracy=float(self.recorder.values[-1][-1]))

    data = ImageDataLoaders.from_folder(
        given.data,
        train="train",
        valid="val",
        item_tfms=Resize(given.size),
        batch_tfms=aug_transforms(),
        num_workers=given.threads,
    )
    make = getattr(torchvision.models, (given.network or "torchvision:resnet18").partition(":")[2])
    learner = vision_learner(data, make, pretrained=False, metrics=accuracy, cbs=Tell(), path=given.out)
    tell(event="ready")
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(given.epochs)


if __name__ == "__main__":
    main()
