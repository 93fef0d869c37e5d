"""Crops of tasks that label pixels, made by workers: which image, which part of it, and its pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from semikit.augment.settings import WeakSettings
from semikit.augment.weak import Window, cut, cut_map, cut_valid, draw_window, moved, scaled_positions
from semikit.data.class_blocks import ClassBlocks
from semikit.data.loading.decoded import DecodedScenes
from semikit.data.samples import Samples
from semikit.data.shards.pool import ShardStream
from semikit.raster.region import Region
from semikit.tasks._training_data import Pools

Mask = NDArray[np.bool_]


@final
@dataclass(frozen=True, slots=True)
class LabeledGround:
    """Where labelled crops are cut: `touching`: where something is labelled; with `holders` the class is drawn first.

    `blocks` are those of the labelled images by their number, filled as they are needed; `holders` names the images
    that hold each class of the labelled ones.
    """

    touching: bool = False
    blocks: dict[int, ClassBlocks] = field(default_factory=dict)
    holders: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)

    @classmethod
    def by_class(cls, labeled: Sequence[tuple[Samples, int]]) -> LabeledGround:
        """With the classes of all labelled images, whose masks are opened."""
        with ThreadPoolExecutor() as threads:
            blocks = dict(enumerate(threads.map(lambda item: ClassBlocks.of(*item), labeled)))
        classes = sorted({number for one in blocks.values() for number in one.bits})
        holders = {c: np.array([index for index, one in blocks.items() if c in one.bits]) for c in classes}
        return cls(True, blocks, holders)

    def drawn(self, index: int, rng: np.random.Generator) -> tuple[int, int | None]:
        """The image that stands where `index` would, and the class its crop has to hold; None: any."""
        if not self.holders:
            return index, None
        number = list(self.holders)[rng.integers(len(self.holders))]
        images = self.holders[number]
        # Another index gives another image, so that one can stand in for a file that cannot be read.
        return int(images[(int(rng.integers(2**32)) + index) % len(images)]), number


@final
@dataclass(frozen=True)
class Crops:
    """Makes one weak crop, in a worker: `pools` names the images of each stream as (source, index in it).

    Labelled streams give (image (*T, C, H, W) uint8, valid (H, W) bool, index, labels (H, W) uint8), others the first
    three; the masks of unlabelled images are not opened. Of rasters only the part is read that a crop shows.
    """

    pools: Pools
    labeled: frozenset[str]
    weak: WeakSettings
    ground: LabeledGround = LabeledGround()
    decoded: DecodedScenes = field(default_factory=lambda: DecodedScenes(None))

    def __call__(self, stream: str, index: int, rng: np.random.Generator) -> tuple[Any, ...]:
        """The crop of one image of a stream; everything random comes from `rng`."""
        labeled, number = stream in self.labeled, None
        if labeled:
            index, number = self.ground.drawn(index, rng)
        source, position = self.pools[stream][index]
        scene = _Scene(source, position, self.decoded)
        window = draw_window(scene.size, rng, self.weak)
        if not labeled:
            return *scene.pixels(window), index
        if number is not None:
            window = self._placed(scene, index, window, number, rng)
        pixels, valid, labels = scene.labeled(window)
        if self.ground.touching and not valid.any():
            pixels, valid, labels = scene.labeled(self._placed(scene, index, window, None, rng))
        return pixels, valid, index, labels

    def _placed(
        self, scene: _Scene, index: int, window: Window, number: int | None, rng: np.random.Generator
    ) -> Window:
        """The window where its crop holds a pixel of a class, or any that counts: a block that holds one is drawn, a
        pixel of it, and a place around that.
        """
        blocks = self.ground.blocks.get(index)
        if blocks is None:
            assert isinstance(scene.source, Samples)
            blocks = self.ground.blocks[index] = ClassBlocks.of(scene.source, scene.index)
        order = rng.permutation(blocks.holding(number)).tolist()
        for tried in (window, replace(window, scaled=window.source)):  # a smaller image may not show single pixels
            for block in order:
                region = blocks.region(block)
                labels, valid = scene.counted(region)
                row, rows = scaled_positions(tried, 0, region.top, region.height)
                column, columns = scaled_positions(tried, 1, region.left, region.width)
                shown = valid if number is None else valid & (labels == number)
                found = np.argwhere(shown[rows[:, None] - region.top, columns - region.left])
                if len(found):
                    down, right = found[rng.integers(len(found))].tolist()
                    return moved(tried, row + down, column + right, rng)
        return window


@final
@dataclass
class _Scene:
    """An image that is being cut; one that no window can be read of is read once."""

    source: Samples | ShardStream
    index: int
    decoded: DecodedScenes

    @cached_property
    def extent(self) -> tuple[int, int] | None:
        return self.source.extent(self.index)

    @cached_property
    def _whole(self) -> tuple[NDArray[np.uint8], Mask | None]:
        return self._image(None)

    @cached_property
    def _whole_target(self) -> tuple[NDArray[Any], Mask]:
        return self._target(self._whole[0].shape, None)

    @property
    def size(self) -> tuple[int, int]:
        if self.extent is not None:
            return self.extent
        height, width = self._whole[0].shape[-3:-1]
        return height, width

    def _image(self, region: Region | None) -> tuple[NDArray[np.uint8], Mask | None]:
        if isinstance(self.source, ShardStream):
            return self.source.image(self.index)
        return self.decoded.image(self.source, self.index, region)

    def _target(self, image: tuple[int, ...], region: Region | None) -> tuple[NDArray[Any], Mask]:
        assert isinstance(self.source, Samples), "images out of shards have no labels"
        return self.decoded.target(self.source, self.index, image, region)

    def pixels(self, window: Window) -> tuple[NDArray[np.uint8], Mask]:
        """The crop (*T, C, H, W), and where it is valid (H, W)."""
        region, origin = self._needed(window)
        image, valid = self._whole if region is None else self._image(region)
        return np.ascontiguousarray(np.moveaxis(cut(image, window, origin), -1, -3)), cut_valid(valid, window, origin)

    def labeled(self, window: Window) -> tuple[NDArray[np.uint8], Mask, NDArray[Any]]:
        """The crop, where it counts, and its labels (H, W)."""
        pixels, valid = self.pixels(window)
        region, origin = self._needed(window)
        if region is None:
            labels, labeled = self._whole_target
        else:
            labels, labeled = self._target((region.height, region.width, 1), region)
        return pixels, valid & cut_valid(labeled, window, origin), cut_map(labels, window, origin)

    def counted(self, region: Region) -> tuple[NDArray[Any], Mask]:
        """Labels of a region, and which of them count."""
        if self.extent is None:
            (_, seen), (labels, labeled), place = self._whole, self._whole_target, region.slices
            labels, labeled, seen = labels[place], labeled[place], None if seen is None else seen[place]
        else:
            image, seen = self._image(region)
            labels, labeled = self._target(image.shape, region)
        return labels, labeled if seen is None else labeled & seen

    def _needed(self, window: Window) -> tuple[Region | None, tuple[int, int]]:
        """The part of a raster that a crop is made of, and where it begins; None: it is read whole."""
        if self.extent is None:
            return None, (0, 0)
        region = Region(*window.needed)
        return region, (region.top, region.left)
