"""Ultralytics classify at its defaults, from its own description of a network, without downloaded weights.

`--network yolo11n-cls.yaml`, or `torchvision:resnet18` (with Ultralytics' own head). On a processor it takes
one thread fewer than there are cores; here it gets as many as everybody. Its epochs are judged by its averaged weights.
"""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.peers.wire import asked, tell


def described(network: str, place: Path) -> str:
    """The description of a network; its own one of ResNet18 would download weights."""
    if not network.startswith("torchvision:"):
        return network
    file = place / "torchvision-cls.yaml"
    trunk = f"[-1, 1, TorchVision, [512, {network.partition(':')[2]}, None, True, 2]]"
    file.write_text(f"nc: 1000\nbackbone:\n  - {trunk}\nhead:\n  - [-1, 1, Classify, [nc]]\n")
    return str(file)


def main() -> None:
    """YOLO(...).train(...), told of each epoch by its callback."""
    given = asked()
    os.environ |= {"YOLO_OFFLINE": "1", "YOLO_CONFIG_DIR": str(given.out), "YOLO_VERBOSE": "false"}
    import torch
    from ultralytics import YOLO

    tell(event="imported")

    def begins(trainer) -> None:
        torch.set_num_threads(given.threads)
        tell(event="ready")

    def epoch_ended(trainer) -> None:
        if trainer.epoch < given.epochs:  # it is called once more for the best weights at the end
            tell(epoch=trainer.epoch + 1, accuracy=float(trainer.metrics["metrics/accuracy_top1"]))

    model = YOLO(described(given.network or "yolo11n-cls.yaml", given.out), task="classify")
    model.add_callback("on_train_start", begins)
    model.add_callback("on_fit_epoch_end", epoch_ended)
    model.train(
        data=str(given.data.resolve()),
        epochs=given.epochs,
        imgsz=given.size,
        workers=given.threads,
        device=0 if torch.cuda.is_available() else "cpu",
        pretrained=False,
        seed=given.seed,
        project=str(given.out),
        verbose=False,
    )


if __name__ == "__main__":
    main()
