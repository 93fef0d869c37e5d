"""Outlines -> pixels: a pixel belongs to a polygon in which its centre lies."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

_alone = Lock()
"""rasterio changes the filters of warnings while it draws, and those belong to all threads."""


def burn(values: NDArray[np.uint8], shapes: Iterable[tuple[Any, int]], transform: Any = None) -> None:
    """Give the pixels (H, W) of each polygon its value, in place, one after the other: later ones lie on top.

    A polygon is GeoJSON's mapping or shapely's geometry: in pixels (column, row; the corner of the first pixel is
    0, 0), with `transform` (rasterio's) in coordinates of the map. A pixel whose centre lies within it gets the value;
    parts outside of the pixels are cut off. Of a centre right on an edge that two polygons share, one of them has it.
    """
    from rasterio.features import rasterize
    from rasterio.transform import IDENTITY

    waiting = [(shape, value) for shape, value in shapes]
    if waiting:
        with _alone:
            rasterize(waiting, out=values, transform=IDENTITY if transform is None else transform)
