"""Where on a mask its classes lie, coarsely: what a crop is placed by that has to hold one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from semikit.data.samples import Samples, regions_of
from semikit.raster.region import Region

_BLOCKS, _SMALLEST = 32, 32
"""Blocks along the longer side of a mask at most, and pixels a side of a block at least."""


@final
@dataclass(frozen=True, slots=True)
class ClassBlocks:
    """The blocks of a mask of `size` (H, W), `side` pixels a side, that hold a valid pixel of each class: bits, row by
    row, at most 128 bytes a class.
    """

    size: tuple[int, int]
    side: int
    bits: Mapping[int, NDArray[np.uint8]]

    @classmethod
    def of(cls, source: Samples, index: int) -> ClassBlocks:
        """Those of one mask, which is read through; rasters by tiles.

        Raises:
            FileFault: it cannot be read.
        """
        size, side, held = source.extent(index), 0, dict[int, NDArray[np.bool_]]()
        for region in regions_of(source, index):
            labels, valid = source.target(index, region)
            size = size or (labels.shape[0], labels.shape[1])
            side = max(_SMALLEST, -(-max(size) // _BLOCKS))
            top, left = (0, 0) if region is None else (region.top, region.left)
            rows, columns = (_starts(at, n, side) for at, n in zip((top, left), labels.shape, strict=True))
            place = np.ix_((rows + top) // side, (columns + left) // side)
            for number in np.unique(labels[valid]).tolist():
                found = np.logical_or.reduceat(np.logical_or.reduceat((labels == number) & valid, rows), columns, 1)
                grid = held.setdefault(number, np.zeros((-(-size[0] // side), -(-size[1] // side)), np.bool_))
                grid[place] |= found
        assert size is not None
        return cls(size, side, {number: np.packbits(grid) for number, grid in held.items()})

    def holding(self, number: int | None) -> NDArray[np.int64]:
        """The blocks that hold a class; None: any."""
        chosen = [bits for known, bits in self.bits.items() if number in (known, None)]
        return np.flatnonzero(np.unpackbits(np.bitwise_or.reduce(chosen))) if chosen else np.zeros(0, np.int64)

    def region(self, block: int) -> Region:
        """The pixels of a block."""
        row, column = divmod(block, -(-self.size[1] // self.side))
        top, left = row * self.side, column * self.side
        return Region(top, left, min(self.side, self.size[0] - top), min(self.side, self.size[1] - left))


def _starts(first: int, count: int, side: int) -> NDArray[np.int64]:
    """Where blocks begin among `count` pixels from `first` on, counted from there."""
    inner = np.arange(-first % side, count, side)
    return inner if len(inner) and inner[0] == 0 else np.concatenate([[0], inner]).astype(np.int64)
