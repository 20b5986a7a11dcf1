"""The loop of most tutorials: torchvision's transforms, ImageFolder, DataLoader, Adam at 1e-3, batches of 32, float32.

`--network torchvision:resnet18` or `--network timm:resnet10t`, from random weights. Views are those of PyTorch's
transfer-learning tutorial, with the size asked for: a random resized crop and a flip; for val the middle of a picture that
is an eighth larger.
"""

from __future__ import annotations

from typing import Any

from benchmarks.peers.wire import asked, tell


def loaders(given: Any) -> tuple[Any, Any, int]:
    """Of train and val, and how many classes there are."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    end = [transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    views = [transforms.RandomResizedCrop(given.size), transforms.RandomHorizontalFlip(), *end]
    middle = [transforms.Resize(given.size * 8 // 7), transforms.CenterCrop(given.size), *end]
    train = ImageFolder(str(given.data / "train"), transforms.Compose(views))
    val = ImageFolder(str(given.data / "val"), transforms.Compose(middle))
    workers = {"num_workers": given.threads, "persistent_workers": given.threads > 0}
    return DataLoader(train, 32, shuffle=True, **workers), DataLoader(val, 32, **workers), len(train.classes)


def network(name: str, classes: int) -> Any:
    """A torchvision or timm network with random weights."""
    family, _, own = name.partition(":")
    if family == "timm":
        import timm

        return timm.create_model(own, pretrained=False, num_classes=classes)
    import torchvision

    return torchvision.models.get_model(own, weights=None, num_classes=classes)


def main() -> None:
    """Trains and validates, epoch by epoch."""
    given = asked()
    import torch
    from torch.nn.functional import cross_entropy

    tell(event="imported")
    torch.manual_seed(given.seed)
    torch.set_num_threads(given.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train, val, classes = loaders(given)
    model = network(given.network or "torchvision:resnet18", classes).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    tell(event="ready")
    for epoch in range(1, given.epochs + 1):
        model.train()
        for images, labels in train:
            optimizer.zero_grad()
            cross_entropy(model(images.to(device)), labels.to(device)).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            right = sum(int((model(images.to(device)).argmax(1).cpu() == labels).sum()) for images, labels in val)
        tell(epoch=epoch, accuracy=right / len(val.dataset))


if __name__ == "__main__":
    main()
