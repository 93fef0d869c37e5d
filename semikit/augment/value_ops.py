"""Batched operations on the values of colour images, one choice an image, as PIL computes them bit for bit.

For an image whose operation is another one each of them changes nothing. Between the steps stand the smallest integers
that hold the values and sums are made in place: on a CPU the time goes into moving them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from semikit.augment.operations import Op

_LEVELS = 256
_WEIGHTS = 13
"""Sum of the 3 x 3 weights of PIL's SMOOTH: 1, in the middle 5."""


def looked_up(images: Tensor, op: Tensor, kept: Tensor, threshold: Tensor) -> Tensor:
    """Images (B, C, H, W) uint8 -> posterized, solarized, their contrast spread or equalized, through tables.

    op (B,) int64, kept and threshold (B,) int32: one position of `AugmentDraws`.
    """
    channels = images.flatten(2)
    low, high = channels.amin(2, keepdim=True), channels.amax(2, keepdim=True)
    places = _places(images)
    spread, even = autocontrast_tables(low, high), equalize_tables(places, high, channels.shape[2])
    # Where a channel has one value, or too few others, PIL leaves it; so does the table of posterize and solarize then.
    spreads = (op[:, None, None] == Op.AUTOCONTRAST.value) & (high > low)
    evens = (op[:, None, None] == Op.EQUALIZE.value) & (even[..., -1:] > 0)
    tables = value_tables(kept, threshold)[:, None] * ~(spreads | evens) + spread * spreads + even * evens
    return tables.view(-1).index_select(0, places).view(images.shape)


def value_tables(kept: Tensor, threshold: Tensor) -> Tensor:
    """Bits that are kept and first value that is inverted, both (B,) int32 -> tables (B, 256) uint8."""
    levels = torch.arange(_LEVELS, device=kept.device, dtype=torch.int32)
    values = levels & kept[:, None]
    return torch.where(values < threshold[:, None], values, _LEVELS - 1 - values).to(torch.uint8)


def autocontrast_tables(low: Tensor, high: Tensor) -> Tensor:
    """Lowest and highest value of each channel (B, C, 1) uint8 -> tables (B, C, 256) uint8 from 0 to 255.

    Of no meaning where both are the same.
    """
    low, high = low.to(torch.float64), high.to(torch.float64)
    levels = torch.arange(_LEVELS, device=low.device, dtype=torch.float64)
    # Of two tensors: a number over a tensor would be the number times a reciprocal, which rounds another way.
    scale = torch.full_like(low, _LEVELS - 1) / (high - low).clamp_(min=1)
    return (levels * scale).sub_(low * scale).clamp_(0, _LEVELS - 1).to(torch.int16).to(torch.uint8)


def equalize_tables(places: Tensor, high: Tensor, pixels: int) -> Tensor:
    """Places (B * C * pixels,) int32 of `_places`, highest values (B, C, 1) uint8 -> tables (B, C, 256) uint8.

    The pixels of the highest value do not count for the step, as in PIL. A table that ends in 0 is none: too few pixels
    for a step.
    """
    batch, channels = high.shape[:2]
    counts = torch.zeros(batch * channels * _LEVELS, device=high.device, dtype=torch.int32)
    one = torch.ones((), device=high.device, dtype=torch.int32)
    counts = counts.index_add_(0, places, one.expand(len(places))).view(batch, channels, _LEVELS)
    below = counts.cumsum(-1, dtype=torch.int32).sub_(counts)
    step = (pixels - counts.gather(2, high.to(torch.int64))) // (_LEVELS - 1)
    # Half a pixel more, so that a product with the reciprocal never falls below the whole number that it is to be.
    even = below.to(torch.float32).add_(step // 2 + 0.5).mul_((step > 0) / step.clamp(min=1))
    return even.clamp_(max=_LEVELS - 1).to(torch.int16).to(torch.uint8)


def blended(images: Tensor, op: Tensor, factor: Tensor) -> Tensor:
    """Images (B, 3, H, W) uint8 -> `factor` (B,) float32 of them, the rest black, grey, their mean or smoothed.

    These are brightness, colour, contrast and sharpness. op (B,) int64; factor lies in 0..1.
    """
    values = images.to(torch.int16)
    colour, contrast, sharpness = (
        (op == code.value).to(torch.int16)[:, None, None, None] * _WEIGHTS
        for code in (Op.COLOR, Op.CONTRAST, Op.SHARPNESS)
    )
    grey = luma(images)
    # All in thirteenths, so that they share one division.
    other = _smoothed(values).mul_(sharpness // _WEIGHTS)
    other += grey.to(torch.int16).mul_(colour).add_(_rounded_mean(grey).to(torch.int16) * contrast)
    # A thirteenth of a whole number never lies halfway between two: it is rounded as PIL does it.
    behind = other.to(torch.float32).mul_(1 / _WEIGHTS).round_()
    blend = images.to(torch.float32).sub_(behind).mul_(factor[:, None, None, None]).add_(behind)
    return blend.to(torch.int16).to(torch.uint8)


def luma(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) uint8 -> their luma (B, 1, H, W) int32, 0..255 (ITU-R 601-2, rounded)."""
    red, green, blue = (images[:, band : band + 1].to(torch.int32) for band in range(3))
    return red.mul_(19595).add_(green, alpha=38470).add_(blue, alpha=7471).add_(1 << 15) >> 16


def _rounded_mean(grey: Tensor) -> Tensor:
    """(B, 1, H, W) int32 in 0..255 -> its mean (B, 1, 1, 1), half a value goes up."""
    pixels = grey.shape[-2] * grey.shape[-1]
    total = grey.sum((1, 2, 3), keepdim=True, dtype=torch.int32).to(torch.int64)
    return (2 * total + pixels) // (2 * pixels)


def _smoothed(values: Tensor) -> Tensor:
    """(B, C, H, W) int16 in 0..255 -> thirteen times the mean of 3 x 3 pixels, the middle one five times.

    The border is not smoothed, as in PIL.
    """
    width = values.shape[-1]
    smooth = values * _WEIGHTS
    # In rows written one behind the other sums are made much faster; what they are at both ends of a row is put right.
    flat = values.flatten(2)
    threes = (flat[..., : -2 * width] + flat[..., width:-width]).add_(flat[..., 2 * width :])
    total = (threes[..., :-2] + threes[..., 1:-1]).add_(threes[..., 2:])
    inner = slice(width + 1, width + 1 + total.shape[-1])
    smooth.flatten(2)[..., inner] = total.add_(flat[..., inner], alpha=4)
    for side in (0, -1):
        smooth[..., side] = values[..., side] * _WEIGHTS
    return smooth


def _places(images: Tensor) -> Tensor:
    """Images (B, C, H, W) uint8 -> where each value lies in tables (B, C, 256) written in a row, (B * C * H * W,)."""
    batch, channels = images.shape[:2]
    first = torch.arange(batch * channels, device=images.device, dtype=torch.int32) * _LEVELS
    return images.to(torch.int32).add_(first.view(batch, channels, 1, 1)).view(-1)
