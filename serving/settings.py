"""A server's settings: its preset, and over that what `--settings FILE` says; every name and value is checked.

The file is JSON or YAML, one entry a server (presets/servers/<server>.yaml shows what each understands):

    {"torchserve": {"workers": 2, "environment": {"OMP_WAIT_POLICY": "PASSIVE"}}, "tfserving-embedded": {"batching": null}}

A value replaces the preset's. A table (flags, environment, batching, ...) is merged into it, name by name, and null takes a
name out of it. A server says what it understands with `schema`, a mapping of setting names to the kinds below.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from faceoff.errors import UsageError

Settings = dict[str, Any]


class Kind(Protocol):
    """What a setting may be."""

    def expected(self, value: Any) -> str | None:
        """None where `value` will do, else what is expected instead."""
        ...


@dataclass(frozen=True, kw_only=True)
class Whole:
    """An integer of at least `least`; null too where `optional`."""

    least: int = 1
    optional: bool = False

    def expected(self, value: Any) -> str | None:
        """See Kind."""
        if (value is None and self.optional) or (type(value) is int and value >= self.least):
            return None
        return f"an integer of at least {self.least}" + (" or null" if self.optional else "")


@dataclass(frozen=True)
class Choice:
    """One of some words; null too where `optional`."""

    words: tuple[str, ...]
    optional: bool = False

    def expected(self, value: Any) -> str | None:
        """See Kind."""
        known = [*self.words, *([None] if self.optional else [])]
        return None if value in known else " or ".join("null" if word is None else word for word in known)


@dataclass(frozen=True)
class Texts:
    """A list of texts."""

    def expected(self, value: Any) -> str | None:
        """See Kind."""
        fits = isinstance(value, list) and all(isinstance(text, str) for text in value)
        return None if fits else "a list of texts"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Names to texts, numbers or truth values. `names`: just these; `reserved`: what deploy itself sets."""

    names: Collection[str] | None = None
    reserved: Collection[str] = ()

    def expected(self, value: Any) -> str | None:
        """See Kind."""
        if not isinstance(value, dict):
            return "a table of names and values"
        for name, item in value.items():
            if name in self.reserved:
                return f"no {name!r} in it (deploy itself sets {', '.join(sorted(self.reserved))})"
            if self.names is not None and name not in self.names:
                return f"no {name!r} in it, only {', '.join(sorted(self.names))}"
            if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*", name):
                return f"names of letters, digits and underscores in it, not {name!r}"
            if not isinstance(item, str | int | float) or "\n" in str(item):
                return f"a text of one line, a number, true or false for {name!r}"
        return None


def read(path: Path) -> dict[str, Settings]:
    """The file's settings by server. Raises UsageError, one line, for a file that is not such a table."""
    import yaml

    from faceoff import strict_yaml

    try:
        data = strict_yaml.load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise UsageError(f"SETTINGS={path}: cannot be read ({reason}); expected JSON or YAML") from error
    fits = isinstance(data, dict) and all(isinstance(n, str) and isinstance(about, dict) for n, about in data.items())
    if not fits:
        raise UsageError(f"SETTINGS={path}: expected a table of servers, each with a table of its settings")
    return dict(data)


def merged(server: str, preset: Settings, overrides: Mapping[str, Any], schema: Mapping[str, Kind]) -> Settings:
    """The preset with the overrides over it. Raises UsageError for a name or value the server does not understand."""
    found = dict(preset)
    for name, value in overrides.items():
        if name not in schema:
            raise UsageError(f"settings of {server}: unknown name {name!r}; expected one of {', '.join(sorted(schema))}")
        found[name] = value
        if isinstance(value, dict):
            before = preset.get(name) or {}
            found[name] = {key: item for key, item in {**before, **value}.items() if item is not None}
    for name, value in found.items():
        if wanted := schema[name].expected(value):
            raise UsageError(f"settings of {server}: found {name}={value!r}, expected {wanted}")
    return found
