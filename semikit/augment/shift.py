"""The weak view of small images, batched on the device: horizontal flip and a shift by whole pixels, reflected."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from semikit.augment.geometry_ops import taken
from semikit.augment.settings import ShiftSettings


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
