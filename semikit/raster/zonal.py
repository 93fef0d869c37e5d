"""Sums of a raster over polygons of whole pixels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semikit.raster.geodesic import Geometries
from semikit.raster.reading import rasterio_for

_PIXELS = 4_000_000
"""About as many of a strip are held."""


def sums_within(file: Path, polygons: Geometries) -> NDArray[np.float64]:
    """Sums (N,) of the first band over each polygon, whose vertices are corners of pixels (column, row).

    The sum over a region is that of the integral image I(row, column), all above and to the left, at the ends of the
    region's vertical edges (Green's theorem). It is made strip by strip, so that memory grows with the polygons alone.
    """
    from shapely import get_coordinates, get_rings

    if not len(polygons):
        return np.zeros(0)
    rings, owner = get_rings(polygons, return_index=True)
    points, ring = get_coordinates(rings, return_index=True)
    corners = np.rint(points).astype(np.int64)
    begin, end = corners[:-1], corners[1:]
    vertical = (ring[:-1] == ring[1:]) & (begin[:, 0] == end[:, 0]) & (begin[:, 1] != end[:, 1])
    places = np.concatenate([end[vertical], begin[vertical]])
    integral = _integral_at(file, places[:, 1], places[:, 0])
    ends, begins = np.split(integral, 2)
    totals = np.abs(np.bincount(ring[:-1][vertical], weights=(ends - begins).astype(np.float64), minlength=len(rings)))
    outer = np.concatenate([[True], owner[1:] != owner[:-1]])  # each polygon's first ring; the others are holes
    sums: NDArray[np.float64] = np.bincount(owner, np.where(outer, totals, -totals), len(polygons)).astype(np.float64)
    return sums


def _integral_at(file: Path, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """The integral image (N,) at corners of pixels."""
    order = np.argsort(rows, kind="stable")
    ordered, found = rows[order], np.zeros(len(rows), dtype=np.int64)
    for top, part in _strips(file):
        low, high = np.searchsorted(ordered, (top, top + len(part) - 1), side="right")
        chosen = order[low:high]
        found[chosen] = part[rows[chosen] - top, columns[chosen]]
    return found


def _strips(file: Path) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """First row of each strip, and the integral image (h + 1, W + 1) at all corners of its pixels."""
    with rasterio_for(file).open(file) as raster:
        count = min(max(_PIXELS // raster.width, 1), 512)
        above = np.zeros(raster.width + 1, dtype=np.int64)
        for top in range(0, raster.height, count):
            bottom = min(top + count, raster.height)
            values = raster.read(1, window=((top, bottom), (0, raster.width)))
            part = np.zeros((bottom - top + 1, raster.width + 1), dtype=np.int64)
            np.cumsum(values, axis=1, dtype=np.int64, out=part[1:, 1:])
            part[0] = above
            np.cumsum(part, axis=0, out=part)
            yield top, part
            above = part[-1].copy()
