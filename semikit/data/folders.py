"""Folders of a data set -> sources."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar, final

from semikit.data.formats.images import PHOTOS, RASTERS
from semikit.data.formats.mask_values import MaskValues
from semikit.data.formats.value_range import refuse_deep, sampled_scale, value_range
from semikit.data.shards.spec import pool_among
from semikit.data.sources import Filed, FolderSource, PixelSource
from semikit.data.spec import ClassSpec, DataSpec, Scale
from semikit.errors import DataError

P = TypeVar("P", bound=PixelSource)
_SPACE = 0x20


@final
@dataclass(frozen=True, slots=True)
class Sources(Generic[P]):
    """The parts of a data set. `scale` is the range in use (None: values as stored), stated or sampled from train."""

    train: P
    unlabeled: tuple[P, ...]
    val: P
    test: P | None
    scale: Scale | None = None


def resolve(spec: DataSpec) -> Sources[FolderSource]:
    """The sources of a data set; lists folders, opens a few images only where a range of values has to be sampled.

    Raises:
        DataError: missing or empty folder, two images of one name, no mask that fits, a file in two parts.
    """
    train = folder_source(spec.train.images, spec.train.masks, spec, "train")
    folders, _ = pool_among(spec.unlabeled)
    unlabeled = [folder_source(part.images, None, spec, f"unlabeled[{k}]") for k, part in enumerate(folders)]
    val = folder_source(spec.val.images, spec.val.masks, spec, "val")
    test = None if spec.test is None else folder_source(spec.test.images, spec.test.masks, spec, "test")
    return put_together(spec, train, unlabeled, val, test)


def put_together(spec: ClassSpec, train: P, unlabeled: Sequence[P], val: P, test: P | None) -> Sources[P]:
    """The parts with the range of values that is stated or, over all dates of train, sampled.

    Raises:
        DataError: a file in two parts; images whose values cannot be brought to one range.
    """
    apart({"train": train, **{f"unlabeled[{k}]": part for k, part in enumerate(unlabeled)}, "val": val, "test": test})
    scale = spec.scale or sampled_scale([path for k in range(len(train)) for path in train.files(k)], spec.bands)
    bounds = None if scale is None else value_range(scale)
    for part in () if scale is not None else (*unlabeled, val, *([test] if test else [])):
        refuse_deep([path for k in range(len(part)) for path in part.files(k)])

    def scaled(part: P) -> P:
        return replace(part, scale=bounds)  # type: ignore[type-var]

    return Sources(scaled(train), tuple(map(scaled, unlabeled)), scaled(val), test and scaled(test), scale)


def folder_source(images: Path, masks: Path | None, spec: DataSpec, part: str) -> FolderSource:
    """The images below a folder, sorted by name, each with the mask of the same name.

    Raises:
        DataError: missing or empty folder, two files of one name, no mask that fits.
    """
    found = image_files(images, f"{part}.images", without=masks)
    names = tuple(found)
    drawn = {} if masks is None else image_files(masks, f"{part}.masks")
    if masks is not None and not any(name in drawn for name in names):
        raise DataError(
            f"{part}: no image has a mask. Images are named {_some(names)} in {images}, masks {_some(tuple(drawn))} "
            f"in {masks}. A mask has its image's name (the suffix may differ) in the same subfolder."
        )
    pairs = tuple(drawn.get(name) for name in names)
    return FolderSource(names, tuple(found.values()), pairs, spec.values, spec.bands)


def unlabeled_folder(images: Path, values: MaskValues, key: str) -> FolderSource:
    """The images below a folder, sorted by name, without masks.

    Raises:
        DataError: missing or empty folder, two files of one name.
    """
    found = image_files(images, key)
    return FolderSource(tuple(found), tuple(found.values()), (None,) * len(found), values)


def plain_source(paths: Sequence[Path], bands: tuple[int, ...] | None, scale: Scale | None) -> FolderSource:
    """Images without masks, as they are listed (prediction)."""
    names = tuple(path.stem for path in paths)
    bounds = None if scale is None else value_range(scale)
    return FolderSource(names, tuple(paths), (None,) * len(names), MaskValues(1), bands, bounds)


def image_files(folder: Path, key: str, without: Path | None = None) -> dict[str, Path]:
    """Name -> file of all images below a folder, sorted; hidden files and the folder `without` are left out.

    `key` is told in errors.

    Raises:
        DataError: missing or empty folder, two files of one name.
    """
    if not folder.is_dir():
        raise DataError(f"{key}: {'not a folder' if folder.exists() else 'no such folder'}: {folder}.{nearby(folder)}")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        if path.suffix.lower() not in PHOTOS | RASTERS or any(part.startswith(".") for part in inner.parts):
            continue
        if without is not None and without != folder and path.is_relative_to(without):
            continue
        refuse_odd_name(path, key)
        name = inner.with_suffix("").as_posix()
        if name in found:
            raise DataError(f"{key}: two files of one name: {found[name]} and {path.name}. Remove or rename one.")
        found[name] = path
    if not found:
        raise DataError(f"{key}: no image in {folder}. Known types: {', '.join(sorted(PHOTOS | RASTERS))}.")
    return dict(sorted(found.items()))


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


def _followed(path: Path) -> Path:
    """The file a path leads to; unlike Path.resolve, links that lead in a circle are no error here."""
    return Path(os.path.realpath(path))


def apart(parts: Mapping[str, Filed | None], real: Callable[[Path], Path] = _followed) -> None:
    """Raise where two parts hold the same file; `real` says which file a path is.

    Raises:
        DataError: names the file and both parts.
    """
    owner: dict[Path, str] = {}
    for part, source in parts.items():
        for path in () if source is None else (path for k in range(len(source)) for path in source.files(k)):
            other = owner.setdefault(real(path), part)
            if other != part:
                raise DataError(f"{path} is in both {other} and {part}. Give each part files of its own.")


def in_real_folder(path: Path) -> Path:
    """Which file a path is, links among folders followed; links to single files would take seconds to follow."""
    return _real(path.parent) / path.name


@lru_cache
def _real(folder: Path) -> Path:
    return _followed(folder)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(repr(name) for name in names[:3])


def nearby(folder: Path) -> str:
    """What the nearest folder that exists holds."""
    parent = next((above for above in folder.parents if above.is_dir()), None)
    if parent is None:
        return ""
    inner = sorted(item.name for item in parent.iterdir() if item.is_dir() and not item.name.startswith("."))
    return f" {parent} has the folders: {', '.join(inner[:10]) or 'none'}."
