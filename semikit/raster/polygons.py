"""Maps of classes -> polygons with class and area."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, final

import numpy as np

from semikit.errors import ConfigError, FileFault
from semikit.raster.geodesic import Geodesic
from semikit.raster.grid import Grid
from semikit.raster.tracing import NODATA as NODATA
from semikit.raster.tracing import Tracing
from semikit.raster.vectors import Batch, check_destination, replacing, writer_of

_BATCH = 4096
"""Polygons that are written together."""
_CACHE = 1 << 27
"""Bytes for GDAL's blocks, which could else take a twentieth of the memory; a row of tiles must fit."""


@final
@dataclass(frozen=True, slots=True)
class PolygonReport:
    """What was written: the number of polygons, and their area together.

    Areas are in square metres; in pixels where the raster has no CRS (`in_metres` False). `classes` holds the pixels
    and the area of each class that was outlined.
    """

    count: int
    area: float
    classes: Mapping[int, tuple[int, float]] = field(default_factory=dict, compare=False)
    in_metres: bool = field(default=True, compare=False)


def write_polygons(
    classes: Path,
    out: Path | None,
    names: Sequence[str],
    *,
    simplify: float = 0.0,
    background: int | None = 0,
    shares: Path | None = None,
    areas: bool = False,
) -> PolygonReport:
    """Write a polygon for each connected area of one class.

    `classes` is a GeoTIFF (H, W) uint8 of class numbers; `background` and 255 get no polygons, the others are called
    `names[value]`. With `areas` the background is outlined too, for the report alone; without `out` nothing is written.
    `shares` is a raster on the same grid of percents, of which each polygon gets the mean (0..1) as its `probability`.
    Pixels are connected by their sides; those that touch at a corner only stay apart, as rings around
    both would cross themselves. `out` is replaced only by the finished file: .geojson or .json (RFC 7946, thus in
    longitude and latitude of WGS 84), or .gpkg, .fgb or .shp (in the raster's CRS). Properties are class, name and
    area_m2: geodesic, of the pixels as mapped, whatever `simplify` does. A raster without CRS keeps pixels as
    coordinates, and its polygons have area_px.

    `simplify`: metres (pixels where there is no CRS) by about which a boundary may move to need fewer vertices;
    neighbours share it afterwards, those of the background and of 255 as well. Memory grows with the polygons of a row
    of blocks, and with the largest, not with the pixels; see `Tracing`.

    Raises:
        DataError: `classes` is no such GeoTIFF, is damaged, holds a class without a name or a CRS that does not fit;
            `out` has another suffix, is in no folder, or is `classes`.
        ConfigError: a library is missing; `simplify` is below 0.
        RunError: the disk is full, or the folder cannot be written.
    """
    if not (math.isfinite(simplify) and simplify >= 0):
        raise ConfigError(f"simplify must be 0 or more, got {simplify}. With 0, polygons stay as they are.")
    if out is not None:
        check_destination(out, classes)
    _check_libraries()
    with ExitStack() as stack:
        raster = stack.enter_context(_opened(classes))
        probabilities = None if shares is None else stack.enter_context(_opened(shares))
        geodesic = geodesic_of(Grid.of(raster), classes)
        skipped = frozenset({NODATA} if areas or background is None else {NODATA, background})
        tracing = Tracing(raster, classes, len(names), geodesic, skipped, simplify, probabilities)
        batches = _Batches(tracing, background)
        if out is None:
            for _ in batches:
                pass
        else:
            with replacing(out) as unfinished:
                writer_of(out)(unfinished, batches, geodesic, names, shares is not None)
    return batches.report()


def check_outlines(grid: Grid, file: Path) -> None:
    """Look whether a map on `grid`, that of `file`, could be outlined, before it is made.

    Raises:
        ConfigError: a library is missing.
        FileFault: a CRS that is not tied to the Earth.
    """
    _check_libraries()
    geodesic_of(grid, file)


def geodesic_of(grid: Grid, file: Path) -> Geodesic | None:
    """The place of a raster on the Earth, None where it has no place; `file` stands in errors.

    Raises:
        FileFault: a CRS that is not tied to the Earth.
    """
    return Geodesic(grid.transform, grid.crs.to_wkt(version="WKT2_2019"), file) if grid.placed else None


@final
class _Batches:
    """What is written of the areas of a map, and a count of what went by."""

    def __init__(self, tracing: Tracing, background: int | None) -> None:
        self._tracing, self._background = tracing, background
        self.count, self.area = 0, 0.0
        self._pixels, self._areas = np.zeros(NODATA + 1, dtype=np.int64), np.zeros(NODATA + 1)

    def __iter__(self) -> Iterator[Batch]:
        for found in self._tracing:
            self._pixels += np.bincount(found.values, found.pixels, NODATA + 1).astype(np.int64)
            self._areas += np.bincount(found.values, found.areas, NODATA + 1)
            shown = found if self._background is None else found.chosen(found.values != self._background)
            self.count += len(shown.values)
            self.area += float(shown.areas.sum())
            for first in range(0, len(shown.values), _BATCH):
                part = shown.chosen(np.arange(first, min(first + _BATCH, len(shown.values))))
                means = None if self._tracing.shares is None else part.sums / part.pixels / 100
                yield Batch(part.polygons, part.values, part.areas, means)

    def report(self) -> PolygonReport:
        """What went by."""
        classes = {int(k): (int(self._pixels[k]), float(self._areas[k])) for k in np.flatnonzero(self._pixels)}
        return PolygonReport(self.count, self.area, classes, self._tracing.geodesic is not None)


@contextmanager
def _opened(classes: Path) -> Iterator[Any]:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    with rasterio.Env(GDAL_CACHEMAX=_CACHE):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                raster = rasterio.open(classes, driver="GTiff")
        except (OSError, RasterioError) as error:
            raise FileFault("no GeoTIFF", classes, str(error), "Give a map of classes as GeoTIFF.") from None
        with raster:
            if raster.dtypes != ("uint8",):
                detail = f"bands of {', '.join(raster.dtypes)}"
                raise FileFault("no map of classes", classes, detail, "Give a GeoTIFF of one band, uint8.")
            yield raster


def _check_libraries() -> None:
    for name in ("rasterio", "shapely", "pyproj", "pyogrio"):
        try:
            import_module(name)
        except ImportError:
            raise ConfigError(
                f"Polygons need {name}, which is not installed. Install it: pip install {name}."
            ) from None
