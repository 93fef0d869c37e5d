"""Mixing: a region of each strong view is replaced by the same region of a partner image (CutMix).

What is pasted into the image is pasted into its labels, confidence and valid too, with the same boxes and partners.
Boxes are drawn on the host and travel as four numbers an image; everything else has static shapes.
"""

from __future__ import annotations

from typing import TypeAlias, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from semikit.errors import ConfigError

_Floats: TypeAlias = npt.NDArray[np.float64]
_Ints: TypeAlias = npt.NDArray[np.int64]

_CANDIDATES = 32
"""Boxes tried at once for each image; another number would give other boxes for the same seed."""
_ROUNDS = 512


@final
class BoxMix:
    """One rectangle an image (as released).

    `probability` that an image gets a box (0..1), its `area` as a share of the image (0..1), its `ratio` of height to
    width; area and ratio are uniform between their two bounds. The area is drawn once; the ratio and the upper left
    corner are drawn again until the box lies inside, which favours ratios that leave room.

    Raises:
        ConfigError: when no box of the largest area and an allowed ratio fits into a square image.
    """

    def __init__(
        self,
        probability: float = 0.5,
        area: tuple[float, float] = (0.02, 0.4),
        ratio: tuple[float, float] = (0.3, 1 / 0.3),
    ) -> None:
        if not (ratio[0] * area[1] <= 1 and area[1] <= ratio[1]):
            raise ConfigError(
                f"mixing: no box of area {area[1]:g} with a ratio of {ratio[0]:g} to {ratio[1]:g} fits into an image; "
                f"allowed are ratios that reach into {area[1]:g} to {1 / area[1]:g}. Lower the area or widen the ratio."
            )
        self.probability = probability
        self.area = area
        self.ratio = ratio

    def draw(self, rng: np.random.Generator, batch: int, size: tuple[int, int]) -> Tensor:
        """Boxes for `batch` images of `size` (H, W): (B, 4) int64 top, left, bottom, right (the last two excluded; four
        zeros: no box), on the host.
        """
        mixed = rng.random(batch) < self.probability
        areas = rng.uniform(*self.area, batch) * size[0] * size[1]
        boxes = np.zeros((batch, 4), dtype=np.int64)
        waiting = mixed.copy()
        for _ in range(_ROUNDS):
            if not waiting.any():
                return torch.from_numpy(boxes)
            found, candidates = self._candidates(rng, areas, size)
            boxes = np.where((waiting & found)[:, None], candidates, boxes)
            waiting &= ~found
        raise ConfigError(
            f"mixing: in {_ROUNDS * _CANDIDATES} tries no box of area {self.area[0]:g} to {self.area[1]:g} and ratio "
            f"{self.ratio[0]:g} to {self.ratio[1]:g} fell inside {size[0]} x {size[1]} pixels. Lower the area or widen "
            "the ratio."
        )

    def _candidates(
        self, rng: np.random.Generator, areas: _Floats, size: tuple[int, int]
    ) -> tuple[npt.NDArray[np.bool_], _Ints]:
        """For each image whether one of its candidates lies inside (B,), and the first that does (B, 4)."""
        shape = (len(areas), _CANDIDATES)
        ratios = rng.uniform(*self.ratio, shape)
        left, top = rng.integers(0, size[1], shape), rng.integers(0, size[0], shape)
        right = left + np.sqrt(areas[:, None] / ratios).astype(np.int64)
        bottom = top + np.sqrt(areas[:, None] * ratios).astype(np.int64)
        inside = (right <= size[1]) & (bottom <= size[0])
        first = inside.argmax(axis=1)
        boxes = np.stack([top, left, bottom, right], axis=-1)[np.arange(len(areas)), first]
        return np.any(inside, axis=1), boxes


def boxes_about(share: _Floats, places: _Floats, size: tuple[int, int], margin: int) -> Tensor:
    """Boxes whose sides are shares (B,) of those of images of `size` (H, W), as of AugSeg and iMAS: (B, 4) int64 as
    `BoxMix.draw` gives them.

    Their middles are at `places` (B, 2), in 0..1, behind the first of `margin` equal parts of rows and columns; what
    lies beyond the image is cut off.
    """
    sides, first = np.array(size), np.array(size) // margin
    half = (share[:, None] * sides).astype(np.int64) // 2
    middle = first + (places * (sides - first)).astype(np.int64)
    return torch.from_numpy(np.concatenate([np.clip(middle + by, 0, sides) for by in (-half, half)], axis=1))


def box_mask(coordinates: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (B, 4) top, left, bottom, right -> (B, H, W) bool on the same device, true inside."""
    top, left, bottom, right = coordinates[:, :, None].unbind(1)
    rows = torch.arange(size[0], device=coordinates.device)
    columns = torch.arange(size[1], device=coordinates.device)
    vertical = (rows >= top) & (rows < bottom)
    horizontal = (columns >= left) & (columns < right)
    return vertical[:, :, None] & horizontal[:, None, :]


def partners(batch: int, group: int) -> Tensor:
    """Whose region each of `batch` images receives, (B,) int64: the order is reversed inside consecutive groups.

    The middle of an odd group is its own partner; what is left at the end is a group of its own (as released, where a
    group was the batch of one process).
    """
    assert group >= 1, group
    index = torch.arange(batch)
    first = index // group * group
    last = (first + group).clamp(max=batch) - 1
    return first + last - index


def mix_images(images: Tensor, boxes: Tensor, pool: Tensor, partner: Tensor) -> Tensor:
    """Images (B, C, *S), or (B, 2, C, *S) of two dates, with the region `boxes` (B, *S) bool taken from the partner.

    `pool` (P, ...) holds the images the partners (B,) int64 are counted over; nothing is changed in place.
    """
    channels = images.dim() - boxes.dim()
    spread = boxes.view(boxes.shape[0], *[1] * channels, *boxes.shape[1:])
    return torch.where(spread, pool.index_select(0, partner), images)


def mix_maps(values: Tensor, boxes: Tensor, pool: Tensor, partner: Tensor) -> Tensor:
    """Labels, confidence or valid (B, *S) with the region `boxes` (B, *S) bool taken from the partner's in `pool`."""
    return torch.where(boxes, pool.index_select(0, partner), values)
