"""YAML as people write it: plain values, each key once, and no more than a description can need.

Nothing is ever built but mappings, lists, texts, numbers and dates. What a text would grow to is counted before it is:
a few lines of aliases can stand for more values than a memory holds, and deep nesting ends the process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, final

import yaml

from semikit.errors import ConfigError

MOST_BYTES = 4 << 20
MOST_VALUES = 200_000
"""Of a file, aliases counted as often as they are used."""
DEEPEST = 64
"""Levels of mappings and lists inside one another."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WRONG = (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What the reader raises: of `2020-99-99`, `!!bool x`, `!!timestamp 3` it is no YAMLError."""
_SPOKEN = (yaml.YAMLError, ValueError)
"""Of these, the ones whose words tell a person something."""
_MERGE = "<<"


def parse(content: bytes | str, where: str) -> Any:
    """The values of a YAML text; `where` begins messages.

    Raises:
        ConfigError: no YAML or no UTF-8, a tag, a key that stands twice, larger or deeper than is read.
    """
    if len(content) > MOST_BYTES:
        raise ConfigError(f"{where} has {len(content)} bytes; a description of up to {MOST_BYTES} is read.")
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        _Look(where).through(text)
        return yaml.load(text, Loader=_LOADER)
    except ConfigError:
        raise
    except _WRONG as error:
        told = " ".join(str(error).split()) if isinstance(error, _SPOKEN) else "a value does not fit the tag before it"
        raise ConfigError(f"{where} is not valid YAML: {told}") from None


@final
@dataclass(slots=True)
class _Level:
    """A mapping or list that is open."""

    anchor: str | None
    mapping: bool
    size: int = 1
    keys: dict[str, int] = field(default_factory=dict)
    """Key -> line, of a mapping."""
    children: int = 0


@final
class _Look:
    """Passes over a text without building anything from it."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._open: list[_Level] = []
        self._sizes: dict[str, int] = {}

    def through(self, text: str) -> None:
        """Raises ConfigError where something is refused."""
        for event in yaml.parse(text, Loader=_LOADER):
            line = event.start_mark.line + 1 if event.start_mark else 0
            if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                self._enter(event, line)
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                level = self._open.pop()
                self._add(level.anchor, level.size, line)
            elif isinstance(event, yaml.ScalarEvent):
                self._look(event, line)
                self._add(event.anchor, 1, line)
            elif isinstance(event, yaml.AliasEvent):
                self._use(str(event.anchor), line)

    def _enter(self, event: Any, line: int) -> None:
        self._child(None, line)
        if len(self._open) >= DEEPEST:
            raise self._refused(line, f"mappings and lists lie more than {DEEPEST} deep in one another")
        self._open.append(_Level(event.anchor, isinstance(event, yaml.MappingStartEvent)))

    def _look(self, event: Any, line: int) -> None:
        self._child(event.value, line)
        if "\0" in event.value:
            raise self._refused(line, "a text holds the character NUL")

    def _child(self, text: str | None, line: int) -> None:
        """Count what begins in the level that is open; of a mapping every second one is a key."""
        if not self._open:
            return
        level = self._open[-1]
        is_key = level.mapping and level.children % 2 == 0
        level.children += 1
        if not is_key or text is None or text == _MERGE:
            return
        if text in level.keys:
            raise self._refused(line, f"the key {text!r} stands in line {level.keys[text]} already; keep one of them")
        level.keys[text] = line

    def _use(self, anchor: str, line: int) -> None:
        self._child(None, line)
        if anchor in {level.anchor for level in self._open}:
            raise self._refused(line, f"*{anchor} stands inside of what it stands for")
        self._add(None, self._sizes.get(anchor, 1), line)

    def _add(self, anchor: str | None, size: int, line: int) -> None:
        if anchor is not None:
            self._sizes[anchor] = size
        if self._open:
            self._open[-1].size += size
            size = self._open[-1].size
        if size > MOST_VALUES:
            raise self._refused(line, f"it holds more than {MOST_VALUES} values, aliases (*name) counted in full")

    def _refused(self, line: int, reason: str) -> ConfigError:
        return ConfigError(f"{self._where}, line {line}: {reason}.")
