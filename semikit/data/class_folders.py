"""Folders of classes and tables of labels -> sources."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from semikit.data.class_parts import ClassParts
from semikit.data.class_sources import UNKNOWN, FileSource
from semikit.data.class_spec import LabelledImages, LabelSpec
from semikit.data.folders import apart, in_real_folder, nearby, refuse_odd_name
from semikit.data.formats.images import PHOTOS, RASTERS
from semikit.data.formats.name_lists import near
from semikit.data.formats.tables import read_list, read_table
from semikit.data.shards.spec import pool_among
from semikit.errors import DataError, some


@final
@dataclass(frozen=True, slots=True)
class Found:
    """The images of a part: name -> (file, class name; None where it is not known), sorted by name."""

    images: dict[str, tuple[Path, str | None]]
    where: str

    @property
    def classes(self) -> list[str]:
        """The classes that occur, sorted."""
        return sorted({label for _, label in self.images.values() if label is not None})

    def source(self, classes: Sequence[str], owner: str = "train") -> FileSource:
        """The images with the numbers of their classes; `owner` of the classes is told in errors.

        Raises:
            DataError: a class that is not among `classes`.
        """
        numbers = {name: number for number, name in enumerate(classes)}
        foreign = [name for name in self.classes if name not in numbers]
        if foreign:
            of = sum(label in foreign for _, label in self.images.values())
            told = "; ".join(f"{name!r}{near(name, classes)}" for name in foreign[:3])
            more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
            raise DataError(
                f"{self.where}: {of} images are of classes that {owner} does not have: {told}{more}. "
                f"Classes of {owner}: {some(list(classes), 10)}."
            )
        labels = [UNKNOWN if label is None else numbers[label] for _, label in self.images.values()]
        paths = tuple(path for path, _ in self.images.values())
        return FileSource(tuple(self.images), paths, np.array(labels, np.int64))


def resolve_labels(spec: LabelSpec) -> ClassParts:
    """The sources of a data set; lists folders and reads tables, opens no image.

    Raises:
        DataError: missing or empty folders, images beside class folders, wrong tables, classes that do not fit, a file
            in two parts.
    """
    train = find_images(spec.train, "train")
    classes = tuple(train.classes) if spec.classes is None else spec.classes
    if spec.classes is not None and (absent := [name for name in classes if name not in set(train.classes)]):
        raise DataError(
            f"{train.where}: no image of the classes {some([repr(name) for name in absent])}, which `classes` names. "
            f"Found: {some(train.classes, 10)}."
        )
    if len(classes) < 2:
        raise DataError(f"{train.where}: {len(classes)} class ({some(classes)}); at least 2 are needed.")
    sources: dict[str, FileSource | None] = {"train": train.source(classes, "`classes`")}
    for k, place in enumerate(pool_among(spec.unlabeled)[0]):
        sources[f"unlabeled[{k}]"] = plain_images(place, f"unlabeled[{k}]")
    sources["val"] = None if spec.val is None else _scored(spec.val, "val", classes)
    sources["test"] = None if spec.test is None else _scored(spec.test, "test", classes)
    apart(sources, in_real_folder)
    more = tuple(source for name, source in sources.items() if source is not None and name.startswith("unlabeled"))
    first = sources["train"]
    assert first is not None
    return ClassParts(first, more, sources["val"], sources["test"], classes)


def find_images(part: LabelledImages, key: str) -> Found:
    """The images of a folder of classes or of a table; `key` is told in errors.

    Raises:
        DataError: missing or empty folder, images beside class folders, a wrong table.
    """
    if part.labels is not None:
        return Found(read_table(part.labels, part.images, key), f"{key} ({part.labels})")
    assert part.images is not None
    return Found(_in_class_folders(part.images, key), f"{key} ({part.images})")


def plain_images(place: Path, key: str) -> FileSource:
    """Images without labels: of a folder with its subfolders, or of a list with one file a line.

    Raises:
        DataError: missing or empty folder, a wrong list, two files of one name.
    """
    if place.is_file():
        found = read_list(place, key)
    else:
        found = _named(_folder(place, key), _walk(place), key)
        if not found:
            raise DataError(f"{key}: no image in {place}. Known types: {_types()}.")
    return FileSource(tuple(found), tuple(found.values()), np.full(len(found), UNKNOWN, np.int64))


def _scored(part: LabelledImages, key: str, classes: Sequence[str]) -> FileSource:
    source = find_images(part, key).source(classes)
    unknown = [source.names[k] for k in np.flatnonzero(source.labels == UNKNOWN)[:4]]
    if unknown:
        raise DataError(f"{key}: images without a label: {some(unknown)}. Every image that is scored needs one.")
    return source


def _in_class_folders(folder: Path, key: str) -> dict[str, tuple[Path, str | None]]:
    files = _named(_folder(folder, key), _walk(folder), key)
    beside = [path.name for name, path in files.items() if "/" not in name]
    names = sorted(item.name for item in folder.iterdir() if item.is_dir() and not item.name.startswith("."))
    if not names:
        raise DataError(f"{key}: {folder} has no class folders. Put each image into a folder named after its class.")
    if beside:
        raise DataError(
            f"{key}: {len(beside)} images lie beside the class folders of {folder}: {some(beside)}. "
            "Put each image into the folder of its class."
        )
    held = {name.partition("/")[0] for name in files}
    empty = [name for name in names if name not in held]
    if empty:
        raise DataError(
            f"{key}: class folders without an image in {folder}: {some(empty)}. Add images or remove the folders. "
            f"Known types: {_types()}."
        )
    return {name: (path, name.partition("/")[0]) for name, path in files.items()}


def _folder(folder: Path, key: str) -> Path:
    if not folder.is_dir():
        raise DataError(f"{key}: {'not a folder' if folder.exists() else 'no such folder'}: {folder}.{nearby(folder)}")
    return folder


def _walk(folder: Path) -> list[str]:
    """Image files below a folder, as paths below it, a million in some seconds; without hidden ones, and without links
    to folders they lie in.
    """
    found: list[str] = []
    for place, inner, files in os.walk(folder, followlinks=True):
        inner[:] = [name for name in inner if not name.startswith(".") and not _circle(place, name)]
        below = os.path.relpath(place, folder)
        prefix = "" if below == "." else f"{Path(below).as_posix()}/"
        images = (name for name in files if not name.startswith(".") and Path(name).suffix.lower() in PHOTOS | RASTERS)
        found += [f"{prefix}{name}" for name in images]
    return found


def _circle(place: str, name: str) -> bool:
    """Whether a folder is a link to one it lies in: to follow it would never end."""
    path = Path(place, name)
    return path.is_symlink() and Path(os.path.realpath(place)).is_relative_to(os.path.realpath(path))


def _named(folder: Path, files: Sequence[str], key: str) -> dict[str, Path]:
    """Name (without suffix) -> file, sorted.

    Raises:
        DataError: two files of one name.
    """
    found: dict[str, Path] = {}
    for file in sorted(files):
        refuse_odd_name(folder / file, key)
        name = file.rpartition(".")[0]
        if name in found:
            raise DataError(f"{key}: two files of one name: {found[name]} and {file}. Remove or rename one.")
        found[name] = folder / file
    return dict(sorted(found.items()))


def _types() -> str:
    return ", ".join(sorted(PHOTOS | RASTERS))
