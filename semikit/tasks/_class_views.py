"""Views of images that have one class: gathered and changed on the device, or cropped in the workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from semikit.augment.normalise import channel_statistics, normalize, to_float
from semikit.augment.randaugment import draw_ops, randaugment
from semikit.augment.resampling import draw_shifts, shifted
from semikit.augment.settings import RandAugmentSettings, ShiftSettings
from semikit.augment.weak import CropSettings, random_crop
from semikit.core.batch import Labeled, Requirements, Unlabeled, WeakViews, to_device
from semikit.core.losses import denominators
from semikit.core.rng import rng_for
from semikit.core.task import BatchLayout
from semikit.data.loading.streams import Stream, items_at
from semikit.distributed.collectives import own_part, own_positions
from semikit.settings.base import Settings
from semikit.tasks._training_data import LABELED, SECOND, UNLABELED, Pools


@final
class ClassViews(Settings):
    """The views: weak geometry, drawn for every view alone, and RandAugment on the strong ones."""

    size: int | None = Field(None, ge=8, le=1024)
    """Side images are cropped to where they do not live on the device, pixels; null: all images are small and of one
    size, and are kept as they are."""
    weak: ShiftSettings = Field(default_factory=ShiftSettings)
    """Flip and shift of small images."""
    crop: CropSettings = Field(default_factory=CropSettings)
    """Random crops of larger ones, with the flip of `weak`."""
    strong: RandAugmentSettings = Field(default_factory=RandAugmentSettings)
    """RandAugment and Cutout."""
    labeled: Literal["weak", "strong"] = "weak"
    """How labelled images are learned: as weak views (as published), or with the operations of `strong` as well."""


@final
@dataclass(frozen=True)
class ClassCrops:
    """Makes the crops of one image, in a worker: (crops (1 + V, C, S, S) uint8, index); labelled: V = 0."""

    pools: Pools
    settings: ClassViews
    strong_views: int

    def __call__(self, stream: str, index: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], int]:
        """One image of a stream; everything random comes from `rng`."""
        assert self.settings.size is not None
        source, position = self.pools[stream][index]
        image, _ = source.image(position)
        count = 1 + (self.strong_views if stream == UNLABELED else 0)
        crops = [
            random_crop(image, self.settings.size, rng, self.settings.crop, self.settings.weak.flip)
            for _ in range(count)
        ]
        return np.ascontiguousarray(np.moveaxis(np.stack(crops), -1, -3)), index


def numbers_of(streams: Sequence[Stream], seed: int, steps: range) -> Iterator[dict[str, tuple[Tensor]]]:
    """Numbers of the images of each step, for images that live on the device; nothing passes a loader."""
    for step in steps:
        batch: dict[str, tuple[Tensor]] = {}
        for stream in streams:
            assert stream.length is not None, stream
            positions = range(stream.batch) if stream.positions is None else stream.positions
            first = step * stream.batch + positions.start
            found = torch.from_numpy(items_at(seed, stream.name, stream.length, first, len(positions)))
            batch[stream.name] = (found,)
        yield batch


@final
class ClassViewMaker:
    """Turns numbers of images, or crops, into views on the device; every draw is a function of (seed, stream, step).

    `labels` are those of the labelled images (L,), `truth` those of the unlabelled (U,), -1 unknown, for the logs;
    none (0,) where they have no numbers.
    `small` are all images (N, C, H, W) uint8 where they live on the device, and `rows` says for each stream which of
    them its numbers mean.
    """

    def __init__(
        self,
        settings: ClassViews,
        layout: BatchLayout,
        requirements: Requirements,
        statistics: tuple[Sequence[float], Sequence[float]],
        labels: Tensor,
        truth: Tensor,
        small: Tensor | None,
        rows: Mapping[str, Tensor],
    ) -> None:
        self.settings, self.layout, self.requirements = settings, layout, requirements
        self.mean, self.std = channel_statistics(*statistics)
        self.labels, self.truth, self.small, self.rows = labels, truth, small, dict(rows)
        self.device = torch.device("cpu")

    def __call__(
        self, raw: Mapping[str, Sequence[Tensor]], step: int, device: torch.device
    ) -> tuple[Labeled, Unlabeled | None]:
        """What `batches` gave for a step -> labelled images and unlabelled views, on the device."""
        self._move(device)
        index = to_device(raw[LABELED][-1], device)
        valid = torch.ones(len(index), dtype=torch.bool, device=device)
        labeled = Labeled(
            images=self._labeled(self._stored(raw, LABELED, index), step),
            labels=self.labels[index],
            valid=valid,
            index=index,
            denominator=denominators(valid, self.layout.group, self.layout.normalise),
        )
        return labeled, self._unlabeled(raw, step, device) if self.requirements.unlabeled else None

    def _move(self, device: torch.device) -> None:
        """All images to the device, once."""
        if device == self.device:
            return
        self.device = device
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        self.labels, self.truth = self.labels.to(device), self.truth.to(device)
        self.rows = {name: rows.to(device) for name, rows in self.rows.items()}
        self.small = None if self.small is None else self.small.to(device)

    def _unlabeled(self, raw: Mapping[str, Sequence[Tensor]], step: int, device: torch.device) -> Unlabeled:
        index = to_device(raw[UNLABELED][-1], device)
        count = len(index)
        valid = torch.ones(count, dtype=torch.bool, device=device)
        stored, partner_batch = self._stored(raw, UNLABELED, index), None
        if SECOND in raw:
            others = self._stored(raw, SECOND, to_device(raw[SECOND][-1], device))
            partner_batch = WeakViews(self._weak(others, SECOND, step), valid)
        return Unlabeled(
            weak=self._weak(stored, UNLABELED, step),
            strong=tuple(self._strong(stored, step, view) for view in range(self.requirements.strong_views)),
            valid=valid,
            boxes=(),
            partner=torch.arange(count, device=device),
            index=index,
            positions=own_positions(self.layout.unlabeled_batch),
            partner_batch=partner_batch,
            truth=self.truth[index] if len(self.truth) else torch.full_like(index, -1),
        )

    def _stored(self, raw: Mapping[str, Sequence[Tensor]], stream: str, index: Tensor) -> Tensor:
        """What the views of a stream are made of, uint8: images (B, C, H, W), or crops (B, 1 + V, C, S, S)."""
        if self.small is None:
            return to_device(raw[stream][0], self.device)
        return self.small.index_select(0, self.rows[stream][index])

    def _labeled(self, stored: Tensor, step: int) -> Tensor:
        if self.settings.labeled == "weak":
            return self._weak(stored, LABELED, step)
        return self._augmented(self._placed(stored, LABELED, step, 0), self.layout.batch, "strong-labeled", step, 0)

    def _weak(self, stored: Tensor, stream: str, step: int) -> Tensor:
        return self._finished(self._placed(stored, stream, step, 0))

    def _strong(self, stored: Tensor, step: int, view: int) -> Tensor:
        """A strong view (B, C, H, W), normalised; its geometry is drawn apart from the weak view's."""
        placed = self._placed(stored, UNLABELED, step, 1 + view)
        return self._augmented(placed, self.layout.unlabeled_batch, "strong", step, view)

    def _augmented(self, images: Tensor, total: int, stream: str, *counters: int) -> Tensor:
        """RandAugment of images (B, C, H, W) uint8, of `total` in the batch of all processes; normalised."""
        ops = draw_ops(rng_for(self.layout.seed, stream, *counters), total, _size(images), self.settings.strong)
        return self._finished(randaugment(images, ops[own_part(total)].to(images.device)))

    def _placed(self, stored: Tensor, stream: str, step: int, view: int) -> Tensor:
        """Images of a stream (B, C, H, W) uint8, flipped and shifted or cropped; `view` 0 is the weak one."""
        if self.small is None:
            return stored[:, view]
        rng = rng_for(self.layout.seed, f"shift/{stream}", step, view)
        total = self.layout.batch if stream == LABELED else self.layout.unlabeled_batch
        draws = draw_shifts(rng, total, _size(stored), self.settings.weak)[own_part(total)]
        return shifted(stored, to_device(draws, self.device))

    def _finished(self, images: Tensor) -> Tensor:
        return normalize(to_float(images), self.mean, self.std).contiguous(memory_format=torch.channels_last)


def _size(images: Tensor) -> tuple[int, int]:
    return int(images.shape[-2]), int(images.shape[-1])
