"""Outlines of the connected areas of a map, block by block: memory grows with a row of blocks, not with the map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from semikit.errors import FileFault, some
from semikit.raster.connected import Numbers, connected, joined
from semikit.raster.geodesic import Geodesic, Geometries
from semikit.raster.reading import errors

NODATA = 255
"""Gets no polygons."""

_SIDE = 1024
"""Pixels a side of a block."""
_OUTSIDE = 256
"""The value of what lies beside the map."""
_ZONE = 512
"""What is added to the values of each zone around a block, more than any value."""


@final
@dataclass(frozen=True, slots=True)
class Areas:
    """Areas (N,): polygons in pixels (column, row), class, pixels, size in square metres (pixels without a place), and
    the sum of the shares raster over their pixels.
    """

    polygons: Geometries
    values: NDArray[np.int32]
    pixels: NDArray[np.int64]
    areas: NDArray[np.float64]
    sums: NDArray[np.float64]

    def chosen(self, which: NDArray[Any]) -> Areas:
        """Some of them, by a mask or by numbers."""
        columns = (self.polygons, self.values, self.pixels, self.areas, self.sums)
        return Areas(*(column[which] for column in columns))

    @classmethod
    def together(cls, several: Sequence[Areas]) -> Areas:
        """All of several."""
        names = ("polygons", "values", "pixels", "areas", "sums")
        return cls(*(np.concatenate([getattr(one, name) for one in several]) for name in names))


@final
@dataclass
class Tracing:
    """The areas of a map of classes (an open raster called `file`), each once, in batches that are complete.

    Values of `skipped` are not outlined. `shares` is an open raster on the same grid. With `simplify` (metres, pixels
    without a place) outlines have fewer vertices, the same ones on both sides of a border: all areas of a block are
    simplified together, and where blocks meet borders stay as they are.
    """

    raster: Any
    file: Path
    class_count: int
    geodesic: Geodesic | None
    skipped: frozenset[int]
    simplify: float = 0.0
    shares: Any = None
    _waiting: list[Areas] = field(default_factory=list)
    """Areas of this row of blocks, and those that came from above."""
    _pairs: list[tuple[Numbers, Numbers]] = field(default_factory=list)
    """Numbers of those that are one area."""
    _count: int = 0

    def __iter__(self) -> Iterator[Areas]:
        height, width = self.raster.shape
        above = np.full(width, -1)
        """The numbers of the areas of the row above, -1 where it has none."""
        for top in range(0, height, _SIDE):
            bottom = min(top + _SIDE, height)
            below, beside = np.full(width, -1), np.full(bottom - top, -1)
            for left in range(0, width, _SIDE):
                right = min(left + _SIDE, width)
                numbers = self._block(top, bottom, left, right)
                self._join(above[left:right], numbers[0])
                self._join(beside, numbers[:, 0])
                below[left:right], beside = numbers[-1], numbers[:, -1]
            done, above = self._complete(below if bottom < height else np.full(width, -1))
            yield done

    def _block(self, top: int, bottom: int, left: int, right: int) -> NDArray[np.int64]:
        """Outline a block; returns the number (h, w) of each pixel's area, -1 where it is skipped."""
        edge = 1 if self.simplify else 0
        values = self._read(top - edge, bottom + edge, left - edge, right + edge)
        ids, heads = connected(values)
        found = values.ravel()[heads]
        inside = found < NODATA + 1
        outlined = inside & ~np.isin(found, list(self.skipped))
        polygons = self._outlines(ids, None if self.simplify else outlined, (left - edge, top - edge))
        inner = ids[1:-1, 1:-1] if edge else ids
        pixels = np.bincount(inner.ravel(), minlength=len(heads))
        weights = None if self.shares is None else self.shares.read(1, window=((top, bottom), (left, right))).ravel()
        sums = np.bincount(inner.ravel(), weights, len(heads)).astype(np.float64)
        chosen = np.flatnonzero(outlined)
        areas = self.geodesic.areas(polygons[chosen]) if self.geodesic else pixels[chosen].astype(np.float64)
        if self.simplify and len(chosen):
            polygons = self._simplified(polygons, chosen)
        classes = found.astype(np.int32)
        self._waiting.append(Areas(polygons[chosen], classes[chosen], pixels[chosen], areas, sums[chosen]))
        numbers = np.full(len(heads), -1)
        numbers[chosen] = np.arange(self._count, self._count + len(chosen))
        self._count += len(chosen)
        return numbers[inner]

    def _read(self, top: int, bottom: int, left: int, right: int) -> NDArray[np.int32]:
        """Classes; of what is a pixel beside the block each side and corner has values of its own, so that the border
        of the block is one of areas, with a vertex wherever areas of either side meet.
        """
        damages: tuple[type[Exception], ...] = (OSError, *errors())
        height, width = self.raster.shape
        rows, columns = (max(top, 0), min(bottom, height)), (max(left, 0), min(right, width))
        try:
            values: NDArray[np.int32] = self.raster.read(1, window=(rows, columns)).astype(np.int32)
        except damages as error:
            raise FileFault("damaged GeoTIFF", self.file, str(error), "Make it again.") from None
        present = np.unique(values)
        unnamed = [str(value) for value in present if self.class_count <= value < NODATA]
        if unnamed:
            detail = f"{some(unnamed)}; there are {self.class_count} names, counted from 0"
            raise FileFault("classes without a name", self.file, detail, "Give the names that the map was made with.")
        if not self.simplify:
            return values
        around = ((rows[0] - top, bottom - rows[1]), (columns[0] - left, right - columns[1]))
        values = np.pad(values, around, constant_values=_OUTSIDE)
        zones = np.zeros(values.shape, dtype=np.int32)
        zones[0] += 1
        zones[-1] += 2
        zones[:, 0] += 3
        zones[:, -1] += 6
        return values + _ZONE * zones

    def _outlines(self, ids: NDArray[np.int32], outlined: NDArray[np.bool_] | None, corner: Any) -> Geometries:
        """The polygon (N,) of each area in pixels of the map, None for those that are not `outlined`."""
        from rasterio.features import shapes
        from rasterio.transform import IDENTITY
        from shapely import transform
        from shapely.geometry import shape

        polygons = np.full(int(ids.max()) + 1, None, dtype=object)
        mask = None if outlined is None else outlined[ids]
        for outline, number in shapes(ids, mask=mask, connectivity=4, transform=IDENTITY):
            polygons[int(number)] = shape(outline)
        return np.asarray(transform(polygons, lambda points: points + corner))

    def _simplified(self, polygons: Geometries, chosen: Numbers) -> Geometries:
        """All polygons of a block, with fewer vertices along their borders; `chosen` are those that count."""
        from shapely import bounds, box, coverage_simplify, segmentize, transform

        scale: Any = np.ones(2)
        if self.geodesic:
            boxes = bounds(polygons[chosen])
            middle = box(*boxes[:, :2].min(0), *boxes[:, 2:].max(0))
            scale = self.geodesic.pixel_sizes(np.array([middle]))[0]
        # A vertex at every corner of a pixel, or an edge would not be the same one from both sides.
        fine = transform(segmentize(polygons, 1.0), lambda points: np.rint(points) * scale)
        fewer = coverage_simplify(fine, self.simplify, simplify_boundary=False)
        return np.asarray(transform(fewer, lambda points: np.rint(points / scale)))

    def _join(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
        """Areas of one class that touch across the border of a block; numbers of both sides."""
        both = (first >= 0) & (second >= 0)
        pairs = np.unique(np.stack([first[both], second[both]]), axis=1)
        self._pairs.append((pairs[0], pairs[1]))

    def _complete(self, below: NDArray[np.int64]) -> tuple[Areas, NDArray[np.int64]]:
        """The areas that do not go on in the next row of blocks; the numbers, for the row above, of those that do."""
        every = Areas.together(self._waiting)
        first, second = (np.concatenate(part) for part in zip(*self._pairs, strict=True))
        alike = every.values[first] == every.values[second]
        root = joined(self._count, first[alike], second[alike])
        open_ones = np.zeros(self._count, dtype=np.bool_)
        open_ones[root[below[below >= 0]]] = True
        stay = open_ones[root]
        kept = np.flatnonzero(stay)
        number = np.searchsorted(kept, np.arange(self._count))
        roots = number[root[kept]]
        self._waiting, self._count = [every.chosen(kept)], len(kept)
        self._pairs = [(np.arange(len(kept)), roots)]
        above = np.where(below >= 0, number[np.maximum(below, 0)], -1) if self._count else np.full(len(below), -1)
        return _merged(every, root, ~stay, plain=not self.simplify), above


def _merged(parts: Areas, root: Numbers, which: NDArray[np.bool_], plain: bool) -> Areas:
    """One area for all parts of one `root`; `plain` ones lose the vertices that blocks left on straight edges, which
    are else those of neighbours.
    """
    from shapely import simplify, union_all

    chosen = np.flatnonzero(which)
    order = chosen[np.argsort(root[chosen], kind="stable")]
    heads, first = np.unique(root[order], return_index=True)
    ends = np.append(first[1:], len(order))
    polygons = parts.polygons[heads].copy()
    for index in np.flatnonzero(ends - first > 1):
        polygons[index] = union_all(parts.polygons[order[first[index] : ends[index]]])
        if plain:
            polygons[index] = simplify(polygons[index], 0.0)
    owner = np.repeat(np.arange(len(heads)), ends - first)
    pixels, areas, sums = (
        np.bincount(owner, column[order], len(heads)).astype(np.float64)
        for column in (parts.pixels, parts.areas, parts.sums)
    )
    return Areas(polygons, parts.values[heads], pixels.astype(np.int64), areas, sums)
