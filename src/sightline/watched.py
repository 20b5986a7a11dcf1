"""Settings that know which of them were read, so that one that was given and does nothing is an error, not a shrug.

reads: set[str] = set()
config = watch(config, reads)       # looks like the Config it wraps; notes each setting that code reads
...prepare the run...
refuse_inert(config, given, reads)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from sightline.config import Config, describe, leaves, show
from sightline.errors import SettingsError
from sightline.settings import Settings


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
    known, values = describe(), dict(leaves(config.model_dump()))
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
