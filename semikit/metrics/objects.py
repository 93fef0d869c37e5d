"""Scores of objects: connected areas of one class, as polygons are made of them, not their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from semikit.raster.connected import Numbers, connected, joined
from semikit.raster.region import Region

Place = tuple[Region, tuple[int, int]]
"""A part of an image, and the size (H, W) of the image."""

_NONE = 255
"""What is of no class that is counted."""
_MATCH = 0.5
"""The IoU above which two areas are one object: each is matched with at most one other then."""


@final
class ObjectScores(Metric):
    """Precision, recall and F1 of the objects of some classes; `chosen` are their numbers.

    An object is an area of one class whose pixels touch by their sides. A predicted and a true one of a class match
    with an IoU above 0.5. Ignored pixels count as in panoptic quality (arXiv 1801.00868): in no IoU, and a predicted
    area without a match of which more than half is ignored is left out. True areas of fewer than `min_pixels` are left
    out with what matches them, and so are predicted ones without a match (as areas out of range are by COCO).

    Areas are found by the processor: an update waits for the device.
    """

    full_state_update = False
    objects: Tensor
    """Of each class (K, 3) how many are matched, predicted and true."""

    def __init__(self, num_classes: int, chosen: Sequence[int], min_pixels: int = 0) -> None:
        super().__init__(sync_on_compute=False)
        self.others = np.setdiff1d(np.arange(num_classes), chosen)
        self.min_pixels = min_pixels
        self.begun: _Image | None = None
        self.add_state("objects", torch.zeros(num_classes, 3, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, labels: Tensor, valid: Tensor, place: Place | None = None) -> None:
        """Count images (B, H, W), or a part (h, w) of one image at its `place`: parts follow one another from the top
        to the bottom and then from left to right, and the last one ends the image.
        """
        found, truth, counted = (one.cpu().numpy() for one in (predicted, labels, valid))
        if place is not None:
            self._add(found, truth, counted, *place)
            return
        size = found.shape[1:]
        for one in zip(found, truth, counted, strict=True):
            self._add(*one, Region(0, 0, *size), size)

    def _add(
        self,
        predicted: NDArray[Any],
        labels: NDArray[Any],
        valid: NDArray[np.bool_],
        region: Region,
        size: tuple[int, int],
    ) -> None:
        image = self.begun = self.begun or _Image(_Areas.of(size), _Areas.of(size))
        image.add(self._classes(predicted, None), self._classes(labels, valid), valid, region)
        if (region.top + region.height, region.left + region.width) == size:
            self.objects += torch.from_numpy(image.counts(len(self.objects), self.min_pixels)).to(self.objects.device)
            self.begun = None

    def _classes(self, numbers: NDArray[Any], valid: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
        """Classes (h, w), those that are not counted and what is not valid as none."""
        left_out = np.isin(numbers, self.others)
        return np.where(left_out if valid is None else left_out | ~valid, _NONE, numbers).astype(np.uint8)

    def compute(self) -> dict[str, Tensor]:
        """Scores of the objects of all these classes together and of each; NaN without a true one."""
        objects = self.objects.cpu().double()
        return {
            **_scores(objects.sum(0)),
            **{f"per_class/{name}": values for name, values in _scores(objects).items()},
        }


def _scores(objects: Tensor) -> dict[str, Tensor]:
    """Of matched, predicted and true objects (..., 3) each score (...)."""
    matched, predicted, true = objects.unbind(-1)
    scores = {
        "object_F1": 2 * matched / (predicted + true),
        "object_precision": matched / predicted,
        "object_recall": matched / true,
    }
    return {name: values.masked_fill(true == 0, torch.nan) for name, values in scores.items()}


@final
@dataclass
class _Areas:
    """The areas of a map that comes in parts, numbered from part to part; one that lies in several has several numbers,
    and `same` says which.
    """

    above: Numbers
    """The area of the lowest pixel so far of each column (W,), -1 where there is none."""
    beside: Numbers
    """The same of each row (H,), on the right."""
    count: int = 0
    classes: list[NDArray[np.uint8]] = field(default_factory=list)
    pixels: list[Numbers] = field(default_factory=list)
    """Of each area (N, 2) how many there are, and how many of them count."""
    same: list[tuple[Numbers, Numbers]] = field(default_factory=list)

    @classmethod
    def of(cls, size: tuple[int, int]) -> _Areas:
        """Of an image (H, W) of which nothing is known yet."""
        return cls(np.full(size[1], -1), np.full(size[0], -1))

    def add(self, classes: NDArray[np.uint8], valid: NDArray[np.bool_], region: Region) -> Numbers:
        """Add a part (h, w); the number (h, w) of each pixel's area."""
        ids, heads = connected(classes)
        numbers = ids.astype(np.intp) + self.count
        self.classes.append(classes.ravel()[heads])
        self.pixels.append(np.stack([np.bincount(some, minlength=len(heads)) for some in (ids.ravel(), ids[valid])], 1))
        self.count += len(heads)
        rows, columns = region.slices
        for edge, before in ((numbers[0], self.above[columns]), (numbers[:, 0], self.beside[rows])):
            known = before >= 0
            self.same.append((before[known], edge[known]))
        self.above[columns], self.beside[rows] = numbers[-1], numbers[:, -1]
        return numbers

    def whole(self) -> tuple[Numbers, NDArray[np.uint8], Numbers]:
        """The lowest number (N,) of each area's parts; class (N,) and pixels (N, 2), of those with the lowest one."""
        classes, pixels = np.concatenate(self.classes), np.concatenate(self.pixels)
        first, second = (np.concatenate(part) for part in zip(*self.same, strict=True))
        alike = classes[first] == classes[second]
        root = joined(self.count, first[alike], second[alike])
        sums = [np.bincount(root, column, self.count).astype(np.intp) for column in pixels.T]
        return root, classes, np.stack(sums, 1)


@final
@dataclass
class _Image:
    """Predicted and true areas of one image, and how many pixels two of them share."""

    predicted: _Areas
    true: _Areas
    shared: list[Numbers] = field(default_factory=list)
    """Numbers of a predicted and a true area of one class, and their pixels (N, 3)."""

    def add(
        self, predicted: NDArray[np.uint8], true: NDArray[np.uint8], valid: NDArray[np.bool_], region: Region
    ) -> None:
        """Add a part (h, w) of both maps of classes."""
        both = (predicted == true) & (true != _NONE)
        numbers = [
            areas.add(part, valid, region)[both] for areas, part in ((self.predicted, predicted), (self.true, true))
        ]
        self.shared.append(_summed(np.stack([*numbers, np.ones_like(numbers[0])], 1)))

    def counts(self, num_classes: int, min_pixels: int) -> Numbers:
        """Of each class (K, 3) how many objects are matched, predicted and true."""
        root, kinds, pixels = self.predicted.whole()
        true_root, true_kinds, true_pixels = self.true.whole()
        shared = np.concatenate(self.shared)
        ours, theirs, both = _summed(np.stack([root[shared[:, 0]], true_root[shared[:, 1]], shared[:, 2]], 1)).T
        matched = both > _MATCH * (pixels[ours, 1] + true_pixels[theirs, 1] - both)
        ours, theirs = ours[matched], theirs[matched]
        whole, counted = pixels.T
        left = (root == np.arange(len(root))) & (kinds != _NONE) & (counted >= min_pixels) & (2 * counted >= whole)
        left[ours] = False
        wanted = (true_root == np.arange(len(true_root))) & (true_kinds != _NONE) & (true_pixels[:, 1] >= min_pixels)
        hits = np.bincount(true_kinds[theirs[wanted[theirs]]], minlength=num_classes)
        misses, true = (np.bincount(one, minlength=num_classes) for one in (kinds[left], true_kinds[wanted]))
        return np.stack([hits, hits + misses, true], 1)


def _summed(rows: Numbers) -> Numbers:
    """Rows (N, 3), those with equal first and second numbers as one with the sum of the third."""
    span = int(rows[:, 1].max(initial=0)) + 1
    keys, place = np.unique(rows[:, 0] * span + rows[:, 1], return_inverse=True)
    return np.stack([keys // span, keys % span, np.bincount(place, rows[:, 2], len(keys)).astype(np.intp)], 1)
