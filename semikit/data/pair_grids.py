"""How two dates of one place, and their mask, lie: on one grid, or brought onto that of the first date."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import final

import numpy as np

from semikit.data.formats.images import Bytes, Mask, is_raster, read_grid
from semikit.data.samples import Samples
from semikit.errors import FileFault, some
from semikit.raster import reading as rasters
from semikit.raster.grid import Grid

_APART = "dates without a place in common"


@final
@dataclass(frozen=True, slots=True)
class GridAlignment:
    """How two images of one place lie: the grid of the first, and whether the second has to be brought onto it."""

    grid: Grid
    moved: bool
    notice: str = ""
    """What a user should know; empty where both have one grid."""


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


def date_grid(before: Path, other: Path) -> Grid | None:
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
            raise other_size(before, after, first.size, second.size)
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
        detail = f"{before}: {first.text()}; {after}: {second.text()}"
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
        return other_size(before, after, (a.shape[0], a.shape[1]), (b.shape[0], b.shape[1]))
    detail = f"{before} {a.shape[2]}, {after} {b.shape[2]}"
    return FileFault("dates with other numbers of channels", after, detail, "Choose the same with `bands: [...]`.")


def other_size(before: Path, after: Path, a: tuple[int, ...], b: tuple[int, ...], what: str = "dates") -> FileFault:
    """The error where two files of a pair have other sizes (H, W)."""
    detail = f"{before} {a[1]}x{a[0]}, {after} {b[1]}x{b[0]} (width x height)"
    remedy = "Cut both to the same pixels, or give georeferenced rasters, which are aligned."
    return FileFault(f"{what} of other sizes", after, detail, remedy)


def alignment_notices(samples: Iterable[tuple[Samples, int]]) -> list[str]:
    """Notices about rasters that lie on other grids than the first date of their pair; reads headers.

    Raises:
        FileFault: two dates, or a date and its mask, without a place in common.
    """
    dates: list[str] = []
    masks: list[str] = []
    bare: list[str] = []
    for source, index in samples:
        files = source.files(index)
        if files and all(map(is_raster, files)):
            alignment = aligned(*files)
            dates += [alignment.notice] if alignment.notice else []
            bare += [] if alignment.notice or alignment.grid.placed else [str(files[0])]
        masks += [str(mask) for mask in source.target_files(index) if mask_grid(files[0], mask) is not None]
    if len(dates) > 1:
        dates = [f"{len(dates)} pairs of rasters do not lie on one grid: {some(dates)}"]
    if masks:
        dates.append(f"masks on another grid than date A are brought onto it: {some(masks)}")
    if bare:
        dates.append(f"rasters without a coordinate reference system, taken pixel by pixel: {some(bare)}")
    return dates
