"""Near twins: recall on planted twins at a fixed share of false ones, for sightline and for other tools.

    python -m benchmarks twins FOLDER [--half judge|choose] [--images N] [--only reencoded cropped ...] [--peers PYTHON] [--known FILE]

Photographs of FOLDER are changed as pictures are changed on their way through the world (`KINDS`), one twin an image and
kind. The images are dealt to two halves by a hash of their name: thresholds were chosen on one, figures are taken on the
other. For each kind a tool sees the originals and their twins together.

Recall: the share of originals whose own twin is found. False positives: the share of images, originals and twins, that
are given a twin that is not theirs. Both are pooled over the kinds that were asked for (`ASKED`), with one threshold for
all of them: the one at which false positives are nearest to 1 % and not above. Photographs that are each other's twins
before anything is planted count as false, unless FILE (CSV with the columns `first` and `second`, paths below FOLDER)
tells them; they are left out for every tool alike then.

PYTHON is an interpreter that has imagehash, imagededup or cleanvision (they bring other versions of what sightline
needs). Everything is written to a temporary folder and goes with it.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image, ImageEnhance

from sightline.data.store import Limits, open_pixels
from sightline.data.table import scan
from sightline.data.twins import AT_LEAST, find_twins, likely_twins
from sightline.randomness import key, stream

HALVES = {"choose": 0, "judge": 1}
FALSE_SHARE = 0.01
Draws = np.random.Generator
Made = tuple[Image.Image, int]  # a picture, and the quality of the JPEG that it becomes


# ---- planting --------------------------------------------------------------------------------------------------------


def _either_way(draws: Draws) -> float:
    return float(draws.uniform(0.6, 0.9) if draws.random() < 0.5 else draws.uniform(1.1, 1.4))


def _scaled(image: Image.Image, factor: float) -> Image.Image:
    size = (max(8, round(image.width * factor)), max(8, round(image.height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _window(image: Image.Image, draws: Draws, lost: tuple[float, float]) -> Image.Image:
    width, height = round(image.width * (1 - lost[0])), round(image.height * (1 - lost[1]))
    x, y = int(draws.integers(0, image.width - width + 1)), int(draws.integers(0, image.height - height + 1))
    return image.crop((x, y, x + width, y + height))


def reencoded(image: Image.Image, draws: Draws) -> Made:
    """JPEG at quality 30."""
    return image, 30


def resized(image: Image.Image, draws: Draws) -> Made:
    """To 40 to 80 % of its size."""
    return _scaled(image, draws.uniform(0.4, 0.8)), 85


def cropped(image: Image.Image, draws: Draws) -> Made:
    """Up to 10 % of the width and up to 10 % of the height cut off, anywhere."""
    return _window(image, draws, tuple(draws.uniform(0, 0.1, 2))), 85


def cropped10(image: Image.Image, draws: Draws) -> Made:
    """10 % of both."""
    return _window(image, draws, (0.1, 0.1)), 85


def cropped20(image: Image.Image, draws: Draws) -> Made:
    """20 % of both: more than was asked for."""
    return _window(image, draws, (0.2, 0.2)), 85


def brightness(image: Image.Image, draws: Draws) -> Made:
    """10 to 40 % darker or brighter."""
    return ImageEnhance.Brightness(image).enhance(_either_way(draws)), 85


def contrast(image: Image.Image, draws: Draws) -> Made:
    """10 to 40 % less or more."""
    return ImageEnhance.Contrast(image).enhance(_either_way(draws)), 85


def mirrored(image: Image.Image, draws: Draws) -> Made:
    """Left and right changed."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 85


def frame(image: Image.Image, draws: Draws) -> Made:
    """A moment later: the hand moved (shift 4 %, turn 2 degrees, zoom 4 %, at most), the subject too, and the noise is new."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    pixels = np.asarray(image, dtype=np.float32)
    height, width = pixels.shape[:2]
    y, x = np.mgrid[:height, :width] - np.array([height - 1, width - 1]).reshape(2, 1, 1) / 2
    angle, zoom = np.radians(draws.uniform(-2, 2)), draws.uniform(0.96, 1.04)
    moved = np.stack([zoom * (np.cos(angle) * y - np.sin(angle) * x), zoom * (np.sin(angle) * y + np.cos(angle) * x)])
    moved += (np.array([height - 1, width - 1]) / 2 + draws.uniform(-0.04, 0.04, 2) * (height, width)).reshape(2, 1, 1)
    for axis in moved:  # a smooth field of 1 % of the long side
        field = gaussian_filter(draws.normal(size=axis.shape), max(height, width) / 8, mode="reflect")
        axis += field / field.std() * 0.01 * max(height, width)
    made = np.stack([map_coordinates(pixels[..., c], moved, order=1, mode="reflect") for c in range(3)], -1)
    made = made * draws.uniform(0.95, 1.05) + draws.normal(0, 4, made.shape)
    return Image.fromarray(made.clip(0, 255).astype(np.uint8)), 85


def together(image: Image.Image, draws: Draws) -> Made:
    """Mirrored or not, cropped, brightness, contrast, 50 to 100 % of its size, JPEG at 50: more than was asked for."""
    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draws.random() < 0.5 else image
    image = _window(image, draws, tuple(draws.uniform(0, 0.1, 2)))
    image = ImageEnhance.Contrast(ImageEnhance.Brightness(image).enhance(draws.uniform(0.75, 1.25))).enhance(draws.uniform(0.75, 1.25))
    return _scaled(image, draws.uniform(0.5, 1)), 50


Change = Callable[[Image.Image, Draws], Made]
ASKED: dict[str, Change] = {
    "reencoded": reencoded,
    "resized": resized,
    "cropped": cropped,
    "brightness": brightness,
    "contrast": contrast,
    "mirrored": mirrored,
    "frame": frame,
}
KINDS: dict[str, Change] = {**ASKED, "cropped10": cropped10, "cropped20": cropped20, "together": together}


def plant(folder: Path, out: Path, half: str, kinds: dict[str, Change], most: int | None) -> list[str]:
    """Writes OUT/original/00000.jpg ... and OUT/KIND/00000.jpg ...; gives the paths of the originals, in that order."""
    files = sorted((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.name)
    files = [f for f in files if key("half", f.name) % 2 == HALVES[half]]
    files = sorted(files, key=lambda f: key("images", f.name))[:most]
    for name in ("original", *kinds):
        (out / name).mkdir(parents=True)
    for number, file in enumerate(files):
        (out / "original" / f"{number:05d}.jpg").write_bytes(file.read_bytes())
        image = Image.open(file).convert("RGB")
        for name, change in kinds.items():
            made, quality = change(image, stream(0, name, file.name))
            data = io.BytesIO()
            made.save(data, "JPEG", quality=quality)
            (out / name / f"{number:05d}.jpg").write_bytes(data.getvalue())
    return [f.relative_to(folder).as_posix() for f in files]


# ---- judging ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What a tool says of n originals and their n twins, numbered 0..n-1 and n..2n-1.

    own: (n,) score of each original with its twin. other: (2n,) each image's highest score with what is not its twin. Higher is more
    alike; -inf: not named.
    """

    own: np.ndarray
    other: np.ndarray


def from_pairs(pairs: Iterable[tuple[int, int, float]], n: int, known: set[tuple[int, int]]) -> Seen:
    """What a list of pairs and their scores says."""
    own, other = np.full(n, -np.inf), np.full(2 * n, -np.inf)
    for a, b, score in pairs:
        if a % n == b % n:
            own[a % n] = max(own[a % n], score)
        elif (a % n, b % n) not in known:
            other[a], other[b] = max(other[a], score), max(other[b], score)
        elif (a < n) != (b < n):  # the planted twin of a photograph that is there twice, found with the other of the two
            own[max(a, b) - n] = max(own[max(a, b) - n], score)
    return Seen(own, other)


def from_hashes(hashes: np.ndarray, n: int, known: set[tuple[int, int]]) -> Seen:
    """What the distances of (2n,) uint64 hashes say: the score is minus the number of bits that differ."""
    own = -np.bitwise_count(hashes[:n] ^ hashes[n:]).astype(float)
    other = np.empty(2 * n)
    partners: dict[int, list[int]] = {}
    for a, b in known:
        partners.setdefault(a, []).append(b)
    for i in range(2 * n):
        distance = np.bitwise_count(hashes ^ hashes[i]).astype(float)
        for j in (i % n, *partners.get(i % n, ())):
            distance[j] = distance[j + n] = np.inf
        other[i] = -distance.min()
    return Seen(own, other)


def from_features(features: np.ndarray, n: int, known: set[tuple[int, int]]) -> Seen:
    """What the cosines of (2n, D) features say."""
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    own = (features[:n] * features[n:]).sum(1)
    cosines = features @ features.T
    for a, b in (*known, *((i, i) for i in range(n))):
        cosines[np.ix_([a, a + n], [b, b + n])] = -np.inf
    return Seen(own, cosines.max(1))


def judge(seen: dict[str, Seen], at: float | None = None) -> dict[str, Any]:
    """Recall by kind and false positives, at a threshold, or where at most 1 % of the images have a false twin.

    Where even the strictest threshold gives more of them a false twin, that one is taken.
    """
    asked = [seen[kind] for kind in seen if kind in ASKED]
    other, own = np.concatenate([s.other for s in asked]), np.concatenate([s.own for s in asked])
    if at is None:
        scores = np.unique(np.concatenate([other, own]))
        scores = scores[np.isfinite(scores)]
        shares = 1 - np.searchsorted(np.sort(other), scores, side="left") / len(other)
        at = float(scores[np.argmax(shares <= FALSE_SHARE)] if (shares <= FALSE_SHARE).any() else scores[-1])
    return {
        "at": round(at, 4),
        "recall": round(float((own >= at).mean()), 4),
        "false_positives": round(float((other >= at).mean()), 5),
        "recall_by_kind": {kind: round(float((s.own >= at).mean()), 4) for kind, s in seen.items()},
        "n": len(own),
    }


# ---- the tools -------------------------------------------------------------------------------------------------------

PEERS = """
import json, logging, sys, time, warnings
from pathlib import Path
import numpy as np
warnings.simplefilter("ignore"); logging.disable(logging.CRITICAL)
root, out = Path(sys.argv[1]), Path(sys.argv[2])
files = sorted(root.glob("*/*.jpg"), key=lambda f: (f.parent.name != "original", f.name))
told = {}
try:
    import imagehash
    from PIL import Image
    for name in ("phash", "dhash", "whash"):
        started = time.perf_counter()
        bits = [getattr(imagehash, name)(Image.open(f)).hash.ravel() for f in files]
        np.save(out / f"imagehash {name}.npy", np.packbits(np.array(bits), axis=1).view(">u8").ravel().astype(np.uint64))
        told[f"imagehash {name}"] = time.perf_counter() - started
except ImportError as error:
    told["imagehash"] = str(error)
try:
    from imagededup.methods import PHash
    started = time.perf_counter()
    found = PHash(verbose=False)
    np.save(out / "imagededup phash.npy", np.array([int(found.encode_image(f), 16) for f in files], dtype=np.uint64))
    told["imagededup phash"] = time.perf_counter() - started
except ImportError as error:
    told["imagededup"] = str(error)
try:
    from imagededup.methods import CNN
    started = time.perf_counter()
    found = CNN(verbose=False)
    np.save(out / "imagededup cnn.npy", np.concatenate([found.encode_image(f) for f in files]))
    told["imagededup cnn"] = time.perf_counter() - started
except Exception as error:
    told["imagededup cnn"] = f"{type(error).__name__}: {error}"
try:
    from cleanvision import Imagelab
    started = time.perf_counter()
    lab = Imagelab(filepaths=[str(f) for f in files])
    lab.find_issues({"near_duplicates": {}, "exact_duplicates": {}}, n_jobs=1, verbose=False)
    sets = [s for kind in ("near_duplicates", "exact_duplicates") for s in lab.info[kind]["sets"]]
    place = {str(f): i for i, f in enumerate(files)}
    (out / "cleanvision.json").write_text(json.dumps([[place[str(f)] for f in s] for s in sets]))
    told["cleanvision"] = time.perf_counter() - started
except ImportError as error:
    told["cleanvision"] = str(error)
(out / "told.json").write_text(json.dumps(told))
"""


def ours(folder: Path, cache: Path, threads: int, known: set[tuple[int, int]]) -> tuple[Seen, float]:
    """All pairs that sightline compared, with their similarity, and the seconds of `find_twins` after decoding."""
    table, pixels = open_pixels(scan(folder), 128, Limits(64_000_000, None, threads, cache))
    started = time.perf_counter()
    find_twins(pixels, threads=threads)
    seconds = time.perf_counter() - started
    n = len(table) // 2
    names = table.usable["label"].to_numpy()
    place = np.array([int(Path(path).stem) for path in table.usable["path"]]) + np.where(names == "original", 0, n)
    pairs = likely_twins(pixels, threads=threads)
    return from_pairs(
        zip(place[pairs.first].tolist(), place[pairs.second].tolist(), pairs.similarity.tolist(), strict=True), n, known
    ), seconds


def theirs(folder: Path, out: Path, python: str, known: set[tuple[int, int]]) -> tuple[dict[str, Seen], dict[str, Any]]:
    """What each of the others says, and how long it took or why it is missing."""
    out.mkdir()
    subprocess.run([python, "-c", PEERS, folder, out], check=True, stdout=subprocess.DEVNULL)
    n = len(list((folder / "original").iterdir()))
    seen = {}
    for file in out.glob("*.npy"):
        values = np.load(file)
        seen[file.stem] = (from_hashes if values.ndim == 1 else from_features)(values, n, known)
    if (out / "cleanvision.json").exists():
        seen["cleanvision"] = from_pairs(_all_pairs(json.loads((out / "cleanvision.json").read_text())), n, known)
    return seen, json.loads((out / "told.json").read_text())


def _all_pairs(sets: list[list[int]]) -> Iterator[tuple[int, int, float]]:
    return ((a, b, 1.0) for one in sets for a, b in itertools.combinations(one, 2))


def _known(file: str | None, names: list[str]) -> set[tuple[int, int]]:
    if not file:
        return set()
    place = {name: number for number, name in enumerate(names)}
    rows = [(place.get(a), place.get(b)) for a, b in pl.read_csv(file).select("first", "second").iter_rows()]
    pairs = [(a, b) for a, b in rows if a is not None and b is not None]
    return {*pairs, *((b, a) for a, b in pairs)}


def _each_kind(folder: Path, place: Path, half: str, kinds: dict[str, Change], most: int | None) -> Iterator[tuple[str, Path, list[str]]]:
    """A folder a kind, with the originals beside their twins."""
    names = plant(folder, place / "all", half, kinds, most)
    for kind in kinds:
        own = place / kind
        own.mkdir()
        for name in ("original", kind):
            (own / name).symlink_to(place / "all" / name)
        yield kind, own, names


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Recall and false positives of every tool."""
    kinds = {name: KINDS[name] for name in (given.only or KINDS)}
    seen: dict[str, dict[str, Seen]] = {"sightline": {}}
    seconds: dict[str, Any] = {"sightline": {}}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        for kind, folder, names in _each_kind(given.folder, place, given.half, kinds, given.images):
            known = _known(given.known, names)
            seen["sightline"][kind], seconds["sightline"][kind] = ours(folder, place / "cache", given.threads or 1, known)
            if given.peers:
                others, told = theirs(folder, place / f"peers {kind}", given.peers, known)
                for tool, value in others.items():
                    seen.setdefault(tool, {})[kind] = value
                for tool, value in told.items():
                    seconds.setdefault(tool, {})[kind] = value
    found = {tool: judge(by_kind) for tool, by_kind in seen.items()}
    return {"half": given.half, "images": len(names), "as shipped": judge(seen["sightline"], AT_LEAST), **found, "seconds": seconds}
