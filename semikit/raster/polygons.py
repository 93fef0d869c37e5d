"""Maps of classes -> polygons with class and area."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, final

import numpy as np

from semikit.errors import ConfigError, FileFault, RunError, some
from semikit.raster.geodesic import Geodesic, Geometries, Points
from semikit.raster.grid import Grid
from semikit.raster.vectors import GEOPACKAGE, Batch, check_destination, replacing, write_geojson, write_geopackage
from semikit.raster.zonal import sums_within

NODATA = 255
"""Gets no polygons."""

_BATCH = 4096
_ROWS = 256
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
    longitude and latitude of WGS 84) or .gpkg (in the raster's CRS). Properties are class, name and area_m2: geodesic,
    of the pixels as mapped, whatever `simplify` does. A raster without CRS keeps pixels as coordinates, and its
    polygons have area_px.

    `simplify`: metres that a boundary may move to need fewer
    vertices. Each polygon is simplified on its own, so neighbours may overlap or part by as much; one that would cross
    itself keeps its vertices. Pixels where there is no CRS. Memory grows with the polygons, not the pixels.

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
    _check_libraries(out)
    with _opened(classes) as raster:
        counts = _counted(raster, classes, names)
        geodesic = geodesic_of(Grid.of(raster), classes)
        tracing = _Tracing(raster, geodesic, simplify, background, areas, shares)
        mapped = sum(count for value, count in counts.items() if value not in tracing.skipped)
        if out is None:
            for _ in tracing:
                pass
            tracing.refuse_partial(mapped, classes)
        else:
            write = write_geopackage if out.suffix.lower() == GEOPACKAGE else write_geojson
            with replacing(out) as unfinished:
                write(unfinished, tracing, geodesic, names, shares is not None)
                tracing.refuse_partial(mapped, classes)
    return tracing.report()


def check_outlines(grid: Grid, file: Path, out: Path | None) -> None:
    """Look whether a map on `grid`, that of `file`, could be outlined, before it is made.

    Raises:
        ConfigError: a library is missing.
        FileFault: a CRS that is not tied to the Earth.
    """
    _check_libraries(out)
    geodesic_of(grid, file)


def geodesic_of(grid: Grid, file: Path) -> Geodesic | None:
    """The place of a raster on the Earth, None where it has no place; `file` stands in errors.

    Raises:
        FileFault: a CRS that is not tied to the Earth.
    """
    return Geodesic(grid.transform, grid.crs.to_wkt(version="WKT2_2019"), file) if grid.placed else None


@final
class _Tracing:
    """Polygons of a raster, batch by batch, and a count of what went by; `pixels` are those of all polygons.

    `skipped` are the values that are not outlined. Where polygons get a mean of `shares`, all are held.
    """

    def __init__(
        self,
        raster: Any,
        geodesic: Geodesic | None,
        simplify: float,
        background: int | None,
        areas: bool,
        shares: Path | None,
    ) -> None:
        self._raster, self._geodesic, self._simplify = raster, geodesic, simplify
        self._background, self._shares = background, shares
        self.skipped = {NODATA} if areas or background is None else {NODATA, background}
        self.count, self.area = 0, 0.0
        self._pixels, self._areas = np.zeros(NODATA + 1, dtype=np.int64), np.zeros(NODATA + 1)

    def __iter__(self) -> Iterator[Batch]:
        from shapely import area

        batches: Iterable[tuple[Geometries, Any]] = self._batches()
        sums, first = None, 0
        if self._shares is not None:
            batches = list(batches)
            every = [polygons for polygons, _ in batches]
            sums = sums_within(self._shares, np.concatenate(every) if every else np.array([], dtype=object))
        for polygons, values in batches:
            pixels = area(polygons)
            areas = self._geodesic.areas(polygons) if self._geodesic else pixels
            self._pixels += np.bincount(values, weights=pixels, minlength=NODATA + 1).round().astype(np.int64)
            self._areas += np.bincount(values, weights=areas, minlength=NODATA + 1)
            shown = np.ones(len(values), dtype=np.bool_) if self._background is None else values != self._background
            self.count += int(shown.sum())
            self.area += float(areas[shown].sum())
            means = None if sums is None else (sums[first : first + len(values)] / pixels / 100)[shown]
            first += len(values)
            yield Batch(self._simplified(polygons[shown]), values[shown], areas[shown], means)

    def report(self) -> PolygonReport:
        """What went by."""
        classes = {int(k): (int(self._pixels[k]), float(self._areas[k])) for k in np.flatnonzero(self._pixels)}
        return PolygonReport(self.count, self.area, classes, self._geodesic is not None)

    def refuse_partial(self, mapped: int, classes: Path) -> None:
        """Raise where polygons do not cover the `mapped` pixels."""
        traced = int(self._pixels.sum())
        if traced != mapped:
            raise RunError(
                f"{classes}: its polygons cover {traced} of {mapped} pixels, so it was not traced to the end. Look "
                "whether another program changes it or memory is short, then run again."
            )

    def _batches(self) -> Iterator[tuple[Geometries, Any]]:
        """Polygons (N,) in pixels and their classes (N,)."""
        from shapely import transform

        found = self._found()
        while batch := list(islice(found, _BATCH)):
            polygons = transform(np.array([polygon for polygon, _ in batch], dtype=object), self._in_pixels)
            yield polygons, np.array([value for _, value in batch], dtype=np.int32)

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
        mask = pixels if 0 in self.skipped else None
        for geometry, value in shapes(pixels, mask=mask, connectivity=4):
            if value not in self.skipped:
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


def _counted(raster: Any, classes: Path, names: Sequence[str]) -> dict[int, int]:
    """Pixels of each value. All are read, since tracing ends without a word where a file is damaged."""
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
    return {value: int(count) for value, count in enumerate(counts)}


def _check_libraries(out: Path | None) -> None:
    packed = out is not None and out.suffix.lower() == GEOPACKAGE
    for name in ("rasterio", "shapely", "pyproj", *(["pyogrio"] if packed else [])):
        try:
            import_module(name)
        except ImportError:
            raise ConfigError(
                f"Polygons need {name}, which is not installed. Install it: pip install {name}."
            ) from None
