"""Colour jitter, grayscale and blur image by image with PIL, as a data loader of the field does it; semikit's draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter
from torch import Tensor

from benchmarks.step.pil_augment import Picture
from benchmarks.step.workload import Raw, Workload
from semikit.augment.normalise import channel_statistics
from semikit.augment.strong import Operation, StrongFactors, draw_factors
from semikit.core.rng import rng_for
from semikit.tasks._pixels import PixelViews

_ENHANCE: dict[Operation, Callable[[Picture], ImageEnhance._Enhance]] = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


@final
class PilColours:
    """Weak and strong views of a step's unlabelled crops and its labelled images, (C, H, W) normalised floats.

    Their values are near semikit's (bytes between the operations, another blur), so they are timed, not trained on.
    """

    def __init__(self, workload: Workload) -> None:
        views = workload.config.views
        assert isinstance(views, PixelViews)
        self.settings, self.seed = views.strong, workload.config.train.seed
        self.mean, self.std = channel_statistics(
            workload.maker.mean.flatten().tolist(), workload.maker.std.flatten().tolist()
        )
        self.dates, self.strong_views = workload.dates, workload.maker.requirements.strong_views

    def __call__(self, raw: Raw, step: int) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Labelled images, weak views, strong views not mixed yet, each (B * dates, C, H, W), dates in turn."""
        labeled, pictures = self._pictures(raw["labeled"][0]), self._pictures(raw["unlabeled"][0])
        strong = tuple(self._strong(pictures, step, view) for view in range(self.strong_views))
        return self._batch(labeled), self._batch(pictures), strong

    def _pictures(self, crops: Tensor) -> list[Picture]:
        crops = crops.flatten(0, 1) if self.dates > 1 else crops
        return [Image.fromarray(crop) for crop in crops.permute(0, 2, 3, 1).contiguous().numpy()]

    def _strong(self, pictures: list[Picture], step: int, view: int) -> Tensor:
        count = len(pictures) // self.dates
        counters = [(step, view)] if self.dates == 1 else [(step, view, date) for date in range(self.dates)]
        drawn = [draw_factors(rng_for(self.seed, "strong", *given), count, self.settings) for given in counters]
        made = [coloured(p, drawn[k % self.dates], k // self.dates) for k, p in enumerate(pictures)]
        return self._batch(made)

    def _batch(self, pictures: list[Picture]) -> Tensor:
        images = [torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous() for picture in pictures]
        return torch.stack([(image.to(torch.float32) / 255 - self.mean) / self.std for image in images])


def coloured(picture: Picture, factors: StrongFactors, image: int) -> Picture:
    """A picture under the draws of one image: jitter, then grayscale, then blur."""
    if factors.jitter[image]:
        for name in factors.order:
            if name == "hue":
                picture = _turned(picture, float(factors.hue[image]))
            else:
                picture = _ENHANCE[name](picture).enhance(float(getattr(factors, name)[image]))
    if factors.grayscale[image]:
        picture = picture.convert("L").convert("RGB")
    if factors.blur[image]:
        picture = picture.filter(ImageFilter.GaussianBlur(float(factors.sigma[image])))
    return picture


def _turned(picture: Picture, radians: float) -> Picture:
    """The hue turned, in PIL's 256 steps of the circle."""
    hue, saturation, value = picture.convert("HSV").split()
    turned = np.asarray(hue) + np.uint8(round(radians / (2 * math.pi) * 255) % 256)
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")
