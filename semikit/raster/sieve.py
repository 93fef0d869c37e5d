"""Areas of a map that are too small take the class of what surrounds them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from semikit.raster.connected import Numbers, connected, joined, run_starts
from semikit.raster.geodesic import Geodesic
from semikit.raster.region import Region

_PIXELS = 1 << 21
"""About as many of a strip are held."""


class ClassRaster(Protocol):
    """Class numbers, read and written region by region."""

    def read(self, region: Region) -> NDArray[np.uint8]:
        """Classes (h, w)."""
        ...

    def write(self, region: Region, values: NDArray[np.uint8]) -> None:
        """Classes (h, w)."""
        ...


def sieve(
    raster: ClassRaster,
    size: tuple[int, int],
    min_area: float,
    *,
    geodesic: Geodesic | None,
    background: int | None,
    nodata: int,
) -> int:
    """Give areas of one class that are smaller than `min_area` another class, in place; returns their number.

    An area is what one polygon would be: pixels that touch by their sides. Its size is in square metres, by the size
    of a pixel at its middle, or pixels without `geodesic`. With `background` (of change: unchanged) small areas become
    that, and areas of the background stay. Else each goes to the neighbour that it has the longest border with, of
    those larger than itself, the smallest first, until no small one has a neighbour; those with nothing but `nodata`
    around stay as they are, and so does `nodata`.

    The raster is read twice, strip by strip; memory grows with the number of areas and their borders alone.
    """
    areas = _Areas(nodata)
    strips = _strips(size)
    for top, _, values in _read(raster, size, strips):
        areas.add(values, top, borders=background is None)
    classes, removed = areas.sieved(min_area, geodesic, background)
    if removed:
        first = 0
        for top, bottom, values in _read(raster, size, strips):
            ids, heads = connected(values)
            changed = classes[first : first + len(heads)][ids]
            first += len(heads)
            new = slice(0 if not top else 1, None)
            if not np.array_equal(changed[new], values[new]):
                raster.write(Region(top, 0, bottom - top, size[1]), changed[new])
    return removed


def _strips(size: tuple[int, int]) -> list[tuple[int, int]]:
    rows = max(1, _PIXELS // size[1])
    return [(top, min(top + rows, size[0])) for top in range(0, size[0], rows)]


def _read(
    raster: ClassRaster, size: tuple[int, int], strips: list[tuple[int, int]]
) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
    """First and last + 1 row of each strip with its classes, and, but for the first, those of the row above."""
    above: NDArray[np.uint8] = np.zeros((0, size[1]), np.uint8)
    for top, bottom in strips:
        values = np.concatenate([above, raster.read(Region(top, 0, bottom - top, size[1]))])
        above = values[-1:].copy()  # as it was, whatever is written
        yield top, bottom, values


@final
@dataclass
class _Borders:
    """How many sides of pixels two areas share; every border stands there once."""

    first: Numbers
    second: Numbers
    sides: NDArray[np.float64]

    @classmethod
    def counted(cls, first: NDArray[Any], second: NDArray[Any], sides: NDArray[Any]) -> _Borders:
        """From areas that touch, in any order; what is no border between two is left out."""
        apart = first != second
        low, high = np.minimum(first, second)[apart].astype(np.int64), np.maximum(first, second)[apart].astype(np.int64)
        span = int(high.max(initial=0)) + 1
        keys, place = np.unique(low * span + high, return_inverse=True)
        summed = np.bincount(place, sides[apart], len(keys))
        return cls((keys // span).astype(np.intp), (keys % span).astype(np.intp), summed.astype(np.float64))

    def both_ways(self) -> tuple[Numbers, Numbers, NDArray[np.float64]]:
        """Each border from either side."""
        return (
            np.concatenate([self.first, self.second]),
            np.concatenate([self.second, self.first]),
            np.tile(self.sides, 2),
        )


@final
@dataclass
class _Areas:
    """The areas of all strips, numbered from strip to strip; one that lies in several stands there as often."""

    nodata: int
    count: int = 0
    values: list[NDArray[np.uint8]] = field(default_factory=list)
    sums: list[NDArray[np.float64]] = field(default_factory=list)
    """Pixels, and the sums of their columns and rows (N, 3)."""
    same: list[tuple[Numbers, Numbers]] = field(default_factory=list)
    """Areas that go on from a strip to the next."""
    borders: list[_Borders] = field(default_factory=list)
    _last: Numbers | None = None
    """The areas of the last row (W,)."""

    def add(self, values: NDArray[np.uint8], top: int, borders: bool) -> None:
        """A strip (h, W), whose first row, but for the first strip, is the last one of the strip before."""
        ids, heads = connected(values)
        known = 0 if self._last is None else 1
        if self._last is not None:
            starts = run_starts(values[:1])[0]
            self.same.append((self._last[starts], ids[0, starts] + self.count))
        self.values.append(values.ravel()[heads])
        self.sums.append(_sums(ids[known:], len(heads), top))
        if borders:
            found = _touching(values, ids, known)
            inner = (values.ravel()[heads] != self.nodata)[np.stack([found.first, found.second])].all(axis=0)
            self.borders.append(
                _Borders(found.first[inner] + self.count, found.second[inner] + self.count, found.sides[inner])
            )
        self._last = ids[-1] + self.count
        self.count += len(heads)

    def sieved(
        self, min_area: float, geodesic: Geodesic | None, background: int | None
    ) -> tuple[NDArray[np.uint8], int]:
        """The new class of every area, as they were added, and how many were too small."""
        first, second = (np.concatenate(part) for part in zip((_none(), _none()), *self.same, strict=True))
        root = joined(self.count, first, second)
        heads = np.flatnonzero(root == np.arange(self.count))
        number = np.searchsorted(heads, root)
        classes = np.concatenate(self.values)[heads]
        sums = np.concatenate(self.sums)
        sums = np.stack([np.bincount(number, column, len(heads)) for column in sums.T], axis=1)
        areas = _measured(sums, geodesic)
        kept = (self.nodata,) if background is None else (self.nodata, background)
        small = (areas < min_area) & ~np.isin(classes, kept)
        if background is not None:
            return np.where(small, np.uint8(background), classes)[number], int(small.sum())
        empty = _Borders(_none(), _none(), np.zeros(0))
        every = [empty, *self.borders]
        borders = _Borders.counted(
            number[np.concatenate([one.first for one in every])],
            number[np.concatenate([one.second for one in every])],
            np.concatenate([one.sides for one in every]),
        )
        merged = _merged(classes, areas, borders, min_area)
        return classes[merged][number], int((classes[merged] != classes).sum())


def _none() -> Numbers:
    return np.zeros(0, dtype=np.intp)


def _sums(ids: NDArray[np.int32], count: int, top: int) -> NDArray[np.float64]:
    """Of each area the pixels, and the sums of the columns and rows (N, 3) of their middles."""
    flat, (height, width) = ids.ravel(), ids.shape
    columns = np.broadcast_to(np.arange(width) + 0.5, ids.shape).ravel()
    rows = np.repeat(np.arange(top, top + height) + 0.5, width)
    return np.stack([np.bincount(flat, weights, count) for weights in (None, columns, rows)], axis=1).astype(float)


def _touching(values: NDArray[np.uint8], ids: NDArray[np.int32], known: int) -> _Borders:
    """The borders of a strip; those within its first `known` rows were counted before."""
    starts = run_starts(values)
    beside = starts[known:, 1:]
    left, right = ids[known:, :-1][beside], ids[known:, 1:][beside]
    meet = (starts[:-1] | starts[1:]).ravel()
    begins = np.flatnonzero(meet)
    above, below = ids[:-1].ravel()[begins], ids[1:].ravel()[begins]
    sides = np.diff(begins, append=meet.size)
    return _Borders.counted(
        np.concatenate([left, above]), np.concatenate([right, below]), np.concatenate([np.ones(len(left)), sides])
    )


def _measured(sums: NDArray[np.float64], geodesic: Geodesic | None) -> NDArray[np.float64]:
    """Square metres or pixels (N,) of areas, by their `_sums`."""
    pixels = sums[:, 0]
    return pixels if geodesic is None else pixels * geodesic.pixel_areas(sums[:, 1:] / pixels[:, None])


def _merged(classes: NDArray[np.uint8], areas: NDArray[np.float64], borders: _Borders, min_area: float) -> Numbers:
    """Which area (N,) each becomes part of: a small one of a larger neighbour, until no small one has a neighbour.

    In every round those move that no other one is to move into, so that what is small together may be large enough.
    Areas of one class that touch from then on are one.
    """
    group, count = np.arange(len(classes)), len(classes)
    while True:
        target = _targets(areas, borders, min_area)
        moving = target != np.arange(count)
        if not moving.any():
            return group
        awaited = np.zeros(count, dtype=np.bool_)
        awaited[target[moving]] = True
        root = np.where(moving & ~awaited, target, np.arange(count))
        alike = classes[root[borders.first]] == classes[root[borders.second]]
        ends = joined(count, root[borders.first[alike]], root[borders.second[alike]])[root]
        areas = np.bincount(ends, areas, count).astype(np.float64)
        group = ends[group]
        borders = _Borders.counted(ends[borders.first], ends[borders.second], borders.sides)


def _targets(areas: NDArray[np.float64], borders: _Borders, min_area: float) -> Numbers:
    """Which neighbour (N,) each area is to become part of, itself where it is large or has none that is larger."""
    here, there, sides = borders.both_ways()
    larger = (areas[there] > areas[here]) | ((areas[there] == areas[here]) & (there < here))
    chosen = larger & (areas[here] < min_area)
    here, there, sides = here[chosen], there[chosen], sides[chosen]
    order = np.lexsort((-there, areas[there], sides, here))
    last = np.append(here[order][1:] != here[order][:-1], True)[: len(order)]
    target = np.arange(len(areas))
    target[here[order][last]] = there[order][last]
    return target
