"""YAML as users write it: plain values, each key once, no more than a description can need, and `${NAME}` in texts.

A few lines of aliases can stand for more values than a memory holds, so values are counted while nodes are composed,
when an alias is still the node it stands for.
"""

from __future__ import annotations

import os
import re
from typing import Any, final

import yaml

from semikit.errors import ConfigError

MOST_BYTES = 4 << 20
MOST_VALUES = 200_000
"""Of a file, aliases counted as often as they are used."""
DEEPEST = 64
"""Levels of mappings and lists inside one another."""

_WRONG = (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, OverflowError)
"""What the reader raises: of `2020-99-99`, `!!bool x`, `!!timestamp 3` it is no YAMLError."""
_EXPLAINED = (yaml.YAMLError, ValueError)
"""Of these, the ones whose own message helps the user."""
_MERGE = "<<"
_BARE = re.compile(r"\{(stem|name)\}|scanning an alias")
"""Of messages about a pattern of files that stands without quotes."""
_QUOTED = '. Put text with {, } or * in quotes: masks: "labels/{stem}_mask.png"'
_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def in_one_line(value: Any) -> str:
    """Plain values as YAML in one line, keys in their order."""
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"), sort_keys=False)
    return text.removesuffix("...\n").strip()


def parse(content: bytes | str, where: str) -> Any:
    """The values of a YAML text; `where` begins messages.

    Raises:
        ConfigError: no YAML or no UTF-8, a tag, a key that stands twice, larger or deeper than is read.
    """
    if len(content) > MOST_BYTES:
        raise ConfigError(f"{where} has {len(content)} bytes; a description of up to {MOST_BYTES} is read.")
    try:
        return _Loader(content.decode("utf-8-sig") if isinstance(content, bytes) else content).get_single_data()
    except _Refused as refused:
        raise ConfigError(f"{where}, {refused}.") from None
    except _WRONG as error:
        known = isinstance(error, _EXPLAINED)
        reason = " ".join(str(error).split()) if known else "a value does not fit the tag before it"
        quoted = _QUOTED if _BARE.search(str(error)) else ""
        raise ConfigError(f"{where} is not valid YAML: {reason}{quoted}") from None


def expand(value: Any, where: str) -> Any:
    """Plain values with `${NAME}` in every text replaced by the environment's value; `where` begins messages.

    Raises:
        ConfigError: the environment does not have the variable, or it is empty.
    """
    if isinstance(value, dict):
        return {key: expand(item, where) for key, item in value.items()}
    if isinstance(value, list):
        return [expand(item, where) for item in value]
    return _VARIABLE.sub(lambda match: _variable(match[1], where), value) if isinstance(value, str) else value


def _variable(name: str, where: str) -> str:
    if not name.isidentifier():
        raise ConfigError(f"{where}: ${{{name}}} names no environment variable; write it as ${{NAME}}.")
    value = os.environ.get(name)
    if not value:
        raise ConfigError(
            f"{where} uses ${{{name}}}, but the environment variable {name} is not set, or empty. Set it "
            f"(export {name}=…) or write its value in place of it."
        )
    return value


class _Refused(Exception):
    """What is YAML, but not read; with its line."""

    def __init__(self, node: Any, reason: str) -> None:
        super().__init__(f"line {node.start_mark.line + 1}: {reason}")


@final
class _Loader(yaml.SafeLoader):
    """Refuses keys that stand twice, and more values or deeper levels than the limits above."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._open: list[int] = []
        """Values so far in each node that is being composed, outermost first."""
        self._sizes: dict[int, int] = {}
        """Identity of a composed node -> its values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """As the parent class does, counting."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if len(self._open) >= DEEPEST and isinstance(event, yaml.CollectionStartEvent):
            raise _Refused(event, f"mappings and lists lie more than {DEEPEST} deep in one another")
        self._open.append(1)
        node = super().compose_node(parent, index)
        size = self._open.pop()
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._sizes:
                raise _Refused(event, f"*{event.anchor} stands inside of what it stands for")
            size = self._sizes[id(node)]
        self._sizes[id(node)] = size
        if self._open:
            size = self._open[-1] = self._open[-1] + size
        if size > MOST_VALUES:
            raise _Refused(event, f"it holds more than {MOST_VALUES} values, aliases (*name) counted in full")
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        """As the parent class does, each key once; what is merged into a mapping (<<) may have the same keys."""
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value == _MERGE:
                continue
            if key.value in lines:
                reason = f"the key {key.value!r} stands in line {lines[key.value]} already; keep one of them"
                raise _Refused(key, reason)
            lines[key.value] = key.start_mark.line + 1
        return node

    def compose_scalar_node(self, anchor: Any) -> Any:
        """As the parent class does; a path with NUL would be no path."""
        node = super().compose_scalar_node(anchor)
        if "\0" in node.value:
            raise _Refused(node, "a text holds the character NUL")
        return node
