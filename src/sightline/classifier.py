"""Classifier: network, preprocessing, class names and thresholds, as one thing that can be used, saved and moved.

    classifier = Classifier.load("run/classifier")
    classifier.predict(["a.jpg", "b.png"])            ["rose", "tulip"]
    classifier.predict_proba(["a.jpg"])               (1, K) calibrated probabilities
    answers = classifier.classify(paths)              also says which files could not be read, and where it abstains

A folder with `model.safetensors` and `model.json` is all it needs. The JSON holds a digest of the weights, and nothing
in either file can run code. What was trained is what is used: the decoder, the preprocessing and the order of classes
are those of the training run. The files hold the weights as they were trained; whatever answers, the run that chooses
thresholds and judges or a classifier that was loaded, asks the same `answering` network, made from them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from sightline import files
from sightline.data.batches import stacked_views
from sightline.data.readers import try_to_open
from sightline.device import Device, choose
from sightline.errors import ModelError, RunError, UnreadableImage
from sightline.evaluation.conformal import PredictionSets
from sightline.evaluation.novelty import Novelty
from sightline.models.catalog import rebuild
from sightline.models.features import class_layer, listening
from sightline.models.folded import folded
from sightline.models.head import Network
from sightline.models.inference import logits_of
from sightline.models.preprocess import Preprocess
from sightline.models.weights import Unfilled
from sightline.settings import DeviceSettings

FORMAT = 1
UNLIKE = "unlike the training images"
_BATCH = 64
_NAMED = 3  # classes that a reason to abstain spells out


@dataclass(frozen=True)
class Answers:
    """What a classifier says of some files.

    Attributes:
        paths: all files asked about, in order.
        readable: (M,) positions in `paths` of those that could be read.
        logits: (M, K) float32 of these.
        probabilities: (M, K) float64, calibrated.
        unreadable: {position in `paths`: reason}.
        sets: (M, K) bool, the classes in each prediction set; None where the classifier has no thresholds for them.
        novelty: (M,) how unlike the training images each is, higher is stranger; None likewise.
        abstain: (M,) why no single answer should be relied on, or None where one may be (see `Classifier.abstain`).
    """

    paths: tuple[Path, ...]
    readable: npt.NDArray[np.int64]
    logits: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float64]
    unreadable: dict[int, str]
    sets: npt.NDArray[np.bool_] | None = None
    novelty: npt.NDArray[np.float64] | None = None
    abstain: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class Classifier:
    """A trained network and all that it needs.

    Attributes:
        network: (B, 3, S, S) -> (B, K), in evaluation mode, on `device`; its weights no longer change.
        spec: what `models.catalog.rebuild` needs to make the network again.
        temperature: logits are divided by it before the softmax (Guo et al. 2017).
        about: where it comes from; free facts for people.
        shift: (K,) added to the network's logits (post-hoc adjustment for class frequencies); None: nothing.
        sets: thresholds of prediction sets; None: validation was too small, or the file is older than they are.
        novelty: the threshold beyond which an image is unlike the training images; None likewise.
    """

    network: nn.Module
    spec: dict[str, Any]
    preprocess: Preprocess
    classes: tuple[str, ...]
    temperature: float
    device: Device
    about: dict[str, Any]
    shift: tuple[float, ...] | None = None
    sets: PredictionSets | None = None
    novelty: Novelty | None = None

    def __post_init__(self) -> None:
        if self.spec.get("classes") != len(self.classes) or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"{len(self.classes)} class names for a network of {self.spec.get('classes')} classes")
        if not all(isinstance(name, str) and name for name in self.classes):
            raise ValueError("a class without a name")
        if self.shift is not None and (len(self.shift) != len(self.classes) or not np.isfinite(self.shift).all()):
            raise ValueError(f"a shift of {len(self.shift)} values for {len(self.classes)} classes, or not all numbers")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"a temperature of {self.temperature}")
        if self.sets is not None and len(self.sets.thresholds) != len(self.classes):
            raise ValueError(f"prediction sets of {len(self.sets.thresholds)} classes for {len(self.classes)}")
        if self.novelty is not None and self.novelty.directions.shape[1] != class_layer(cast(Network, self.network)).in_features:
            raise ValueError(f"directions of width {self.novelty.directions.shape[1]} for another network's features")

    def __repr__(self) -> str:
        """One line; the network would be pages."""
        return (
            f"Classifier({self.spec.get('name')}, {len(self.classes)} classes, {self.preprocess.view.size} pixels, on {self.device.name})"
        )

    @cached_property
    def answering(self) -> nn.Module:
        """The network that is asked: `network`, its batch norms folded where they can be (see `models.folded`)."""
        side, device = self.preprocess.view.size, self.device
        example = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        return folded(self.network, example.to(device.torch_device).to(memory_format=device.memory_format))

    def predict(self, paths: Sequence[str | Path]) -> list[str]:
        """The likeliest class of each file; see `predict_proba` for the errors."""
        return [self.classes[i] for i in self.predict_proba(paths).argmax(1)]

    def predict_proba(self, paths: Sequence[str | Path]) -> npt.NDArray[np.float64]:
        """(N, K) calibrated probabilities, in the order of `classes`.

        Raises:
            UnreadableImage: a file cannot be decoded; `classify` goes on instead.
        """
        answers = self.classify(paths)
        for position, reason in answers.unreadable.items():
            raise UnreadableImage(f"{answers.paths[position]}: {reason}")
        return answers.probabilities

    def score(self, paths: Sequence[str | Path], labels: Sequence[str]) -> float:
        """Share of the files whose likeliest class is the label.

        Raises:
            ValueError: there is no file, not one label a file, or one that is no class.
        """
        if not len(paths):
            raise ValueError("There are no files to score: give a list of paths and the label of each.")
        unknown = sorted(set(labels) - set(self.classes))
        if len(paths) != len(labels) or unknown:
            raise ValueError(f"{len(paths)} paths and {len(labels)} labels" if not unknown else f"no classes: {', '.join(unknown)}")
        return float(np.mean([a == b for a, b in zip(self.predict(paths), labels, strict=True)]))

    def classify(self, paths: Sequence[str | Path], views: int = 1) -> Answers:
        """What it says of each readable file, and why the others cannot be read.

        Args:
            views: test-time augmentation: the mean of the logits of so many views (see `data.augment.test_views`).
        """
        if isinstance(paths, (str, Path)):
            raise TypeError("Give a list of paths: classifier.predict([path]).")
        try:
            all_paths = tuple(Path(p) for p in paths)
        except TypeError:
            raise TypeError("Give a list of paths of files; pictures in memory have to be saved first.") from None
        unreadable: dict[int, str] = {}
        logits, novelty = self.scored(self._batches(all_paths, unreadable, views), views)
        logits = logits if len(logits) else np.zeros((0, len(self.classes)), dtype=np.float32)
        readable = np.array([i for i in range(len(all_paths)) if i not in unreadable], dtype=np.int64)
        return self.answers(all_paths, readable, logits, unreadable, novelty)

    def answers(
        self,
        paths: tuple[Path, ...],
        readable: npt.NDArray[np.int64],
        logits: npt.NDArray[np.float32],
        unreadable: dict[int, str],
        novelty: npt.NDArray[np.float64] | None,
    ) -> Answers:
        """What the logits (M, K) of the readable files say; the arguments are fields of `Answers`."""
        probabilities = self.probabilities(logits)
        sets = None if self.sets is None else self.sets.sets(probabilities)
        return Answers(paths, readable, logits, probabilities, unreadable, sets, novelty, self.abstain(probabilities, sets, novelty))

    def abstain(
        self, probabilities: npt.NDArray[np.float64], sets: npt.NDArray[np.bool_] | None, novelty: npt.NDArray[np.float64] | None
    ) -> tuple[str | None, ...]:
        """Why each of M images has no single answer to rely on; None where it has.

        An image whose novelty is above the threshold is "unlike the training images", whatever its classes' probabilities.
        Else, where its prediction set holds several classes, it "could be a, b or c", the likeliest first. Without
        thresholds nothing abstains.
        """
        strange = np.zeros(len(probabilities), dtype=bool)
        if self.novelty is not None and novelty is not None:
            strange = novelty > self.novelty.threshold
        several = strange if sets is None else sets.sum(axis=1) > 1
        reasons: list[str | None] = [None] * len(probabilities)
        for i in np.flatnonzero(strange | several).tolist():
            reasons[i] = UNLIKE if sets is None or strange[i] else f"could be {self._either(self.members(probabilities[i], sets[i]))}"
        return tuple(reasons)

    def members(self, probabilities: npt.NDArray[np.float64], chosen: npt.NDArray[np.bool_]) -> list[str]:
        """The names of the classes in one set, of (K,) probabilities and (K,) bool, the likeliest first."""
        return [self.classes[k] for k in np.argsort(-probabilities, kind="stable") if chosen[k]]

    @staticmethod
    def _either(names: Sequence[str]) -> str:
        """`a, b or c`; of many the first three and how many more."""
        rest = len(names) - _NAMED
        if rest > 1:
            return f"{', '.join(names[:_NAMED])} or one of {rest} more"
        return f"{', '.join(names[:-1])} or {names[-1]}"

    def logits(self, batches: Iterable[torch.Tensor]) -> npt.NDArray[np.float32]:
        """(N, K) of batches of views, as `models.inference.logits_of`, the shift added."""
        found = logits_of(self.answering, batches, self.device)
        return found if self.shift is None or not len(found) else found + np.array(self.shift, dtype=np.float32)

    def scored(self, batches: Iterable[torch.Tensor], views: int = 1) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64] | None]:
        """Logits (N, K) as `logits` gives them, and how unlike the training images each is (N,); None without thresholds for it.

        Args:
            views: of each image that the batches hold; its novelty is that of their mean features.
        """
        if self.novelty is None:
            return self.logits(batches), None
        novelty, distances = self.novelty, []
        with listening(cast(Network, self.answering)) as heard:

            def drained() -> Iterator[torch.Tensor]:
                for batch in batches:
                    yield batch
                    features = heard.blocks.pop()  # of this batch: features of all images would not fit into memory
                    distances.append(novelty.distances(features.reshape(views, -1, heard.width).mean(axis=0)))

            logits = self.logits(drained())
        if not distances:
            return logits, np.zeros(0)
        return logits, novelty.scores(logits, np.concatenate(distances))

    def probabilities(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """(N, K) float64: the softmax of the logits divided by the temperature."""
        scaled = torch.from_numpy(logits.astype(np.float64) / self.temperature)
        found: npt.NDArray[np.float64] = torch.softmax(scaled, 1).numpy()
        return found

    def _batches(self, paths: tuple[Path, ...], unreadable: dict[int, str], views: int) -> Iterator[torch.Tensor]:
        """Views of the readable files; the next batch is decoded in threads while the network works on this one."""
        with ThreadPoolExecutor(self.device.threads) as pool:
            starts = range(0, len(paths), _BATCH)
            coming = [pool.submit(self._read, path) for path in paths[:_BATCH]]
            for start in starts:
                results, next_paths = [f.result() for f in coming], paths[start + _BATCH : start + 2 * _BATCH]
                coming = [pool.submit(self._read, path) for path in next_paths]
                for i, result in enumerate(results):
                    if isinstance(result, str):
                        unreadable[start + i] = result
                pictures = [r for r in results if not isinstance(r, str)]
                if pictures:
                    stored = self.preprocess.stack(pictures)
                    yield stacked_views(stored, self.preprocess.view, views).to(self.device.torch_device)

    def _read(self, path: Path) -> npt.NDArray[np.uint8] | str:
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe would never end
            return "not a regular file"
        data, reason = try_to_open(path, Path.read_bytes)
        if data is None:
            return str(reason)
        try:
            return self.preprocess.shrunk(data)
        except UnreadableImage as error:
            return error.reason

    # ---- on the disk -------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Writes `model.safetensors` and `model.json`; the JSON comes last and holds the digest of the weights."""
        folder = Path(folder)
        with files.disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        files.write_atomic(folder / "model.safetensors", lambda part: save_file(weights, part))
        card = {
            "format": FORMAT,
            "spec": self.spec,
            "preprocess": self.preprocess.to_json(),
            "classes": list(self.classes),
            "temperature": self.temperature,
            "shift": self.shift,
            "sets": None if self.sets is None else self.sets.to_json(),
            "novelty": None if self.novelty is None else self.novelty.to_json(),
            "digest": files.digest(folder / "model.safetensors"),
            "about": self.about,
        }
        files.write_json(folder / "model.json", card)

    @classmethod
    def load(cls, folder: str | Path, device: Device | None = None) -> Classifier:
        """A classifier from its folder, or from the run folder that holds it.

        Raises:
            RunError: it is not there, or is damaged; nothing is loaded by halves.
        """
        path = Path(folder)
        if not (path / "model.json").exists() and (path / "classifier" / "model.json").exists():
            path = path / "classifier"
        card = _read_card(path)
        device = device or choose(DeviceSettings())
        try:
            preprocess = Preprocess.from_json(card["preprocess"])
            classes, temperature = tuple(card["classes"]), float(card["temperature"])
            with Unfilled():
                network = rebuild(card["spec"])
            network.load_state_dict(load_file(path / "model.safetensors"))
            network.to(device.torch_device).to(memory_format=device.memory_format).eval()
            shift = None if card.get("shift") is None else tuple(float(value) for value in card["shift"])
            sets = None if card.get("sets") is None else PredictionSets.from_json(card["sets"])
            novelty = None if card.get("novelty") is None else Novelty.from_json(card["novelty"])
            about = card.get("about", {})
            return cls(network, card["spec"], preprocess, classes, temperature, device, about, shift, sets, novelty)
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, SafetensorError, ModelError) as error:
            raise RunError(f"{path / 'model.json'} does not describe its weights: {' '.join(str(error).split())[:300]}") from None


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card: dict[str, Any] = files.read_json(path / "model.json")
        found = files.digest(path / "model.safetensors")
    except FileNotFoundError as error:
        if (path / "ledger.jsonl").exists():
            raise RunError(f"The run {path} has not finished: go on with `sightline train --resume {files.quoted(path)}`.") from None
        raise RunError(f"{path} holds no classifier: {Path(error.filename).name} is missing.") from None
    except NotADirectoryError:
        raise RunError(f"{path} is a file; give a run folder or a classifier folder.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path / 'model.json'} cannot be read: {error}.") from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise RunError(f"{path / 'model.json'} is not of a format that this version of sightline knows ({FORMAT}).")
    if card.get("digest") != found:
        raise RunError(f"{path / 'model.safetensors'} is damaged or of another model.json: its digest differs. Copy the folder again.")
    return card


def load(folder: str | Path) -> Classifier:
    """The classifier of a run folder or a classifier folder; see `Classifier.load`."""
    return Classifier.load(folder)
