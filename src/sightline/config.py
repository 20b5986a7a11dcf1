"""One frozen tree of settings, shared by YAML recipes, `KEY=VALUE` words, Python and every tuning trial.

    config = Config.load("recipe.yaml", ["train.lr=1e-3", "augment.policy=light"])

The fields stand in settings.py; watched.py knows which of them code has read. Phases change settings from an epoch on:

    for phase in phases_of(given): phase.first, phase.config
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo

from sightline.errors import SettingsError
from sightline.settings import (
    AugmentSettings,
    DataSettings,
    DeviceSettings,
    ModelSettings,
    Settings,
    SplitSettings,
    TrainSettings,
    TuneSettings,
    setting,
)
from sightline.yaml12 import dump, load, parse_value

Remedy = Literal[
    "auto",
    "none",
    "weights",
    "effective_weights",
    "sampler",
    "sqrt_sampler",
    "views",
    "focal",
    "balanced_focal",
    "logit_adjustment",
    "posthoc_adjustment",
    "ldam",
    "crt",
]


class Config(Settings):
    """All settings of a run."""

    data: DataSettings = DataSettings()
    split: SplitSettings = SplitSettings()
    model: ModelSettings = ModelSettings()
    augment: AugmentSettings = AugmentSettings()
    imbalance: Remedy = setting("auto", "the remedy for classes of unequal size; auto: as the counts of the train part ask for")
    train: TrainSettings = TrainSettings()
    phases: Annotated[tuple[dict[str, Any], ...], Field(strict=False)] = setting(
        (), "settings that change in the middle of training, such as [{from: 28, augment.policy: light}]"
    )
    tune: TuneSettings = TuneSettings()
    device: DeviceSettings = DeviceSettings()

    @classmethod
    def load(cls, recipe: str | Path | Mapping[str, Any] | None = None, words: Sequence[str] = ()) -> Config:
        """The defaults, then the recipe (a YAML file or a mapping), then `KEY=VALUE` words.

        Raises:
            SettingsError: an unknown key (with the nearest known one), a value of the wrong kind or out of range.
        """
        return build(gather(recipe, words))

    def with_values(self, values: Mapping[str, Any]) -> Config:
        """A copy in which some settings, named by their dotted path, have other values."""
        return build({**dict(leaves(self.model_dump())), **values})


def gather(recipe: str | Path | Mapping[str, Any] | None, words: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """What the user gave, as {dotted path: value}; words (or a mapping) come after the recipe, and of two the later one holds."""
    given: dict[str, Any] = {}
    tree = recipe if recipe is None or isinstance(recipe, Mapping) else _read_recipe(Path(recipe))
    for path, value in leaves(tree or {}):
        if path in given:
            raise SettingsError(f"{path} is given twice in the recipe.")
        given[path] = value
    if isinstance(words, Mapping):
        return given | dict(leaves(words))
    if isinstance(words, str):
        raise SettingsError(f"Give settings as a list of KEY=VALUE texts, [{words!r}], or as a mapping.")
    for word in words:
        if word.startswith("-"):
            raise SettingsError(_no_option(word))
        key, equals, text = word.partition("=")
        if not equals or not key.strip():
            raise SettingsError(f"'{word}' is not a setting: write KEY=VALUE, such as train.epochs=20.")
        given[key.strip()] = parse_value(text, key.strip())
    return given


def build(given: Mapping[str, Any]) -> Config:
    """A Config from {dotted path: value}; see `Config.load` for the errors."""
    known = describe()
    tree: dict[str, Any] = {}
    for path, value in given.items():
        if path not in known:
            raise SettingsError(_unknown(path, known))
        room, _, name = path.partition(".")
        if name:
            tree.setdefault(room, {})[name] = value
        else:
            tree[room] = value
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        sentences = dict.fromkeys(_sentence(one, given) for one in error.errors())  # a choice of types gives several
        raise SettingsError(" ".join(sentences)) from None


def describe() -> dict[str, FieldInfo]:
    """Every setting by its dotted path, in order."""
    found: dict[str, FieldInfo] = {}
    for room, info in Config.model_fields.items():
        group = _group(info)
        found |= {room: info} if group is None else {f"{room}.{name}": leaf for name, leaf in group.model_fields.items()}
    return found


def _group(info: FieldInfo) -> type[Settings] | None:
    """The settings of a room; None where the field is a setting itself."""
    kind = info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Settings) else None


# ---- phases ------------------------------------------------------------------------------------------------------------

PHASE_ROOMS = ("augment", "train")
WHOLE_RUN = frozenset(
    f"train.{name}"
    for name in (
        *("epochs", "seed", "seeds", "monitor", "patience", "restore_best", "ema"),
        *("checkpoint_minutes", "judge", "report", "tensorboard", "log_weights"),
    )
) | {"train.find_lr", "augment.albumentations"}
"""Settings of these rooms that hold for a whole run: no phase can change them."""


@dataclass(frozen=True)
class Phase:
    """A part of a run with settings of its own.

    Attributes:
        first: the epoch that it begins with, counted from 1 as in history.csv.
        config: all settings that hold from there on.
        changed: what differs from the phase before, by dotted path.
        restart: what begins anew though its settings would let it go on: "optimizer", "schedule".
    """

    first: int
    config: Config
    changed: dict[str, Any]
    restart: frozenset[str]


def phases_of(given: Mapping[str, Any]) -> tuple[Phase, ...]:
    """The phases of a run, the first beginning with epoch 1; each adds its settings to those before it.

    Raises:
        SettingsError: a phase is none, begins where another does or after the last epoch, or changes what cannot change.
    """
    config = build(given)
    found = [Phase(1, config, {}, frozenset())]
    values = {path: value for path, value in given.items() if path != "phases"}
    for number, raw in enumerate(config.phases, 2):
        first, restart, changed = _read_phase(raw, number)
        if first <= found[-1].first:
            raise SettingsError(
                f"Phase {number} begins with epoch {first}, the one before it with {found[-1].first}: phases follow one another."
            )
        if first > config.train.epochs:
            raise SettingsError(f"Phase {number} begins with epoch {first}, after the last: raise train.epochs={config.train.epochs}.")
        values |= changed
        found.append(Phase(first, build(values), changed, restart))
    return tuple(found)


def _read_phase(raw: Mapping[str, Any], number: int) -> tuple[int, frozenset[str], dict[str, Any]]:
    changed = dict(leaves(raw))
    first, restart = changed.pop("from", None), changed.pop("restart", ())
    if not isinstance(first, int) or isinstance(first, bool) or first < 2:
        raise SettingsError(f"Phase {number} needs `from`, the epoch that it begins with, 2 or later: {{from: 28, train.lr: 1e-3}}.")
    restart = frozenset([restart] if isinstance(restart, str) else restart)
    if not restart <= {"optimizer", "schedule"}:
        raise SettingsError(f"`restart` of phase {number} may be optimizer, schedule, or both in a list, not {show(sorted(restart))}.")
    known = describe()
    for path in changed:
        if path not in known:
            raise SettingsError(f"In phase {number}: {_unknown(path, known)}")
        if not may_change(path):
            raise SettingsError(f"Phase {number} changes {path}, which holds for a whole run: set it outside of the phases.")
    if not changed and not restart:
        raise SettingsError(f"Phase {number} changes nothing.")
    return first, restart, changed


def may_change(path: str) -> bool:
    """Whether a phase may change this setting."""
    if path in ("imbalance", "model.freeze"):
        return True
    return path.partition(".")[0] in PHASE_ROOMS and path not in WHOLE_RUN


# ---- reading recipes ---------------------------------------------------------------------------------------------------


def _read_recipe(path: Path) -> Mapping[str, Any]:
    try:
        tree = load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"The recipe {path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(f"The recipe {path} is not valid YAML: {' '.join(str(error).split())}.") from None
    except SettingsError as error:
        raise SettingsError(f"In the recipe {path}, {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError(f"The recipe {path} must hold settings, such as 'train: {{epochs: 20}}'.")
    return tree


def leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of each setting of a tree."""
    for key, value in tree.items():
        path = f"{above}{key}"
        if path in Config.model_fields and path not in ("imbalance", "phases") and (value is None or value == {}):
            continue  # `train:` with nothing below it
        if isinstance(value, Mapping) and value and above.count(".") < 2 and path != "tune.space":  # an alias may lie within itself
            yield from leaves(value, path + ".")
        else:
            yield path, value


# ---- sentences -------------------------------------------------------------------------------------------------------


def _unknown(path: str, known: Mapping[str, FieldInfo]) -> str:
    if path in Config.model_fields and path not in known:
        example = next(k for k in known if k.startswith(f"{path}."))
        return f"{path} is a group of settings: write {path}.NAME=VALUE, such as {example}={show(known[example].default)}."
    near = difflib.get_close_matches(path, Config.model_fields, n=1, cutoff=0.75) or _nearest(path, known)
    hint = f"Did you mean {' or '.join(near)}?" if near else "`sightline settings` lists them all."
    return f"There is no setting {path}. {hint}"


def _no_option(word: str) -> str:
    """Of a word such as --epochs, where settings are words without dashes."""
    name = word.lstrip("-").partition("=")[0]
    known = describe()
    near = [f"{path}={show(known[path].default)}" for path in _nearest(f".{name}", known)]
    hint = f"A setting is written without dashes, such as {' or '.join(near)}." if near else "--help lists the options."
    return f"There is no option {word.partition('=')[0]}. {hint}"


def _nearest(path: str, known: Mapping[str, FieldInfo]) -> list[str]:
    """At most three settings: of the same name but for a letter, with words of it, spelt alike, or described with it, in this order."""
    room, _, name = path.lower().replace("-", "_").rpartition(".")
    names = {k: k.partition(".")[2] for k in known}
    words, alike = set(name.split("_")), difflib.get_close_matches(name, names.values(), n=1)
    described = re.compile(rf"\b{re.escape(name.replace('_', ' '))}\b")
    likenesses: tuple[Callable[[str], object], ...] = (
        lambda k: names[k] == name or path.startswith(f"{k}."),
        lambda k: names[k] in alike and difflib.SequenceMatcher(None, name, names[k]).ratio() > 0.9,
        lambda k: words <= set(names[k].split("_")) or words >= set(names[k].split("_")),
        lambda k: names[k] in alike,
        lambda k: len(name) > 3 and described.search(known[k].description or ""),
    )
    for like in likenesses:
        found = [k for k in known if like(k)]
        if found:
            return ([k for k in found if k.startswith(f"{room}.")] or found)[:3]
    return []


def _sentence(error: Any, given: Mapping[str, Any]) -> str:
    if error["type"] == "value_error":
        return f"{error['ctx']['error']}."
    loc = [str(part) for part in error["loc"]]
    path = loc[0] if loc[0] in given else ".".join(loc[:2])
    shown = dump(given[path]).removesuffix("...\n").strip()
    return f"{path} must be {allowed(path)}, not {shown if len(shown) <= 80 else shown[:77] + '...'}."


def allowed(path: str) -> str:
    """The values that a setting may have, in words: "a whole number from 8 to 4096, or auto"."""
    room, _, name = path.partition(".")
    schema = _schema()
    if not name:
        return _words(schema["properties"][room])
    kind = schema["properties"][room]["$ref"].rpartition("/")[2]
    return _words(schema["$defs"][kind]["properties"][name])


@cache
def _schema() -> dict[str, Any]:
    return Config.model_json_schema()


def _words(schema: Mapping[str, Any]) -> str:
    """JSON schema in words, as far as settings use it."""
    if "anyOf" in schema:
        return ", or ".join(_words(one) for one in schema["anyOf"])
    if "enum" in schema:
        return f"{', '.join(schema['enum'][:-1])} or {schema['enum'][-1]}"
    if "const" in schema:
        return str(schema["const"])
    if schema["type"] == "object":
        return "a mapping"
    if schema["type"] == "array":
        item = schema["items"] if "items" in schema else schema["prefixItems"][0]
        count = f"{schema['maxItems']} " if "maxItems" in schema else ""
        return f"a list of {count}{_words(item).removeprefix('a ').replace('number', 'numbers').replace('mapping', 'mappings')}"
    kinds = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "a text"}
    return kinds.get(schema["type"], str(schema["type"])) + _range(schema)


def _range(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f" from {show(low)} to {show(high)}"
    limits = {"minimum": "of at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    said = [f"{words} {show(schema[limit])}" for limit, words in limits.items() if limit in schema]
    return f" {' and '.join(said)}" if said else ""


# ---- writing ---------------------------------------------------------------------------------------------------------


def show(value: Any) -> str:
    """A value as it is written after `KEY=`."""
    return value if isinstance(value, str) else dump(value).removesuffix("...\n").strip().replace(", ", ",")


def to_yaml(config: Config, only: Iterable[str] | None = None) -> str:
    """The settings as YAML; `only` keeps the named ones (those that a run read), so that the file repeats the run."""
    keep = set(describe()) if only is None else set(only)
    rooms: dict[str, Any] = {}
    for path, value in leaves(config.model_dump()):
        if path in keep and (path != "phases" or value):
            room, _, name = path.partition(".")
            if name:
                rooms.setdefault(room, {})[name] = value
            else:
                rooms[room] = value
    return dump(rooms) if rooms else ""


def to_markdown() -> str:
    """The table of all settings, for the documentation."""
    rows = ["# Settings", "", "Made by `python -m sightline.config`. Set one with `KEY=VALUE` or in a YAML recipe.", ""]
    rows += ["| setting | default | may be | what it is |", "|---|---|---|---|"]
    for path, info in describe().items():
        rows.append(f"| `{path}` | `{show(info.default)}` | {allowed(path)} | {info.description} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(to_markdown(), end="")
