"""RandAugment with one draw an image, batched on the device: PIL's results bit for bit without a loop over images.

Everything is drawn on the host. On an accelerator all images pass all operations, each with numbers that change nothing
where the image has another one: shapes are static and nothing is read back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from semikit.augment.geometry_ops import resampled
from semikit.augment.operations import BLENDS, MOVES, TABLES, AugmentDraws, Codes, Numbers, Op, encode
from semikit.augment.settings import RandAugmentSettings
from semikit.augment.value_ops import blended, looked_up

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
                images.index_copy_(0, rows, apply(images.index_select(0, rows), draws[rows], position))
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
