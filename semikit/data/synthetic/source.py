"""Samples whose images are generated, not read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from semikit.data.samples import Bytes, Samples
from semikit.errors import DataError
from semikit.raster.region import Region

Split = Literal["train", "val", "test"]
SPLITS: dict[str, int] = {"train": 0, "val": 1, "test": 2}
"""Number of each split, by which its draws differ from the others'."""


class GeneratedSamples(Samples, ABC):
    """One split of a built-in data set; images are generated when first asked for, and cached.

    Raises:
        DataError: when the split is not one of train, val, test.
    """

    name: ClassVar[str]
    """Of the data set."""

    def __init__(self, split: Split, count: int) -> None:
        if split not in SPLITS:
            raise DataError(f"{self.name} has no split {split!r}; choose one of {', '.join(SPLITS)}.")
        self.split: Split = split
        self.names = [f"{split}-{index:05d}" for index in range(count)]
        self._made: dict[int, tuple[Bytes, Bytes]] = {}

    @abstractmethod
    def make(self, index: int) -> tuple[Bytes, Bytes]:
        """Image (*T, H, W, C) uint8 and labels (H, W) uint8."""

    def __len__(self) -> int:
        return len(self.names)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_made": {}}

    def has_target(self, index: int) -> bool:
        """True for every image."""
        return 0 <= index < len(self)

    def image(self, index: int, region: Region | None = None) -> tuple[Bytes, None]:
        """Image (*T, H, W, C) uint8, of the region if one is given, and None: all its pixels are valid."""
        image = self._kept(index)[0]
        return (image if region is None else image[..., *region.slices, :]).copy(), None

    def target(self, index: int, region: Region | None = None) -> tuple[Bytes, NDArray[np.bool_]]:
        """Labels (H, W) uint8 and valid (H, W) bool, true everywhere."""
        labels = self._kept(index)[1]
        labels = (labels if region is None else labels[region.slices]).copy()
        return labels, np.ones(labels.shape, dtype=bool)

    def _kept(self, index: int) -> tuple[Bytes, Bytes]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)} in {self.name}/{self.split}")
        if index not in self._made:
            self._made[index] = self.make(index)
        return self._made[index]
