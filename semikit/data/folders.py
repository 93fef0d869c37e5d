"""Folders of images: which files are in them, and what each is called."""

from __future__ import annotations

import os
import re
from pathlib import Path

from semikit.data.formats.images import PHOTOS, RASTERS
from semikit.errors import DataError

TYPES = ", ".join(sorted(PHOTOS | RASTERS))
"""Suffixes of the images that can be read, for messages."""

_SPACE = 0x20


def image_files(folder: Path, key: str, without: Path | None = None, empty: bool = False) -> dict[str, Path]:
    """Name (path below the folder, without suffix) -> file of all images below a folder, sorted by name.

    Hidden files and folders and the folder `without` are left out; links to folders are followed, but not in circles.
    `key` stands in errors. A million files take some seconds.

    Raises:
        DataError: missing folder, two files of one name, no image unless that is allowed (`empty`).
    """
    if not folder.is_dir():
        raise DataError(f"{key}: {'not a folder' if folder.exists() else 'no such folder'}: {folder}.{nearby(folder)}")
    found: dict[str, Path] = {}
    for inner in sorted(_walk(folder, None if without == folder else without)):
        path = folder / inner
        refuse_odd_name(path, key)
        name = inner.rpartition(".")[0]
        if name in found:
            raise DataError(f"{key}: two files of one name: {found[name]} and {inner}. Remove or rename one.")
        found[name] = path
    if not (found or empty):
        raise DataError(f"{key}: no image in {folder}. Known types: {TYPES}.")
    return dict(sorted(found.items()))


def matching_files(place: Path, key: str) -> dict[str, Path]:
    """Name -> file of a folder, or of a pattern with a star where the name stands.

    Raises:
        DataError: nothing found, or a pattern with several stars.
    """
    if "*" not in str(place):
        return image_files(place, key)
    if str(place).count("*") > 1:
        raise DataError(f"{key}: {place} has several stars; one stands where the pair's name is.")
    parts = place.parts
    first = next(k for k, part in enumerate(parts) if "*" in part)
    base, inner = Path(*parts[:first]), "/".join(parts[first:])
    name = re.compile("([^/]+)".join(map(re.escape, inner.split("*"))))
    found: dict[str, Path] = {}
    for path in sorted(base.glob(inner)):
        match = name.fullmatch(path.relative_to(base).as_posix())
        if match is not None and path.suffix.lower() in PHOTOS | RASTERS:
            found[match[1]] = path
    if not found:
        raise DataError(f"{key}: no image fits {place}. Known types: {TYPES}.")
    return found


def refuse_odd_name(path: Path, key: str) -> None:
    """Raise where a file's name cannot stand in a list with one name a line.

    Raises:
        DataError: a line break or another control character, or bytes that are no text.
    """
    text = str(path)
    if not text.isprintable() and any(ord(c) < _SPACE or 0xD800 <= ord(c) < 0xE000 for c in text):
        raise DataError(
            f"{key}: the name {text!a} has a line break, another control character or bytes that are no UTF-8 "
            "text, and could not stand in a list of names. Rename it."
        )


def nearby(folder: Path) -> str:
    """What the nearest folder that exists holds."""
    parent = next((above for above in folder.parents if above.is_dir()), None)
    if parent is None:
        return ""
    inner = sorted(item.name for item in parent.iterdir() if item.is_dir() and not item.name.startswith("."))
    return f" {parent} has the folders: {', '.join(inner[:10]) or 'none'}."


def _walk(folder: Path, without: Path | None) -> list[str]:
    """Image files below a folder, as paths below it."""
    found: list[str] = []
    for place, inner, files in os.walk(folder, followlinks=True):
        inner[:] = [name for name in inner if not name.startswith(".") and not _circle(place, name)]
        if without is not None:
            inner[:] = [name for name in inner if Path(place, name) != without]
        below = os.path.relpath(place, folder)
        prefix = "" if below == "." else f"{Path(below).as_posix()}/"
        images = (name for name in files if not name.startswith(".") and Path(name).suffix.lower() in PHOTOS | RASTERS)
        found += [f"{prefix}{name}" for name in images]
    return found


def _circle(place: str, name: str) -> bool:
    """Whether a folder is a link to one it lies in: to follow it would never end."""
    path = Path(place, name)
    return path.is_symlink() and Path(os.path.realpath(place)).is_relative_to(os.path.realpath(path))
