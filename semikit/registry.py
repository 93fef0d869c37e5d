"""A name is a module name: found by listing a folder (and entry points), imported on use.

A module that can be found by name binds what it offers to `plugin`. Listing imports nothing, so that
`semikit list` and a mistyped name answer at once.
"""

from __future__ import annotations

import ast
import importlib
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, final

from semikit.errors import unknown

_HERE = Path(__file__).parent


@final
class Registry:
    """The things of one kind that can be named in a configuration.

    `kind` is the word for messages, `package` the folder below `semikit` that is listed (dots allowed). Other
    distributions add to it with the entry point group `semikit.<package>`.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._registered: dict[str, Any] = {}

    def names(self) -> list[str]:
        """All known names, sorted; imports none of them."""
        files = (path.stem for path in (_HERE / self.package.replace(".", "/")).glob("*.py"))
        found = {stem for stem in files if not stem.startswith("_")}
        return sorted(found | set(self._registered) | set(self._entry_points()))

    def check(self, name: str) -> str:
        """The name itself if it is known.

        Raises:
            UnknownNameError: with the nearest known names.
        """
        if name not in self.names():
            raise unknown(self.kind, name, self.names())
        return name

    def get(self, name: str) -> Any:
        """What `name` offers; its module is imported now, and an error inside it is not hidden."""
        self.check(name)
        if name in self._registered:
            return self._registered[name]
        points = self._entry_points()
        if name in points:
            return points[name].load()
        return importlib.import_module(f"semikit.{self.package}.{name}").plugin

    def register(self, name: str, plugin: Any) -> None:
        """Add a name by hand (tests, notebooks).

        Raises:
            ValueError: when the name is taken.
        """
        if name in self.names():
            raise ValueError(f"{self.kind} {name!r} exists already; choose another name")
        self._registered[name] = plugin

    def unregister(self, name: str) -> None:
        """Take back what `register` added."""
        del self._registered[name]

    def summary(self, name: str) -> str:
        """First line of the module's docstring, read without importing it."""
        return self._docstring(name).split("\n")[0]

    def facts(self, name: str) -> dict[str, str]:
        """Lines `Key: value` of the module's docstring, read without importing it."""
        lines = (line.partition(": ") for line in self._docstring(name).split("\n")[1:])
        return {key: value for key, found, value in lines if found and key.isalpha()}

    def _docstring(self, name: str) -> str:
        path = _HERE / self.package.replace(".", "/") / f"{name}.py"
        text = ast.get_docstring(ast.parse(path.read_text())) if path.exists() else self.get(name).__doc__
        return (text or "").strip()

    def _entry_points(self) -> dict[str, Any]:
        return _points(f"semikit.{self.package}")


@lru_cache
def _points(group: str) -> dict[str, Any]:
    """Entry points of a group; what is installed does not change while a command runs, and searching takes 6 ms."""
    return {point.name: point for point in entry_points(group=group)}


METHODS = Registry("method", "methods")
TASKS = Registry("task", "tasks")
DECODERS = Registry("decoder", "models.decoders")
