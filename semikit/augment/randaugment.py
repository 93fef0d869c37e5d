"""RandAugment with one draw an image, batched on the device: PIL's results bit for bit without a loop over images.

Its operations and draws are numbers the device works with; nothing is asked of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from semikit.augment.resampling import affine_terms, resampled
from semikit.augment.settings import RandAugmentSettings
from semikit.core.batch import take

Numbers: TypeAlias = npt.NDArray[np.float64]
Codes: TypeAlias = npt.NDArray[np.int64]


class Op(IntEnum):
    """The fourteen operations of the field, in the order of its list."""

    AUTOCONTRAST = 0
    BRIGHTNESS = 1
    COLOR = 2
    CONTRAST = 3
    EQUALIZE = 4
    IDENTITY = 5
    POSTERIZE = 6
    ROTATE = 7
    SHARPNESS = 8
    SHEAR_X = 9
    SHEAR_Y = 10
    SOLARIZE = 11
    TRANSLATE_X = 12
    TRANSLATE_Y = 13


BLENDS = (Op.BRIGHTNESS, Op.COLOR, Op.CONTRAST, Op.SHARPNESS)
TABLES = (Op.AUTOCONTRAST, Op.EQUALIZE, Op.POSTERIZE, Op.SOLARIZE)
MOVES = (Op.ROTATE, Op.SHEAR_X, Op.SHEAR_Y, Op.TRANSLATE_X, Op.TRANSLATE_Y)


@final
@dataclass(frozen=True, slots=True)
class AugmentDraws:
    """The draws of `n` operations an image and its box; numbers that an operation does not use change nothing.

    op (B, n) int64: codes of `Op`. factor (B, n) float32: share of the image in a blend (1: nothing else).
    kept (B, n) int32: bits that posterize keeps (255: all). threshold (B, n) int32: solarize inverts from here
    (256: nowhere). affine (B, n, 6) int32: where a pixel comes from, 1/65536 of a pixel (see `affine_terms`).
    box (B, 4) int32: left, top, right, bottom of the rectangle, all included, pixels (right below left: none).
    fill (B, 3) uint8: its colour.
    """

    op: Tensor
    factor: Tensor
    kept: Tensor
    threshold: Tensor
    affine: Tensor
    box: Tensor
    fill: Tensor


def encode(op: Codes, value: Numbers, box: Codes, size: tuple[int, int], fill: tuple[int, int, int]) -> AugmentDraws:
    """Operations (B, n) with their values (B, n), in the units of PIL's calls -> the numbers of the device.

    Values: factor of the enhancements (0..1), bits to keep (posterize, 0..8), degrees against the clock (rotate), slope
    (shear), pixels to the left or up (translate), first value to invert (solarize); of no meaning for the others. `box`
    (B, 4) as in `AugmentDraws`, images of `size` (H, W).
    """
    factor = np.where(np.isin(op, BLENDS), value, 1.0)
    bits = np.where(op == Op.POSTERIZE, value, 8.0).astype(np.int64)
    # A whole number lies below a threshold exactly if it lies below the next whole one.
    threshold = np.where(op == Op.SOLARIZE, np.ceil(value), 256.0)
    return AugmentDraws(
        op=torch.from_numpy(op),
        factor=torch.from_numpy(factor.astype(np.float32)),
        kept=torch.from_numpy((256 - 2 ** (8 - bits)).astype(np.int32)),
        threshold=torch.from_numpy(threshold.astype(np.int32)),
        affine=torch.from_numpy(affine_terms(_matrices(op, value, size))),
        box=torch.from_numpy(box.astype(np.int32)),
        fill=torch.tensor(fill, dtype=torch.uint8).repeat(len(op), 1),
    )


def _matrices(op: Codes, value: Numbers, size: tuple[int, int]) -> Numbers:
    """Operations (B, n) with values -> a, b, c, d, e, f (B, n, 6): x <- ax + by + c, y <- dx + ey + f."""

    def of(code: Op) -> Numbers:
        return np.where(op == code, value, 0.0)

    angle = -np.deg2rad(of(Op.ROTATE))
    cosine, sine = np.cos(angle), np.sin(angle)
    middle_y, middle_x = (side / 2 for side in size)
    return np.stack(
        [
            cosine,
            sine + of(Op.SHEAR_X),
            middle_x - cosine * middle_x - sine * middle_y + of(Op.TRANSLATE_X),
            of(Op.SHEAR_Y) - sine,
            cosine,
            middle_y + sine * middle_x - cosine * middle_y + of(Op.TRANSLATE_Y),
        ],
        axis=-1,
    )


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
    other = smoothed(values).mul_(sharpness // _WEIGHTS)
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


def smoothed(values: Tensor) -> Tensor:
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


Size: TypeAlias = tuple[int, int]
"""Height and width, pixels."""

_ENHANCED = (0.05, 0.95)
_TURNED, _MOVED = (-30.0, 30.0), (-0.3, 0.3)
_USB: dict[Op, tuple[float, float]] = {
    Op.BRIGHTNESS: _ENHANCED,
    Op.COLOR: _ENHANCED,
    Op.CONTRAST: _ENHANCED,
    Op.POSTERIZE: (4, 8),
    Op.ROTATE: _TURNED,
    Op.SHARPNESS: _ENHANCED,
    Op.SHEAR_X: _MOVED,
    Op.SHEAR_Y: _MOVED,
    Op.SOLARIZE: (0, 256),
    Op.TRANSLATE_X: _MOVED,
    Op.TRANSLATE_Y: _MOVED,
}
"""Lowest and highest magnitude of USB's list; a translation in shares of the side."""


def draw_ops(rng: np.random.Generator, batch: int, size: Size, settings: RandAugmentSettings) -> AugmentDraws:
    """Draw operations, magnitudes and boxes for `batch` images of `size` (H, W), on the host."""
    op, value = draw_operations(rng, batch, size, settings)
    return encode(op, value, draw_boxes(rng, batch, size, settings), size, settings.fill)


def draw_operations(
    rng: np.random.Generator, batch: int, size: Size, settings: RandAugmentSettings
) -> tuple[Codes, Numbers]:
    """Codes of `Op` (B, n) and their values (B, n), in the units of `encode`; with replacement, one draw an image.

    An operation that is not applied is written as identity. Source: PROTOCOL 3.7, USB's list and FixMatch's.
    """
    shape = (batch, settings.count)
    op = rng.integers(0, len(Op), shape)
    op = np.where(rng.random(shape) < settings.chance, op, Op.IDENTITY)
    draw_values = _usb_values if settings.kind == "usb" else _fixmatch_values
    return op, draw_values(rng, op, size)


def draw_boxes(rng: np.random.Generator, batch: int, size: Size, settings: RandAugmentSettings) -> Codes:
    """The rectangles of Cutout: left, top, right, bottom (B, 4), all included, pixels; right below left for none.

    As published, right and bottom are one past the side, and `usb` draws the middle from 1 to the side.
    """
    height, width = size
    if settings.kind == "usb":
        side, lowest = rng.random(batch) * settings.cutout * width, 1
    else:
        side, lowest = np.full(batch, float(int(settings.cutout * width))), 0
    first, last = [], []
    for length in (width, height):
        start = np.floor(np.maximum(0, rng.uniform(lowest, length, batch) - side / 2))
        first.append(start)
        last.append(np.where(side > 0, np.floor(np.minimum(length, start + side)), -1))
    return np.stack([*first, *last], axis=1).astype(np.int64)


def randaugment(images: Tensor, draws: AugmentDraws) -> Tensor:
    """Images (B, 3, H, W) uint8 -> their strong view, same shape; `draws` of the same size and on the same device.

    The operations of an image follow each other, then its box is filled. An image has at most a million pixels. On a
    CPU, outside `torch.compile`, each operation sees only the images that have it: there the draws can be read freely.
    """
    by_operation = images.device.type == "cpu" and not torch.compiler.is_compiling()
    return _grouped(images, draws) if by_operation else static_randaugment(images, draws)


def static_randaugment(images: Tensor, draws: AugmentDraws) -> Tensor:
    """The same as `randaugment`, on any device with static shapes: all images pass all operations, nothing is read."""
    _check(images, draws)
    for position in range(draws.op.shape[1]):
        for _, apply in _KINDS:
            images = apply(images, draws, position)
    return _filled(images, draws.box, draws.fill)


def _grouped(images: Tensor, draws: AugmentDraws) -> Tensor:
    _check(images, draws)
    images, codes = images.clone(), draws.op.numpy()
    for position in range(codes.shape[1]):
        for ops, apply in _KINDS:
            rows = torch.from_numpy(np.flatnonzero(np.isin(codes[:, position], ops)))
            if len(rows):
                images.index_copy_(0, rows, apply(images.index_select(0, rows), take(draws, rows), position))
    return _filled(images, draws.box, draws.fill)


def _check(images: Tensor, draws: AugmentDraws) -> None:
    assert images.dtype == torch.uint8, images.dtype
    assert images.shape[:2] == (draws.op.shape[0], 3), (images.shape, draws.op.shape)
    assert images.shape[-2] * images.shape[-1] <= 1 << 20, images.shape


def _blend(images: Tensor, draws: AugmentDraws, position: int) -> Tensor:
    return blended(images, draws.op[:, position], draws.factor[:, position])


def _look_up(images: Tensor, draws: AugmentDraws, position: int) -> Tensor:
    return looked_up(images, draws.op[:, position], draws.kept[:, position], draws.threshold[:, position])


def _move(images: Tensor, draws: AugmentDraws, position: int) -> Tensor:
    return resampled(images, draws.affine[:, position])


_KINDS: tuple[tuple[tuple[Op, ...], Callable[[Tensor, AugmentDraws, int], Tensor]], ...] = (
    (BLENDS, _blend),
    (TABLES, _look_up),
    (MOVES, _move),
)


def _usb_values(rng: np.random.Generator, op: Codes, size: Size) -> Numbers:
    """Uniform between the bounds of the operation."""
    low, high = (np.array([_USB.get(code, (0.0, 0.0))[bound] for code in Op]) for bound in (0, 1))
    value = low[op] + (high - low)[op] * rng.random(op.shape)
    whole: Numbers = np.where(op == Op.POSTERIZE, np.floor(value), value)
    return whole * _sides(op, size)


def _fixmatch_values(rng: np.random.Generator, op: Codes, size: Size) -> Numbers:
    """A level of 1 to 9 tenths of the greatest magnitude, movements with a random sign, in whole degrees and pixels."""
    level = rng.integers(1, 10, op.shape)
    sign = np.where(rng.random(op.shape) < 0.5, -1, 1)
    moved = sign * (level * 0.3 / 10)
    values: dict[Op, npt.NDArray[np.generic]] = {
        Op.POSTERIZE: 4 + level * 4 // 10,
        Op.ROTATE: sign * (level * 30 // 10),
        Op.SHEAR_X: moved,
        Op.SHEAR_Y: moved,
        Op.SOLARIZE: 256 - level * 256 // 10,
        Op.TRANSLATE_X: np.trunc(moved * size[1]),
        Op.TRANSLATE_Y: np.trunc(moved * size[0]),
    }
    enhanced = level * 0.9 / 10 + 0.05
    return np.select([op == code for code in values], list(values.values()), enhanced).astype(np.float64)


def _sides(op: Codes, size: Size) -> Numbers:
    """Pixels of the side a translation goes along, 1 for the other operations."""
    return np.select([op == Op.TRANSLATE_X, op == Op.TRANSLATE_Y], [size[1], size[0]], 1).astype(np.float64)


def _filled(images: Tensor, box: Tensor, fill: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    x = torch.arange(width, device=images.device, dtype=torch.int32)
    y = torch.arange(height, device=images.device, dtype=torch.int32)[:, None]
    left, top, right, bottom = (edge[:, None, None] for edge in box.unbind(1))
    inside = (((x >= left) & (x <= right)) & ((y >= top) & (y <= bottom)))[:, None]
    return (images * ~inside).add_(inside * fill[:, :, None, None])
