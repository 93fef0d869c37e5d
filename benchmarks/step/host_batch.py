"""A step's batch as the field's loaders hand it over: float images of every view, int64 maps and float boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from benchmarks.step.workload import Raw, Workload

IGNORED = 255
Dates = tuple[Tensor, ...]
"""One tensor (B, C, H, W) of each date."""


@final
@dataclass(frozen=True, slots=True)
class HostBatch:
    """`labeled` and `weak` images and each of the `strong` views, date by date, normalised floats; `labels` (B, H, W)
    int64, 255 where invalid; `ignore` (B, H, W) int64, 255 where no pixel is; `boxes` (B, H, W) float, 1 inside.
    """

    labeled: Dates
    labels: Tensor
    weak: Dates
    strong: tuple[Dates, ...]
    ignore: Tensor
    boxes: tuple[Tensor, ...]

    @property
    def tensors(self) -> list[Tensor]:
        """All that is moved: 8 tensors for one date, 12 for two."""
        views = [image for view in self.strong for image in view]
        return [*self.labeled, self.labels, *self.weak, *views, self.ignore, *self.boxes]

    def moved(self, move: Callable[[Tensor], Tensor]) -> HostBatch:
        """The same with every tensor moved, one after another."""

        def each(tensors: Dates) -> Dates:
            return tuple(move(tensor) for tensor in tensors)

        return HostBatch(
            each(self.labeled),
            move(self.labels),
            each(self.weak),
            tuple(each(view) for view in self.strong),
            move(self.ignore),
            each(self.boxes),
        )


def host_batch(workload: Workload, raw: Raw, step: int) -> HostBatch:
    """What a loader of the field would give for these crops under semikit's draws."""
    labeled, unlabeled = workload.host_views(raw, step)
    dates = workload.dates
    return HostBatch(
        labeled=_apart(labeled.images, dates),
        labels=torch.where(labeled.valid, labeled.labels, IGNORED),
        weak=_apart(unlabeled.weak, dates),
        strong=tuple(_apart(view, dates) for view in unlabeled.strong),
        ignore=torch.where(unlabeled.valid, 0, IGNORED),
        boxes=tuple(box.float() for box in unlabeled.boxes),
    )


def _apart(images: Tensor, dates: int) -> Dates:
    """Images (B, C, H, W), or (B, 2, C, H, W) of two dates, as contiguous tensors of their own."""
    return (images.contiguous(),) if dates == 1 else tuple(image.contiguous() for image in images.unbind(1))
