"""The operations of RandAugment, and what is done with each image, as the numbers the device works with."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, TypeAlias, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from semikit.augment.geometry_ops import affine_terms
from semikit.core.transfer import send

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

    def to(self, device: torch.device | str) -> AugmentDraws:
        """The same on `device`; the copy does not wait."""
        return AugmentDraws(**{name: send(values, device) for name, values in self._tensors().items()})

    def __getitem__(self, part: slice | Tensor) -> AugmentDraws:
        """The images `part` (int64 places as a tensor): how the draws of a total batch are shared out."""
        return AugmentDraws(**{name: values[part] for name, values in self._tensors().items()})

    def _tensors(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


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
