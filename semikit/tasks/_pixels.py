"""Views of tasks that label pixels: crops in the workers, strong views and mixing on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor

from semikit.augment.normalise import channel_statistics, normalize, to_float
from semikit.augment.settings import MixSettings, StrongSettings, WeakSettings
from semikit.augment.strong import draw_factors, strong_view
from semikit.core.batch import Labeled, Requirements, Unlabeled, WeakViews, to_device, to_device_together
from semikit.core.losses import denominators
from semikit.core.mixing import BoxMix, box_mask, mix_images, partners
from semikit.core.rng import rng_for
from semikit.core.task import BatchLayout
from semikit.distributed.collectives import gather_over_processes, own_part, own_positions
from semikit.settings.base import Location, Settings
from semikit.tasks._training_data import SECOND

_DATED = 5
"""Axes of images of two dates, (B, 2, C, H, W)."""


@final
class PixelViews(Settings):
    """The views: weak geometry in the workers, two strong views and CutMix on the device."""

    weak: WeakSettings = WeakSettings(crop=518)
    """Resize, crop, flip."""
    strong: StrongSettings = Field(default_factory=StrongSettings)
    """Colour jitter, grayscale, blur."""
    mix: MixSettings = Field(default_factory=MixSettings)
    """CutMix."""
    labeled: Literal["weak", "strong"] = "weak"
    """How labelled images are learned: as weak views (as released), or with the colours of `strong` as well."""
    sampling: Literal["uniform", "by_class", "anywhere"] = "uniform"
    """Where labelled crops are cut: every image and place alike, but where something is labelled; `by_class`: a class
    of the labelled images is drawn, then an image and a place that hold it; `anywhere`: every place alike, as published
    data sets are learned from with `uniform` too."""
    cache: Literal["auto", "none"] | Location = "auto"
    """Folder for decoded scenes (PNG, JPEG, striped TIFF of four crops or more); auto: the system's temporary one."""
    cache_gb: float = Field(4.0, gt=0)
    """Gigabytes of decoded scenes at most, and never more than a quarter of what is free."""


@final
class PixelViewMaker:
    """Turns raw crops into views on the device; every draw is a function of (seed, stream, step, view)."""

    def __init__(
        self,
        settings: PixelViews,
        layout: BatchLayout,
        requirements: Requirements,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.settings, self.layout, self.requirements = settings, layout, requirements
        self.mixing = BoxMix(settings.mix.probability, settings.mix.area, settings.mix.ratio)
        self.mean, self.std = channel_statistics(mean, std)

    def __call__(
        self, raw: Mapping[str, Sequence[Tensor]], step: int, device: torch.device
    ) -> tuple[Labeled, Unlabeled | None]:
        """Raw crops of a step -> labelled images and unlabelled views, on the device."""
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        image, valid, index, labels = (to_device(part, device) for part in raw["labeled"])
        pixels = to_float(image)
        if self.settings.labeled == "strong":
            images = self._strong(pixels, self.layout.batch, step, 0, "strong-labeled")
        else:
            images = normalize(pixels, self.mean, self.std)
        labeled = Labeled(
            images=images,
            labels=labels.long(),
            valid=valid,
            index=index,
            denominator=denominators(valid, self.layout.group, self.layout.normalise),
        )
        return labeled, self._unlabeled(raw, step, device) if self.requirements.unlabeled else None

    def _unlabeled(self, raw: Mapping[str, Sequence[Tensor]], step: int, device: torch.device) -> Unlabeled:
        image, valid, index = (to_device(part, device) for part in raw["unlabeled"])
        size, total = (int(image.shape[-2]), int(image.shape[-1])), self.layout.unlabeled_batch
        pixels = to_float(image)
        partner_batch, pool_pixels = None, None
        partner, cross_rank = _partners(total, self.layout.group)
        if SECOND in raw:
            pool_image, pool_valid = (to_device(part, device) for part in raw[SECOND][:2])
            pool_pixels = to_float(pool_image)
            partner_batch = WeakViews(normalize(pool_pixels, self.mean, self.std), pool_valid)
            partner, cross_rank = torch.arange(len(image)), False
        drawn = [
            self.mixing.draw(rng_for(self.layout.seed, "mix", step, view), total, size)[own_part(total)]
            for view in range(self.requirements.strong_views)
        ]
        partner, *coordinates = to_device_together([partner, *drawn], device)
        strong, boxes = [], []
        for view in range(self.requirements.strong_views):
            box = box_mask(coordinates[view], size, device)
            own = self._strong(pixels, total, step, view, "strong")
            pool = own if pool_pixels is None else self._strong(pool_pixels, total, step, view, "strong-second")
            pool = gather_over_processes(pool) if cross_rank else pool
            strong.append(mix_images(own, box, pool, partner))
            boxes.append(box)
        return Unlabeled(
            weak=normalize(pixels, self.mean, self.std),
            strong=tuple(strong),
            valid=valid,
            boxes=tuple(boxes),
            partner=partner,
            index=index,
            positions=own_positions(total),
            partner_batch=partner_batch,
            cross_rank=cross_rank,
        )

    def _strong(self, pixels: Tensor, total: int, step: int, view: int, stream: str) -> Tensor:
        """A strong view (B, *T, C, H, W), normalised; the colour of every date is drawn for itself. `total` images are
        in the batch of all processes.
        """
        if pixels.dim() == _DATED:
            dates = [
                self._coloured(date, total, stream, step, view, number) for number, date in enumerate(pixels.unbind(1))
            ]
            return normalize(torch.stack(dates, dim=1), self.mean, self.std)
        return normalize(self._coloured(pixels, total, stream, step, view), self.mean, self.std)

    def _coloured(self, pixels: Tensor, total: int, stream: str, *counters: int) -> Tensor:
        factors = draw_factors(rng_for(self.layout.seed, stream, *counters), total, self.settings.strong)
        return strong_view(pixels, factors[own_part(total)].to(pixels.device))


def _partners(total: int, group: int) -> tuple[Tensor, bool]:
    """Partners of the images of this process (B,), counted over them or, where groups reach into other processes, over
    the total batch; and whether they do.
    """
    positions = own_positions(total)
    partner = partners(total, group)[own_part(total)]
    cross_rank = len(positions) < total and len(positions) % group > 0
    return (partner if cross_rank else partner - positions.start), cross_rank
