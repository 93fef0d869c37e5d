"""Where pixels come from: images and masks by number."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from semikit.data.formats.images import image_size, is_raster, read_image, read_mask
from semikit.data.formats.mask_values import MaskValues
from semikit.data.formats.rescale import Range
from semikit.errors import DataError, mask_size_fault
from semikit.raster.region import Region, tiles

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_TILE = 2048
"""Side of the tiles in which rasters are looked through, pixels."""


class Filed(Protocol):
    """Images by number, with their names and files."""

    @property
    def names(self) -> Sequence[str]:
        """One name for each image; no two are equal."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def files(self, index: int) -> tuple[Path, ...]:
        """The files of an image; none where it is made or in memory."""
        ...


class PixelSource(Protocol):
    """Images, some with a mask, in an order that never changes.

    An image is (H, W, C) or, of two dates, (2, H, W, C). Where a `region` is given only its pixels are.
    """

    @property
    def names(self) -> Sequence[str]:
        """One name for each image; no two are equal."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def extent(self, index: int) -> tuple[int, int] | None:
        """(H, W) of an image whose regions can be read alone (rasters); None where it is read whole."""
        ...

    def files(self, index: int) -> tuple[Path, ...]:
        """The files of an image, one for each date; none where it is made."""
        ...

    def image(self, index: int, region: Region | None = None) -> tuple[Bytes, Mask | None]:
        """Image (*T, H, W, C) uint8, T none or 2, and valid (H, W) bool, None where all pixels are."""
        ...

    def mask(self, index: int, region: Region | None = None) -> tuple[Bytes, Mask]:
        """Labels (H, W) uint8, 0 where invalid, and valid (H, W) bool."""
        ...

    def has_mask(self, index: int) -> bool:
        """Whether image `index` can be labelled; opens no file."""
        ...

    def mask_file(self, index: int) -> Path | None:
        """The file of its mask; None where there is none or it is made."""
        ...


@final
@dataclass(frozen=True)
class FolderSource:
    """Images of a folder and their masks; nothing is opened before it is asked for.

    `names` are paths below the folder without suffix ("city/0001"); `masks` holds None where there is none.
    """

    names: tuple[str, ...]
    images: tuple[Path, ...]
    masks: tuple[Path | None, ...]
    values: MaskValues
    bands: tuple[int, ...] | None = None
    scale: Range | None = None

    def __len__(self) -> int:
        return len(self.names)

    def extent(self, index: int) -> tuple[int, int] | None:
        """(H, W) of a raster, from its header; None for a photo."""
        return _raster_size(self.images[index]) if is_raster(self.images[index]) else None

    def files(self, index: int) -> tuple[Path, ...]:
        """The image's file."""
        return (self.images[index],)

    def image(self, index: int, region: Region | None = None) -> tuple[Bytes, Mask | None]:
        """Image (H, W, C) uint8 and valid (H, W) bool, None where all pixels are.

        Raises:
            FileFault: cannot be read.
        """
        return read_image(self.images[index], self.bands, self.scale, region)

    def mask(self, index: int, region: Region | None = None) -> tuple[Bytes, Mask]:
        """Labels (H, W) uint8, 0 where invalid, and valid (H, W) bool.

        Raises:
            FileFault: cannot be read, a colour mask, a value outside the classes.
            DataError: there is no mask.
        """
        path = self.masks[index]
        if path is None:
            raise DataError(f"{self.images[index]} has no mask; only images with a mask can be labelled or scored.")
        if region is not None:
            refuse_other_size(path, self.extent(index))
        return self.values.decode(read_mask(path, region), path)

    def has_mask(self, index: int) -> bool:
        """Whether there is a mask of the same name."""
        return self.masks[index] is not None

    def mask_file(self, index: int) -> Path | None:
        """The mask of the same name, if any."""
        return self.masks[index]


@final
@dataclass(frozen=True)
class Pool:
    """Several sources one after the other, without their masks: what can be unlabelled.

    The first keeps its numbers and names; names of the others begin with "unlabeled-1/", "unlabeled-2/" and so on.
    """

    sources: tuple[PixelSource, ...]

    @property
    def names(self) -> Sequence[str]:
        """Names of all images, in order."""
        extra = [f"unlabeled-{k}/{name}" for k, source in enumerate(self.sources[1:], 1) for name in source.names]
        return [*self.sources[0].names, *extra]

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)

    def extent(self, index: int) -> tuple[int, int] | None:
        """(H, W) of a raster; None for other images."""
        source, position = self._place(index)
        return source.extent(position)

    def files(self, index: int) -> tuple[Path, ...]:
        """The files of an image."""
        source, position = self._place(index)
        return source.files(position)

    def image(self, index: int, region: Region | None = None) -> tuple[Bytes, Mask | None]:
        """Image (*T, H, W, C) uint8 and valid (H, W) bool, None where all pixels are."""
        source, position = self._place(index)
        return source.image(position, region)

    def _place(self, index: int) -> tuple[PixelSource, int]:
        """The source of an image and its number there."""
        starts = [sum(len(source) for source in self.sources[:k]) for k in range(len(self.sources))]
        which = bisect_right(starts, index) - 1
        return self.sources[which], index - starts[which]

    def mask(self, index: int, region: Region | None = None) -> tuple[Bytes, Mask]:
        """Never: masks of unlabelled images stay closed.

        Raises:
            DataError: always.
        """
        raise DataError(f"the mask of the unlabelled image {self.names[index]!r} was asked for; it is not opened")

    def has_mask(self, index: int) -> bool:
        """False."""
        return False

    def mask_file(self, index: int) -> None:
        """None."""
        return


@lru_cache(maxsize=4096)
def _raster_size(path: Path) -> tuple[int, int]:
    """(H, W) from the header, which every crop would open again."""
    return image_size(path)


def refuse_other_size(mask: Path, extent: tuple[int, int] | None) -> None:
    """Raise where a mask is not as large as its raster: a region of it would fit all the same."""
    size = _raster_size(mask)
    if extent is not None and size != extent:
        raise mask_size_fault(mask, extent, size)


def regions_of(source: PixelSource, index: int) -> Iterable[Region | None]:
    """How an image is looked through: a raster tile by tile, any other at once (None)."""
    extent = source.extent(index)
    return [None] if extent is None else tiles(extent, _TILE)


def channels_of(source: PixelSource, index: int) -> int:
    """Channels of an image; of a raster one pixel is read."""
    region = None if source.extent(index) is None else Region(0, 0, 1, 1)
    return int(source.image(index, region)[0].shape[-1])
