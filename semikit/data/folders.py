"""Folders of images: which files are in them, and what each is called."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from semikit.data.formats.images import PHOTOS, RASTERS
from semikit.errors import DataError, FileFault, some

_IMAGES = tuple(sorted(PHOTOS | RASTERS))
TYPES = ", ".join(_IMAGES)
"""Suffixes of the images that can be read, for messages."""

_SPACE = 0x20


@final
@dataclass(frozen=True, slots=True)
class Listed:
    """What lies below a folder or fits a pattern: images, name -> file, sorted by name; the other files; and what is no
    regular file (a pipe, a device, a socket), which would be waited for without end. Hidden files are none of them.
    """

    files: dict[str, Path]
    others: tuple[Path, ...] = ()
    special: tuple[Path, ...] = ()
    flat: bool = False
    """Whether names are those of files alone, without the subfolders that a folder's names begin with."""
    refused: tuple[FileFault, ...] = ()
    """Of images to predict those whose name cannot be taken."""
    single: bool = False
    """Whether it is the one image that was named."""
    near: tuple[Path, ...] = ()
    """Images that would fit the pattern but for upper and lower case or the suffix."""


def image_files(folder: Path, key: str, without: Path | None = None, empty: bool = False) -> dict[str, Path]:
    """The images that `list_images` finds, name -> file, sorted by name."""
    return list_images(folder, key, without, empty).files


def list_images(
    folder: Path, key: str, without: Path | None = None, empty: bool = False, taken: Collection[str] = ()
) -> Listed:
    """Images and other files below a folder, in one walk; an image's name is its path below it, without suffix.

    Hidden files and folders, the folder `without` and the files `taken` (real paths) are left out; links to folders
    are followed, but not in circles. `key` stands in errors. A million files take some seconds.

    Raises:
        DataError: missing folder, two files of one name, no image unless that is allowed (`empty`).
    """
    if not folder.is_dir():
        raise DataError(f"{key}: {'not a folder' if folder.exists() else 'no such folder'}: {folder}.{nearby(folder)}")
    inside = walk(folder, without, taken)
    found = named(folder, {inner: inner.rpartition(".")[0] for inner in inside.images}, key)
    if not (found or empty):
        held = f" It holds {some(sorted(inside.others))}." if inside.others else ""
        raise DataError(f"{key}: no image in {folder}. Known types: {TYPES}.{held}")
    return _listed(folder, inside, found)


def list_distinct(folder: Path, key: str, *, distinct: bool = True) -> Listed:
    """As `list_images`, of images to predict: those whose name cannot be taken are `refused`, and the others listed;
    where images need not be `distinct`, each has its path as its name.

    Raises:
        DataError: no image that can be taken.
    """
    inside = walk(folder)
    refused: list[FileFault] = []
    if distinct:
        found = named(folder, {inner: inner.rpartition(".")[0] for inner in inside.images}, key, refused)
    else:
        found = {str(folder / inner): folder / inner for inner in sorted(inside.images)}
    if not found:
        list_images(folder, key)  # which says why
    return replace(_listed(folder, inside, found), refused=tuple(refused))


def _listed(folder: Path, inside: Inside, found: dict[str, Path]) -> Listed:
    others, special = (tuple(folder / inner for inner in sorted(part)) for part in (inside.others, inside.special))
    return Listed(found, others, special)


def named(folder: Path, names: Mapping[str, str], key: str, refused: list[FileFault] | None = None) -> dict[str, Path]:
    """Name -> file, sorted by name, of the paths below a folder and their names.

    Raises:
        DataError: two files of one name, a name that cannot stand in a list; where `refused` is given, they are added
            to it, and the first of several files has the name.
    """
    found: dict[str, Path] = {}
    for inner, name in sorted(names.items()):
        path = folder / inner
        try:
            refuse_odd_name(path)
            if name in found:
                raise _twins(folder / inner, found[name], _any(key, deep="/" in name), folder, key)
        except FileFault as fault:
            if refused is None:
                raise DataError(f"{key}: {fault}") from None
            refused.append(fault)
        else:
            found[name] = path
    return dict(sorted(found.items()))


def _twins(path: Path, first: Path, place: str, folder: Path, key: str) -> FileFault:
    mask = ", or" if key.startswith("SOURCE") else "; where one is the mask of the other,"
    remedy = f'Remove or rename one{mask} say which files are meant by a pattern: "{folder}/{place}{first.suffix}".'
    return FileFault("two files of one name", path, f"the other is {first}", remedy)


def _any(key: str, *, deep: bool) -> str:
    """What stands for any name in a pattern: of data, or of the files to predict."""
    if key.startswith("SOURCE"):
        return "**/*" if deep else "*"
    return "{name}" if deep else "{stem}"


def image_folders(folder: Path) -> list[Path]:
    """The folders in a folder that hold an image at some depth, by name."""
    inner = sorted(item for item in folder.iterdir() if item.is_dir() and item.name[0] != ".")
    return [item for item in inner if any(is_image(name) for _, _, names in os.walk(item) for name in names)]


def is_image(name: str) -> bool:
    """Whether a file of this name is read as an image."""
    return name.lower().endswith(_IMAGES)


def refuse_odd_name(path: Path) -> None:
    """Raise where a file's name cannot stand in a list with one name a line.

    Raises:
        FileFault: a line break or another control character, or bytes that are no text.
    """
    text = str(path)
    if not text.isprintable() and any(ord(c) < _SPACE or 0xD800 <= ord(c) < 0xE000 for c in text):
        kind = "a name with a line break, another control character or bytes that are no UTF-8 text"
        raise FileFault(kind, ascii(text), "", "It could not stand in a list of names. Rename it.")


def nearby(folder: Path) -> str:
    """What the nearest folder that exists holds, or what to do where a name that GDAL knows stands in its place."""
    if re.search(r"/vsi|(^|/)[A-Za-z][\w+.-]+:", str(folder)):
        return (
            " Data sets are read from folders: unpack or download it (`predict` takes names of archives and addresses)."
        )
    parent = next((above for above in folder.parents if above.is_dir()), None)
    if parent is None:
        return ""
    inner = sorted(item.name for item in parent.iterdir() if item.is_dir() and not item.name.startswith("."))
    return f" {parent} has the folders: {', '.join(inner[:10]) or 'none'}."


@final
class Inside:
    """Paths below a folder: images, other files, and what is no regular file."""

    def __init__(self) -> None:
        self.images: list[str] = []
        self.others: list[str] = []
        self.special: list[str] = []

    def add(self, entry: os.DirEntry[str], prefix: str) -> None:
        """Sort a file in."""
        kind = self.special if _is_special(entry) else self.images if is_image(entry.name) else self.others
        kind.append(f"{prefix}{entry.name}")


def walk(folder: Path, without: Path | None = None, taken: Collection[str] = (), depth: int | None = None) -> Inside:
    """The files below a folder, down to `depth` subfolders, as paths below it; see `list_images`.

    Each real folder is read once, under the first of its names: links that lead in a circle end there, and no image
    has two names.

    Raises:
        DataError: a folder that may not be listed.
    """
    found = Inside()
    read = set() if without is None else {os.path.realpath(without)}
    links = [str(folder)]
    while links:  # links come after all folders: an image has the name of its own place
        waiting = [links.pop(0)]
        while waiting:
            place = waiting.pop()
            real = os.path.realpath(place)
            if real in read:
                continue
            read.add(real)
            below = Path(os.path.relpath(place, folder)).as_posix()
            folders: list[str] = []
            prefix = "" if below == "." else f"{below}/"
            for entry in _entries(place):
                if not _is_folder(entry):
                    if f"{real}{os.sep}{entry.name}" not in taken:
                        found.add(entry, prefix)
                elif depth is None or prefix.count("/") < depth:
                    (links if entry.is_symlink() else folders).append(entry.path)
            waiting += reversed(folders)
    return found


def _entries(place: str) -> list[os.DirEntry[str]]:
    """What a folder holds and is not hidden, by name."""
    try:
        with os.scandir(place) as inner:
            return sorted((entry for entry in inner if entry.name[0] != "."), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"the folder {error.filename} cannot be read: {error.strerror}.") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_special(entry: os.DirEntry[str]) -> bool:
    """Whether it is neither a file nor a link that leads nowhere; such a link stays an image, which is then missing."""
    try:
        return not entry.is_file() and Path(entry.path).exists()
    except OSError:  # a link to itself
        return False
