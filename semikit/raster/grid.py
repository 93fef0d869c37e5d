"""Grids: which place on the map each pixel of a raster shows, and how those of two dates agree."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self, final

import numpy as np

_SAME_PIXELS = 0.01
"""Corners that differ by less are at the same place, pixels."""

TURNS = (0.0, 360.0, -360.0)
"""Degrees by which longitudes of one meridian may differ: 190 and -170."""

Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""


@final
@dataclass(frozen=True, slots=True)
class Grid:
    """Pixels on a map: `size` (H, W), coordinate reference system and transform (rasterio's), None where the file has
    none.
    """

    size: tuple[int, int]
    crs: Any = None
    transform: Any = None

    @classmethod
    def of(cls, file: Any) -> Self:
        """The grid of an open raster.

        Raises:
            ValueError: its pixels have no extent on the map.
        """
        size = (file.height, file.width)
        a, b, c, d, e, f = tuple(file.transform)[:6]
        if a * e == b * d or not np.isfinite((a, b, c, d, e, f)).all():
            raise ValueError(f"its pixels have no extent on the map, by its transform {(a, b, c, d, e, f)}")
        return cls(size, file.crs, None if file.transform.is_identity else file.transform)

    @property
    def placed(self) -> bool:
        """Whether it has a place on the map."""
        return self.crs is not None and self.transform is not None

    @property
    def corners(self) -> list[tuple[float, float]]:
        """Map coordinates of the four corners."""
        height, width = self.size
        return [_applied(self.transform, corner) for corner in ((0, 0), (width, 0), (width, height), (0, height))]

    @property
    def bounds(self) -> Box:
        """The rectangle around it, map coordinates."""
        x, y = zip(*self.corners, strict=True)
        return min(x), min(y), max(x), max(y)

    @property
    def name(self) -> str:
        """The usual name of the reference system."""
        code = self.crs.to_epsg() if self.placed else None
        return f"EPSG:{code}" if code else "an unnamed reference system" if self.placed else "no reference system"

    def text(self) -> str:
        """Reference system and extent, for messages."""
        left, bottom, right, top = self.bounds
        return f"{self.name}, x {left:.10g} to {right:.10g}, y {bottom:.10g} to {top:.10g}"

    def equals(self, other: Grid) -> bool:
        """Whether every pixel shows the same place, to a hundredth of a pixel."""
        if self.size != other.size or self.placed != other.placed:
            return False
        if not self.placed:
            return True
        if self.crs != other.crs:
            return False
        back = ~self.transform  # compared in pixels: degrees and metres have no tolerance in common
        turns = other.turns_onto(self)
        pairs = zip(self.corners, other.turned(turns[0]).corners if len(turns) == 1 else other.corners, strict=True)
        moved = [np.subtract(_applied(back, a), _applied(back, b)) for a, b in pairs]
        return bool(np.abs(moved).max() < _SAME_PIXELS)

    def overlaps(self, other: Grid) -> bool:
        """Whether some place lies in both; both have to be placed."""
        left, bottom, right, top = self.bounds
        a, b, c, d = _brought(other, self.crs)
        turns = TURNS if self.crs.is_geographic else (0.0,)
        return max(bottom, b) < min(top, d) and any(max(left, a + t) < min(right, c + t) for t in turns)

    def turned(self, degrees: float) -> Grid:
        """The same pixels, written so many degrees of longitude farther east."""
        a, b, c, d, e, f = tuple(self.transform)[:6]
        return replace(self, transform=type(self.transform)(a, b, c + degrees, d, e, f))

    def turns_onto(self, other: Grid) -> list[float]:
        """By which turns this grid is `turned`, where it is in degrees, so that all that it has in common with another
        lies on it: none, one, or several where it reaches over the meridian that longitudes are counted to.
        """
        if not self.crs.is_geographic:
            return [0.0]
        left, _, right, _ = self.bounds
        first, _, last, _ = _brought(other, self.crs)
        # What is computed from another system lies within half a turn.
        spans = [(first, last)] if other.crs == self.crs else [(first, min(last, 180.0)), (-180.0, last - 360.0)]
        found = [t for t in TURNS if any(max(left + t, a) < min(right + t, b) for a, b in spans)]
        return found or [0.0]


def _applied(transform: Any, point: tuple[float, float]) -> tuple[float, float]:
    """Where a transform takes a point; written out, as the operator for it differs between versions of affine."""
    a, b, c, d, e, f = tuple(transform)[:6]
    x, y = point
    return a * x + b * y + c, d * x + e * y + f


def _brought(grid: Grid, crs: Any) -> Box:
    """The rectangle around a grid in another reference system; infinite where it is not known."""
    if grid.crs == crs:
        return grid.bounds
    from rasterio.warp import transform_bounds

    left, bottom, right, top = transform_bounds(grid.crs, crs, *grid.bounds)
    if not np.isfinite((left, bottom, right, top)).all():
        return -np.inf, -np.inf, np.inf, np.inf
    # Across the antimeridian the right end is the smaller number.
    return left, bottom, right + 360.0 if right < left and crs.is_geographic else right, top
