"""The weak view of the workers: resize, crop and flip, drawn once and applied alike to images, labels and valid.

The random scale and crop are drawn first (`Window`), then only the part of the source that the crop shows is
resampled. Arrays are numpy, without torch, so that workers stay light.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
import numpy.typing as npt
from PIL import Image

from semikit.augment.settings import WeakSettings

_Bytes: TypeAlias = npt.NDArray[np.uint8]
_Flags: TypeAlias = npt.NDArray[np.bool_]
Origin: TypeAlias = tuple[int, int]
"""Row and column of the source at which a part of it begins."""


@final
@dataclass(frozen=True, slots=True)
class Window:
    """What a crop shows: the `source` (H, W) is resized to `scaled` (H, W), padded right and below up to `crop`, cut at
    `top`, `left` (pixels of the scaled image) into `crop` x `crop`, then mirrored if `flip`.
    """

    source: tuple[int, int]
    scaled: tuple[int, int]
    top: int
    left: int
    crop: int
    flip: bool

    @property
    def filled(self) -> tuple[int, int]:
        """Height and width of the crop's part that the image covers, pixels; right of and below it is padding."""
        height, width = self.scaled
        return min(self.crop, height - self.top), min(self.crop, width - self.left)

    @property
    def needed(self) -> tuple[int, int, int, int]:
        """The part of the source that the crop is made of: top, left, height, width, pixels; what the filter sees
        around it included.
        """
        top, bottom = _needed(self.source[0], self.scaled[0], self.top, self.filled[0])
        left, right = _needed(self.source[1], self.scaled[1], self.left, self.filled[1])
        return top, left, bottom - top, right - left


def draw_window(size: tuple[int, int], rng: np.random.Generator, settings: WeakSettings) -> Window:
    """Draw scale, place and flip for a source of `size` (H, W).

    The long side is a uniform whole number between its scaled bounds (both included), the short side follows in
    proportion, and every place of the crop inside the padded image is equally likely (as released).
    """
    height, width = size
    longest = max(height, width)
    low, high = (max(1, int(longest * factor)) for factor in settings.scale)
    drawn = int(rng.integers(low, high, endpoint=True))
    short = max(1, int(min(height, width) * drawn / longest + 0.5))
    scaled = (drawn, short) if height > width else (short, drawn)
    left = int(rng.integers(0, max(scaled[1] - settings.crop, 0), endpoint=True))
    top = int(rng.integers(0, max(scaled[0] - settings.crop, 0), endpoint=True))
    return Window(size, scaled, top, left, settings.crop, bool(rng.random() < settings.flip))


def cut(image: _Bytes, window: Window, origin: Origin = (0, 0)) -> _Bytes:
    """Image (*T, H, W, C) uint8 with any C -> its crop (*T, crop, crop, C) uint8, padded with 0.

    Bilinear with antialiasing; several dates (T) are cut alike. Equals resizing the whole image and cropping it up to
    rounding (at most 2 of 255): the pixels around the window still count. `image` may be only the part of the source
    that is `needed`, or more, beginning at row and column `origin`.
    """
    assert image.dtype == np.uint8, image.dtype
    if image.ndim > 3:
        return np.stack([cut(date, window, origin) for date in image])
    assert origin != (0, 0) or image.shape[:2] == window.source or _covers(image, window), (image.shape, window)
    if image.shape[2] == 3:
        return _place(_resample(image, window, origin), window)
    bands = [_resample(image[:, :, band], window, origin) for band in range(image.shape[2])]
    return _place(np.stack(bands, axis=-1), window)


def cut_map(values: npt.NDArray[Any], window: Window, origin: Origin = (0, 0)) -> npt.NDArray[Any]:
    """Labels or valid (H, W) of any dtype -> their crop (crop, crop), nearest neighbour, padded with 0 (False).

    Equals resizing the whole map with PIL and cropping it; `origin` as for `cut`.
    """
    assert origin != (0, 0) or values.shape == window.source or _covers(values, window), (values.shape, window)
    height, width = window.filled
    rows = _nearest(window.source[0], window.scaled[0], window.top, height) - origin[0]
    columns = _nearest(window.source[1], window.scaled[1], window.left, width) - origin[1]
    return _place(values[rows[:, None], columns], window)


def cut_valid(valid: _Flags | None, window: Window, origin: Origin = (0, 0)) -> _Flags:
    """Valid (H, W) bool, or None where the whole source is -> its crop (crop, crop); padding is never valid."""
    if valid is not None:
        assert valid.dtype == np.bool_, valid.dtype
        return cut_map(valid, window, origin)
    return _place(np.ones(window.filled, dtype=np.bool_), window)


def _covers(values: npt.NDArray[Any], window: Window) -> bool:
    """Whether a part that begins at the first pixel holds all that is needed."""
    top, left, height, width = window.needed
    return bool(values.shape[0] >= top + height and values.shape[1] >= left + width)


def _needed(source: int, scaled: int, start: int, count: int) -> tuple[int, int]:
    """First and last + 1 of the `source` positions that the scaled ones from `start` are made of."""
    step = source / scaled
    reach = math.ceil(max(step, 1.0)) + 1
    return max(0, math.floor(start * step) - reach), min(source, math.ceil((start + count) * step) + reach)


def _resample(pixels: _Bytes, window: Window, origin: Origin) -> _Bytes:
    """The filled part of the crop from a source PIL can hold, (H, W) or (H, W, 3)."""
    height, width = window.filled
    down, right = (source / scaled for source, scaled in zip(window.source, window.scaled, strict=True))
    box = (
        window.left * right - origin[1],
        window.top * down - origin[0],
        min((window.left + width) * right, window.source[1]) - origin[1],
        min((window.top + height) * down, window.source[0]) - origin[0],
    )
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=box))


def _nearest(source: int, scaled: int, start: int, count: int) -> npt.NDArray[np.int64]:
    """Which of `source` positions the scaled positions start..start + count - 1 show."""
    steps = np.full(start + count, source / scaled)
    steps[0] /= 2
    # PIL adds step to step: so do we, so that centres on the border of two pixels fall on the same side.
    return np.minimum(np.cumsum(steps)[start:].astype(np.int64), source - 1)


def _place(filled: npt.NDArray[Any], window: Window) -> npt.NDArray[Any]:
    """Pad right and below to the crop, then mirror."""
    height, width = window.filled
    if (height, width) != (window.crop, window.crop):
        padded = np.zeros((window.crop, window.crop, *filled.shape[2:]), dtype=filled.dtype)
        padded[:height, :width] = filled
        filled = padded
    return np.ascontiguousarray(filled[:, ::-1] if window.flip else filled)
