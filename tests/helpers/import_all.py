"""Imports the package again, without what only POSIX has: a program, for a process that has imported all it needs."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys

ELSEWHERE = ("register_at_fork", "sched_getaffinity", "fork", "pread", "pwrite", "getuid")


def main() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "semikit"]:
        del sys.modules[name]
    for name in ("fcntl", "resource", "pwd", "grp", "termios"):
        sys.modules[name] = None  # type: ignore[assignment]
    for name in ELSEWHERE:
        delattr(os, name)
    package = importlib.import_module("semikit")
    for module in pkgutil.walk_packages(package.__path__, "semikit."):
        if module.name != "semikit.__main__":
            importlib.import_module(module.name)


if __name__ == "__main__":
    main()
