"""Paths that users give, room on disks, and files that are written whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote
from tempfile import TemporaryFile
from typing import Any

from safetensors import SafetensorError

from semikit.errors import DataError, FileFault, RunError


def at_home(path: Path) -> Path:
    """The path with `~` and `~user` replaced.

    Raises:
        DataError: no such user.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        raise DataError(f"{path}: {path.parts[0]} is no user's home folder here. Write the whole path.") from None


def shell_word(part: object) -> str:
    """A path or a word of a command that is shown, quoted where a shell would split or change it."""
    return quote(str(part))


def no_such_file(path: Path) -> DataError:
    """The error for a file that is not there or a folder, with the YAML files that are."""
    folder = path if path.is_dir() else path.parent
    near = sorted(item.name for pattern in ("*.yaml", "*.yml") for item in folder.glob(pattern))
    hint = f" YAML files there: {', '.join(near[:10])}." if near else ""
    if path.is_dir():
        return DataError(f"{path} is a folder, and here a YAML file is read that describes the data.{hint}")
    return DataError(f"no such file: {path}.{hint}")


def file_digest(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def utf8_text(path: Path) -> str:
    """What a text file holds.

    Raises:
        DataError: another encoding, or no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not a text file in UTF-8. Save it as UTF-8.") from None


def text_lines(path: Path) -> list[str]:
    """The lines of a text file that hold something, without blanks at their ends.

    Raises:
        DataError: as `utf8_text`.
    """
    return [stripped for line in utf8_text(path).splitlines() if (stripped := line.strip())]


def need_space(folder: Path, needed: int) -> None:
    """Check that `needed` bytes fit where `folder` lies or will lie.

    Raises:
        RunError: with both numbers, when they do not.
    """
    free = shutil.disk_usage(_existing(folder)).free
    if needed > free:
        sizes = f"{_gigabytes(needed)} and {_gigabytes(free)}"
        raise RunError(f"{folder} needs {sizes} are free there. Free space, or choose another disk.")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(above for above in (folder.absolute(), *folder.absolute().parents) if above.is_dir())


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e7 else f"{count} bytes"


def make_folder(folder: Path) -> None:
    """Make a folder for what is written, where there is none.

    Raises:
        DataError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(f"cannot write to {folder}: {error.strerror}. Choose another folder with -o.") from error


_LONGEST, _SHORT = 255, 200
"""Bytes of a file name that disks take, and that leave room for an addition."""
RESUME = "Free space there or make it writable, then go on with --resume."
OUTPUT = "Free space there or make it writable, or choose another -o."
"""What to do when a file of a run, or one that was asked for, cannot be written."""


def write_atomically(
    path: Path,
    write: Callable[[Path], None],
    keep: Path | None = None,
    remedy: str = RESUME,
    durable: bool = True,
) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it.

    `keep` is the name the former file gets; without it the former file is replaced. A `durable` file is synced to the
    disk before it is renamed, so that it outlives a power failure.

    Raises:
        RunError: when the disk is full or the folder cannot be written; `path` is untouched then, and nothing is left.
    """
    temporary = path.with_name(f".{short_name(path)}.{os.getpid()}.tmp")
    try:
        write(temporary)
        if durable:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        if keep is not None and path.exists():
            path.replace(keep)
        temporary.replace(path)
        if durable:
            _sync_folder(path.parent)
    except (OSError, RuntimeError, SafetensorError) as error:
        with suppress(OSError):  # of a disk that became read-only nothing can be taken away
            temporary.unlink(missing_ok=True)
        left = shutil.disk_usage(_existing(path.parent)).free / 2**20  # torch does not say that a disk is full
        raise RunError(f"could not write {path}: {error} ({left:.1f} MiB free on its disk). {remedy}") from error


def short_name(path: Path) -> str:
    """The name of a file, or of a long one a checksum: with something added it is still one that disks take."""
    name = os.fsencode(path.name)
    return path.name if len(name) <= _SHORT else f"{zlib.crc32(name):08x}"


def refuse_long_names(paths: Iterable[Path], file: Path) -> None:
    """Raise where a result's name is longer than disks take.

    Raises:
        FileFault: names the file that the results come of.
    """
    for path in paths:
        if (length := len(os.fsencode(path.name))) > _LONGEST:
            detail = f"of {length} bytes, at most {_LONGEST}: {path.name}"
            raise FileFault("the name of a result would be too long", file, detail, "Rename the image.")


def write_text(path: Path, text: str, remedy: str = OUTPUT) -> None:
    """Write a text file, UTF-8, as `write_atomically` does."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomically(path, write, remedy=remedy)


def write_table(path: Path, rows: Iterable[Sequence[object]], ending: str = "\r\n", *, durable: bool = False) -> None:
    """Write a CSV file that was asked for, UTF-8 but for names of files that are none, as `write_atomically` does."""

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            csv.writer(file, lineterminator=ending).writerows(rows)

    write_atomically(path, write, remedy=OUTPUT, durable=durable)


def write_json(path: Path, values: Mapping[str, Any], remedy: str = OUTPUT) -> None:
    """Write plain values as indented JSON, as `write_atomically` does."""
    write_text(path, json_text(values), remedy)


def json_text(values: Mapping[str, Any]) -> str:
    """Plain values as indented JSON; numbers that are not finite, which JSON does not have, are null."""
    return json.dumps(_finite(values), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def remove_unfinished(folder: Path) -> None:
    """Take away the temporary files that killed processes left in a run folder; nobody may be writing there."""
    for place in (folder, *(path for path in folder.glob("*/") if path.is_dir())):
        for path in place.glob(".*.tmp"):
            path.unlink()


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
