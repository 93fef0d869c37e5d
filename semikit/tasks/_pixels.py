"""Views of tasks that label pixels: crops in the workers, strong views and mixing on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import torch
from pydantic import Field
from torch import Tensor

from semikit.augment.colours import Colours, coloured, draw_colours
from semikit.augment.normalise import channel_statistics, normalize, to_float
from semikit.augment.settings import MixSettings, StrongSettings, WeakSettings
from semikit.core.batch import Labeled, Requirements, Unlabeled, WeakViews, take, to_device
from semikit.core.losses import denominators
from semikit.core.mixing import BoxMix, box_mask, mix_images, partners
from semikit.core.rng import rng_for
from semikit.core.task import BatchLayout
from semikit.distributed.collectives import gather_over_processes, own_part, own_positions
from semikit.settings.base import Location, Settings
from semikit.tasks._training_data import LABELED, SECOND, UNLABELED
from semikit.training.compilation import compiled

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


_STRONG = {LABELED: "strong-labeled", UNLABELED: "strong", SECOND: "strong-second"}
"""What the colours of each stream are drawn by."""

Dates: TypeAlias = tuple[Colours, ...]
"""The draws of a strong view for each date."""


@final
@dataclass(frozen=True, slots=True)
class _Draws:
    """What is drawn for a step: colours by stream and view, the `boxes` (B, 4) of each view, and `partner` (B,), which
    are counted over the total batch where `cross_rank`.
    """

    colours: Mapping[str, tuple[Dates, ...]]
    boxes: tuple[Tensor, ...]
    partner: Tensor
    cross_rank: bool


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
        compile_views: bool = False,
    ) -> None:
        self.settings, self.layout, self.requirements = settings, layout, requirements
        self.mixes = not requirements.own_mixing
        self.mixing = BoxMix(settings.mix.probability, settings.mix.area, settings.mix.ratio)
        self.mean, self.std = channel_statistics(mean, std)
        self.strong = compiled(strong, "default" if compile_views else "off")

    def __call__(
        self, raw: Mapping[str, Sequence[Tensor]], step: int, device: torch.device
    ) -> tuple[Labeled, Unlabeled | None]:
        """Raw crops of a step -> labelled images and unlabelled views, on the device."""
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        raw, draws = to_device((raw, self._draws(raw, step)), device)
        image, valid, index, labels = raw[LABELED]
        colours = draws.colours[LABELED]
        labeled = Labeled(
            images=self._strong(to_float(image), colours[0]) if colours else self._weak(to_float(image)),
            labels=labels.long(),
            valid=valid,
            index=index,
            denominator=denominators(valid, self.layout.group, self.layout.normalise),
        )
        return labeled, self._unlabeled(raw, draws, step) if self.requirements.unlabeled else None

    def _draws(self, raw: Mapping[str, Sequence[Tensor]], step: int) -> _Draws:
        """All draws of a step for the images of this process, on the host."""
        layout, views, images = self.layout, range(self.requirements.strong_views), raw[LABELED][0]
        total = layout.unlabeled_at(step)
        strong = {LABELED: range(self.settings.labeled == "strong"), UNLABELED: views, SECOND: views}
        second = torch.arange(len(own_positions(total))), False
        return _Draws(
            {name: tuple(self._colours(name, images, step, view) for view in strong[name]) for name in raw},
            tuple(
                self.mixing.draw(rng_for(layout.seed, "mix", step, view), total, _size(images))[own_part(total)]
                for view in (views if UNLABELED in raw and self.mixes else ())
            ),
            *(second if SECOND in raw else _partners(total, layout.group)),
        )

    def _colours(self, name: str, images: Tensor, step: int, view: int) -> Dates:
        total = self.layout.batch if name == LABELED else self.layout.unlabeled_at(step)
        dates = [(date,) for date in range(images.shape[1])] if images.dim() == _DATED else [()]
        rngs = (rng_for(self.layout.seed, _STRONG[name], step, view, *date) for date in dates)
        return tuple(take(draw_colours(rng, total, self.settings.strong), own_part(total)) for rng in rngs)

    def _unlabeled(self, raw: Mapping[str, Sequence[Tensor]], draws: _Draws, step: int) -> Unlabeled:
        image, valid, index = raw[UNLABELED]
        pixels, pool = to_float(image), to_float(raw[SECOND][0]) if SECOND in raw else None
        boxes = tuple(box_mask(coordinates, _size(image)) for coordinates in draws.boxes)
        strong = []
        for view, colours in enumerate(draws.colours[UNLABELED]):
            own = self._strong(pixels, colours)
            if self.mixes:
                others = own if pool is None else self._strong(pool, draws.colours[SECOND][view])
                others = gather_over_processes(others) if draws.cross_rank else others
                own = mix_images(own, boxes[view], others, draws.partner)
            strong.append(own)
        return Unlabeled(
            weak=self._weak(pixels),
            strong=tuple(strong),
            valid=valid,
            boxes=boxes,
            partner=draws.partner,
            index=index,
            positions=own_positions(self.layout.unlabeled_at(step)),
            partner_batch=None if pool is None else WeakViews(self._weak(pool), raw[SECOND][1]),
            cross_rank=draws.cross_rank,
        )

    def _weak(self, pixels: Tensor) -> Tensor:
        return normalize(pixels, self.mean, self.std)

    def _strong(self, pixels: Tensor, colours: Dates) -> Tensor:
        return self.strong(pixels, colours, self.mean, self.std)


def strong(pixels: Tensor, colours: Dates, mean: Tensor, std: Tensor) -> Tensor:
    """Pixels (B, *T, C, H, W) in 0..1 -> their strong view, normalised; of tensors alone, so it can be compiled."""
    if pixels.dim() == _DATED:
        dates = [coloured(date, drawn) for date, drawn in zip(pixels.unbind(1), colours, strict=True)]
        return normalize(torch.stack(dates, dim=1), mean, std)
    return normalize(coloured(pixels, *colours), mean, std)


def _partners(total: int, group: int) -> tuple[Tensor, bool]:
    """Partners of the images of this process (B,), counted over them or, where groups reach into other processes, over
    the total batch; and whether they do.
    """
    positions = own_positions(total)
    partner = partners(total, group)[own_part(total)]
    cross_rank = len(positions) < total and len(positions) % group > 0
    return (partner if cross_rank else partner - positions.start), cross_rank


def _size(images: Tensor) -> tuple[int, int]:
    return int(images.shape[-2]), int(images.shape[-1])
