"""Where whole images with one label each come from: memory or files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from semikit.data.faults import FileFault
from semikit.data.images import image_size, read_values

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


@final
@dataclass(frozen=True, eq=False)
class ClassPart:
    """Some images of a source, in the order of `indices`, under their names there."""

    source: ClassSource
    indices: Numbers

    @cached_property
    def names(self) -> Sequence[str]:
        """Their names."""
        every = self.source.names
        return [every[index] for index in self.indices]

    @cached_property
    def labels(self) -> Numbers:
        """Class of each image (N,) int64, -1 where it is not known."""
        return self.source.labels[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def files(self, index: int) -> tuple[Path, ...]:
        """The file of an image, if any."""
        return self.source.files(int(self.indices[index]))

    def image(self, index: int) -> Bytes:
        """One image (H, W, 3) uint8."""
        return self.source.image(int(self.indices[index]))

    def arrays(self) -> Bytes | None:
        """All of them (N, H, W, 3) uint8, copied once; None where the source is streamed."""
        return self._copied

    @cached_property
    def _copied(self) -> Bytes | None:
        every = self.source.arrays()
        return None if every is None else every[self.indices]


@final
@dataclass(frozen=True, eq=False)
class ClassPool:
    """Several sources one after the other: what is learned from without labels.

    The first keeps its numbers and names; names of the others begin with "unlabeled-1/", "unlabeled-2/" and so on.
    `labels` are the truth where it is known; a method never sees them, they only tell how right pseudo-labels are.
    """

    sources: tuple[ClassSource, ...]

    @cached_property
    def names(self) -> Sequence[str]:
        """Names of all images, in order."""
        extra = [f"unlabeled-{k}/{name}" for k, source in enumerate(self.sources[1:], 1) for name in source.names]
        return [*self.sources[0].names, *extra]

    @cached_property
    def labels(self) -> Numbers:
        """Class of each image (N,) int64, -1 where it is not known."""
        return np.concatenate([source.labels for source in self.sources])

    @cached_property
    def _ends(self) -> Numbers:
        return np.cumsum([len(source) for source in self.sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def files(self, index: int) -> tuple[Path, ...]:
        """The file of an image, if any."""
        source, position = self._place(index)
        return source.files(position)

    def image(self, index: int) -> Bytes:
        """One image (H, W, 3) uint8."""
        source, position = self._place(index)
        return source.image(position)

    def arrays(self) -> Bytes | None:
        """All images (N, H, W, 3) uint8, copied where there are several sources; None where one is streamed or of
        another size.
        """
        found: list[Bytes] = []
        for source in self.sources:
            part = source.arrays()
            if part is None or (found and part.shape[1:] != found[0].shape[1:]):
                return None
            found.append(part)
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _place(self, index: int) -> tuple[ClassSource, int]:
        which = int(np.searchsorted(self._ends, index, side="right"))
        return self.sources[which], index - (int(self._ends[which - 1]) if which else 0)


OfficialList = Callable[[str], tuple[Path, int]]
"""Name of an official split, "1%" -> the file that lists its labelled images, and how many of each class it has."""


@final
@dataclass(frozen=True, slots=True)
class ClassParts:
    """A data set, opened; of files none is read.

    `unlabeled` are sources beside train; `val` is None where there are no validation images (CIFAR, SVHN, STL).
    `official` leads to official lists and is None where there are none; `published`
    says that the parts are as somebody published them; `notices` are what a person should know.
    """

    train: ClassSource
    unlabeled: tuple[ClassSource, ...]
    val: ClassSource | None
    test: ClassSource | None
    class_names: tuple[str, ...]
    official: OfficialList | None = None
    published: bool = False
    notices: tuple[str, ...] = ()


def read_rgb(path: Path) -> Bytes:
    """An image file as RGB (H, W, 3) uint8.

    Raises:
        FileFault: cannot be read, more than 8 bits, or a raster that has not three bands.
    """
    values, _ = read_values(path)
    if values.dtype != np.uint8:
        remedy = "Classification reads images of 8 bits: bring all of them to 0..255 in one way and save them so."
        raise FileFault("image of more than 8 bits", path, str(values.dtype), remedy)
    if values.shape[2] != 3:
        remedy = "Classification reads RGB: save three bands."
        raise FileFault("raster that has not three bands", path, f"{values.shape[2]} bands", remedy)
    return values
