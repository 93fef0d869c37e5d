"""Where whole images with one label each come from: memory or files."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from semikit.data.formats.images import image_size, read_values
from semikit.errors import FileFault

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]

UNKNOWN = -1
"""The label of an image nobody has labelled."""

LARGEST = 96
"""Side up to which images of one size are held in memory (and on the device), pixels."""


class ClassSource(Protocol):
    """RGB images, each of one class, in an order that never changes."""

    @property
    def names(self) -> Sequence[str]:
        """One name for each image; no two are equal."""
        ...

    @property
    def labels(self) -> Numbers:
        """Class of each image (N,) int64, -1 where it is not known."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def files(self, index: int) -> tuple[Path, ...]:
        """The file of an image; none where it is in memory."""
        ...

    def image(self, index: int) -> Bytes:
        """One image (H, W, 3) uint8."""
        ...

    def arrays(self) -> Bytes | None:
        """All images (N, H, W, 3) uint8 where they are small and of one size; None where they have to be streamed."""
        ...


@final
@dataclass(frozen=True, eq=False)
class ArraySource:
    """Images in memory: `data` (N, H, W, 3) uint8, `labels` (N,) int64; names are "part/00042"."""

    part: str
    data: Bytes
    labels: Numbers

    def __post_init__(self) -> None:
        assert self.data.ndim == 4, self.data.shape
        assert self.data.shape[3] == 3, self.data.shape
        assert len(self.data) == len(self.labels), (len(self.data), len(self.labels))

    @cached_property
    def names(self) -> Sequence[str]:
        """The part and the number of each image."""
        return [f"{self.part}/{index:05d}" for index in range(len(self.labels))]

    def __len__(self) -> int:
        return len(self.labels)

    def files(self, index: int) -> tuple[Path, ...]:
        """None."""
        return ()

    def image(self, index: int) -> Bytes:
        """One image (H, W, 3) uint8, a view."""
        return self.data[index]  # type: ignore[no-any-return]

    def arrays(self) -> Bytes:
        """All of them (N, H, W, 3) uint8, not copied."""
        return self.data


@final
@dataclass(frozen=True, eq=False)
class FileSource:
    """Images in files, decoded when they are asked for; `names` are paths below their folder without suffix."""

    names: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: Numbers

    def __len__(self) -> int:
        return len(self.paths)

    def files(self, index: int) -> tuple[Path, ...]:
        """The image's file."""
        return (self.paths[index],)

    def image(self, index: int) -> Bytes:
        """One image (H, W, 3) uint8; gray, palette and CMYK become RGB, alpha is dropped.

        Raises:
            FileFault: cannot be read, more than 8 bits, or a raster that has not three bands.
        """
        return read_rgb(self.paths[index])

    def arrays(self) -> Bytes | None:
        """All images (N, H, W, 3) uint8, decoded by threads once, where all have one size of at most 96 pixels a side.

        Raises:
            FileFault: as `image`.
        """
        return self._decoded

    @cached_property
    def _decoded(self) -> Bytes | None:
        size = image_size(self.paths[0])
        if max(size) > LARGEST:
            return None
        found = np.empty((len(self), *size, 3), np.uint8)

        def decoded(numbers: range) -> bool:
            for index in numbers:
                image = self.image(index)
                if image.shape[:2] != size:
                    return False
                found[index] = image
            return True

        with ThreadPoolExecutor() as threads:
            pieces = [range(start, min(start + 500, len(self))) for start in range(0, len(self), 500)]
            return found if all(threads.map(decoded, pieces)) else None


def read_rgb(path: Path, data: bytes | None = None) -> Bytes:
    """An image file as RGB (H, W, 3) uint8; `data` is what a file of this name holds that is not on the disk.

    Raises:
        FileFault: cannot be read, more than 8 bits, or a raster that has not three bands.
    """
    values, _ = read_values(path, data=data)
    if values.dtype != np.uint8:
        remedy = "Classification reads images of 8 bits: bring all of them to 0..255 in one way and save them so."
        raise FileFault("image of more than 8 bits", path, str(values.dtype), remedy)
    if values.shape[2] != 3:
        remedy = "Classification reads RGB: save three bands."
        raise FileFault("raster that has not three bands", path, f"{values.shape[2]} bands", remedy)
    return values
