"""The weak view of the workers: resize, crop and flip, one draw for image, labels and valid.

The random scale and crop are drawn first (`Window`), then only the part of the source that the crop shows is
resampled. Arrays are numpy; torch is imported where it resamples (`quick`), as every command reads the settings here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, final

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from PIL import Image

from semikit.augment.settings import ShareSpan, Span, WeakSettings
from semikit.settings.base import Settings

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


def moved(window: Window, row: int, column: int, rng: np.random.Generator) -> Window:
    """The window where its crop holds a pixel of the scaled image; every such place is equally likely."""
    starts = []
    for position, scaled in zip((row, column), window.scaled, strict=True):
        last = min(position, max(scaled - window.crop, 0))
        starts.append(int(rng.integers(max(0, position - window.crop + 1), last, endpoint=True)))
    return replace(window, top=starts[0], left=starts[1])


def scaled_positions(window: Window, axis: int, start: int, count: int) -> tuple[int, NDArray[np.int64]]:
    """Which rows (axis 0) or columns of the scaled image show some of the source's, as labels are scaled: the first of
    them, and the source's number of each.
    """
    shown = _nearest(window.source[axis], window.scaled[axis], 0, window.scaled[axis])
    first, end = np.searchsorted(shown, (start, start + count))
    return int(first), shown[first:end]


def cut(image: _Bytes, window: Window, origin: Origin = (0, 0)) -> _Bytes:
    """Image (*T, H, W, C) uint8 with any C -> its crop (*T, crop, crop, C) uint8, padded with 0.

    Bilinear with antialiasing, the same window for all dates (T). Equals resizing the whole image and cropping it up
    to rounding (at most 2 of 255): the pixels around the window still count. `image` may be only the part of the source
    that is `needed`, or more, beginning at row and column `origin`.
    """
    assert image.dtype == np.uint8, image.dtype
    if image.ndim > 3:
        return np.stack([cut(date, window, origin) for date in image])
    assert origin != (0, 0) or image.shape[:2] == window.source or _covers(image, window), (image.shape, window)
    if image.shape[2] == 3 and image.flags.c_contiguous:
        return _place(_resample(image, window, origin), window)
    # Bands that lie apart, as in a file of decoded scenes, are resampled where they lie, to the same bytes.
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


_TRIES = 10
_FILLED = 0.875
"""Share of the short side that the middle takes when images are scored."""

Bytes = NDArray[np.uint8]


@final
class CropSettings(Settings):
    """A random crop, resized to a square (as in SimMatch and USB for ImageNet)."""

    area: ShareSpan = (0.2, 1.0)
    """Lowest and highest area of the crop, share of the image (0..1)."""
    ratio: Span = (3 / 4, 4 / 3)
    """Lowest and highest width over height of the crop."""


def random_crop(
    image: Bytes, size: int, rng: np.random.Generator, settings: CropSettings, flip: float, quick: bool = False
) -> Bytes:
    """A part of an image (H, W, 3) resized to (size, size, 3), mirrored with probability `flip`.

    Area and the logarithm of the ratio are uniform; where ten tries do not fit, the middle of an allowed ratio is taken
    (as torchvision's RandomResizedCrop). `quick` resamples the part alone, as RandomResizedCrop does, with torch's
    vector code: 1 of 255 off at most from what Pillow makes of the part, which otherwise also weighs the pixels beside
    it where it shrinks.
    """
    height, width = image.shape[:2]
    top, left, h, w = _part(height, width, rng, settings)
    if quick:
        crop = _resampled(image[top : top + h, left : left + w], size)
    else:
        crop = _resized(image, (left, top, left + w, top + h), size)
    return crop[:, ::-1] if rng.random() < flip else crop


def _resampled(part: Bytes, size: int) -> Bytes:
    """(h, w, 3) -> (size, size, 3), bilinear with antialiasing, by torch."""
    import torch
    from torch.nn.functional import interpolate

    writable = np.require(part, requirements="W")  # torch warns of read-only memory
    channels = torch.from_numpy(writable).movedim(-1, 0)[None]
    resized: Bytes = interpolate(channels, (size, size), mode="bilinear", antialias=True)[0].movedim(0, -1).numpy()
    return resized


def most_reduced(image: tuple[int, int], size: int, settings: CropSettings) -> float:
    """By what factor an image of these sides may be reduced so that `random_crop` still never enlarges to `size`."""
    shortest, (low, high) = min(image), settings.ratio
    smallest = math.sqrt(math.prod(image) * settings.area[0] * min(low, 1 / high))
    return min(shortest, shortest / low, shortest * high, smallest) / size


def middle_crop(image: Bytes, size: int) -> Bytes:
    """The middle of an image (H, W, 3), 0.875 of its short side, resized to (size, size, 3)."""
    height, width = image.shape[:2]
    side = min(height, width) * _FILLED
    left, top = (width - side) / 2, (height - side) / 2
    return _resized(image, (left, top, left + side, top + side), size)


def squeezed(image: Bytes, size: tuple[int, int]) -> Bytes:
    """A whole image (H, W, 3) resized to `size` (H, W); itself where it has that size."""
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def _part(height: int, width: int, rng: np.random.Generator, settings: CropSettings) -> tuple[int, int, int, int]:
    """Top, left, height and width."""
    low, high = (math.log(value) for value in settings.ratio)
    for _ in range(_TRIES):
        area = height * width * rng.uniform(*settings.area)
        ratio = math.exp(rng.uniform(low, high))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    ratio = min(max(width / height, settings.ratio[0]), settings.ratio[1])
    w, h = min(width, max(1, round(height * ratio))), min(height, max(1, round(width / ratio)))
    return (height - h) // 2, (width - w) // 2, h, w


def _resized(image: Bytes, box: tuple[float, float, float, float], size: int) -> Bytes:
    picture = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(picture)
