"""YAML as people expect it: `1e-3` is a number, `no` is a text, `010` is ten; a key written twice is an error.

    tree = load(text)                     raises yaml.YAMLError, ValueError or SettingsError
    value = parse_value("[0.8,1.2]")      the right side of a KEY=VALUE word
    text = dump(tree)                     what `load` reads back as it was

PyYAML reads YAML 1.1; these are YAML 1.2's rules for plain words. It gives up YAML's dates, sets and binary values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from sightline.errors import SettingsError

_RESOLVERS: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # by first character, as PyYAML wants it


class Loader(yaml.SafeLoader):
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


class Dumper(yaml.SafeDumper):
    """Writes what `Loader` reads: quotes exactly those texts that it would take for something else."""

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
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
Dumper.yaml_implicit_resolvers = Loader.yaml_implicit_resolvers
Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_whole_number)
Dumper.add_representer(tuple, Dumper.represent_brackets)
Dumper.add_representer(list, Dumper.represent_brackets)
Dumper.add_representer(str, Dumper.represent_text)


def load(text: str) -> Any:
    """The value that a YAML text holds."""
    return yaml.load(text, Loader=Loader)


def parse_value(text: str, key: str = "value") -> Any:
    """The value of a `KEY=VALUE` word: a number, true, false, null, a [list], a "quoted" text, or the text as it is.

    Only what begins with a bracket or a quote is read as YAML, so that a path may hold `#` and `: `.
    """
    text = text.strip()
    try:
        if text.startswith(("[", "{", '"', "'")):
            return yaml.load(text, Loader=Loader)
        loader = Loader("")
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        return loader.construct_object(yaml.ScalarNode(tag, text))
    except (yaml.YAMLError, ValueError, RecursionError):
        raise SettingsError(
            f"{key}: the value {text} cannot be read; write lists as [0.8,1.2] and texts with brackets in quotes."
        ) from None


def dump(value: Any) -> str:
    try:
        return yaml.dump(value, Dumper=Dumper, default_flow_style=False, sort_keys=False, allow_unicode=True, width=2**31)
    except yaml.YAMLError:  # something from Python that no YAML file could hold
        return str(value)
