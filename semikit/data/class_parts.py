"""Sources taken apart and put together: some images of one, several as one, the parts of a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np

from semikit.data.class_sources import Bytes, ClassSource, Numbers
from semikit.data.shards.pool import ShardPool


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
    says that the parts are as somebody published them; `notices` are what a person should know; `pool` are shards,
    which are then all that is unlabelled.
    """

    train: ClassSource
    unlabeled: tuple[ClassSource, ...]
    val: ClassSource | None
    test: ClassSource | None
    class_names: tuple[str, ...]
    official: OfficialList | None = None
    published: bool = False
    notices: tuple[str, ...] = ()
    pool: ShardPool | None = None
