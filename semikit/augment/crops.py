"""Crops of whole images that have one class, on the host: random ones to learn from, the middle to be scored."""

from __future__ import annotations

import math
from typing import final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semikit.augment.settings import ShareSpan, Span
from semikit.core.settings import Settings

_TRIES = 10
_FILLED = 0.875
"""Share of the short side that the middle takes when images are scored."""

Bytes = NDArray[np.uint8]


@final
class CropSettings(Settings):
    """A random crop, resized to a square (as in SimMatch and USB for ImageNet)."""

    area: ShareSpan = (0.2, 1.0)
    """Lowest and highest area of the crop, share of the image (0..1)."""
    ratio: Span = (3 / 4, 4 / 3)
    """Lowest and highest width over height of the crop."""


def random_crop(image: Bytes, size: int, rng: np.random.Generator, settings: CropSettings, flip: float) -> Bytes:
    """A part of an image (H, W, 3) resized to (size, size, 3), mirrored with probability `flip`.

    Area and the logarithm of the ratio are uniform; where ten tries do not fit, the middle of an allowed ratio is taken
    (as torchvision's RandomResizedCrop).
    """
    height, width = image.shape[:2]
    top, left, h, w = _part(height, width, rng, settings)
    crop = _resized(image, (left, top, left + w, top + h), size)
    return np.ascontiguousarray(crop[:, ::-1]) if rng.random() < flip else crop


def middle_crop(image: Bytes, size: int) -> Bytes:
    """The middle of an image (H, W, 3), 0.875 of its short side, resized to (size, size, 3)."""
    height, width = image.shape[:2]
    side = min(height, width) * _FILLED
    left, top = (width - side) / 2, (height - side) / 2
    return _resized(image, (left, top, left + side, top + side), size)


def squeezed(image: Bytes, size: tuple[int, int]) -> Bytes:
    """A whole image (H, W, 3) resized to `size` (H, W); itself where it has that size."""
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def _part(height: int, width: int, rng: np.random.Generator, settings: CropSettings) -> tuple[int, int, int, int]:
    """Top, left, height and width."""
    low, high = (math.log(value) for value in settings.ratio)
    for _ in range(_TRIES):
        area = height * width * rng.uniform(*settings.area)
        ratio = math.exp(rng.uniform(low, high))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    ratio = min(max(width / height, settings.ratio[0]), settings.ratio[1])
    w, h = min(width, max(1, round(height * ratio))), min(height, max(1, round(width / ratio)))
    return (height - h) // 2, (width - w) // 2, h, w


def _resized(image: Bytes, box: tuple[float, float, float, float], size: int) -> Bytes:
    picture = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(picture)
