"""Where the pixels of a raster lie on the Earth: longitude and latitude, areas, and how far apart they are."""

from __future__ import annotations

from math import ceil, floor
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from semikit.errors import DataError, FileFault

Geometries = NDArray[np.object_]
Points = NDArray[np.float64]

_STEP = 64.0
"""Pixels. Longer edges get vertices between: a line that is straight in one CRS is bent in another."""
_DECIMALS = 8
"""Of degrees: about a millimetre."""
_REMEDY = "Give it the CRS it was made in (rio edit-info --crs EPSG:NUMBER FILE), or none (--unset-crs)."


@final
class Geodesic:
    """The place of a raster: takes polygons in pixels (column, row; row 0 is the upper edge) to the Earth.

    `transform` is the raster's affine transformation, `wkt` its CRS, `file` stands in errors.

    Raises:
        FileFault: the CRS is not tied to the Earth.
    """

    def __init__(self, transform: Any, wkt: str, file: Path) -> None:
        from pyproj import Geod, Transformer
        from pyproj.exceptions import ProjError

        self.wkt, self._file, self._geod = wkt, file, Geod(ellps="WGS84")
        self._matrix = np.array([[transform.a, transform.b], [transform.d, transform.e]], dtype=np.float64)
        self._corner = np.array([transform.c, transform.f], dtype=np.float64)
        try:
            self._to_degrees = Transformer.from_crs(wkt, "EPSG:4326", always_xy=True)
        except ProjError as error:
            reason = " ".join(str(error).split()).partition(":")[0]
            raise FileFault("CRS that no longitude and latitude belong to", file, reason, _REMEDY) from None

    def in_crs(self, pixels: Points) -> Points:
        """Pixels (N, 2) as x and y of the raster's CRS."""
        return pixels @ self._matrix.T + self._corner

    def degrees(self, pixels: Points) -> Points:
        """Pixels (N, 2) as longitude and latitude of WGS 84.

        Raises:
            FileFault: one that is no place on the Earth.
        """
        places = np.column_stack(self._to_degrees.transform(*self.in_crs(pixels).T))
        lost = ~np.isfinite(places).all(axis=1) | (np.abs(places[:, 1]) > 90)
        if lost.any():
            column, row = pixels[np.argmax(lost)]
            x, y = self.in_crs(pixels[lost][:1])[0]
            detail = f"column {column:g}, row {row:g} is x {x:g}, y {y:g} of its CRS, which is no place on the Earth"
            raise FileFault("CRS and georeferencing that do not fit", self._file, detail, _REMEDY)
        return places

    def areas(self, polygons: Geometries) -> NDArray[np.float64]:
        """Square metres (N,) on the ellipsoid of WGS 84, holes subtracted, whatever the CRS does to areas."""
        return np.array([self._area(polygon) for polygon in self._on_globe(polygons)], dtype=np.float64)

    def pixel_sizes(self, polygons: Geometries) -> Points:
        """Metres (N, 2) from column to column and from row to row at the middle of each polygon."""
        from shapely import bounds

        boxes = bounds(polygons)
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        points = np.concatenate([middle + step for step in ([0, 0], [1, 0], [0, 1])])
        start, *reached = np.split(self.degrees(points), 3)
        metres = self._geod.inv(*np.concatenate([start, start]).T, *np.concatenate(reached).T)[2]
        return np.asarray(metres, dtype=np.float64).reshape(2, -1).T

    def pixel_areas(self, places: Points) -> NDArray[np.float64]:
        """Square metres (N,) of a pixel around each of `places` (N, 2: column, row); infinite where that is no place on
        the Earth.
        """
        ends = [self._to_degrees.transform(*self.in_crs(places + step).T) for step in ([0, 0], [1, 0], [0, 1])]
        known = np.isfinite(ends).all(axis=(0, 1)) & (np.abs(np.array(ends)[:, 1]) <= 90).all(axis=0)
        start, right, below = (np.where(known, end, 0.0) for end in np.array(ends))
        (towards, _, width), (down, _, height) = (self._geod.inv(*start, *end) for end in (right, below))
        areas = np.asarray(width) * height * np.abs(np.sin(np.radians(np.subtract(towards, down))))
        return np.where(known, areas, np.inf)

    def geojson(self, polygons: Geometries) -> Geometries:
        """In longitude and latitude of WGS 84, rounded to a millimetre, cut at the antimeridian.

        Source: RFC 7946, sections 3.1.9 and 4.

        Raises:
            FileFault: a polygon around a pole, which has no boundary in longitude and latitude.
        """
        from shapely import bounds, transform

        places = self._on_globe(polygons)
        west, _, east, _ = bounds(places).T
        for index in np.flatnonzero((west < -180) | (east > 180) | (east - west > 180)):
            places[index] = self._cut(places[index])
        return np.asarray(transform(places, lambda points: points.round(_DECIMALS)))

    def _on_globe(self, polygons: Geometries) -> Geometries:
        from shapely import segmentize, transform
        from shapely.errors import GEOSException

        try:
            return np.asarray(transform(segmentize(polygons, _STEP), self.degrees))
        except GEOSException as error:
            raise DataError(
                f"the map has no place on the globe: {error}. Correct the transform or the reference system of the "
                "image, or leave out --polygons."
            ) from error

    def _area(self, polygon: Any) -> float:
        outer, *holes = (abs(self._geod.polygon_area_perimeter(*ring.xy)[0]) for ring in _rings(polygon))
        return float(outer - sum(holes))

    def _cut(self, polygon: Any) -> Any:
        from shapely import MultiPolygon, box, get_parts, intersection, transform

        # Across the antimeridian longitudes jump from 180 to -180; counted from 0 to 360 the polygon is in one piece.
        if _jumps(polygon):
            polygon = transform(polygon, lambda points: points + [360, 0] * (points[:, :1] < 0))
        if _jumps(polygon):
            remedy = "Write a .gpkg instead, which keeps the CRS of the raster."
            raise FileFault("polygon around a pole, which GeoJSON cannot hold", self._file, "", remedy)
        west, _, east, _ = polygon.bounds
        parts: list[Any] = []
        for turn in range(360 * floor((west + 180) / 360), 360 * ceil((east + 180) / 360), 360):
            piece = intersection(polygon, box(turn - 180, -90, turn + 180, 90))
            moved = transform(piece, lambda points, turn=turn: points - [turn, 0])
            parts += [part for part in get_parts(moved) if part.geom_type == "Polygon"]
        return MultiPolygon(parts) if len(parts) > 1 else parts[0]


def _rings(polygon: Any) -> list[Any]:
    return [polygon.exterior, *polygon.interiors]


def _jumps(polygon: Any) -> bool:
    """Whether an edge leads from one end of the longitudes to the other."""
    return any(np.abs(np.diff(ring.xy[0])).max() > 180 for ring in _rings(polygon))
