"""Lightning's Trainer at its defaults (logger, checkpoints, sanity check), around the plain loop's network, data and Adam."""

from __future__ import annotations

import os
import warnings

from benchmarks.peers.plain import loaders, network
from benchmarks.peers.wire import asked, tell


def main() -> None:
    """One LightningModule, as its documentation writes it."""
    given = asked()
    import lightning
    import torch
    from torch.nn.functional import cross_entropy

    tell(event="imported")
    warnings.simplefilter("ignore")
    lightning.seed_everything(given.seed)
    torch.set_num_threads(given.threads)
    train, val, classes = loaders(given)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = network(given.network or "torchvision:resnet18", classes)
            self.right = 0.0

        def training_step(self, batch, number):
            images, labels = batch
            return cross_entropy(self.model(images), labels)

        def on_validation_epoch_start(self) -> None:
            self.right = 0.0

        def validation_step(self, batch, number) -> None:
            images, labels = batch
            self.right += float((self.model(images).argmax(1) == labels).sum())

        def on_validation_epoch_end(self) -> None:
            if not self.trainer.sanity_checking:
                tell(epoch=self.current_epoch + 1, accuracy=self.right / len(val.dataset))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    os.chdir(given.out)
    trainer = lightning.Trainer(max_epochs=given.epochs, default_root_dir=given.out, enable_progress_bar=False, enable_model_summary=False)
    module = Module()
    tell(event="ready")
    trainer.fit(module, train, val)


if __name__ == "__main__":
    main()
