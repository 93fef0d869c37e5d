"""Pairs of images of two dates, the second brought onto the grid of the first."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import final

import numpy as np

from semikit.data.formats.images import is_raster, read_grid, read_image, read_mask_onto
from semikit.data.formats.mask_values import MaskValues
from semikit.data.formats.rescale import Range
from semikit.data.sources import Bytes, Mask, refuse_other_size
from semikit.errors import DataError, FileFault
from semikit.raster import reading as rasters
from semikit.raster.grid import Grid
from semikit.raster.region import Region

_APART = "dates without a place in common"


@final
@dataclass(frozen=True, slots=True)
class GridAlignment:
    """How two images of one place lie: the grid of the first, and whether the second has to be brought onto it."""

    grid: Grid
    moved: bool
    notice: str = ""
    """What a person should know; empty where both have one grid."""


@final
@dataclass(frozen=True)
class PairSource:
    """Pairs of images and their masks; nothing is opened before it is asked for.

    `before` and `after` are the files of the two dates; `masks`, on the grid of the first, holds None where there is
    none.
    """

    names: tuple[str, ...]
    before: tuple[Path, ...]
    after: tuple[Path, ...]
    masks: tuple[Path | None, ...]
    values: MaskValues
    bands: tuple[int, ...] | None = None
    scale: Range | None = None

    def __len__(self) -> int:
        return len(self.names)

    def extent(self, index: int) -> tuple[int, int] | None:
        """(H, W) of the first date where both are rasters, else None."""
        paths = self.files(index)
        return aligned(*paths).grid.size if all(map(is_raster, paths)) else None

    def files(self, index: int) -> tuple[Path, Path]:
        """The files of both dates."""
        return self.before[index], self.after[index]

    def image(self, index: int, region: Region | None = None) -> tuple[Bytes, Mask | None]:
        """Both dates (2, H, W, C) uint8 on the grid of the first, and valid (H, W) bool, None where all pixels are.

        A pixel is valid where it is valid at both dates.

        Raises:
            FileFault: cannot be read, other sizes or numbers of channels, no place in common.
        """
        before, after = self.files(index)
        onto = _onto(before, after)
        first = read_image(before, self.bands, self.scale, region)
        second = read_image(after, self.bands, self.scale, region, onto)
        return both_dates(before, after, first, second)

    def mask(self, index: int, region: Region | None = None) -> tuple[Bytes, Mask]:
        """Labels (H, W) uint8, 0 where invalid, and valid (H, W) bool.

        Raises:
            FileFault: cannot be read, a colour mask, a value outside the classes.
            DataError: there is no mask.
        """
        path = self.masks[index]
        if path is None:
            raise DataError(f"{self.before[index]} has no mask; only pairs with a mask can be labelled or scored.")
        onto = mask_grid(self.before[index], path)
        if region is not None and onto is None:
            refuse_other_size(path, self.extent(index))
        values, covered = read_mask_onto(path, region, onto)
        labels, valid = self.values.decode(values, path)
        return (labels, valid) if covered is None else (np.where(covered, labels, 0).astype(np.uint8), valid & covered)

    def has_mask(self, index: int) -> bool:
        """Whether there is a mask of the same name."""
        return self.masks[index] is not None

    def mask_file(self, index: int) -> Path | None:
        """The mask of the same name, if any."""
        return self.masks[index]


def both_dates(
    before: Path, after: Path, first: tuple[Bytes, Mask | None], second: tuple[Bytes, Mask | None]
) -> tuple[Bytes, Mask | None]:
    """Two images (H, W, C) with valid (H, W) bool as one (2, H, W, C); a pixel is valid where it is at both dates.

    Raises:
        FileFault: other sizes or numbers of channels.
    """
    (a, valid_a), (b, valid_b) = first, second
    if a.shape != b.shape:
        raise _unlike(before, after, a, b)
    valid = valid_a if valid_b is None else valid_b if valid_a is None else valid_a & valid_b
    return np.stack([a, b]), valid


def _onto(before: Path, other: Path) -> Grid | None:
    """The grid that `other` has to be brought onto, None where it lies there already."""
    if not (is_raster(before) and is_raster(other)):
        return None
    alignment = aligned(before, other)
    return alignment.grid if alignment.moved else None


@lru_cache(maxsize=4096)
def mask_grid(before: Path, mask: Path) -> Grid | None:
    """The grid a mask has to be brought onto; None where it lies there, or its place on the map is not known."""
    if not (is_raster(before) and is_raster(mask)):
        return None
    first, second = read_grid(before), read_grid(mask)
    if not (first.placed and second.placed) or _same(before, mask, first, second):
        return None
    _refuse_apart(before, mask, first, second, "a mask without a place in common with its image")
    return first


@lru_cache(maxsize=4096)
def aligned(before: Path, after: Path) -> GridAlignment:
    """How the second of two files has to be brought onto the first; reads their headers.

    Raises:
        FileFault: other sizes without a place on the map, or no place in common.
    """
    first, second = read_grid(before), read_grid(after)
    if _same(before, after, first, second):
        return GridAlignment(first, False)
    if not (first.placed and second.placed):
        if first.size != second.size:
            raise _other_size(before, after, first.size, second.size)
        bare = after if first.placed else before
        return GridAlignment(first, False, f"{bare} has no coordinate reference system: taken pixel by pixel")
    _refuse_apart(before, after, first, second)
    size = "x".join(str(side) for side in reversed(second.size))
    what = f"{second.name}, {size} pixels" if second.crs != first.crs else f"{size} pixels"
    return GridAlignment(first, True, f"{after} ({what}) is brought onto the grid of {before.name}")


def _same(before: Path, after: Path, first: Grid, second: Grid) -> bool:
    with _georeferenced(before, after):
        return first.equals(second)


def _refuse_apart(before: Path, after: Path, first: Grid, second: Grid, kind: str = _APART) -> None:
    with _georeferenced(before, after):
        if first.overlaps(second):
            return
        detail = f"{before}: {first.told()}; {after}: {second.told()}"
    remedy = "Give files of one place, or correct the reference system of one of them."
    raise FileFault(kind, after, detail, remedy)


@contextmanager
def _georeferenced(before: Path, after: Path) -> Iterator[None]:
    """A reference system or a transform that cannot be computed with, as an error that names the files."""
    try:
        yield
    except _unusable() as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        remedy = "Correct the reference system or the transform of the files (rio edit-info, gdal_edit)."
        raise FileFault("georeferencing that cannot be used", after, f"with {before}: {reason}", remedy) from None


def _unusable() -> tuple[type[Exception], ...]:
    affine = sys.modules.get("affine")
    return ValueError, ArithmeticError, *((affine.AffineError,) if affine else ()), *rasters.errors()


def _unlike(before: Path, after: Path, a: Bytes, b: Bytes) -> FileFault:
    if a.shape[:2] != b.shape[:2]:
        return _other_size(before, after, (a.shape[0], a.shape[1]), (b.shape[0], b.shape[1]))
    detail = f"{before} {a.shape[2]}, {after} {b.shape[2]}"
    return FileFault("dates with other numbers of channels", after, detail, "Choose the same with `bands: [...]`.")


def _other_size(before: Path, after: Path, a: tuple[int, int], b: tuple[int, int]) -> FileFault:
    detail = f"{before} {a[1]}x{a[0]}, {after} {b[1]}x{b[0]} (width x height)"
    remedy = "Cut both to the same pixels, or give georeferenced rasters, which are aligned."
    return FileFault("dates of other sizes", after, detail, remedy)
