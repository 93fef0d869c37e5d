"""Connected areas: pixels of one value that touch by their sides."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.intp]


def connected(values: NDArray[Any]) -> tuple[NDArray[np.int32], Numbers]:
    """The number (h, w) of the area that each pixel of `values` (h, w) belongs to, and the flat index (N,) of the first
    pixel of every area; areas are numbered in the order of their first pixels.

    Pixels that touch at a corner only stay apart.
    """
    starts = run_starts(values)
    runs = (np.cumsum(starts, dtype=np.int32) - np.int32(1)).reshape(values.shape)
    meet = starts[:-1] | starts[1:]
    same = meet & (values[:-1] == values[1:])
    first = np.flatnonzero(starts)
    root = joined(len(first), runs[:-1][same], runs[1:][same])
    heads = root == np.arange(len(root))
    number = (np.cumsum(heads, dtype=np.int32) - np.int32(1))[root]
    return number[runs], first[heads]


def run_starts(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where (h, w) a row begins, or has another value than the pixel before."""
    starts = np.ones(values.shape, dtype=np.bool_)
    np.not_equal(values[:, 1:], values[:, :-1], out=starts[:, 1:])
    return starts


def joined(count: int, first: NDArray[Any], second: NDArray[Any]) -> Numbers:
    """The lowest number (count,) of those that each of 0 … count - 1 is connected with by the pairs (M,)."""
    root = np.arange(count)
    while True:
        a, b = root[first], root[second]
        apart = a != b
        if not apart.any():
            return root
        first, second, a, b = first[apart], second[apart], a[apart], b[apart]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        root = followed(root)


def followed(pointers: Numbers) -> Numbers:
    """Where each of the pointers (N,) ends; those that point at themselves are ends."""
    while True:
        further = pointers[pointers]
        if np.array_equal(further, pointers):
            return pointers
        pointers = further
