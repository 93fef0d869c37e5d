"""Numbers for scripts: a JSON file that is known to be writable before anything long begins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semikit.errors import InputError


def check_json(path: Path | None) -> None:
    """Refuse a `--json` that cannot be written.

    Raises:
        InputError: there is no such folder, or the path is a folder.
    """
    if path is None:
        return
    if path.is_dir():
        raise InputError(f"cannot write to {path}: it is a folder. Choose another --json.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"cannot write to {path}: there is no such folder. Choose another --json.")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Plain values as indented JSON.

    Raises:
        InputError: when the path cannot be written to (a full disk stays an OSError).
    """
    try:
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise InputError(f"cannot write to {path}: {error.strerror}. Choose another place.") from error
