"""`~` in the paths that people give."""

from __future__ import annotations

from pathlib import Path

from semikit.errors import DataError


def at_home(path: Path) -> Path:
    """The path with `~` and `~user` replaced.

    Raises:
        DataError: no such user.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        raise DataError(f"{path}: {path.parts[0]} is no user's home folder here. Write the whole path.") from None
