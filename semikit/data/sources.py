"""Where pixels come from: images and masks by number."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from semikit.data.images import read_image, read_mask
from semikit.data.mask_values import MaskValues
from semikit.data.rescale import Range
from semikit.errors import DataError

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]


class PixelSource(Protocol):
    """Images, some with a mask, in an order that never changes."""

    @property
    def names(self) -> Sequence[str]:
        """One name for each image; no two are equal."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def image(self, index: int) -> tuple[Bytes, Mask | None]:
        """Image (H, W, C) uint8 and valid (H, W) bool, None where all pixels are."""
        ...

    def mask(self, index: int) -> tuple[Bytes, Mask]:
        """Labels (H, W) uint8, 0 where invalid, and valid (H, W) bool."""
        ...

    def has_mask(self, index: int) -> bool:
        """Whether image `index` can be labelled; opens no file."""
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

    def image(self, index: int) -> tuple[Bytes, Mask | None]:
        """Image (H, W, C) uint8 and valid (H, W) bool, None where all pixels are.

        Raises:
            FileFault: cannot be read.
        """
        return read_image(self.images[index], self.bands, self.scale)

    def mask(self, index: int) -> tuple[Bytes, Mask]:
        """Labels (H, W) uint8, 0 where invalid, and valid (H, W) bool.

        Raises:
            FileFault: cannot be read, a colour mask, a value outside the classes.
            DataError: there is no mask.
        """
        path = self.masks[index]
        if path is None:
            raise DataError(f"{self.images[index]} has no mask; only images with a mask can be labelled or scored.")
        return self.values.decode(read_mask(path), path)

    def has_mask(self, index: int) -> bool:
        """Whether there is a mask of the same name."""
        return self.masks[index] is not None


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

    def image(self, index: int) -> tuple[Bytes, Mask | None]:
        """Image (H, W, C) uint8 and valid (H, W) bool, None where all pixels are."""
        starts = [sum(len(source) for source in self.sources[:k]) for k in range(len(self.sources))]
        which = bisect_right(starts, index) - 1
        return self.sources[which].image(index - starts[which])

    def mask(self, index: int) -> tuple[Bytes, Mask]:
        """Never: masks of unlabelled images stay closed.

        Raises:
            DataError: always.
        """
        raise DataError(f"the mask of the unlabelled image {self.names[index]!r} was asked for; it is not opened")

    def has_mask(self, index: int) -> bool:
        """False."""
        return False
