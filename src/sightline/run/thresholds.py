"""What validation decides about answers: the temperature, the prediction sets, and what is unlike the training images.

    found = choose_thresholds(task, shift)
    for note in found.notes: screen.say(note)

One pass over the val part serves all three. The same images chose the epoch, so all of it is a little too confident;
the test part says by how much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sightline import processes
from sightline.evaluation.calibration import Temperature, fit_temperature, softmax
from sightline.evaluation.conformal import LEVEL, PredictionSets, fewest_images, fit_sets
from sightline.evaluation.novelty import Novelty, fit_novelty
from sightline.models.features import listening
from sightline.run.stages import plain_logits
from sightline.run.task import Task


@dataclass(frozen=True)
class Thresholds:
    """What travels with the network.

    Attributes:
        sets, novelty: None where val is too small for them.
        notes: sentences that the user should see.
    """

    temperature: Temperature
    sets: PredictionSets | None
    novelty: Novelty | None
    notes: tuple[str, ...]


def choose_thresholds(task: Task, shift: npt.NDArray[np.float32] | None) -> Thresholds:
    """The thresholds of the network as it is now, from the val part.

    Args:
        shift: (K,) what the classifier adds to the logits.
    """
    with listening(task.network) as heard:
        logits = plain_logits(task)
    features = processes.rows(heard.features(), len(logits))
    prepared = task.prepared
    labels = prepared.labels[prepared.split.rows("val")]
    return thresholds_from(logits if shift is None else logits + shift, features, labels)


def thresholds_from(logits: npt.NDArray[np.float32], features: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> Thresholds:
    """The thresholds from logits (N, K), features (N, D) and labels (N,) of validation images."""
    temperature = fit_temperature(logits, labels)
    sets = fit_sets(softmax(logits, temperature.value), labels)
    novelty = fit_novelty(logits, features, labels)
    notes = [f"Calibration: {temperature.note}."] if temperature.note else []
    if sets is None:
        are = "1 validation image is" if len(labels) == 1 else f"{len(labels)} validation images are"
        notes.append(f"Prediction sets: {are} too few for them ({fewest_images(LEVEL)} are needed).")
    if novelty is None:
        notes.append("Novelty: the validation images are too few to say what is unlike them (30, and two of a class, are needed).")
    return Thresholds(temperature, sets, novelty, tuple(notes))
