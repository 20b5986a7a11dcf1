"""Networks by name: what there is, and how `model.*` settings become one.

    for info in list_models("resnet18"): print(info.name, info.parameters)
    built = build(config.model, classes=10, size=28)
    again = rebuild(built.spec)         # the same layers with random weights, without network access

Ours stand in one table (`OURS`); every other name is timm's. A setting is read only where the network uses it, so that
one which would do nothing is found out. timm is imported when one of its networks is asked for: it is half of the time
that sightline takes to start.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from sightline.errors import ModelError, first_line
from sightline.models import scratch, weights
from sightline.models.compact import compact_resnet, stem_stride
from sightline.models.head import Network, mlp_head
from sightline.settings import ModelSettings

Family = Literal["sightline", "timm"]
Means = tuple[float, float, float]
Options = dict[str, Any]

COUNTED = 24
"""So many networks of timm are built, without memory, to count their parameters; more would keep a person waiting."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One row of `sightline models`. `parameters` leaves the class layer out; `size` is the native side, None: any."""

    name: str
    family: Family
    parameters: int | None
    size: int | None
    about: str


@dataclass(frozen=True, slots=True)
class Built:
    """A network and how it came about.

    `weights` is what was really loaded ("none", "pretrained" or a file's path), `size` the native side in pixels (None:
    any), `mean` and `std` those of pretrained weights, `notes` what the run must tell, `spec` all that `rebuild` needs.
    """

    network: Network
    weights: str
    size: int | None
    mean: Means | None
    std: Means | None
    notes: tuple[str, ...]
    spec: dict[str, Any]


# ---- our own ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Own:
    """One of sightline's networks: how it is made, what it is, and which options settings and size change.

    All options are written into the network's description, so that it can be made again when a default has changed.
    """

    make: Callable[..., Network]
    about: str
    defaults: Options = field(default_factory=dict)
    chosen: Callable[[ModelSettings, int | None], Options] = lambda model, size: {}
    smallest: int = 1  # smaller pictures are enlarged to this side inside the network


def _dropout(model: ModelSettings, size: int | None) -> Options:
    return {} if model.dropout is None else {"dropout": model.dropout}


def _searchable(model: ModelSettings, size: int | None) -> Options:
    return {"depth": model.depth, "width": model.width, **_dropout(model, size)}


def _compact(model: ModelSettings, size: int | None) -> Options:
    return {"stem_stride": 1 if size is None else stem_stride(size), **_dropout(model, size)}


OURS: dict[str, Own] = {
    "sightline_small": Own(
        compact_resnet,
        "compact residual network; the default",
        {"widths": [64, 128, 256], "blocks": [0, 1, 0], "stem_width": 32, "dropout": 0.0},
        _compact,
    ),
    "sightline_tiny": Own(
        compact_resnet,
        "the same at half the width, for trials and small devices",
        {"widths": [32, 64, 128], "blocks": [0, 1, 0], "stem_width": 32, "dropout": 0.0},
        _compact,
    ),
    "springfield_first": Own(
        scratch.springfield_first,
        "Springfield's first: 5 convolutions, 2 linear layers",
        smallest=scratch.FIRST_SIDE,
    ),
    "springfield_best": Own(
        scratch.springfield_best,
        "Springfield's best: 6 convolutions, 4 linear layers",
        smallest=scratch.BEST_SIDE,
    ),
    "simpsons_residual": Own(scratch.simpsons_residual, "the residual network of the focal-loss system", {"dropout": 0.5}, _dropout),
    "skilltest_cnn": Own(scratch.skilltest_cnn, "a small plain CNN, as in the skill test"),
    "searchable_cnn": Own(
        scratch.searchable_cnn,
        "a CNN whose depth, width and dropout can be searched",
        {"depth": 4, "width": 32, "dropout": 0.3},
        _searchable,
    ),
}


# ---- listing ---------------------------------------------------------------------------------------------------------


def list_models(pattern: str = "*") -> list[ModelInfo]:
    """The networks whose name matches, ours first; a pattern without * or ? matches anywhere in the name.

    A pattern with a dot looks through the published weights too (`resnet50.*`). Of more than 24 networks of timm the
    parameters are not counted.
    """
    from sightline.models import pretrained

    wanted = pattern if set(pattern) & set("*?") else f"*{pattern}*"
    own = [_own_info(name) for name in OURS if fnmatch(name, wanted)]
    theirs = [name for name in (pretrained.tagged() if "." in pattern else pretrained.names()) if fnmatch(name, wanted)]
    return own + [_timm_info(name, count=len(theirs) <= COUNTED) for name in theirs]


def _own_info(name: str) -> ModelInfo:
    own = OURS[name]
    with torch.device("meta"):
        one, two = (_count(own.make(classes, **own.defaults)) for classes in (1, 2))
    # Each class adds the same number, so this is what is left without any.
    return ModelInfo(name, "sightline", 2 * one - two, None, own.about)


def _timm_info(name: str, count: bool) -> ModelInfo:
    from sightline.models import pretrained

    cfg = pretrained.published(name)
    about = (f"weights {cfg.tag}" if cfg.tag else "weights") if cfg.has_weights else "no published weights"
    parameters = None
    if count:
        with torch.device("meta"):
            parameters = _count(pretrained.make(name, {}))
    return ModelInfo(name, "timm", parameters, pretrained.native_size(name), about)


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def native_size(name: str) -> int | None:
    """The input side in pixels that the network was designed for; None: any.

    Raises:
        ModelError: no network has this name.
    """
    if name in OURS:
        return None
    _check_name(name)
    from sightline.models import pretrained

    return pretrained.native_size(name)


def _check_name(name: str) -> None:
    if name in OURS:
        return
    from sightline.models import pretrained

    if pretrained.is_known(name):
        return
    near = _near(name)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ModelError(f"There is no network {name}.{hint} `sightline models PATTERN` lists them.")


def _near(name: str) -> list[str]:
    from sightline.models import pretrained

    plain = name.partition(".")[0]
    if plain != name and plain in pretrained.names():  # the weights are unknown, not the network
        return pretrained.tagged(f"{plain}.*")[:3] or [plain]
    return difflib.get_close_matches(name, [*OURS, *pretrained.names()], 3)


# ---- building --------------------------------------------------------------------------------------------------------


def build(model: ModelSettings, classes: int, size: int | None = None) -> Built:
    """The network that the settings describe, for pictures of `size` pixels (None: its native side, or any).

    Raises:
        ModelError: the name is unknown; the weights cannot be had or do not fit; the network cannot take that size.
    """
    _check_name(model.name)
    return (_build_own if model.name in OURS else _build_timm)(model, classes, size)


def rebuild(spec: dict[str, Any]) -> Network:
    """The layers of `Built.spec` with random weights; nothing is fetched or read.

    Raises:
        ModelError: the description is damaged, or names a network that this version does not have.
    """
    try:
        return _rebuild(spec)
    except ModelError:
        raise
    except Exception as error:  # a description from anywhere can be wrong in any way
        raise ModelError(f"The network's description is damaged or of another version of sightline ({first_line(error)}).") from error


def _rebuild(spec: dict[str, Any]) -> Network:
    name, classes, options = spec["name"], spec["classes"], spec["options"]
    _check_name(name)
    if name in OURS:
        return OURS[name].make(classes, **options)
    from sightline.models import pretrained

    unknown = set(options) - {"img_size", "drop_path_rate"}
    if unknown:  # timm's builder has options that read files
        raise ValueError(f"unknown option {weights.few(sorted(unknown))}")
    return Network(pretrained.make(name, options), mlp_head(spec["features"], classes=classes, **spec["head"]))


def _build_own(model: ModelSettings, classes: int, size: int | None) -> Built:
    own = OURS[model.name]
    options = {**own.defaults, **own.chosen(model, size)}
    spec = {"name": model.name, "classes": classes, "options": options}
    network = rebuild(spec)
    notes = []
    if size is not None and size < own.smallest:
        notes += [f"{model.name} needs {own.smallest} pixels; it enlarges pictures of {size} to that inside the network."]
    loaded, more = _own_weights(model, network)
    return Built(network, loaded, None, None, None, (*notes, *more), spec)


def _own_weights(model: ModelSettings, network: Network) -> tuple[str, tuple[str, ...]]:
    if model.weights in ("auto", "none"):
        return "none", ()
    if model.weights == "pretrained":
        raise ModelError(f"{model.name} has no published weights; choose model.weights=none, or a file of your own.")
    source = str(weights.weight_file(model.weights))
    trunk, head = weights.split(weights.read(Path(source)))
    if model.partial_weights:
        return source, weights.fill_partly(network.trunk, trunk, source) + weights.fill_head(network.head, head, source)
    weights.fill(network.trunk, trunk, source)
    return source, weights.fill_head(network.head, head, source)


def _build_timm(model: ModelSettings, classes: int, size: int | None) -> Built:
    from sightline.models import pretrained

    name, native = model.name, pretrained.native_size(model.name)
    options = pretrained.options_for(name, size, model.drop_path)
    features = pretrained.measure(name, options, size or native)
    head = _head_options(model)
    partial = model.weights not in ("auto", "pretrained", "none") and model.partial_weights
    loaded = pretrained.trunk(name, options, model.weights, partial)
    network = Network(loaded.trunk, mlp_head(features, classes=classes, **head))
    notes = loaded.notes
    if loaded.head is not None:
        notes += weights.fill_head(network.head, loaded.head, loaded.weights)
    spec = {"name": name, "classes": classes, "options": options, "features": features, "head": head}
    return Built(network, loaded.weights, native, loaded.mean, loaded.std, notes, spec)


def _head_options(model: ModelSettings) -> Options:
    options: Options = {"widths": list(model.head), "feature_dropout": model.dropout or 0.0}
    if model.head:
        options["activation"] = model.head_activation
        options["dropout"] = model.head_dropout
        options["batch_norm"] = model.head_batch_norm
    return options
