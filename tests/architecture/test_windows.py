"""What Windows has not is imported by no module when it is imported."""

from __future__ import annotations

import subprocess
import sys

IMPORT_ALL = """
import importlib, os, pkgutil, sys
import semikit, torch
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("register_at_fork", "sched_getaffinity", "fork", "pread", "pwrite", "getuid"):
    delattr(os, name)
for module in pkgutil.walk_packages(semikit.__path__, "semikit."):
    if module.name != "semikit.__main__":
        importlib.import_module(module.name)
"""


def test_every_module_imports_without_what_only_posix_has() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
