"""Any of timm's networks by name, with published weights where they can be had.

    options = options_for("vit_tiny_patch16_224", size=64)
    features = measure("vit_tiny_patch16_224", options, 64)     # a ModelError where the network cannot take 64 pixels
    loaded = trunk("vit_tiny_patch16_224", options, "auto")      # loaded.trunk: (B, 3, 64, 64) -> (B, features)

A trunk is timm's network without its class layer. Weights come from the hub's cache or, once, from the hub, and only as
safetensors: a network that is published as a pickle alone counts as not published. It gives up newer versions of
weights that are in the cache already, and networks of timm that give no feature vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from timm.models import PretrainedCfg, get_pretrained_cfg
from torch import nn

from sightline.errors import ModelError, first_line
from sightline.models.head import CLASS_LAYER
from sightline.models.weights import Tensors, Unfilled, fill_partly, is_ours, read, split, weight_file

Options = dict[str, Any]
Triple = tuple[float, float, float]

HUB_SECONDS = 4.0
"""How long the hub may take to answer at all; the hub's own client would go on trying for minutes."""


@cache
def names() -> tuple[str, ...]:
    """Every network of timm, by its plain name."""
    return tuple(timm.list_models())


def tagged(pattern: str = "") -> list[str]:
    """Every set of published weights, as NAME.TAG."""
    found: list[str] = timm.list_models(pattern, pretrained=True)
    return found


def is_known(name: str) -> bool:
    """Whether `name` is a network of timm, with or without the tag of its weights."""
    return name in names() or name in timm.list_models(include_tags=True)


def published(name: str) -> PretrainedCfg:
    """What timm knows about the network's weights: where they are, input size, mean and std."""
    return get_pretrained_cfg(name) or PretrainedCfg()


def native_size(name: str) -> int:
    """The input side in pixels that the network was designed for."""
    return int(published(name).input_size[-1])


def options_for(name: str, size: int | None, drop_path: float | None = None) -> Options:
    """What timm's builder has to be told; a network with a fixed input side is built for `size`."""
    options: Options = {}
    if size is not None and size != native_size(name) and published(name).fixed_input_size:
        options["img_size"] = size
    if drop_path is not None:
        options["drop_path_rate"] = drop_path
    return options


def make(name: str, options: Options) -> nn.Module:
    """The trunk with random weights: (B, 3, S, S) -> (B, F)."""
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **options)
    return network


# ---- does it fit the pictures? ---------------------------------------------------------------------------------------


def measure(name: str, options: Options, side: int) -> int:
    """The length F of the feature vector, found by a dry run without memory or arithmetic.

    Raises:
        ModelError: the network cannot take pictures of this side, gives no feature vector, or has no stochastic depth.
    """
    try:
        shape = _dry_run(name, tuple(options.items()), side)
    except ModelError:
        raise
    except Exception as error:  # each network refuses a wrong size in its own way
        raise ModelError(_wrong_side(name, options, side, error)) from error
    if len(shape) != 2:
        raise ModelError(f"{name} gives no feature vector to classify; choose another model.name.")
    return shape[1]


@cache  # all trials of a study ask for the same
def _dry_run(name: str, options: tuple[tuple[str, Any], ...], side: int) -> torch.Size:
    network = _without_memory(name, options)
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", 1)
    patch = patch[0] if isinstance(patch, tuple) else patch
    # Such a network would cut off what is left of the last patch and say nothing.
    if published(name).fixed_input_size and side % patch:
        raise ValueError(f"the side must be a multiple of its patches' {patch} pixels")
    with torch.no_grad():
        shape: torch.Size = network(torch.zeros(2, 3, side, side, device="meta")).shape
    return shape


@lru_cache(maxsize=1)  # a search for a size that fits asks for the same network again and again
def _without_memory(name: str, options: tuple[tuple[str, Any], ...]) -> nn.Module:
    try:
        with torch.device("meta"):
            return make(name, dict(options)).eval()
    except TypeError as error:
        if "drop_path_rate" in str(error):
            raise ModelError(f"{name} has no stochastic depth: leave model.drop_path out.") from None
        raise


def _wrong_side(name: str, options: Options, side: int, error: Exception) -> str:
    native = native_size(name)
    if side == native:
        return f"{name} cannot be built here ({first_line(error)}); choose another model.name."
    larger = [s for s in range(side + 1, native) if s % 16 == 0 or s % 14 == 0]
    first = next((s for s in larger if _takes(name, {**options, **options_for(name, s)}, s)), native)
    choice = f"{native}, its own" if first == native else f"{first}, the next that it takes, or {native}, its own"
    return f"{name} cannot take pictures of {side} x {side} pixels ({first_line(error)}). Set data.size to {choice}."


def _takes(name: str, options: Options, side: int) -> bool:
    try:
        return len(_dry_run(name, tuple(options.items()), side)) == 2
    except Exception:  # as in `measure`
        return False


# ---- weights ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Loaded:
    """A trunk, what its weights are ("none", "pretrained" or a file's path), and the class layers that came along."""

    trunk: nn.Module
    weights: str
    head: Tensors | None = None
    mean: Triple | None = None
    std: Triple | None = None
    notes: tuple[str, ...] = ()


def trunk(name: str, options: Options, wanted: str, partial: bool = False) -> Loaded:
    """The trunk with the weights that `model.weights` asks for; `partial` takes what fits of a file that does not.

    Raises:
        ModelError: they cannot be had or do not fit; `auto` starts from scratch then, and notes why.
    """
    if wanted == "none":
        return Loaded(make(name, options), "none")
    if wanted == "pretrained":
        return _from_hub(name, options)
    if wanted == "auto":
        try:
            return _from_hub(name, options)
        except ModelError as error:
            note = f"{name} STARTS FROM SCRATCH, with random weights, which needs far more images and epochs. {error}"
            return Loaded(make(name, options), "none", notes=(note,))
    return (_partly if partial else _from_file)(name, options, weight_file(wanted))


def _from_hub(name: str, options: Options) -> Loaded:
    file = fetch(name)
    module, _ = load(name, options, read(file), f"{file} of the hub")
    return Loaded(module, "pretrained", mean=_triple(published(name).mean), std=_triple(published(name).std))


def _from_file(name: str, options: Options, file: Path) -> Loaded:
    tensors = read(file)
    if not is_ours(tensors):
        module, classifier = load(name, options, tensors, str(file))
        head = {f"{CLASS_LAYER}.{key}": tensor for key, tensor in classifier.items()}
        return Loaded(module, str(file), head, _triple(published(name).mean), _triple(published(name).std))
    tensors, head = split(tensors)
    module, _ = load(name, options, tensors, str(file), [0])
    note = f"{file} is from sightline: give data.mean and data.std as in that run, they are not in the file."
    return Loaded(module, str(file), head, notes=(note,))


def _partly(name: str, options: Options, file: Path) -> Loaded:
    """What fits of a file; the normalisation is then the images' own, for nobody knows what these weights saw."""
    tensors, module = read(file), make(name, options)
    own = split(tensors)[0] if is_ours(tensors) else tensors
    return Loaded(module, str(file), notes=fill_partly(module, own, str(file)))


def _triple(values: Sequence[float]) -> Triple:
    red, green, blue = values
    return red, green, blue


def fetch(name: str) -> Path:
    """The published safetensors file of a network, from the hub's cache or else from the hub.

    Raises:
        ModelError: nothing is published, it is published as a pickle alone, or the hub cannot be reached.
    """
    repo, revision, file = _location(name)
    cached = try_to_load_from_cache(repo, file, revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    try:
        # One question with a short limit comes first: the download itself retries for minutes where nobody answers.
        get_hf_file_metadata(hf_hub_url(repo, file, revision=revision), timeout=HUB_SECONDS)
        return Path(hf_hub_download(repo, file, revision=revision))
    except Exception as error:  # each version of the hub's client has its own families of errors
        raise ModelError(
            f"The weights of {name} are not in the hub's cache and could not be fetched ({repo}: {first_line(error)}). "
            "Try again when the hub can be reached, or give a local file as model.weights=FILE.safetensors."
        ) from error


def _location(name: str) -> tuple[str, str | None, str]:
    cfg = published(name)
    file = cfg.hf_hub_filename or "model.safetensors"
    if cfg.hf_hub_id and file.endswith(".safetensors"):
        repo, _, revision = cfg.hf_hub_id.partition("@")
        return repo, revision or None, file
    if cfg.has_weights:
        raise ModelError(f"The weights of {name} are published as a pickle only, which can run code and is never read.")
    raise ModelError(f"{name} has no published weights.")


def load(
    name: str, options: Options, tensors: Tensors, source: str, class_counts: Sequence[int] | None = None
) -> tuple[nn.Module, Tensors]:
    """A trunk with these weights in timm's naming, and their class layer where it is a plain linear one.

    timm adapts them to the network as it does its own (position embeddings to another input side, names of the
    original authors); beyond that nothing may be missing or left over.

    Args:
        class_counts: with how many classes they may have been trained, 0 for none; None: what the tensors and timm say.

    Raises:
        ModelError: a tensor is missing, unknown or of another shape.
    """
    errors: list[Exception] = []
    for classes in class_counts or _class_counts(name, tensors):
        try:
            network = _load_with_classes(name, options, tensors, classes)
        except Exception as error:  # timm's adapters fail in many ways on tensors that they do not know
            errors.append(error)
            continue
        classifier = network.get_classifier() if classes else None
        network.reset_classifier(0)
        return network, classifier.state_dict() if isinstance(classifier, nn.Linear) else {}
    raise ModelError(f"The weights {source} do not fit {name}: {_first_keys(errors[-1])}.") from errors[-1]


def _class_counts(name: str, tensors: Tensors) -> list[int]:
    """With how many classes the weights may have been trained; 0: they have no class layer."""
    layers = published(name).classifier or ()
    for layer in [layers] if isinstance(layers, str) else layers:
        if f"{layer}.weight" in tensors:
            return [len(tensors[f"{layer}.weight"])]
    return list(dict.fromkeys([published(name).num_classes, 0]))


def _load_with_classes(name: str, options: Options, tensors: Tensors, classes: int) -> Any:
    # With the class layer in place timm loads strictly; asked for none, it would pass over anything that is missing.
    source = {"state_dict": dict(tensors), "num_classes": classes, "label_offset": None}
    with Unfilled():
        network: Any = timm.create_model(name, pretrained=True, num_classes=classes, pretrained_cfg_overlay=source, **options)
    network.pretrained_cfg.pop("state_dict")  # a second copy of all weights
    return network


def _first_keys(error: Exception) -> str:
    """PyTorch's list of keys that do not fit, cut to what a person reads."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines()]
    wrong = [line if len(line) < 160 else f"{line[:160]}..." for line in lines if line]
    return "; ".join(wrong[1:4] if len(wrong) > 1 else wrong)
