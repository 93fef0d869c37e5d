"""The part of a raster that polygons of a file cover, and how much of each class lies in each of its features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from semikit.errors import FileFault
from semikit.raster.geodesic import Geodesic
from semikit.raster.grid import Grid
from semikit.raster.polygons import NODATA, geodesic_of
from semikit.raster.reading import rasterio_for
from semikit.raster.region import Region, tiles
from semikit.raster.vector_layers import Layer, fields_of, read_layer

_NAME = "name"
"""The attribute that features are called by, whatever its case."""
_BLOCK = 256
"""Pixels a side that are counted together; their pixels are taken to be equally large."""


@final
@dataclass(frozen=True, slots=True)
class FeatureAreas:
    """A feature's number in its file, from 1, and name; pixels and area of each class in it, in square metres (pixels
    without a place).
    """

    number: int
    name: str
    classes: Mapping[int, tuple[int, float]]


@final
@dataclass(frozen=True)
class AreaOfInterest:
    """The polygons of a file; a pixel whose centre lies in one belongs to it."""

    layer: Layer
    file: Path

    @classmethod
    def read(cls, file: Path) -> AreaOfInterest:
        """From any file of polygons that GDAL reads.

        Raises:
            FileFault: cannot be read, no polygons, no CRS; ConfigError: several layers.
        """
        name = next((field for field in fields_of(file) if field.lower() == _NAME), None)
        return cls(read_layer(file, name), file)

    def on(self, grid: Grid, image: Path) -> GridArea:
        """On the grid of an image.

        Raises:
            FileFault: it has no place on the map, or nothing of it lies within.
        """
        if not grid.placed:
            remedy = "Georeference it (gdal_translate -a_srs, -a_ullr), or leave out --aoi."
            raise FileFault("image without a place on the map, for --aoi", image, "", remedy)
        layer = self.layer.in_crs(grid.crs).touching(grid)
        if not len(layer.polygons):
            remedy = "Give a file of polygons that lie on the image, or leave out --aoi."
            raise FileFault("image outside of --aoi", image, f"{grid.text()}; no polygon of {self.file}", remedy)
        return GridArea(layer, grid)


@final
@dataclass(frozen=True)
class GridArea:
    """Polygons that lie on a grid, in its CRS."""

    layer: Layer
    grid: Grid

    def inside(self, region: Region, layer: Layer | None = None) -> NDArray[np.bool_]:
        """Which pixels (h, w) of a region belong to a polygon; to one of `layer`, if given."""
        chosen = layer or self.layer
        values = np.zeros((region.height, region.width), dtype=np.uint8)
        chosen.burn(values, [1] * len(chosen.polygons), self.grid.transform, region)
        return values > 0

    def areas(self, classes: Path) -> Sequence[FeatureAreas]:
        """Of each feature that lies on the map `classes`, which has this grid, in the order of their file."""
        geodesic = geodesic_of(self.grid, classes)
        found: list[FeatureAreas] = []
        with rasterio_for(classes).open(classes) as raster:
            for number in np.unique(self.layer.owners):
                part = self.layer.chosen(self.layer.owners == number)
                pixels, areas = np.zeros(NODATA, dtype=np.int64), np.zeros(NODATA)
                for region in self._regions(part):
                    values = raster.read(1, window=tuple((one.start, one.stop) for one in region.slices))
                    counts = np.bincount(values[self.inside(region, part)], minlength=NODATA + 1)[:NODATA]
                    pixels += counts
                    areas += counts * _pixel_area(geodesic, region)
                every = {int(k): (int(pixels[k]), float(areas[k])) for k in np.flatnonzero(pixels)}
                found.append(FeatureAreas(int(number), part.names[0], every))
        return found

    def _regions(self, layer: Layer) -> list[Region]:
        """Blocks of pixels that a layer may touch."""
        from shapely import bounds, box, transform

        back, (height, width) = ~self.grid.transform, self.grid.size
        turn, shift = np.array([[back.a, back.d], [back.b, back.e]]), np.array([back.c, back.f])
        corners = bounds(transform(np.array([box(*one) for one in bounds(layer.polygons)]), lambda p: p @ turn + shift))
        left, top = np.floor(np.nanmin(corners[:, :2], axis=0)).astype(int)
        right, bottom = np.ceil(np.nanmax(corners[:, 2:], axis=0)).astype(int)
        first, last = (max(top, 0), max(left, 0)), (min(bottom, height), min(right, width))
        size = (max(last[0] - first[0], 0), max(last[1] - first[1], 0))
        return [Region(first[0] + one.top, first[1] + one.left, one.height, one.width) for one in tiles(size, _BLOCK)]


def _pixel_area(geodesic: Geodesic | None, region: Region) -> float:
    """Square metres of the pixel in the middle of a region."""
    if geodesic is None:
        return 1.0
    middle = np.array([[region.left + region.width / 2, region.top + region.height / 2]])
    return float(geodesic.pixel_areas(middle)[0])
