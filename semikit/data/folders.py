"""Folders of images: which files are in them, and what each is called."""

from __future__ import annotations

import glob
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
    for inner in sorted(_walk(folder, without)):
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
    pattern = "*".join(map(glob.escape, inner.split("*")))
    name = re.compile("([^/]+)".join(map(re.escape, inner.split("*"))))
    found: dict[str, Path] = {}
    for path in sorted(base.glob(pattern)):
        match = name.fullmatch(path.relative_to(base).as_posix())
        if match is not None and match[1][0] != "." and path.suffix.lower() in PHOTOS | RASTERS:
            refuse_odd_name(path, key)
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
    """Image files below a folder, as paths below it.

    Each real folder is read once, under the first of its names: links that lead in a circle end there, and no image
    has two names.

    Raises:
        DataError: a folder that may not be listed.
    """
    found: list[str] = []
    read = set() if without is None else {os.path.realpath(without)}
    waiting = [folder]
    while waiting:  # links come after all folders: an image has the name of its own place
        for place, inner, files in os.walk(waiting.pop(0), onerror=_refuse):
            real = os.path.realpath(place)
            if real in read:
                inner.clear()
                continue
            read.add(real)
            inner[:] = sorted(name for name in inner if name[0] != ".")
            waiting += [path for path in (Path(place, name) for name in inner) if path.is_symlink()]
            below = Path(os.path.relpath(place, folder)).as_posix()
            prefix = "" if below == "." else f"{below}/"
            images = (name for name in files if name[0] != "." and Path(name).suffix.lower() in PHOTOS | RASTERS)
            found += [f"{prefix}{name}" for name in images]
    return found


def _refuse(error: OSError) -> None:
    raise DataError(f"the folder {error.filename} cannot be read: {error.strerror}.") from None
