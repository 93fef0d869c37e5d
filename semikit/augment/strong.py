"""The strong views, made on the device: colour jitter, grayscale and blur with kornia's operations.

Nothing is drawn on the device. The factors of every image are drawn on the host and copied without waiting; the
operations have static shapes and never read a value back.

Against the released recipe: the four colour operations follow one order for all images of a view and step (as released,
each image had its own), and the blur is a true Gaussian where PIL approximates one by three box blurs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import numpy as np
import torch
from kornia.color import rgb_to_grayscale
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_hue,
    adjust_saturation_with_gray_subtraction,
)
from kornia.filters import filter2d_separable, get_gaussian_kernel1d
from torch import Tensor

from semikit.augment.settings import StrongSettings

Operation = Literal["brightness", "contrast", "saturation", "hue"]
Order: TypeAlias = tuple[Operation, ...]

_OPERATIONS: Order = ("brightness", "contrast", "saturation", "hue")
_COLOUR: dict[Operation, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": adjust_brightness_accumulative,
    "contrast": adjust_contrast_with_mean_subtraction,
    "saturation": adjust_saturation_with_gray_subtraction,
    "hue": adjust_hue,
}
_RGB = 3
_ANY_CHANNELS = ("brightness", "contrast")


@final
@dataclass(frozen=True, slots=True)
class StrongFactors:
    """The draws of one strong view, one value an image: (B,) tensors.

    jitter, grayscale, blur bool: whether it is applied; brightness, contrast, saturation float factors (1: unchanged),
    hue float (radians, 0: unchanged), sigma float (pixels). `order` of the colour operations and `taps`, the odd width
    of the blur's kernel in pixels (0: nothing is blurred), are the same for all images. `codes` (B, 4) int64 are the
    places of `order` in the list of operations: a compiled view reads them, for it would be compiled anew for every
    order.
    """

    jitter: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    grayscale: Tensor
    blur: Tensor
    sigma: Tensor
    codes: Tensor
    order: Order
    taps: int


def draw_factors(rng: np.random.Generator, batch: int, settings: StrongSettings) -> StrongFactors:
    """Draw one strong view of `batch` images, on the host.

    Probabilities and ranges are the released ones by default; images without jitter get factors that change nothing.
    """
    codes = rng.permutation(len(_OPERATIONS))
    jitter = rng.random(batch) < settings.jitter_probability

    def factors(width: float) -> Tensor:
        drawn = rng.uniform(max(0.0, 1 - width), 1 + width, batch)
        return torch.from_numpy(np.where(jitter, drawn, 1.0).astype(np.float32))

    def flags(probability: float) -> Tensor:
        return torch.from_numpy(rng.random(batch) < probability)

    turns = np.where(jitter, rng.uniform(-settings.hue, settings.hue, batch), 0.0)
    return StrongFactors(
        jitter=torch.from_numpy(jitter),
        brightness=factors(settings.brightness),
        contrast=factors(settings.contrast),
        saturation=factors(settings.saturation),
        hue=torch.from_numpy((2 * math.pi * turns).astype(np.float32)),
        grayscale=flags(settings.grayscale_probability),
        blur=flags(settings.blur_probability),
        sigma=torch.from_numpy(rng.uniform(*settings.blur_sigma, batch).astype(np.float32)),
        codes=torch.from_numpy(codes).repeat(batch, 1),
        order=tuple(_OPERATIONS[code] for code in codes),
        taps=2 * math.ceil(3 * settings.blur_sigma[1]) + 1 if settings.blur_probability > 0 else 0,
    )


def strong_view(images: Tensor, factors: StrongFactors) -> Tensor:
    """Images (B, C, H, W) float in 0..1 -> their strong view, same shape and range.

    Jitter, then grayscale, then blur, as released. Brightness multiplies, contrast pulls towards the mean (of the luma
    for C = 3, of all channels else), saturation towards the luma; each result is clamped to 0..1. Hue, saturation and
    grayscale are defined for C = 3 only and are left out for other images.
    """
    assert images.is_floating_point(), images.dtype
    assert images.shape[0] == factors.jitter.shape[0], (images.shape, factors.jitter.shape)
    images = _jitter(images, factors)
    if images.shape[1] == _RGB:
        images = torch.where(_per_image(factors.grayscale), rgb_to_grayscale(images), images)
    return _blur(images, factors)


def _jitter(images: Tensor, factors: StrongFactors) -> Tensor:
    there = [name for name in _OPERATIONS if images.shape[1] == _RGB or name in _ANY_CHANNELS]
    coloured = images
    if torch.compiler.is_compiling():
        for place in range(factors.codes.shape[1]):
            before, codes = coloured, _per_image(factors.codes[:, place])
            for name in there:
                changed = _COLOUR[name](before, getattr(factors, name))
                coloured = torch.where(codes == _OPERATIONS.index(name), changed, coloured)
    else:
        for name in (name for name in factors.order if name in there):
            coloured = _COLOUR[name](coloured, getattr(factors, name))
    # A turn of the hue by 0 does not return every pixel bit for bit.
    return torch.where(_per_image(factors.jitter), coloured, images)


def _blur(images: Tensor, factors: StrongFactors) -> Tensor:
    """Kornia's one-call blur reads sigma back to check its sign; its two parts do not."""
    if factors.taps == 0:
        return images
    kernel = get_gaussian_kernel1d(factors.taps, factors.sigma[:, None])
    blurred = filter2d_separable(images, kernel, kernel, border_type="replicate")
    return torch.where(_per_image(factors.blur), blurred, images)


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
