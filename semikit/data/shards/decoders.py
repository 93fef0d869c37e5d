"""What a sample of a shard becomes: an image, a pair of two dates, an image of a class nobody knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

from semikit.data.formats.images import Bytes, Mask, read_image, read_rgb, read_values
from semikit.data.formats.photos import Reduce
from semikit.data.formats.rescale import Range, as_bytes
from semikit.data.pair_grids import both_dates
from semikit.data.shards.tar_samples import Sample
from semikit.errors import FileFault, some
from semikit.raster.reading import Bands

TYPES = ("jpg", "jpeg", "png", "webp", "tif", "tiff", "avif", "heic", "heif")
"""Extensions of images in shards."""

_SINGLE = frozenset(TYPES)
_DATES = tuple(frozenset(f"{date}.{kind}" for kind in TYPES) for date in "ab")


@final
@dataclass(frozen=True, slots=True)
class PoolImage:
    """An image (H, W, C) uint8 and valid (H, W) bool, None where all pixels are; `key.jpg`."""

    bands: Bands | None = None
    scale: Range | None = None
    wanted: frozenset[str] = _SINGLE
    upright: bool = False

    def __call__(self, sample: Sample) -> tuple[Bytes, Mask | None]:
        """The image; raises FileFault."""
        return _read(*_chosen(sample, self.wanted), self)


@final
@dataclass(frozen=True, slots=True)
class PoolPair:
    """Two dates (2, H, W, C) uint8 and valid (H, W) bool, None where all pixels are; `key.a.jpg` and `key.b.jpg`.

    Both are taken pixel by pixel: rasters are not brought onto one grid.
    """

    bands: Bands | None = None
    scale: Range | None = None
    wanted: frozenset[str] = _DATES[0] | _DATES[1]
    upright: bool = False

    def __call__(self, sample: Sample) -> tuple[Bytes, Mask | None]:
        """Both dates; raises FileFault."""
        (before, one), (after, two) = (_chosen(sample, kinds) for kinds in _DATES)
        first, second = (_read(path, data, self) for path, data in ((before, one), (after, two)))
        return both_dates(before, after, first, second)


@final
@dataclass(frozen=True, slots=True)
class PoolRgb:
    """An image (H, W, 3) uint8, and None: all its pixels are valid; `key.jpg`, smaller where `reduce` allows."""

    wanted: frozenset[str] = _SINGLE
    upright: bool = False
    reduce: Reduce | None = None

    def __call__(self, sample: Sample) -> tuple[Bytes, None]:
        """The image; raises FileFault."""
        return read_rgb(*_chosen(sample, self.wanted), self.upright, reduce=self.reduce), None


def _chosen(sample: Sample, kinds: frozenset[str]) -> tuple[Path, bytes]:
    """The one file of these extensions: SHARD!KEY.EXTENSION and what it holds.

    Raises:
        FileFault: none, or several.
    """
    found = {name: data for name, data in sample.get().items() if name in kinds}
    if len(found) != 1:
        detail = f"{len(found)}: {some(sorted(found))}" if found else "none"
        endings = ", ".join(f".{kind}" for kind in sorted(kinds))
        remedy = f"Each sample needs one file NAME with one of {endings}; NAME has no dot."
        raise FileFault("sample of a shard without its one image", sample.name, detail, remedy)
    ((name, data),) = found.items()
    return Path(f"{sample.name}.{name}"), data


def _read(path: Path, data: bytes, how: PoolImage | PoolPair) -> tuple[Bytes, Mask | None]:
    if how.scale is not None:
        return read_image(path, how.bands, how.scale, data=data, upright=how.upright)
    values, valid = read_values(path, how.bands, data=data, upright=how.upright)
    stored = as_bytes(values, valid)
    if stored is None:
        remedy = "The images of train have 8 bits. Convert one kind, or say the range with `scale: {min: …, max: …}`."
        raise FileFault("image of more than 8 bits", path, str(values.dtype), remedy)
    return stored, valid
