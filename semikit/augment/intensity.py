"""Random intensity operations (Zhao et al. 2023, AugSeg): a few of eleven on each image, batched on the device.

Operations with whole numbers are those of RandAugment, PIL's bit for bit; blur is a true Gaussian, and hue turns in
floating point where PIL has 8 bits. Images become whole 255ths.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from kornia.enhance import adjust_hue
from kornia.filters import filter2d_separable, get_gaussian_kernel1d
from torch import Tensor

from semikit.augment.randaugment import BLENDS, TABLES, Op, blended, looked_up, smoothed
from semikit.augment.settings import StrongSettings
from semikit.core.batch import take

HUE, BLUR = len(Op), len(Op) + 1
"""Codes that go on where those of `Op` end."""
OPERATIONS = (Op.IDENTITY, Op.AUTOCONTRAST, Op.EQUALIZE, BLUR, *BLENDS, Op.POSTERIZE, Op.SOLARIZE, HUE)
_FACTOR, _SIGMA, _BITS, _VALUES, _TURN = (0.05, 0.95), (0.1, 2.0), 4, 255, 0.5
"""As released: ranges of factors and of deviations (pixels), most bits and values taken away, most of a turn."""
_TAPS = 2 * math.ceil(3 * _SIGMA[1]) + 1
_RGB = 3


@final
@dataclass(frozen=True, slots=True)
class IntensityDraws:
    """The draws of `n` operations an image, (B, n) each; numbers that an operation does not use change nothing.

    op int64: codes of `Op`, `HUE` and `BLUR`. factor float32: share of the image in a blend. kept int32: bits that
    posterize keeps (255: all). threshold int32: solarize inverts from here (256: nowhere). sigma float32: deviation of
    the blur, pixels. hue float32: radians.
    """

    op: Tensor
    factor: Tensor
    kept: Tensor
    threshold: Tensor
    sigma: Tensor
    hue: Tensor


def draw_intensity(rng: np.random.Generator, batch: int, settings: StrongSettings) -> IntensityDraws:
    """Draw one strong view of `batch` images, on the host: so many operations as `settings.operations` says, with
    replacement, each with a magnitude of its own (as released).
    """
    fewest, most = settings.operations
    shape = (batch, most)
    count = rng.integers(fewest, most + 1, (batch, 1))
    op = np.array([int(code) for code in OPERATIONS])[rng.integers(0, len(OPERATIONS), shape)]
    op = np.where(np.arange(most) < count, op, int(Op.IDENTITY))
    share, sign = rng.random(shape), np.where(rng.random(shape) < 0.5, -1.0, 1.0)

    def of(codes: tuple[int, ...], values: np.ndarray, rest: float, kind: type) -> Tensor:
        return torch.from_numpy(np.where(np.isin(op, codes), values, rest).astype(kind))

    bits = 8 - np.maximum(1, np.ceil(_BITS * share))
    return IntensityDraws(
        op=torch.from_numpy(op),
        factor=of(BLENDS, _FACTOR[1] - (_FACTOR[1] - _FACTOR[0]) * share, 1.0, np.float32),
        kept=of((Op.POSTERIZE,), 256 - 2 ** (8 - bits), 255, np.int32),
        threshold=of((Op.SOLARIZE,), 256 - np.maximum(1, np.ceil(_VALUES * share)), 256, np.int32),
        sigma=torch.from_numpy((_SIGMA[0] + (_SIGMA[1] - _SIGMA[0]) * share).astype(np.float32)),
        hue=of((HUE,), 2 * math.pi * _TURN * share * sign, 0.0, np.float32),
    )


def random_intensity(images: Tensor, draws: IntensityDraws) -> Tensor:
    """Images (B, C, H, W) float in 0..1 -> their strong view, same shape and range, one operation after the other.

    Colour and hue are defined for C = 3 only and leave other images as they are; their contrast is taken about the mean
    of all channels. An image has at most a million pixels. On a CPU, outside `torch.compile`, each operation sees only
    the images that have it.
    """
    assert images.is_floating_point(), images.dtype
    values = (images * 255).round().to(torch.uint8)
    by_operation = values.device.type == "cpu" and not torch.compiler.is_compiling()
    codes = draws.op.numpy() if by_operation else None
    for position in range(draws.op.shape[1]):
        for ops, apply in _KINDS:
            if codes is None:
                values = apply(values, draws, position)
                continue
            rows = torch.from_numpy(np.flatnonzero(np.isin(codes[:, position], ops)))
            if len(rows):
                values.index_copy_(0, rows, apply(values.index_select(0, rows), take(draws, rows), position))
    return values.to(images.dtype) / 255


def _blend(images: Tensor, draws: IntensityDraws, position: int) -> Tensor:
    op, factor = draws.op[:, position], draws.factor[:, position]
    return blended(images, op, factor) if images.shape[1] == _RGB else _blended_bands(images, op, factor)


def _blended_bands(images: Tensor, op: Tensor, factor: Tensor) -> Tensor:
    """As `blended`, of images with other than three channels."""
    values, code = images.float(), op[:, None, None, None]
    behind = torch.where(code == Op.CONTRAST.value, values.mean((1, 2, 3), keepdim=True), 0.0)
    behind = torch.where(code == Op.SHARPNESS.value, smoothed(images.to(torch.int16)).float() / 13, behind)
    behind = torch.where(code == Op.COLOR.value, values, behind)
    return (behind + factor[:, None, None, None] * (values - behind)).to(torch.uint8)


def _look_up(images: Tensor, draws: IntensityDraws, position: int) -> Tensor:
    return looked_up(images, draws.op[:, position], draws.kept[:, position], draws.threshold[:, position])


def _turn(images: Tensor, draws: IntensityDraws, position: int) -> Tensor:
    if images.shape[1] != _RGB:
        return images
    turned = adjust_hue(images.float() / 255, draws.hue[:, position])
    return _where(draws.op[:, position] == HUE, turned * 255, images)


def _soften(images: Tensor, draws: IntensityDraws, position: int) -> Tensor:
    kernel = get_gaussian_kernel1d(_TAPS, draws.sigma[:, position : position + 1])
    blurred = filter2d_separable(images.float(), kernel, kernel, border_type="replicate")
    return _where(draws.op[:, position] == BLUR, blurred, images)


def _where(chosen: Tensor, changed: Tensor, images: Tensor) -> Tensor:
    return torch.where(chosen[:, None, None, None], changed.round().clamp(0, 255).to(torch.uint8), images)


_KINDS: tuple[tuple[tuple[int, ...], Callable[[Tensor, IntensityDraws, int], Tensor]], ...] = (
    (BLENDS, _blend),
    (TABLES, _look_up),
    ((HUE,), _turn),
    ((BLUR,), _soften),
)
