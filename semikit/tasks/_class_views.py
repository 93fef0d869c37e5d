"""Views of images that have one class: gathered and changed on the device, or cropped in the workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from semikit.augment.colours import Colours, coloured, draw_colours
from semikit.augment.normalise import channel_statistics, normalize, to_float
from semikit.augment.randaugment import AugmentDraws, draw_ops, randaugment
from semikit.augment.resampling import draw_shifts, shifted
from semikit.augment.settings import ClassStrong, RandAugmentSettings, ShiftSettings, StrongSettings
from semikit.augment.weak import CropSettings, most_reduced, random_crop
from semikit.core.batch import Labeled, Requirements, Unlabeled, WeakViews, take, to_device
from semikit.core.losses import denominators
from semikit.core.rng import rng_for
from semikit.core.task import BatchLayout
from semikit.data.formats.photos import Reduce
from semikit.data.loading.decoded import DecodedScenes
from semikit.data.loading.streams import Stream, items_at
from semikit.data.shards.pool import ShardStream
from semikit.distributed.collectives import own_part, own_positions
from semikit.settings.base import Location, Settings
from semikit.tasks._training_data import LABELED, SECOND, UNLABELED, Pools
from semikit.training.compilation import compiled


@final
class ClassViews(Settings):
    """The views: weak geometry, drawn for every view alone, and RandAugment or colours on the strong ones."""

    size: int | None = Field(None, ge=8, le=1024)
    """Side images are cropped to where they do not live on the device, pixels; null: all images are small and of one
    size, and are kept as they are."""
    weak: ShiftSettings = Field(default_factory=ShiftSettings)
    """Flip and shift of small images."""
    crop: CropSettings = Field(default_factory=CropSettings)
    """Random crops of larger ones, with the flip of `weak`."""
    strong: ClassStrong = Field(default_factory=RandAugmentSettings)
    """RandAugment and Cutout (kind usb or fixmatch), or the colours of pixels (kind jitter or random)."""
    labeled: Literal["weak", "strong"] = "weak"
    """How labelled images are learned: as weak views (as published), or with the operations of `strong` as well."""
    decode: Literal["auto", "exact"] = "auto"
    """How crops of one's own photographs are made while training: auto: JPEGs are decoded at a half, quarter or eighth
    of their size where no crop is enlarged by that, and torch resamples; exact: at their size, and Pillow resamples, as
    for published data sets."""
    cache: Literal["auto", "none"] | Location = "auto"
    """Folder for decoded photographs, which are kept where all find room; auto: the system's temporary one."""
    cache_gb: float = Field(4.0, gt=0)
    """Gigabytes of them at most, and never more than a quarter of what is free and of the memory."""

    @property
    def reduction(self) -> Reduce | None:
        """By what factor one's own photographs may be reduced before they are cropped; None: crops are exact."""
        if self.decode == "exact" or self.size is None:
            return None
        return partial(most_reduced, size=self.size, settings=self.crop)


@final
@dataclass(frozen=True)
class ClassCrops:
    """Makes the crops of one image, in a worker: (crops (1 + V, C, S, S) uint8, index); labelled: V = 0."""

    pools: Pools
    settings: ClassViews
    strong_views: int
    quick: bool = False
    """Whether torch resamples them (`random_crop`)."""
    decoded: DecodedScenes = field(default_factory=lambda: DecodedScenes(None))

    def __call__(self, stream: str, index: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], int]:
        """One image of a stream; everything random comes from `rng`."""
        settings, size = self.settings, self.settings.size
        assert size is not None
        source, position = self.pools[stream][index]
        if isinstance(source, ShardStream):
            image, _ = source.image(position)
        else:
            image = self.decoded.photograph(source, position)
        crops = np.empty((1 + (self.strong_views if stream == UNLABELED else 0), 3, size, size), np.uint8)
        for crop in crops:
            made = random_crop(image, size, rng, settings.crop, settings.weak.flip, self.quick)
            crop[:] = np.moveaxis(made, -1, 0)
        return crops, index


def numbers_of(streams: Sequence[Stream], seed: int, steps: range) -> Iterator[dict[str, tuple[Tensor]]]:
    """Numbers of the images of each step, for images that live on the device; nothing passes a loader."""
    for step in steps:
        batch: dict[str, tuple[Tensor]] = {}
        for stream in streams:
            assert stream.length is not None, stream
            slots = stream.slots(step)
            first = stream.begin(step) + slots.start
            found = torch.from_numpy(items_at(seed, stream.name, stream.length, first, len(slots)))
            batch[stream.name] = (found,)
        yield batch


@final
@dataclass(frozen=True, slots=True)
class ViewDraws:
    """What is drawn for a view: `shifts` (B, 3) of images that live on the device, `strong` of a strong view."""

    shifts: Tensor | None
    strong: AugmentDraws | Colours | None


_Draws: TypeAlias = Mapping[str, tuple[ViewDraws, ...]]
"""By stream and view; the first view of unlabelled images is the weak one."""


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
        compile_views: bool = False,
    ) -> None:
        self.settings, self.layout, self.requirements = settings, layout, requirements
        self.mean, self.std = channel_statistics(*statistics)
        self.labels, self.truth, self.small, self.rows = labels, truth, small, dict(rows)
        self.device = torch.device("cpu")
        self.view = compiled(view, "default" if compile_views else "off")

    def __call__(
        self, raw: Mapping[str, Sequence[Tensor]], step: int, device: torch.device
    ) -> tuple[Labeled, Unlabeled | None]:
        """What `batches` gave for a step -> labelled images and unlabelled views, on the device."""
        self._move(device)
        raw, draws = to_device((raw, self._draws(raw, step)), device)
        index = raw[LABELED][-1]
        valid = torch.ones(len(index), dtype=torch.bool, device=device)
        labeled = Labeled(
            images=self._views(raw, LABELED, draws)[0],
            labels=self.labels[index],
            valid=valid,
            index=index,
            denominator=denominators(valid, self.layout.group, self.layout.normalise),
        )
        return labeled, self._unlabeled(raw, draws, step) if self.requirements.unlabeled else None

    def _move(self, device: torch.device) -> None:
        """All images to the device, once."""
        if device == self.device:
            return
        self.device = device
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        self.labels, self.truth = self.labels.to(device), self.truth.to(device)
        self.rows = {name: rows.to(device) for name, rows in self.rows.items()}
        self.small = None if self.small is None else self.small.to(device)

    def _draws(self, raw: Mapping[str, Sequence[Tensor]], step: int) -> _Draws:
        """All draws of a step for the images of this process, on the host."""
        size = _size(raw[LABELED][0] if self.small is None else self.small)
        views = {LABELED: 1, UNLABELED: 1 + self.requirements.strong_views, SECOND: 1}
        return {name: tuple(self._view_draws(name, step, view, size) for view in range(views[name])) for name in raw}

    def _view_draws(self, name: str, step: int, view: int, size: tuple[int, int]) -> ViewDraws:
        settings, seed, strong = self.settings, self.layout.seed, None
        total = self.layout.batch if name == LABELED else self.layout.unlabeled_at(step)
        if name == LABELED and settings.labeled == "strong":
            strong = _draw_strong(rng_for(seed, "strong-labeled", step, 0), total, size, settings.strong)
        elif name == UNLABELED and view:
            strong = _draw_strong(rng_for(seed, "strong", step, view - 1), total, size, settings.strong)
        rng, cut = rng_for(seed, f"shift/{name}", step, view), self.small is None
        shifts = None if cut else draw_shifts(rng, total, size, settings.weak)
        return take(ViewDraws(shifts, strong), own_part(total))

    def _unlabeled(self, raw: Mapping[str, Sequence[Tensor]], draws: _Draws, step: int) -> Unlabeled:
        index = raw[UNLABELED][-1]
        valid = torch.ones(len(index), dtype=torch.bool, device=index.device)
        weak, *strong = self._views(raw, UNLABELED, draws)
        second = self._views(raw, SECOND, draws) if SECOND in raw else None
        return Unlabeled(
            weak=weak,
            strong=tuple(strong),
            valid=valid,
            boxes=(),
            partner=torch.arange(len(index), device=index.device),
            index=index,
            positions=own_positions(self.layout.unlabeled_at(step)),
            partner_batch=None if second is None else WeakViews(second[0], valid),
            truth=self.truth[index] if len(self.truth) else torch.full_like(index, -1),
        )

    def _views(self, raw: Mapping[str, Sequence[Tensor]], name: str, draws: _Draws) -> list[Tensor]:
        """The views of a stream, each (B, C, H, W), normalised."""
        stored = raw[name][0] if self.small is None else self.small.index_select(0, self.rows[name][raw[name][-1]])
        return [
            self.view(stored[:, number] if drawn.shifts is None else stored, drawn, self.mean, self.std)
            for number, drawn in enumerate(draws[name])
        ]


def view(images: Tensor, drawn: ViewDraws, mean: Tensor, std: Tensor) -> Tensor:
    """Images (B, C, H, W) uint8 -> a view of them, normalised; of tensors alone, so it can be compiled."""
    images = images if drawn.shifts is None else shifted(images, drawn.shifts)
    if isinstance(drawn.strong, AugmentDraws):
        pixels = to_float(randaugment(images, drawn.strong))
    else:
        pixels = to_float(images) if drawn.strong is None else coloured(to_float(images), drawn.strong)
    return normalize(pixels, mean, std).contiguous(memory_format=torch.channels_last)


def _draw_strong(
    rng: np.random.Generator, total: int, size: tuple[int, int], settings: RandAugmentSettings | StrongSettings
) -> AugmentDraws | Colours:
    if isinstance(settings, StrongSettings):
        return draw_colours(rng, total, settings)
    return draw_ops(rng, total, size, settings)


def _size(images: Tensor) -> tuple[int, int]:
    return int(images.shape[-2]), int(images.shape[-1])
