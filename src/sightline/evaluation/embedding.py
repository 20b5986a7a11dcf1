"""Where images lie to a network: features in many dimensions laid out in two.

    layout = lay_out(features, "tsne", seed=0)              (N, D) -> layout.places (N, 2)
    embedding = Embedding(paths, classes, labels, predicted, confidence, layout.places, layout.method, layout.notes, of=N)
    embedding_picture(embedding, "embedding.png")           see evaluation/embedding_picture.py

t-SNE (van der Maaten and Hinton 2008) keeps neighbours together: who lies beside whom means something; how far groups
are apart, and how large they are, means little. Features go through a principal component analysis to 50 dimensions
first, as its authors do. The same features and seed give the same places, which is why one thread finds them. It gives
up placing new images into an old picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.errors import SettingsError
from sightline.randomness import key

Floats = npt.NDArray[np.float32]
FEWEST = 5
"""With fewer images there are no neighbourhoods to keep: they are drawn by their principal components."""

PERPLEXITY = 30.0
"""How many neighbours an image is given, where there are enough: t-SNE's own middle value."""

MANY = 10_000
"""From here on openTSNE takes over where it is installed: 31 s for 20,000 images where scikit-learn takes 120."""

_DIMENSIONS = 50
_ITERATIONS = 500  # of 5,000 images, as trustworthy to the 4th digit as after scikit-learn's 1,000, in half the time


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Places (N, 2) float32 in -1..1, NaN where an image has none; what made them; what a person must be told."""

    places: Floats
    method: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """N images in the plane.

    Attributes:
        paths: N of them.
        classes: K names.
        labels, predicted: (N,) class numbers.
        confidence: (N,) of `predicted`.
        places: (N, 2) in -1..1; NaN where an image has no place.
        method: "t-SNE", "UMAP", ...
        notes: what a person must be told.
        of: images that there were to choose from.
    """

    paths: tuple[str, ...]
    classes: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    places: Floats
    method: str
    notes: tuple[str, ...]
    of: int

    def __post_init__(self) -> None:
        n = len(self.paths)
        shapes = [np.shape(a) for a in (self.labels, self.predicted, self.confidence, self.places)]
        if shapes != [(n,), (n,), (n,), (n, 2)] or self.of < n:
            raise ValueError(f"{n} of {self.of} images, and arrays of the shapes {shapes}")

    def frame(self) -> pl.DataFrame:
        """A row an image: path, label, predicted, confidence, x, y; places that are not known are null."""
        names = pl.Series(self.classes, dtype=pl.String)
        places = pl.DataFrame(self.places, schema={"x": pl.Float32, "y": pl.Float32}, orient="row").fill_nan(None)
        columns = {"path": self.paths, "label": names.gather(self.labels), "predicted": names.gather(self.predicted)}
        return pl.DataFrame(columns | {"confidence": self.confidence}).hstack(places)


# ---- from many dimensions to two -------------------------------------------------------------------------------------


def lay_out(features: Floats, method: str = "tsne", seed: int = 0) -> Layout:
    """Each row a place in the plane, neighbours near each other.

    Args:
        features: (N, D). Rows with a value that is no number get no place.
        method: "tsne", or "umap" (McInnes et al. 2018), which needs the extra sightline[umap].
        seed: of the method's own random draws.

    Raises:
        SettingsError: the method is unknown or not installed.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped, unused-ignore]

    _check(method)
    whole = np.isfinite(features).all(1) if features.size else np.ones(len(features), dtype=bool)
    with threadpool_limits(1):  # type: ignore[no-untyped-call, unused-ignore]  # threads add up in any order, and t-SNE makes a picture of the last digit
        inner = _lay_out_whole(np.asarray(features[whole], dtype=np.float64), method, key(seed, "embedding") % 2**31)
    places = np.full((len(features), 2), np.nan, dtype=np.float32)
    places[whole] = _framed(inner.places)
    lost = int((~whole).sum())
    told = (f"{lost:,} image{'s have' if lost > 1 else ' has'} features that are no numbers, and no place.",) if lost else ()
    return Layout(places, inner.method, inner.notes + told)


def _check(method: str) -> None:
    if method not in ("tsne", "umap"):
        raise SettingsError(f"--method must be tsne or umap, not {method}.")
    if method == "umap" and find_spec("umap") is None:
        raise SettingsError("--method umap needs UMAP, which is not installed: pip install 'sightline[umap]', or use --method tsne.")


def _lay_out_whole(features: npt.NDArray[np.float64], method: str, seed: int) -> Layout:
    different = len({row.tobytes() for row in features})
    if different == 1 < len(features):
        return Layout(np.zeros((len(features), 2), dtype=np.float32), "none", ("All images have the same features, and one place.",))
    components = _components(features, seed)
    if different < FEWEST:
        note = f"{different} different images are too few for neighbourhoods: drawn by principal components."
        return Layout(components[:, :2], "PCA", (note,) if different else ())
    return (_umap if method == "umap" else _tsne)(components, seed)


def _components(features: npt.NDArray[np.float64], seed: int) -> Floats:
    """Principal components (N, 2 to 50), the first with a standard deviation of 1: units of the features mean nothing."""
    from sklearn.decomposition import PCA

    n, width = features.shape
    kept = min(_DIMENSIONS, n, width)
    if n < 2 or not kept:
        return np.zeros((n, 2), dtype=np.float32)
    # Randomised only where it pays, and from a seed: the same features give the same components.
    solver = "randomized" if min(n, width) > 8 * kept else "full"
    largest = max(float(np.abs(features).max()), 1e-30)  # squares of huge features would overflow
    found = PCA(kept, svd_solver=solver, random_state=seed).fit_transform(features / largest)  # type: ignore[no-untyped-call]
    found = np.pad(found, ((0, 0), (0, max(0, 2 - kept))))
    scaled: Floats = (found / max(float(found[:, 0].std()), 1e-30)).astype(np.float32)
    return scaled


def _tsne(components: Floats, seed: int) -> Layout:
    # 3 * perplexity neighbours are looked at, so there must be that many.
    perplexity = min(PERPLEXITY, max(1.0, (len(components) - 1) / 3))
    start = components[:, :2] * 1e-4
    if len(components) >= MANY and find_spec("openTSNE") is not None:
        from openTSNE import TSNE as Fast  # type: ignore[import-not-found, unused-ignore]

        fast = Fast(perplexity=perplexity, initialization=np.asarray(start, dtype=np.float64), random_state=seed, n_jobs=1)
        return Layout(np.asarray(fast.fit(components), dtype=np.float32), "t-SNE")
    from sklearn.manifold import TSNE

    found = TSNE(perplexity=perplexity, init=start, max_iter=_ITERATIONS, random_state=seed, n_jobs=1)  # type: ignore[no-untyped-call]
    return Layout(found.fit_transform(components), "t-SNE")


def _umap(components: Floats, seed: int) -> Layout:
    import warnings

    from umap import UMAP  # type: ignore[import-not-found, unused-ignore]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed means one thread, and others about itself
        made = UMAP(n_neighbors=min(15, len(components) - 1), random_state=seed, n_jobs=1, init="pca").fit_transform(components)
    return Layout(np.asarray(made, dtype=np.float32), "UMAP")


def _framed(places: Floats) -> Floats:
    """Moved and scaled into -1..1, the sides in proportion."""
    if not len(places):
        return places
    low, high = places.min(0), places.max(0)
    framed: Floats = ((places - (low + high) / 2) / max(float((high - low).max()) / 2, 1e-30)).astype(np.float32)
    return framed
