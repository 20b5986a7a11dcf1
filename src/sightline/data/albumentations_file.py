"""Pipelines that Albumentations saved: read from their own files, checked strictly, repeatable.

    pipeline = load_albumentations(Path("pipeline.yaml"))          written by albumentations.save

Albumentations is an extra. It only warns where an argument is unknown; here that is an error, as is everything that
needs more than the picture, cannot be repeated, or is not what it was when it was saved.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.metadata
import inspect
import json
import os
import random
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.pipelines import Picture, Pipeline
from sightline.errors import SettingsError, first_line
from sightline.yaml12 import load

INSTALL = 'pip install "sightline[albumentations]"'

_TARGETS = {  # these ask for more than the picture only when they are called, or do nothing without it
    *("AtLeastOneBBoxRandomCrop", "BBoxSafeRandomCrop", "ConstrainedCoarseDropout", "CropNonEmptyMaskIfExists"),
    "RandomSizedBBoxSafeCrop",
}
_OURS = {"Normalize", "ToFloat", "FromFloat", "ToTensorV2", "ToTensor3D"}
_REFUSED = {
    **dict.fromkeys(_OURS, "sightline normalises and makes tensors itself, last; leave it out"),
    **dict.fromkeys(_TARGETS, "it needs boxes or masks, and there is only the picture"),
    "Lambda": "it is Python code, which no file holds",
    "ReplayCompose": "it records instead of drawing anew; use Compose",
}


def load_albumentations(path: Path) -> Pipeline:
    """The pipeline in a .yaml or .json file that `albumentations.save` wrote.

    Raises:
        SettingsError: Albumentations is missing, the file is no such pipeline, or something in it is unknown, needs more
            than the picture, cannot be repeated or would have no effect.
    """
    tree = _read(path)
    library = _import_albumentations()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            compose = library.Compose([_build(tree["transform"], library)])
        except SettingsError as error:
            raise SettingsError(f"{path}: {error}") from None
    notes = [f"{path}: {warning.message}" for warning in told]
    if _installed("albumentationsx"):
        notes.append("albumentationsx, whose licence is the AGPL, is installed in place of albumentations.")
    identity = json.dumps([library.__version__, tree["transform"]], sort_keys=True)
    return Pipeline(str(path), functools.partial(_albumentations, compose), identity, tuple(dict.fromkeys(notes)))


def _albumentations(compose: Any, picture: Picture, seed: int) -> Any:
    # Not set_random_seed: that gives each transform the same stream, so that two flips always happen together.
    compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return compose(image=picture)["image"]


def _import_albumentations() -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for its newest version
    try:
        albumentations = importlib.import_module("albumentations")
    except ImportError:
        raise SettingsError(f"augment.albumentations needs Albumentations, which is not installed: {INSTALL}") from None
    if not hasattr(albumentations.Compose, "set_random_state"):
        raise SettingsError(f"Albumentations {albumentations.__version__} is too old to repeat its draws: {INSTALL}")
    return albumentations


def _installed(name: str) -> bool:
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


def _read(path: Path) -> dict[str, Any]:
    """What the file holds: {"__version__": ..., "transform": {...}}."""
    if path.suffix.lower() not in (".yaml", ".yml", ".json"):
        raise SettingsError(f"augment.albumentations={path} must end in .yaml or .json, as albumentations.save wrote it.")
    try:
        text = path.read_text(encoding="utf-8")
        tree = json.loads(text) if path.suffix.lower() == ".json" else load(text)
    except OSError as error:
        raise SettingsError(f"augment.albumentations={path} cannot be read: {error.strerror}.") from None
    except Exception as error:  # yaml.YAMLError, ValueError, RecursionError, ...: whatever a broken file leads to
        raise SettingsError(f"{path} cannot be read as {path.suffix[1:].upper()}: {first_line(error)}") from None
    if not (isinstance(tree, Mapping) and isinstance(tree.get("transform"), Mapping)):
        raise SettingsError(f"{path} is not a pipeline: write it with albumentations.save(pipeline, path, data_format=...).")
    return dict(tree)


def _build(node: Any, library: Any) -> Any:
    """A transform with all that it holds; albumentations.from_dict would only warn of arguments that it drops."""
    if not (isinstance(node, Mapping) and isinstance(node.get("__class_fullname__"), str)):
        raise SettingsError("it is not a pipeline that albumentations.save wrote: a transform has no __class_fullname__.")
    name = library.core.serialization.shorten_class_name(node["__class_fullname__"])
    given = {str(key): value for key, value in node.items() if key != "__class_fullname__"}
    kind = _kind(name, given, library)
    if "transforms" in given:
        inner = given["transforms"]
        given["transforms"] = [_build(one, library) for one in (inner if isinstance(inner, list) else [inner])]
    known = set(inspect.signature(kind.__init__).parameters) - {"self"}
    try:
        made = kind(**{key: value for key, value in given.items() if key in known}, **_strict(kind))
    except Exception as error:
        raise SettingsError(f"{name} cannot be made: {_reason(error)}") from None
    _refuse_dropped(name, given, known, made, library)
    _refuse_more_than_the_picture(name, given, made)
    return made


def _kind(name: str, given: Mapping[str, Any], library: Any) -> Any:
    """The class of that name, if it can be used here."""
    if name in _REFUSED:
        raise SettingsError(f"{name} cannot be used here: {_REFUSED[name]}.")
    registry = library.core.serialization.SERIALIZABLE_REGISTRY
    if name not in registry or not hasattr(library, name):
        near = difflib.get_close_matches(name, [*filter(functools.partial(hasattr, library), registry)], 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise SettingsError(f"Albumentations {library.__version__} has no transform {name}.{hint}")
    if "p" not in given and name not in ("Compose", "Sequential"):
        raise SettingsError(f"{name} has no p: say how often it is done, such as p: 0.5.")
    if name == "SelectiveChannelTransform" and "channels" not in given:
        raise SettingsError(f"albumentations.save has left out the channels of {name}: add them to the file, such as channels: [0].")
    if given.get("seed") is not None:
        raise SettingsError(f"the seed of {name} would have no effect: draws come from train.seed. Leave it out.")
    return registry[name]


def _strict(kind: Any) -> dict[str, bool]:
    """What makes Albumentations raise where it otherwise warns and takes its defaults; some classes do not know it."""
    owner = next(one for one in kind.__mro__ if "__init__" in vars(one))
    return {"strict": True} if "InitSchema" in vars(owner) else {}


def _refuse_dropped(name: str, given: Mapping[str, Any], known: set[str], made: Any, library: Any) -> None:
    """Arguments that the class does not take: fine only where `save` itself writes them, from those it takes."""
    others = {key: value for key, value in given.items() if key not in known}
    plain = library.core.serialization.serialize_enum
    written = plain(made.to_dict_private()) if others else {}
    for key, value in others.items():
        if key not in written or written[key] != plain(value):
            near = difflib.get_close_matches(key, known, 1)
            raise SettingsError(f"{name} has no argument {key}.{f' Did you mean {near[0]}?' if near else ''}")


def _refuse_more_than_the_picture(name: str, given: Mapping[str, Any], made: Any) -> None:
    for key in ("bbox_params", "keypoint_params", "additional_targets"):
        if given.get(key):
            raise SettingsError(f"{name} has {key}, and there is only the picture: leave them out.")
    wanted = ", ".join(getattr(made, "targets_as_params", ()))
    if wanted:
        raise SettingsError(f"{name} cannot be used here: it needs {wanted}, and there is only the picture.")
    if hasattr(made, "targets") and "image" not in made.targets:
        raise SettingsError(f"{name} would do nothing: it is not for pictures.")


def _reason(error: Exception) -> str:
    """The first thing that is wrong, in a line; pydantic's errors name the argument."""
    faults = getattr(error.__cause__, "errors", None)
    if faults is None:
        return first_line(error)
    first = faults()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'its arguments'}: {first['msg']}."
