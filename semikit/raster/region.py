"""Rectangles of pixels, and how a large image is covered by them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle: first row and column, height and width, pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index an array (H, W, ...)."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def __str__(self) -> str:
        rows, columns = self.slices
        return f"rows {rows.start} to {rows.stop - 1}, columns {columns.start} to {columns.stop - 1}"


def tiles(size: tuple[int, int], side: int) -> Iterator[Region]:
    """Regions of at most `side` x `side` pixels that cover an image of `size` (H, W), row by row."""
    height, width = size
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield Region(top, left, min(side, height - top), min(side, width - left))


def middle(size: tuple[int, int], side: int) -> Region:
    """The region of at most `side` x `side` pixels in the middle of an image of `size` (H, W)."""
    height, width = min(side, size[0]), min(side, size[1])
    return Region((size[0] - height) // 2, (size[1] - width) // 2, height, width)
