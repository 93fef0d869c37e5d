"""Room on a disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from semikit.errors import RunError


def need_space(folder: Path, needed: int) -> None:
    """Check that `needed` bytes fit where `folder` lies or will lie.

    Raises:
        RunError: with both numbers, when they do not.
    """
    place = next(above for above in (folder.absolute(), *folder.absolute().parents) if above.is_dir())
    free = shutil.disk_usage(place).free
    if needed > free:
        told = f"{_gigabytes(needed)} and {_gigabytes(free)}"
        raise RunError(f"{folder} needs {told} are free there. Free space, or choose another disk.")


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e7 else f"{count} bytes"
