"""The whole road on images that come with scikit-learn: handwritten digits, unbalanced on purpose.

    sightline demo DIR      DIR/digits/CLASS/*.png, DIR/run, DIR/predictions.csv, DIR/pictures/*.png

Of the digit 0 there are 178 images, of each next one fewer, of the digit 9 only 5: the folder is like those that people
bring. Digits must not be mirrored, so the run says so; all else is the defaults.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sightline import files
from sightline.errors import RunError
from sightline.evaluation.text import summary
from sightline.run.predict import predict
from sightline.run.progress import Screen
from sightline.run.train import train

COUNTS = tuple(round(178 * (5 / 178) ** (i / 9)) for i in range(10))  # 178, 120, 81, ... 5
SETTINGS = ("augment.policy=light", "augment.flip=0", "train.epochs=12", "train.batch_size=32")


def demo(folder: Path) -> dict[str, Any]:
    """Writes the images, trains, evaluates, predicts and draws.

    Returns:
        `run`, `metrics`, `images` (counts by class), and `text`, what the user reads.

    Raises:
        RunError: the folder is there already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"{folder} is there already: give another place, `sightline demo DIR`, or remove it.")
    screen = Screen()
    screen.say(f"Writing handwritten digits to {folder / 'digits'}: {COUNTS[0]} images of 0 down to {COUNTS[-1]} of 9.")
    with files.disk_errors(folder):
        write_digits(folder / "digits")
    screen.say(f"$ sightline train {folder / 'digits'} {' '.join(SETTINGS)} --run {folder / 'run'}")
    result = train(folder / "digits", SETTINGS, run=folder / "run")
    images = result.run.read_images()
    chosen = images.filter(images["split"] == "test").group_by("label", maintain_order=True).first()["path"].head(6)
    paths = [folder / "digits" / path for path in chosen]
    shown = " ".join(map(str, paths))
    screen.say(f"$ sightline predict {folder / 'run'} {shown} --out {folder / 'predictions.csv'} --plot {folder / 'pictures'}")
    answers = predict(folder / "run", paths, top=5)
    answers.write(folder / "predictions.csv")
    answers.plot(folder / "pictures")
    return {
        "run": str(result.run.root),
        "images": {str(digit): n for digit, n in enumerate(COUNTS)},
        "metrics": result.metrics,
        "text": _story(folder, summary(result.metrics["test"])),
    }


def write_digits(folder: Path) -> None:
    """The digits as 32 x 32 grey PNG files, a folder a class."""
    from PIL import Image
    from sklearn.datasets import load_digits

    pictures, labels = load_digits(return_X_y=True)
    for digit, count in enumerate(COUNTS):
        (folder / str(digit)).mkdir(parents=True, exist_ok=True)
        for i, row in enumerate(np.flatnonzero(labels == digit)[:count]):
            grey = (pictures[row].reshape(8, 8) * (255 / 16)).astype(np.uint8)  # 0 to 16 in the data set
            Image.fromarray(grey).resize((32, 32), Image.Resampling.BICUBIC).save(folder / str(digit) / f"{digit}-{i:03d}.png")


def _story(folder: Path, judged: str) -> str:
    run = folder / "run"
    return f"""
On the test images, which neither trained nor chose anything: {judged}

Look at    {run / "evaluation" / "test" / "confusion.png"}
           {run / "evaluation" / "test" / "report.txt"}   (each class; the rare ones have wide ranges)
           {run / "curves.png"}
           {folder / "pictures"}   (images beside their likeliest classes)

Next, with your own images, one folder a class:
           sightline train MY_FOLDER
           sightline predict runs/MY_FOLDER-... NEW_IMAGES --out answers.csv
Other settings: sightline settings. This machine: sightline doctor.
"""
