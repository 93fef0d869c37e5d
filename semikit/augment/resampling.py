"""Batched nearest-neighbour resampling, an affine map an image, as PIL's `Image.transform` does it bit for bit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from semikit.augment.settings import ShiftSettings

_ONE = 1 << 16
"""One pixel in the fixed-point numbers of PIL's transform (16 bits behind the point)."""


def affine_terms(matrices: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """Matrices a, b, c, d, e, f (..., 6) on the host -> the fixed-point terms of `resampled` (..., 6).

    The pixel at column x, row y comes from column ax + by + c, row dx + ey + f (pixels; whole numbers are the corners
    of pixels). The terms are those of PIL: a, b, the start at the middle of the first pixel, and the same for rows.
    """
    a, b, c, d, e, f = np.moveaxis(matrices, -1, 0)
    exact = np.stack([a, b, c + a / 2 + b / 2, d, e, f + d / 2 + e / 2], axis=-1)
    terms = np.floor(exact * _ONE + 0.5)
    # Maps without turn or shear are not taken in fixed point by PIL: there the pixel of the exact start counts.
    straight = (b == 0) & (d == 0)
    for start in (2, 5):
        terms[..., start] = np.where(straight, np.floor(exact[..., start]) * _ONE, terms[..., start])
    return terms.astype(np.int32)


def resampled(images: Tensor, terms: Tensor) -> Tensor:
    """Images (B, C, H, W) uint8, terms (B, 6) int32 of `affine_terms` -> the images moved; black where none was."""
    height, width = images.shape[-2:]
    x = torch.arange(width, device=images.device, dtype=torch.int32)
    y = torch.arange(height, device=images.device, dtype=torch.int32)[:, None]
    a, b, c, d, e, f = (term[:, None, None] for term in terms.unbind(1))
    column = (a * x + (b * y + c)) >> 16
    row = (d * x + (e * y + f)) >> 16
    near_column, near_row = column.clamp(0, width - 1), row.clamp(0, height - 1)
    outside = column.sub_(near_column).bitwise_or_(row.sub_(near_row)).to(torch.bool)
    return taken(images, near_row.mul_(width).add_(near_column)).mul_(~outside[:, None])


def taken(images: Tensor, source: Tensor) -> Tensor:
    """Images (B, C, H, W) and the position row * W + column (B, H, W) int32 each pixel comes from -> (B, C, H, W)."""
    batch, channels, height, width = images.shape
    assert images.numel() < 2**31, images.shape
    first = torch.arange(batch * channels, device=images.device, dtype=torch.int32) * (height * width)
    places = first.view(batch, channels, 1, 1) + source[:, None]
    return images.reshape(-1).index_select(0, places.view(-1)).view(images.shape)


def draw_shifts(rng: np.random.Generator, batch: int, size: tuple[int, int], settings: ShiftSettings) -> Tensor:
    """Draw the weak view of `batch` images of `size` (H, W): (B, 3) int64 on the host.

    Whether it is flipped (0 or 1), then pixels down and right (after the flip), each uniform between plus and minus the
    whole pixels in `shift` of the side (PROTOCOL 3.7).
    """
    flip = rng.random(batch) < settings.flip
    reach = [int(side * settings.shift) for side in size]
    moves = [rng.integers(-pixels, pixels, batch, endpoint=True) for pixels in reach]
    return torch.from_numpy(np.stack([flip.astype(np.int64), *moves], axis=1))


def shifted(images: Tensor, draws: Tensor) -> Tensor:
    """Images (B, C, H, W) uint8 of any C -> their weak view, same shape; `draws` (B, 3) on the same device.

    What comes in at a side is the image mirrored at its outermost pixels, which are not repeated.
    """
    assert images.dtype == torch.uint8, images.dtype
    assert draws.shape == (images.shape[0], 3), (images.shape, draws.shape)
    height, width = images.shape[-2:]
    flip, down, right = draws.to(torch.int32)[..., None].unbind(1)
    rows = _reflected(torch.arange(height, device=images.device, dtype=torch.int32) - down, height)
    columns = _reflected(torch.arange(width, device=images.device, dtype=torch.int32) - right, width)
    columns += flip * (width - 1 - 2 * columns)
    return taken(images, rows[:, :, None] * width + columns[:, None])


def _reflected(places: Tensor, side: int) -> Tensor:
    """Places less than `side` outside 0..side - 1 -> the places inside that they mirror."""
    last = side - 1
    return last - (last - places.abs()).abs()
