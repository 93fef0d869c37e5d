"""What is done to the maps of a scene once all of its classes are there: small areas, overlays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from semikit.data.palette import Palette
from semikit.inference.map_files import ClassSink, Sink
from semikit.inference.pictures import displayed, overlay
from semikit.inference.scenes import SceneReader
from semikit.inference.streamed import ReadRegion
from semikit.raster.grid import Grid
from semikit.raster.polygons import NODATA, geodesic_of
from semikit.raster.region import Region
from semikit.raster.sieve import sieve

_BLOCK = (256, 16384)
"""Rows and columns of an overlay that are made together: whole rows of most rasters."""


def without_small_areas(
    classes: ClassSink, path: Path, grid: Grid, source: Path, min_area: float, reader: SceneReader
) -> dict[str, str]:
    """Give areas of the map `path` that are too small another class; returns a notice by its kind, if there were any.

    `source` is the image, for errors; see `sieve`.
    """
    if not min_area:
        return {}
    geodesic, background = geodesic_of(grid, source), reader.background
    count = sieve(classes, grid.size, min_area, geodesic=geodesic, background=background, nodata=NODATA)
    if not count:
        return {}
    unit = "m2" if grid.placed else "pixels"
    became = "took the class around them" if background is None else f"became {reader.class_names[background]}"
    text = f"{path}: {count} area{'s' if count != 1 else ''} smaller than {min_area:g} {unit} {became}"
    return {"had areas that were too small": text}


def draw_overlay(
    sinks: Mapping[str, Sink],
    classes: ClassSink,
    read: ReadRegion,
    size: tuple[int, int],
    colours: Palette,
    reader: SceneReader,
) -> None:
    """The last date with the colours of its classes over it, the background bare; black where there is no class."""
    if (sink := sinks.get("overlay")) is None:
        return
    for region in _blocks(size):
        ids, picture = classes.read(region), displayed(read(region)[0])[-1]
        shown = np.asarray(overlay(picture, ids, colours))
        if reader.background is not None:
            shown = np.where((ids != reader.background)[..., None], shown, picture)
        sink.write(region, np.where((ids != NODATA)[..., None], shown, np.uint8(0)).astype(np.uint8))


def _blocks(size: tuple[int, int]) -> Iterator[Region]:
    for top in range(0, size[0], _BLOCK[0]):
        for left in range(0, size[1], _BLOCK[1]):
            yield Region(top, left, min(_BLOCK[0], size[0] - top), min(_BLOCK[1], size[1] - left))
