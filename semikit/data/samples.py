"""The one protocol of samples: segmentation, change detection and classification all read their data through it.

What is loaded, checked, split, recorded and evaluated is written against `Samples` alone; what lies behind a sample
(files, two dates, arrays, a generator) is known only to the class behind it. The contract:

- **name**: one for each sample, unique within a source; what lists, `split.json` and messages call it.
- **files**: what is read from disk for its image, none where it is generated or in memory. Two samples of one file in
  two parts (train and val) are refused (`refuse_overlap`), whatever the task.
- **image**: uint8 (*T, H, W, C), T none or 2 dates on one grid, and **valid**: bool (H, W), False where a pixel holds
  no data (nodata, outside of a date's footprint); None where every pixel is valid.
- **target**: labels (*S) and valid (*S), S = (H, W) for pixels and () for whole images. Labels are class numbers,
  0 where invalid; an invalid target counts neither in a loss nor in a score. A pixel is learned from where image and
  target are both valid.
- **region**: a window of a raster in pixels of the image. Only where `extent` gives a size may a region be asked for,
  and then image, valid and target of the region equal the same window of the whole.

What cannot be read raises `FileFault`, which names the file; nothing is opened before it is asked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from semikit.data.file_patterns import real_places
from semikit.data.formats.mask_values import MaskWatch
from semikit.data.formats.photos import Reduce
from semikit.data.formats.range_watch import RangeWatch
from semikit.data.formats.rescale import Scale
from semikit.data.palette import Palette
from semikit.data.shards.pool import ShardPool
from semikit.data.unused_files import Unused
from semikit.errors import DataError
from semikit.raster.reading import Bands
from semikit.raster.region import Region, tiles

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Labels = NDArray[np.int64]

UNKNOWN = -1
"""The label of an image nobody has labelled."""

_TILE = 2048
"""Side of the tiles in which rasters are read through, pixels."""


class Samples(ABC):
    """Samples by number, in an order that never changes; see the module for the contract.

    `names` holds one name for each sample. `labels` (N,) int64 are the classes of image-level samples, -1 where not
    known; samples whose target is a map have no such attribute. `unused` are files beside them that a user supplied and
    that are not used.
    """

    names: Sequence[str]
    labels: Labels
    unused: tuple[Unused, ...] = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def image(self, index: int, region: Region | None = None) -> tuple[Bytes, Mask | None]:
        """Image (*T, H, W, C) uint8, and valid (H, W) bool or None where all pixels are."""

    def target(self, index: int, region: Region | None = None) -> tuple[NDArray[Any], Mask]:
        """Labels (*S) and valid (*S) bool; of image-level samples the class."""
        label = np.asarray(self.labels[index])
        return np.maximum(label, 0), label != UNKNOWN

    def has_target(self, index: int) -> bool:
        """Whether a sample can be labelled; opens no file."""
        return bool(self.labels[index] != UNKNOWN)

    def extent(self, index: int) -> tuple[int, int] | None:
        """(H, W) of an image whose regions can be read alone (rasters); None where it is read whole."""
        return None

    def files(self, index: int) -> tuple[Path, ...]:
        """The files of an image, one for each date; none where it is generated or in memory."""
        return ()

    def target_files(self, index: int) -> tuple[Path, ...]:
        """The files of its target; none where there is none."""
        return ()

    def watched(self, images: RangeWatch, masks: MaskWatch) -> Samples:
        """The same samples; `images` and `masks` are given what is read from files of any number of bits."""
        return self

    def reduced(self, by: Reduce | None) -> Samples:
        """The same samples; image-level ones may be given smaller than they are, by a factor that `by` allows."""
        return self

    def arrays(self) -> Bytes | None:
        """All images (N, H, W, 3) uint8 where they are small and of one size; None where they have to be streamed."""
        return None


@final
@dataclass(frozen=True, eq=False)
class Subset(Samples):
    """Some samples of a source, in the order of `indices`, under their names there."""

    source: Samples
    indices: Labels

    @cached_property
    def names(self) -> Sequence[str]:  # type: ignore[override]
        """Their names."""
        every = self.source.names
        return [every[index] for index in self.indices]

    @cached_property
    def labels(self) -> Labels:  # type: ignore[override]
        """Class of each image (N,) int64, -1 where it is not known."""
        return self.source.labels[self.indices]

    @property
    def unused(self) -> tuple[Unused, ...]:  # type: ignore[override]
        """Files that are not used beside the whole source."""
        return self.source.unused

    def __len__(self) -> int:
        return len(self.indices)

    def extent(self, index: int) -> tuple[int, int] | None:
        """(H, W) of a raster; None for other images."""
        return self.source.extent(int(self.indices[index]))

    def files(self, index: int) -> tuple[Path, ...]:
        """The files of an image."""
        return self.source.files(int(self.indices[index]))

    def image(self, index: int, region: Region | None = None) -> tuple[Bytes, Mask | None]:
        """One image and its valid pixels."""
        return self.source.image(int(self.indices[index]), region)

    def target(self, index: int, region: Region | None = None) -> tuple[NDArray[Any], Mask]:
        """Its labels and where they are valid."""
        return self.source.target(int(self.indices[index]), region)

    def has_target(self, index: int) -> bool:
        """Whether it can be labelled."""
        return self.source.has_target(int(self.indices[index]))

    def target_files(self, index: int) -> tuple[Path, ...]:
        """The files of its target."""
        return self.source.target_files(int(self.indices[index]))

    def watched(self, images: RangeWatch, masks: MaskWatch) -> Samples:
        """The same samples of the watched source."""
        return replace(self, source=self.source.watched(images, masks))

    def reduced(self, by: Reduce | None) -> Subset:
        """The same samples of the reduced source."""
        return replace(self, source=self.source.reduced(by))

    def arrays(self) -> Bytes | None:
        """All of them (N, H, W, 3) uint8, copied once; None where the source is streamed."""
        return self._copied

    @cached_property
    def _copied(self) -> Bytes | None:
        every = self.source.arrays()
        return None if every is None else every[self.indices]


@final
@dataclass(frozen=True, eq=False)
class Pool(Samples):
    """Several sources one after the other, without their targets: what is learned from as unlabelled.

    The first keeps its numbers and names; names of the others begin with "unlabeled-1/", "unlabeled-2/" and so on.
    `labels` of image-level sources are the truth where it is known; a method never sees them, they only measure
    pseudo-labels for the logs.
    """

    sources: tuple[Samples, ...]

    @cached_property
    def names(self) -> Sequence[str]:  # type: ignore[override]
        """Names of all images, in order."""
        extra = [f"unlabeled-{k}/{name}" for k, source in enumerate(self.sources[1:], 1) for name in source.names]
        return [*self.sources[0].names, *extra]

    @cached_property
    def labels(self) -> Labels:  # type: ignore[override]
        """Class of each image (N,) int64, -1 where it is not known."""
        return np.concatenate([source.labels for source in self.sources])

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(len(source) for source in self.sources))

    def __len__(self) -> int:
        return self._ends[-1]

    def extent(self, index: int) -> tuple[int, int] | None:
        """(H, W) of a raster; None for other images."""
        source, position = self._place(index)
        return source.extent(position)

    def files(self, index: int) -> tuple[Path, ...]:
        """The files of an image."""
        source, position = self._place(index)
        return source.files(position)

    def image(self, index: int, region: Region | None = None) -> tuple[Bytes, Mask | None]:
        """One image and its valid pixels."""
        source, position = self._place(index)
        return source.image(position, region)

    def watched(self, images: RangeWatch, masks: MaskWatch) -> Samples:
        """The same sources, each of them watched."""
        return replace(self, sources=tuple(source.watched(images, masks) for source in self.sources))

    def reduced(self, by: Reduce | None) -> Pool:
        """The same sources, each of them reduced."""
        return replace(self, sources=tuple(source.reduced(by) for source in self.sources))

    def target(self, index: int, region: Region | None = None) -> tuple[NDArray[Any], Mask]:
        """Never: targets of unlabelled images stay closed.

        Raises:
            DataError: always.
        """
        raise DataError(f"the mask of the unlabelled image {self.names[index]!r} was asked for; it is not opened")

    def has_target(self, index: int) -> bool:
        """False."""
        return False

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

    def _place(self, index: int) -> tuple[Samples, int]:
        """The source of an image and its number there."""
        which = bisect_right(self._ends, index)
        return self.sources[which], index - (self._ends[which - 1] if which else 0)


Official = Callable[[str, "DataParts"], Sequence[int]]
"""(name of an official split such as "1/16", the data set) -> which images of train it labels."""


@final
@dataclass(frozen=True, slots=True)
class DataParts:
    """A data set, opened; no image is read, unless a range of values had to be sampled.

    `val` is None where there are no validation images (CIFAR, SVHN, STL). `balanced`: labelled images are drawn class
    by class, `stratify`: in proportion where they cannot be balanced; the labelled ones are then among the unlabelled,
    unless `labeled_apart`. `official` resolves official splits, None where
    there are none. `published`: the parts are as somebody published them. `bands` are the chosen bands, `scale` the
    range of raster values in use. `pool` are shards, which are then all that is unlabelled. `notices` are for the user.
    `allow_overlap`: a picture may be in two parts.
    """

    train: Samples
    unlabeled: tuple[Samples, ...]
    val: Samples | None
    test: Samples | None
    class_names: tuple[str, ...]
    palette: Palette | None = None
    bands: Bands | None = None
    scale: Scale | None = None
    balanced: bool = False
    stratify: bool = False
    labeled_apart: bool = False
    official: Official | None = None
    published: bool = False
    pool: ShardPool | None = None
    notices: tuple[str, ...] = ()
    allow_overlap: bool = False

    @property
    def unused(self) -> list[Unused]:
        """Supplied files that no part uses, each once."""
        return unused_files(self.named().values())

    def named(self) -> dict[str, Samples]:
        """Every part by its name, unlabeled[0], unlabeled[1] and so on among them."""
        more = {f"unlabeled[{k}]": source for k, source in enumerate(self.unlabeled)}
        scored = {"val": self.val, "test": self.test}
        return {"train": self.train, **more, **{name: source for name, source in scored.items() if source is not None}}


def unused_files(sources: Iterable[Samples]) -> list[Unused]:
    """Files beside sources that none of them uses, each once: parts may share a folder of masks."""
    parts = list(sources)
    every = dict.fromkeys(one for source in parts for one in source.unused)
    if not every:
        return []
    files = ((*source.files(k), *source.target_files(k)) for source in parts for k in range(len(source)))
    used = set(real_places(path for several in files for path in several))
    found = []
    for one in every:
        left = one.without(used)
        used.update(real_places(path for path, _ in left.files))
        found += [left] if left.files else []
    return found


T = TypeVar("T")


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many of them, at even distances, the first and the last among them."""
    return list(items) if len(items) <= most else [items[int(k)] for k in np.linspace(0, len(items) - 1, most)]


def regions_of(source: Samples, index: int) -> Iterable[Region | None]:
    """How an image is read through: a raster tile by tile, any other at once (None)."""
    extent = source.extent(index)
    return [None] if extent is None else tiles(extent, _TILE)


def channels_of(source: Samples, index: int) -> int:
    """Channels of an image; of a raster one pixel is read."""
    region = None if source.extent(index) is None else Region(0, 0, 1, 1)
    return int(source.image(index, region)[0].shape[-1])


def refuse_overlap(parts: Mapping[str, Samples]) -> None:
    """Raise where two parts hold the same file, under whatever name and through whatever link.

    Raises:
        DataError: names the file and both parts.
    """
    owner: dict[str, str] = {}
    for part, source in parts.items():
        files = [path for k in range(len(source)) for path in source.files(k)]
        for path, place in zip(files, real_places(files, links=True), strict=True):
            other = owner.setdefault(place, part)
            if other != part:
                raise DataError(f"{path} is in both {other} and {part}. Give each part files of its own.")


def refuse_masks_among_images(parts: Mapping[str, Samples]) -> None:
    """Raise where a part has masks, of its own or of another, among its images.

    Raises:
        DataError: names the file and both parts.
    """
    owner: dict[str, str] = {}
    for part, source in parts.items():
        owner |= dict.fromkeys(real_places(path for k in range(len(source)) for path in source.files(k)), part)
    for part, source in parts.items():
        masks = [path for k in range(len(source)) for path in source.target_files(k)]
        for path, place in zip(masks, real_places(masks), strict=True):
            if place in owner:
                remedy = 'Say which files are images by a pattern, such as "DIR/{stem}.jpg".'
                raise DataError(f"{path} is a mask of {part} and an image of {owner[place]}. {remedy}")
