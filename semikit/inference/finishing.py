"""What is done to the maps of a scene once all of its classes are there: small areas, overlays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semikit.data.palette import Palette
from semikit.inference.map_files import ClassSink, Legend, Sink
from semikit.inference.pictures import displayed, overlay
from semikit.inference.streamed import ReadRegion
from semikit.raster.area_of_interest import GridArea
from semikit.raster.grid import Grid
from semikit.raster.polygons import NODATA, PolygonReport, geodesic_of
from semikit.raster.region import Region
from semikit.raster.sieve import sieve

_BLOCK = (256, 16384)
"""Rows and columns of an overlay that are made together: whole rows of most rasters."""


def without_small_areas(
    classes: ClassSink,
    path: Path,
    grid: Grid,
    source: Path,
    min_area: float,
    legend: Legend,
) -> dict[str, str]:
    """Give areas of the map `path` that are too small another class; returns a notice by its kind, if there were any.

    `source` is the image, for errors; see `sieve`.
    """
    if not min_area:
        return {}
    geodesic, background = geodesic_of(grid, source), legend.background
    count = sieve(classes, grid.size, min_area, geodesic=geodesic, background=background, nodata=NODATA)
    if not count:
        return {}
    unit = "m2" if grid.placed else "pixels"
    became = "took the class around them" if background is None else f"became {legend.names[background]}"
    text = f"{path}: {count} area{'s' if count != 1 else ''} smaller than {min_area:g} {unit} {became}"
    return {"had areas that were too small": text}


def draw_overlay(
    sinks: Mapping[str, Sink],
    classes: ClassSink,
    read: ReadRegion,
    size: tuple[int, int],
    colours: Palette,
    background: int | None,
) -> None:
    """The last date with the colours of its classes over it, the background bare; black where there is no class."""
    if (sink := sinks.get("overlay")) is None:
        return
    for region in _blocks(size):
        ids, picture = classes.read(region), displayed(read(region)[0])[-1]
        shown = np.asarray(overlay(picture, ids, colours))
        if background is not None:
            shown = np.where((ids != background)[..., None], shown, picture)
        sink.write(region, np.where((ids != NODATA)[..., None], shown, np.uint8(0)).astype(np.uint8))


def areas_by_class(
    names: Sequence[str], classes: Mapping[int, tuple[int, float]], in_metres: bool
) -> list[list[object]]:
    """Number, name, pixels, square metres (empty if not `in_metres`) and share of each class."""
    total = sum(area for _, area in classes.values()) or 1.0
    rows: list[list[object]] = []
    for number, name in enumerate(names):
        pixels, area = classes.get(number, (0, 0.0))
        rows.append([number, name, pixels, round(area, 2) if in_metres else "", f"{area / total:.6f}"])
    return rows


def area_rows(names: Sequence[str], report: PolygonReport, area: GridArea | None, classes: Path) -> list[list[object]]:
    """The rows of the table of areas of a map, by `areas_by_class`; of each feature of an `area`, if there is one."""
    if area is None:
        return areas_by_class(names, report.classes, report.in_metres)
    return [
        [one.number, one.name, *row]
        for one in area.areas(classes)
        for row in areas_by_class(names, one.classes, report.in_metres)
    ]


def polygons_notice(report: PolygonReport, path: Path, placed: bool) -> str:
    """How many polygons were written, and their area."""
    unit = "m2" if placed else "pixels"
    return f"{report.count} polygon{'s' if report.count != 1 else ''} of {report.area:,.0f} {unit} in {path}"


def within(read: ReadRegion, area: GridArea) -> ReadRegion:
    """Reads regions of an image, of which what lies outside of an area is not valid, and is not read where all does."""

    @cache
    def first() -> NDArray[np.uint8]:
        return read(Region(0, 0, 1, 1))[0]

    def part(region: Region) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
        inside = area.inside(region)
        if not inside.any():
            pixel = first()
            shape = (*pixel.shape[:-3], region.height, region.width, pixel.shape[-1])
            return np.broadcast_to(pixel, shape), inside
        image, valid = read(region)
        return image, inside if valid is None else valid & inside

    return part


def _blocks(size: tuple[int, int]) -> Iterator[Region]:
    for top in range(0, size[0], _BLOCK[0]):
        for left in range(0, size[1], _BLOCK[1]):
            yield Region(top, left, min(_BLOCK[0], size[0] - top), min(_BLOCK[1], size[1] - left))
