"""Weight files into networks: safetensors only, and whole or not at all.

    tensors = read(Path("model.safetensors"))
    trunk, head = split(tensors)            # a file that sightline wrote
    fill(network.trunk, trunk, source)      # strict, or a sentence that names the first keys that do not fit

    with Unfilled():                        # no random numbers for weights that are about to be replaced
        network = rebuild(spec)

A pickled checkpoint can run code when it is read, so none is: convert it to safetensors where you trust it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sightline.errors import ModelError, first_line

Tensors = dict[str, Tensor]


_RANDOM = ("uniform_", "normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "xavier_normal_")


class Unfilled(TorchFunctionMode):
    """Inside, weights are allocated and keep whatever the memory holds: load all of them afterwards.

    Random numbers are nearly all that building a network takes: ResNet18 0.24 s with them and 0.013 without, ResNet50 0.54
    and 0.035 (two threads, torch 2.15).
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if getattr(func, "__name__", "") in _RANDOM:
            return given.get("tensor", args[0] if args else None)  # torch.nn.init gives it by name
        return func(*args, **given)


def weight_file(wanted: str) -> Path:
    """The file that `model.weights` names.

    Raises:
        ModelError: it is no file.
    """
    if not Path(wanted).is_file():
        raise ModelError(f"model.weights={wanted} is not auto, pretrained or none, and there is no file of that name.")
    return Path(wanted)


def read(path: Path) -> Tensors:
    """The tensors of a safetensors file, on the processor.

    Raises:
        ModelError: there is no such file, it is of another kind, or it is damaged.
    """
    if path.suffix != ".safetensors":
        raise ModelError(f"{path} is not a .safetensors file; pickled weights (.pt, .pth, .bin) are never read.")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ModelError(f"The weights {path} cannot be read: {reason}.") from None


def is_ours(tensors: Tensors) -> bool:
    """Whether sightline wrote these: every network here is a trunk and a head."""
    return {key.partition(".")[0] for key in tensors} == {"trunk", "head"}


def split(tensors: Tensors) -> tuple[Tensors, Tensors]:
    """The trunk's tensors and the head's, without those first words."""
    return _below(tensors, "trunk."), _below(tensors, "head.")


def fill(module: nn.Module, tensors: Tensors, source: str) -> None:
    """Loads every tensor into its place.

    Raises:
        ModelError: a tensor is missing, has no place or has another shape; then `module` is as it was.
    """
    wrong = mismatch(module, tensors)
    if wrong:
        raise ModelError(f"The weights {source} do not fit this network: {wrong}.")
    module.load_state_dict(tensors)


def fill_partly(module: nn.Module, tensors: Tensors, source: str) -> tuple[str, ...]:
    """Loads the tensors that have a place of their name and shape; the notes say how many, and what is left random.

    Raises:
        ModelError: none has.
    """
    own = module.state_dict()
    fitting = {key: tensor for key, tensor in tensors.items() if key in own and own[key].shape == tensor.shape}
    if not fitting:
        raise ModelError(f"Nothing of the weights {source} fits this network: {mismatch(module, tensors)}.")
    module.load_state_dict(fitting, strict=False)
    wrong = mismatch(module, tensors)
    return (f"{len(fitting)} of {len(own)} tensors were loaded from {source}; the others STAY RANDOM ({wrong}).",) if wrong else ()


def fill_head(head: nn.Module, tensors: Tensors, source: str) -> tuple[str, ...]:
    """Loads the class layers where all of them fit, else leaves the head as it is; either way the notes say so."""
    wrong = mismatch(head, tensors)
    if wrong:
        return (f"The head starts from scratch: that of {source} does not fit ({wrong}).",)
    head.load_state_dict(tensors)
    return (f"The head of {source} was loaded too: right where its classes are the same, in the same order.",)


def mismatch(module: nn.Module, tensors: Tensors) -> str:
    """What does not fit, in words; empty where everything does."""
    own = module.state_dict()
    misshapen = [
        f"{key} is {_shape(tensors[key])} for {_shape(own[key])}" for key in own if key in tensors and tensors[key].shape != own[key].shape
    ]
    groups = (
        ("missing", [key for key in own if key not in tensors]),
        ("unknown", [key for key in tensors if key not in own]),
        ("of another shape", misshapen),
    )
    return "; ".join(f"{what}: {few(keys)}" for what, keys in groups if keys)


def few(items: Iterable[str], most: int = 3) -> str:
    """The first items, and how many there are beyond them."""
    items = list(items)
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def _below(tensors: Tensors, prefix: str) -> Tensors:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _shape(tensor: Tensor) -> str:
    return "x".join(str(n) for n in tensor.shape) or "a number"
