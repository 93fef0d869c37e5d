"""Large images window by window, blended where they overlap: the parts of a map, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semikit.core.batch import to_device
from semikit.inference.ensemble import Ensemble
from semikit.inference.windows import EvaluateSettings, read_ahead, together, window_starts
from semikit.raster.region import Region

_STRIP_BYTES = 16 << 20
"""About what the sums of a strip may take."""

_MOST_WAITING = 64
"""Windows that are kept, with those that need no network, before the next go through it."""

ReadRegion = Callable[[Region], tuple[NDArray[np.uint8], NDArray[np.bool_] | None]]
"""A region of an image -> pixels (*T, h, w, C) and valid (h, w), None where all are."""


@final
@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an image that is done: probabilities (K, h, w) float32 that sum to 1, on the device, valid (h, w) bool;
    with it `done` of `total` parts of equal work are.
    """

    region: Region
    probabilities: Tensor
    valid: NDArray[np.bool_]
    done: int = 1
    total: int = 1


@final
@dataclass(frozen=True, slots=True)
class MapPart:
    """A part of a scene as its files hold it: where it is valid (h, w), and by kind of file the values (h, w) or
    (h, w, bands) uint8; with it `done` of `total` parts of equal work are.
    """

    region: Region
    valid: NDArray[np.bool_]
    values: Mapping[str, NDArray[np.uint8]]
    done: int = 1
    total: int = 1


@final
@dataclass(frozen=True, slots=True)
class Coverage:
    """Square windows of `side` pixels every `side - overlap` pixels over an image of `size` (H, W); `batch` of them are
    predicted together.

    With `ramp` a window counts less towards its edges: its weight rises linearly over `overlap` pixels along each axis;
    else all of it counts the same.
    """

    size: tuple[int, int]
    side: int
    overlap: int
    batch: int
    ramp: bool = True

    @classmethod
    def published(cls, size: tuple[int, int], settings: EvaluateSettings, crop: int) -> Coverage:
        """Windows of an evaluation, as released: every 2/3 of a window, all alike."""
        side = settings.size or crop
        return cls(size, side, side - max(int(side * 2 / 3), 1), settings.batch, ramp=False)

    def starts(self, axis: int) -> list[int]:
        """Where windows begin along rows (0) or columns (1); the last one ends at the border."""
        return window_starts(self.size[axis], self.side, self.side - self.overlap)

    def shape(self) -> tuple[int, int]:
        """(h, w) of every window; smaller than `side` where the image is."""
        return min(self.side, self.size[0]), min(self.side, self.size[1])

    def weights(self) -> Tensor:
        """Weights (h, w) of a window's pixels, above 0."""
        if not self.ramp:
            return torch.ones(self.shape())
        ramps = [_ramp(length, self.overlap) for length in self.shape()]
        return ramps[0][:, None] * ramps[1][None, :]

    def strips(self, classes: int) -> list[tuple[int, int]]:
        """First and last + 1 column of each strip."""
        width = max(self.side, _STRIP_BYTES // (4 * (classes + 1) * self.shape()[0]))
        return [(left, min(left + width, self.size[1])) for left in range(0, self.size[1], width)]


def predicted(
    read: ReadRegion,
    ensemble: Ensemble,
    coverage: Coverage,
    share: tuple[int, int] = (0, 1),
    busy: Callable[[Region], bool] = lambda region: True,
) -> Generator[Piece, None, None]:
    """The parts of an image, every pixel once, with the mean of the windows' softmax by their weights.

    Windows without a valid pixel are not predicted. Work is counted in rows of windows, strip by strip; with `share` (a
    number, of how many) only that share of them, consecutive ones, are done: over all shares every part comes once, its
    sums in the same order. Only rows that are `busy` count for it.
    """
    strips, tops = coverage.strips(ensemble.num_classes), coverage.starts(0)
    bottoms, shape = [*tops[1:], coverage.size[0]], coverage.shape()
    every = [Region(top, left, shape[0], right - left) for left, right in strips for top in tops]
    work, done = np.cumsum([share[1] == 1 or busy(region) for region in every]), 0
    cuts = np.searchsorted(work, work[-1] * np.arange(1, share[1]) / share[1], side="right")
    first, end = [0, *cuts.tolist(), len(every)][share[0] : share[0] + 2]
    for number, strip in enumerate(strips):
        rows = range(max(first - number * len(tops), 0), min(end - number * len(tops), len(tops)))
        if not rows:
            continue
        before = next(row for row, top in enumerate(tops) if top + shape[0] > tops[rows[0]])  # reaches into the first
        lefts = [left for left in coverage.starts(1) if left < strip[1] and left + shape[1] > strip[0]]
        regions = [Region(top, left, *shape) for top in tops[before : rows[-1] + 1] for left in lefts]
        windows = _in_order(read, ensemble, regions, coverage.batch)
        sums = _Sums(coverage, ensemble.num_classes, strip, ensemble.inference.device)
        for row in range(before, rows[-1] + 1):
            for window in islice(windows, len(lefts)):
                sums.add(*window)
            piece = sums.take(tops[row], bottoms[row] - tops[row])
            if row in rows:
                done += 1
                yield replace(piece, done=done, total=end - first)


def whole(
    image: NDArray[np.uint8], valid: NDArray[np.bool_] | None, ensemble: Ensemble, settings: EvaluateSettings, crop: int
) -> Iterator[Piece]:
    """The parts of an image (*T, H, W, C) in memory, every pixel once, as `settings` say: one where the scores of all
    classes take little memory, else window by window or rows by rows.
    """
    size = (image.shape[-3], image.shape[-2])
    seen = np.ones(size, dtype=np.bool_) if valid is None else valid
    if together(size, ensemble.num_classes):
        yield Piece(Region(0, 0, *size), ensemble.whole(image, settings, crop), seen)
    elif settings.window == "sliding":
        yield from predicted(pixels_of(image, valid), ensemble, Coverage.published(size, settings, crop))
    else:
        count = max(_STRIP_BYTES // (4 * ensemble.num_classes * size[1]), 1)
        total = -(-size[0] // count)
        for number, shares in enumerate(ensemble.rows(image, count)):
            rows = slice(number * count, number * count + shares.shape[1])
            yield Piece(Region(rows.start, 0, shares.shape[1], size[1]), shares, seen[rows], number + 1, total)


def pixels_of(pixels: NDArray[np.uint8], valid: NDArray[np.bool_] | None) -> ReadRegion:
    """Reads regions of a scene in memory, (*T, H, W, C) and valid (H, W)."""

    def part(region: Region) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
        rows, columns = region.slices
        return pixels[..., rows, columns, :], None if valid is None else valid[rows, columns]

    return part


Window = tuple[int, Tensor | None, NDArray[np.bool_] | None]
"""First column, probabilities (K, h, w), None where no pixel is valid, and valid pixels (h, w), None where all are."""


def _in_order(read: ReadRegion, ensemble: Ensemble, regions: Sequence[Region], batch: int) -> Iterator[Window]:
    """Every region in order, `batch` of them together through the network."""
    waiting: list[tuple[Region, Any, Any]] = []
    count = 0
    for region, (image, valid) in zip(regions, read_ahead(lambda k: read(regions[k]), len(regions), 2), strict=True):
        empty = valid is not None and not valid.any()
        waiting.append((region, None if empty else image, valid))
        count += not empty
        if count == batch or len(waiting) == _MOST_WAITING:
            yield from _through(ensemble, waiting)
            waiting, count = [], 0
    yield from _through(ensemble, waiting)


def _through(ensemble: Ensemble, waiting: Sequence[tuple[Region, Any, Any]]) -> Iterator[Window]:
    images = [image for _, image, _ in waiting if image is not None]
    found = iter(ensemble.windows(np.stack(images)) if images else ())
    for region, image, valid in waiting:
        yield region.left, None if image is None else next(found), valid


@final
class _Sums:
    """Weighted sums over one row of windows of a strip, and over what reaches into the next."""

    def __init__(self, coverage: Coverage, classes: int, strip: tuple[int, int], device: torch.device) -> None:
        self.strip, self.weights = strip, to_device(coverage.weights(), device)
        shape = (coverage.shape()[0], strip[1] - strip[0])
        self.total = torch.zeros((classes, *shape), device=device)
        self.weight = torch.zeros(shape, device=device)
        self.valid = np.zeros(shape, dtype=np.bool_)

    def add(self, left: int, probabilities: Tensor | None, valid: NDArray[np.bool_] | None) -> None:
        """Add a window that begins at the image's column `left`."""
        width = self.weights.shape[1]
        first, last = max(left, self.strip[0]), min(left + width, self.strip[1])
        here, there = slice(first - self.strip[0], last - self.strip[0]), slice(first - left, last - left)
        self.weight[:, here] += self.weights[:, there]
        self.valid[:, here] |= True if valid is None else valid[:, there]
        if probabilities is not None:
            self.total[:, :, here] += probabilities[:, :, there] * self.weights[:, there]

    def take(self, top: int, count: int) -> Piece:
        """The first `count` rows, which begin at the image's row `top`; they make room for those that follow."""
        done = self.total[:, :count] / self.weight[:count]
        piece = Piece(Region(top, self.strip[0], count, self.strip[1] - self.strip[0]), done, self.valid[:count].copy())
        for sums, axis in ((self.total, 1), (self.weight, 0)):
            rest = sums.narrow(axis, count, sums.shape[axis] - count).clone()
            sums.zero_().narrow(axis, 0, rest.shape[axis]).copy_(rest)
        kept_valid = self.valid[count:].copy()
        self.valid[:] = False
        self.valid[: len(kept_valid)] = kept_valid
        return piece


def _ramp(length: int, overlap: int) -> Tensor:
    """Weights (length,) that rise from both ends to 1."""
    place = torch.arange(length) + 0.5
    return (torch.minimum(place, length - place) / max(overlap, 0.5)).clamp(max=1.0)
