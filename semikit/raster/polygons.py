"""Maps of classes -> polygons with class and area."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, final

import numpy as np

from semikit.errors import ConfigError, FileFault, RunError, some
from semikit.raster.geodesic import Geodesic, Geometries, Points
from semikit.raster.grid import Grid
from semikit.raster.vectors import GEOPACKAGE, Batch, check_destination, replacing, write_geojson, write_geopackage

NODATA = 255
"""Gets no polygons, like the background 0."""

_BATCH = 4096
_ROWS = 256
_CACHE = 1 << 27
"""Bytes for GDAL's blocks, which could else take a twentieth of the memory; a row of tiles must fit."""


@final
@dataclass(frozen=True, slots=True)
class PolygonReport:
    """What was written: the number of polygons, their area together, and how many were left out as too small.

    `area` is in square metres; in pixels where the raster has no CRS.
    """

    count: int
    area: float
    dropped: int


def write_polygons(
    classes: Path, out: Path, names: Sequence[str], *, min_area: float = 0.0, simplify: float = 0.0
) -> PolygonReport:
    """Write a polygon for each connected area of one class.

    `classes` is a GeoTIFF (H, W) uint8 of class numbers; 0 and 255 get no polygons, the others are called
    `names[value]`. Pixels are connected by their sides; those that touch at a corner only stay apart, as rings around
    both would cross themselves. `out` is replaced only by the finished file: .geojson or .json (RFC 7946, thus in
    longitude and latitude of WGS 84) or .gpkg (in the raster's CRS). Properties are class, name and area_m2: geodesic,
    of the pixels as mapped, whatever `simplify` does. A raster without CRS keeps pixels as coordinates, and its
    polygons have area_px.

    `min_area`: square metres; smaller polygons are left out. `simplify`: metres that a boundary may move to need fewer
    vertices. Each polygon is simplified on its own, so neighbours may overlap or part by as much; one that would cross
    itself keeps its vertices. Both count pixels where there is no CRS. Memory grows with the polygons, not the pixels.

    Raises:
        DataError: `classes` is no such GeoTIFF, is damaged, holds a class without a name or a CRS that does not fit;
            `out` has another suffix, is in no folder, or is `classes`.
        ConfigError: a library is missing; `min_area` or `simplify` is below 0.
        RunError: the disk is full, or the folder cannot be written.
    """
    _check_numbers(min_area=min_area, simplify=simplify)
    check_destination(out, classes)
    as_geopackage = out.suffix.lower() == GEOPACKAGE
    _check_libraries(out)
    with _opened(classes) as raster:
        mapped = _count_mapped(raster, classes, names)
        geodesic = _geodesic(Grid.of(raster), classes)
        tracing = _Tracing(raster, geodesic, min_area, simplify)
        with replacing(out) as unfinished:
            (write_geopackage if as_geopackage else write_geojson)(unfinished, tracing, geodesic, names)
            if tracing.pixels != mapped:
                raise RunError(
                    f"{classes}: its polygons cover {tracing.pixels} of {mapped} pixels, so it was not traced to the "
                    "end. Look whether another program changes it or memory is short, then run again."
                )
    return PolygonReport(tracing.count, tracing.area, tracing.dropped)


def check_outlines(grid: Grid, file: Path, out: Path) -> None:
    """Look whether a map on `grid`, that of `file`, could be outlined, before it is made.

    Raises:
        ConfigError: a library is missing.
        FileFault: a CRS that is not tied to the Earth.
    """
    _check_libraries(out)
    _geodesic(grid, file)


def _geodesic(grid: Grid, file: Path) -> Geodesic | None:
    return Geodesic(grid.transform, grid.crs.to_wkt(version="WKT2_2019"), file) if grid.placed else None


@final
class _Tracing:
    """Polygons of a raster, batch by batch, and a count of what went by; `pixels` are those of all polygons."""

    def __init__(self, raster: Any, geodesic: Geodesic | None, min_area: float, simplify: float) -> None:
        self._raster, self._geodesic, self._min_area, self._simplify = raster, geodesic, min_area, simplify
        self.count, self.area, self.dropped, self.pixels = 0, 0.0, 0, 0

    def __iter__(self) -> Iterator[Batch]:
        from shapely import area, transform

        found = self._found()
        while batch := list(islice(found, _BATCH)):
            polygons = transform(np.array([polygon for polygon, _ in batch], dtype=object), self._in_pixels)
            values = np.array([value for _, value in batch], dtype=np.int32)
            pixels = area(polygons)
            areas = self._geodesic.areas(polygons) if self._geodesic else pixels
            large = areas >= self._min_area
            self.pixels += round(pixels.sum())
            self.count += int(large.sum())
            self.dropped += int((~large).sum())
            self.area += float(areas[large].sum())
            yield Batch(self._simplified(polygons[large]), values[large], areas[large])

    def _in_pixels(self, points: Points) -> Points:
        # GDAL traces a band in the raster's coordinates. Boundaries of pixels are whole numbers, so nothing is lost.
        back = ~self._raster.transform
        turn, shift = np.array([[back.a, back.d], [back.b, back.e]]), np.array([back.c, back.f])
        return np.asarray(np.rint(points @ turn + shift), dtype=np.float64)

    def _found(self) -> Iterator[tuple[Any, int]]:
        from rasterio import band
        from rasterio.features import shapes
        from shapely.geometry import shape

        pixels = band(self._raster, 1)
        # GDAL reads a band row by row, and makes no polygons where its mask is 0: here the band itself.
        for geometry, value in shapes(pixels, mask=pixels, connectivity=4):
            if value != NODATA:
                yield shape(geometry), int(value)

    def _simplified(self, polygons: Geometries) -> Geometries:
        from shapely import get_coordinates, is_valid, set_coordinates, simplify

        if not self._simplify or not len(polygons):
            return polygons
        sizes = self._geodesic.pixel_sizes(polygons) if self._geodesic else np.ones((len(polygons), 2))
        points, owner = get_coordinates(polygons, return_index=True)
        fewer = simplify(set_coordinates(polygons.copy(), points * sizes[owner]), self._simplify)
        points, owner = get_coordinates(fewer, return_index=True)
        fewer = set_coordinates(fewer, np.rint(points / sizes[owner]))
        return np.where(is_valid(fewer), fewer, polygons)


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


def _count_mapped(raster: Any, classes: Path, names: Sequence[str]) -> int:
    """Pixels that get polygons. All are read, since tracing ends without a word where a file is damaged."""
    from rasterio.errors import RasterioError

    counts = np.zeros(NODATA + 1, dtype=np.int64)
    rows = max(raster.block_shapes[0][0], _ROWS)
    try:
        for top in range(0, raster.height, rows):
            strip = raster.read(1, window=((top, min(top + rows, raster.height)), (0, raster.width)))
            for line in strip:
                counts += np.bincount(line, minlength=len(counts))
    except (OSError, RasterioError) as error:
        raise FileFault("damaged GeoTIFF", classes, str(error), "Make it again.") from None
    unnamed = [str(value) for value in range(max(len(names), 1), NODATA) if counts[value]]
    if unnamed:
        detail = f"{some(unnamed)}; there are {len(names)} names, counted from 0"
        raise FileFault("classes without a name", classes, detail, "Give the names that the map was made with.")
    return int(counts[1:NODATA].sum())


def _check_numbers(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise ConfigError(f"{name} must be 0 or more, got {value}. With 0, polygons stay as they are.")


def _check_libraries(out: Path) -> None:
    for name in ("rasterio", "shapely", "pyproj", *(["pyogrio"] if out.suffix.lower() == GEOPACKAGE else [])):
        try:
            import_module(name)
        except ImportError:
            raise ConfigError(
                f"Polygons need {name}, which is not installed. Install it: pip install {name}."
            ) from None
