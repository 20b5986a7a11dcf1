"""One frozen tree of settings, shared by YAML recipes, `KEY=VALUE` words, Python and every tuning trial.

    config = Config.load("recipe.yaml", ["train.lr=1e-3", "augment.policy=light"])
    reads: set[str] = set()
    config = watch(config, reads)       # looks like the Config it wraps; notes each setting that code reads
    ...prepare the run...
    refuse_inert(config, given, reads)  # a setting that was given and that no code read is an error, not a shrug

A field is the one source of the checks, of the sentences about them, of the help and of `docs/settings.md`
(`python -m sightline.config`). `needs` names what decides whether a field is read at all; the message about an inert
setting shows it. It gives up nesting deeper than two levels: every setting is `room.name`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from sightline.errors import SettingsError

Auto = Literal["auto"]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Scale = Annotated[float, Field(gt=0, le=1)]
# A list is a tuple in Python, so the tuples are not strict; what they hold is.
Pair = Annotated[tuple[Positive, Positive], Field(strict=False)]
Fractions = Annotated[tuple[Fraction, Fraction, Fraction], Field(strict=False)]
Scales = Annotated[tuple[Scale, Scale, Scale], Field(strict=False)]


def setting(default: Any, description: str, *, needs: Sequence[str] = (), **checks: Any) -> Any:
    """A field with its description and what it depends on: other settings, or a few words."""
    return Field(default, description=description, json_schema_extra={"needs": list(needs)}, **checks)


_NO_OWN_SPLIT = "images that are divided already"  # follows "has no effect with"


class Settings(BaseModel):
    """Frozen, strict (a bool is no int, a text is no number), and closed to unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataSettings(Settings):
    """Which pixels the network sees."""

    size: Annotated[int, Field(ge=8, le=4096)] | Auto = setting(
        "auto",
        "side of the network's square input in pixels; auto: the pretrained network's own, or what the images have, at most 128",
    )
    fit: Literal["squash", "crop", "letterbox"] = setting(
        "squash",
        "how a picture that is not square meets the square input: squash it, cut out its centre, or pad it with grey",
    )
    store_size: Annotated[int, Field(ge=8, le=4096)] | Auto = setting(
        "auto",
        "long side of the stored pixels; auto: data.size, a third more for fit=crop; larger pictures are shrunk, smaller ones kept",
    )
    mean: Fractions | Auto = setting("auto", "mean of red, green and blue; auto: the pretrained network's, or the train part's")
    std: Scales | Auto = setting("auto", "standard deviation of red, green and blue; auto: as data.mean")
    max_pixels: int = setting(64_000_000, "a picture with more pixels is quarantined before it is decoded", ge=1, le=2_000_000_000)
    store_gb: Annotated[float, Field(ge=0)] | Auto = setting(
        "auto", "largest pixel store in gigabytes; auto: half of the free disk; above it files are decoded each epoch"
    )
    workers: Annotated[int, Field(ge=1, le=256)] | Auto = setting("auto", "threads that decode files; auto: one a processor core")


class SplitSettings(Settings):
    """How images are divided where the folder does not already say so."""

    fractions: Fractions = setting((0.7, 0.15, 0.15), "shares of train, val and test; they add up to 1", needs=[_NO_OWN_SPLIT])
    seed: int = setting(0, "which images fall where", needs=[_NO_OWN_SPLIT], ge=0, lt=2**63)

    @model_validator(mode="after")
    def _check(self) -> SplitSettings:
        if abs(sum(self.fractions) - 1) > 1e-6 or 0 in self.fractions[:2]:
            raise ValueError("split.fractions must be three shares that add up to 1, train and val above 0, such as [0.7,0.15,0.15]")
        return self


class ModelSettings(Settings):
    """The network."""

    name: str = setting("sightline_small", "a network from `sightline models`: one of sightline's own or any of timm's")
    weights: str = setting(
        "auto",
        "auto (pretrained where they can be had), pretrained, none, or a local .safetensors file",
        needs=["model.name"],
    )
    head: Annotated[tuple[Annotated[int, Field(ge=1, le=65536)], ...], Field(strict=False)] = setting(
        (),
        "widths of hidden layers in front of the class layer, such as [1600,1024]; timm networks only",
        needs=["model.name"],
    )
    head_activation: Literal["relu", "gelu", "silu", "tanh"] = setting("relu", "between the head's layers", needs=["model.head"])
    head_dropout: Annotated[float, Field(ge=0, lt=1)] = setting(0.0, "dropout before the class layer of a head", needs=["model.head"])
    head_batch_norm: bool = setting(False, "batch norm after each hidden layer of the head", needs=["model.head"])
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = setting(
        None, "dropout before the classifier; null: the network's own", needs=["model.name"]
    )
    drop_path: Annotated[float, Field(ge=0, lt=1)] | None = setting(
        None, "stochastic depth of timm networks; null: the network's own", needs=["model.name"]
    )
    depth: int = setting(4, "blocks of model.name=searchable_cnn", needs=["model.name"], ge=1, le=8)
    width: int = setting(32, "channels of the first block of model.name=searchable_cnn", needs=["model.name"], ge=4, le=512)


class AugmentSettings(Settings):
    """What training views may differ in. None takes the policy's value; `augment.policy=none` reads nothing else."""

    policy: Literal["none", "flip", "light", "standard", "strong"] = setting("standard", "the set of defaults for all below")
    flip: Fraction | None = setting(None, "probability of a left-right flip", needs=["augment.policy"])
    vertical_flip: Fraction | None = setting(None, "probability of an up-down flip", needs=["augment.policy"])
    crop_scale: Annotated[tuple[Scale, Scale], Field(strict=False)] | None = setting(
        None, "smallest and largest share of the area that a random crop keeps", needs=["augment.policy"]
    )
    crop_ratio: Pair | None = setting(None, "smallest and largest width / height of a random crop", needs=["augment.policy"])
    rotate: Annotated[float, Field(ge=0, le=180)] | None = setting(None, "largest rotation in degrees", needs=["augment.policy"])
    shear: Annotated[float, Field(ge=0, le=60)] | None = setting(None, "largest horizontal shear in degrees", needs=["augment.policy"])
    scale: Pair | None = setting(None, "smallest and largest magnification", needs=["augment.policy"])
    translate: Annotated[float, Field(ge=0, le=1)] | None = setting(None, "largest shift as a share of the side", needs=["augment.policy"])
    brightness: Fraction | None = setting(None, "factor drawn from [1 - b, 1 + b]", needs=["augment.policy"])
    contrast: Fraction | None = setting(None, "factor drawn from [1 - c, 1 + c]", needs=["augment.policy"])
    saturation: Fraction | None = setting(None, "factor drawn from [1 - s, 1 + s]", needs=["augment.policy"])
    hue: Annotated[float, Field(ge=0, le=0.5)] | None = setting(
        None, "largest turn of the colour circle, in turns", needs=["augment.policy"]
    )
    grey: Fraction | None = setting(None, "probability of a grey picture", needs=["augment.policy"])
    fill: Literal["reflect", "constant"] = setting(
        "reflect", "what lies outside the picture: its mirror image, or grey", needs=["augment.policy", "data.fit"]
    )

    @model_validator(mode="after")
    def _check(self) -> AugmentSettings:
        for name in ("crop_scale", "crop_ratio", "scale"):
            pair = getattr(self, name)
            if pair is not None and pair[0] > pair[1]:
                raise ValueError(f"augment.{name} must give the smaller number first")
        return self


class TrainSettings(Settings):
    """The optimisation."""

    epochs: int = setting(30, "passes over the train part", ge=1, le=100_000)
    batch_size: int = setting(64, "images a step", ge=1, le=65536)
    accumulate: int = setting(1, "batches whose gradients are added up for one step", ge=1, le=4096)
    optimizer: Literal["sgd", "adam", "adamw"] = setting("adamw", "the update rule")
    lr: Annotated[float, Field(gt=0, le=100)] | Auto = setting("auto", "the highest learning rate; auto: measured defaults a family")
    weight_decay: float = setting(0.05, "decoupled for adamw, L2 for the others; not applied to biases and norms", ge=0, le=10)
    momentum: Annotated[float, Field(ge=0, lt=1)] = setting(0.9, "of sgd", needs=["train.optimizer"])
    nesterov: bool = setting(True, "of sgd", needs=["train.optimizer"])
    betas: Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]], Field(strict=False)] = setting(
        (0.9, 0.999), "of adam and adamw", needs=["train.optimizer"]
    )
    amsgrad: bool = setting(False, "of adam and adamw", needs=["train.optimizer"])
    schedule: Literal["constant", "step", "cosine", "onecycle", "plateau"] = setting("onecycle", "how the learning rate goes")
    warmup: float = setting(0.0, "epochs of linear warm-up; onecycle has its own", needs=["train.schedule"], ge=0)
    onecycle_rise: Annotated[float, Field(gt=0, lt=1)] = setting(0.25, "share of the run in which onecycle rises", needs=["train.schedule"])
    step_epochs: int = setting(10, "epochs between the drops of step", needs=["train.schedule"], ge=1)
    factor: Annotated[float, Field(gt=0, lt=1)] = setting(0.1, "what step and plateau multiply with", needs=["train.schedule"])
    plateau_patience: int = setting(2, "epochs without progress before plateau drops the rate", needs=["train.schedule"], ge=0)
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = setting(0.1, "share of the target spread over all classes")
    clip_norm: Annotated[float, Field(gt=0)] | None = setting(None, "largest norm of the gradient; null: any")
    monitor: Literal["macro_f1", "balanced_accuracy", "accuracy", "loss"] = setting(
        "macro_f1", "the figure on val that says which epoch is best"
    )
    patience: Annotated[int, Field(ge=1)] | None = setting(None, "epochs without a better one before training stops; null: never")
    restore_best: bool = setting(True, "end with the weights of the best epoch; false: of the last")
    seed: int = setting(0, "first weights, order, augmentation, dropout", ge=0, lt=2**63)
    checkpoint_minutes: float = setting(5.0, "minutes between checkpoints inside an epoch", gt=0)
    judge: bool = setting(True, "evaluate the test part once, at the end")
    tensorboard: bool = setting(True, "write TensorBoard scalars")


class DeviceSettings(Settings):
    """Where and how it is computed."""

    name: str = setting("auto", "auto, cpu, cuda, cuda:N or mps")
    precision: Literal["auto", "float32", "bfloat16"] = setting("auto", "auto: bfloat16 where the device computes it natively")
    threads: Annotated[int, Field(ge=1, le=1024)] | Auto = setting("auto", "processor threads; auto: the cores this process may use")
    channels_last: bool = setting(True, "memory order of images; faster convolutions on most devices")


class Config(Settings):
    """All settings of a run."""

    data: DataSettings = DataSettings()
    split: SplitSettings = SplitSettings()
    model: ModelSettings = ModelSettings()
    augment: AugmentSettings = AugmentSettings()
    train: TrainSettings = TrainSettings()
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
        return build({**dict(_leaves(self.model_dump())), **values})


def gather(recipe: str | Path | Mapping[str, Any] | None, words: Sequence[str]) -> dict[str, Any]:
    """What the user gave, as {dotted path: value}; words come after the recipe, and of two the later one holds."""
    given: dict[str, Any] = {}
    tree = recipe if recipe is None or isinstance(recipe, Mapping) else _read_recipe(Path(recipe))
    for path, value in _leaves(tree or {}):
        if path in given:
            raise SettingsError(f"{path} is given twice in the recipe.")
        given[path] = value
    for word in words:
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
        tree.setdefault(room, {})[name] = value
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        sentences = dict.fromkeys(_sentence(one, given) for one in error.errors())  # a choice of types gives several
        raise SettingsError(" ".join(sentences)) from None


def describe() -> dict[str, FieldInfo]:
    """Every setting by its dotted path, in order."""
    return {
        f"{room}.{name}": info
        for room, group in Config.model_fields.items()
        for name, info in cast(type[Settings], group.annotation).model_fields.items()
    }


# ---- reading YAML and words ------------------------------------------------------------------------------------------


_RESOLVERS: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # by first character, as PyYAML wants it


class _Loader(yaml.SafeLoader):
    """YAML 1.2's idea of numbers, true and false: PyYAML's own reads 1e-3 as a text, `no` as false and 010 as 8."""

    yaml_implicit_resolvers = _RESOLVERS

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(k) for k in keys if keys.count(k) > 1}
        if twice:
            names, line = ", ".join(sorted(twice)), node.start_mark.line + 1
            raise SettingsError(f"{names} is written twice in the same place (line {line}).")
        return super().construct_mapping(node, deep)

    def construct_whole_number(self, node: yaml.ScalarNode) -> int:
        return int(node.value) if len(node.value) < 100 else 10**100  # Python refuses thousands of digits


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads: quotes exactly those texts that it would take for something else."""

    yaml_implicit_resolvers = _RESOLVERS

    def represent_brackets(self, values: Sequence[Any]) -> yaml.Node:
        return self.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=True)

    def represent_text(self, text: str) -> yaml.Node:
        style = None if text.isprintable() else '"'  # PyYAML's other styles lose some line breaks
        return self.represent_scalar("tag:yaml.org,2002:str", text, style)


_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|None|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+(_[0-9]+)*", "-+0123456789"),  # 64_000_000, as Python has it
    ("float", _FLOAT + r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_whole_number)
_Dumper.add_representer(tuple, _Dumper.represent_brackets)
_Dumper.add_representer(list, _Dumper.represent_brackets)
_Dumper.add_representer(str, _Dumper.represent_text)


def parse_value(text: str, key: str = "value") -> Any:
    """The value of a `KEY=VALUE` word: a number, true, false, null, a [list], a "quoted" text, or the text as it is.

    Only what begins with a bracket or a quote is read as YAML, so that a path may hold `#` and `: `.
    """
    text = text.strip()
    try:
        if text.startswith(("[", "{", '"', "'")):
            return yaml.load(text, Loader=_Loader)
        loader = _Loader("")
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        return loader.construct_object(yaml.ScalarNode(tag, text))
    except (yaml.YAMLError, ValueError, RecursionError):
        raise SettingsError(
            f"{key}: the value {text} cannot be read; write lists as [0.8,1.2] and texts with brackets in quotes."
        ) from None


def _read_recipe(path: Path) -> Mapping[str, Any]:
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
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


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        path = f"{above}{key}"
        if path in Config.model_fields and (value is None or value == {}):
            continue  # `train:` with nothing below it
        if isinstance(value, Mapping) and value and above.count(".") < 2:  # an alias may lie within itself
            yield from _leaves(value, path + ".")
        else:
            yield path, value


# ---- sentences -------------------------------------------------------------------------------------------------------


def _unknown(path: str, known: Mapping[str, FieldInfo]) -> str:
    if path in Config.model_fields:
        example = next(k for k in known if k.startswith(f"{path}."))
        return f"{path} is a group of settings: write {path}.NAME=VALUE, such as {example}={show(known[example].default)}."
    near = _nearest(path, known)
    hint = f"Did you mean {' or '.join(near)}?" if near else "`sightline settings` lists them all."
    return f"There is no setting {path}. {hint}"


def _nearest(path: str, known: Mapping[str, FieldInfo]) -> list[str]:
    """At most three settings: of the same name, with words of it, spelt alike, or described with it, in this order."""
    room, _, name = path.lower().replace("-", "_").rpartition(".")
    names = {k: k.partition(".")[2] for k in known}
    words, alike = set(name.split("_")), difflib.get_close_matches(name, names.values(), n=1)
    described = re.compile(rf"\b{re.escape(name.replace('_', ' '))}\b")
    likenesses: tuple[Callable[[str], object], ...] = (
        lambda k: names[k] == name or path.startswith(f"{k}."),
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
    path = ".".join(error["loc"][:2])
    shown = _dump(given[path]).removesuffix("...\n").strip()
    return f"{path} must be {allowed(path)}, not {shown if len(shown) <= 80 else shown[:77] + '...'}."


def allowed(path: str) -> str:
    """The values that a setting may have, in words: "a whole number from 8 to 4096, or auto"."""
    room, _, name = path.partition(".")
    schema = _schema()
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
    if schema["type"] == "array":
        item = schema["items"] if "items" in schema else schema["prefixItems"][0]
        count = f"{schema['maxItems']} " if "maxItems" in schema else ""
        return f"a list of {count}{_words(item).removeprefix('a ').replace('number', 'numbers')}"
    kinds = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "a text"}
    return kinds.get(schema["type"], str(schema["type"])) + _range(schema)


def _range(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f" from {show(low)} to {show(high)}"
    limits = {"minimum": "of at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    said = [f"{words} {show(schema[limit])}" for limit, words in limits.items() if limit in schema]
    return f" {' and '.join(said)}" if said else ""


# ---- knowing what was read -------------------------------------------------------------------------------------------


class _Watched:
    """A view of settings that notes the dotted path of every leaf that is read. The slots keep it frozen."""

    __slots__ = ("_above", "_reads", "_settings")

    def __init__(self, settings: Settings, reads: set[str], above: str = "") -> None:
        self._settings, self._reads, self._above = settings, reads, above

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._settings, name)
        if isinstance(value, Settings):
            return _Watched(value, self._reads, f"{self._above}{name}.")
        if name in type(self._settings).model_fields:
            self._reads.add(self._above + name)
        return value

    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> _Watched:
        """A changed copy is watched too."""
        return _Watched(self._settings.model_copy(update=update), self._reads, self._above)


def watch(config: Config, reads: set[str]) -> Config:
    """A view of `config` that adds the dotted path of each setting to `reads` when code reads it."""
    return cast(Config, _Watched(config, reads))


def refuse_inert(config: Config, given: Iterable[str], reads: set[str]) -> None:
    """Raises SettingsError where a setting was given and no code read it: it would do nothing."""
    known, values = describe(), dict(_leaves(config.model_dump()))
    sentences = []
    for path in given:
        if path in reads:
            continue
        extra = cast(dict[str, Any], known[path].json_schema_extra)
        needs = [f"{need}={show(values[need])}" if need in values else need for need in extra["needs"]]
        why = " and ".join(needs) or "these settings"
        sentences.append(f"{path} has no effect with {why}.")
    if sentences:
        raise SettingsError(" ".join(sentences) + " Leave it out, or change what it depends on.")


# ---- writing ---------------------------------------------------------------------------------------------------------


def show(value: Any) -> str:
    """A value as it is written after `KEY=`."""
    return value if isinstance(value, str) else _dump(value).removesuffix("...\n").strip().replace(", ", ",")


def to_yaml(config: Config, only: Iterable[str] | None = None) -> str:
    """The settings as YAML; `only` keeps the named ones (those that a run read), so that the file repeats the run."""
    keep = set(describe()) if only is None else set(only)
    rooms: dict[str, dict[str, Any]] = {}
    for path, value in _leaves(config.model_dump()):
        if path in keep:
            room, _, name = path.partition(".")
            rooms.setdefault(room, {})[name] = value
    return _dump(rooms) if rooms else ""


def _dump(value: Any) -> str:
    try:
        return yaml.dump(value, Dumper=_Dumper, default_flow_style=False, sort_keys=False, allow_unicode=True, width=2**31)
    except yaml.YAMLError:  # something from Python that no YAML file could hold
        return str(value)


def to_markdown() -> str:
    """The table of all settings, for the documentation."""
    rows = ["# Settings", "", "Made by `python -m sightline.config`. Set one with `KEY=VALUE` or in a YAML recipe.", ""]
    rows += ["| setting | default | may be | what it is |", "|---|---|---|---|"]
    for path, info in describe().items():
        rows.append(f"| `{path}` | `{show(info.default)}` | {allowed(path)} | {info.description} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(to_markdown(), end="")
