"""Images out of shards by position: an endless stream in which each slot of a step reads shards of its own.

A slot's stream is cut into blocks of `shuffle` images, and each block comes in an order of its own. So the image at a
position is a function of (seed, stream, slot, position) and of the shards alone: neither workers nor processes nor a
resumed run change it, and nothing but the step has to be saved. See docs/design/0013-shards.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, islice
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from semikit.core.rng import rng_for
from semikit.data.shards.tar_files import Shard, ShardCounts
from semikit.data.shards.tar_samples import Sample, read_shard
from semikit.errors import DataError, RunError
from semikit.raster.region import Region

Image = tuple[NDArray[np.uint8], NDArray[np.bool_] | None]


class SampleDecoder(Protocol):
    """What makes an image of a sample; `wanted` are the extensions of the files it needs."""

    @property
    def wanted(self) -> frozenset[str]:
        """Extensions in lower case, without the first dot."""
        ...

    def __call__(self, sample: Sample) -> Image:
        """An image (*T, H, W, C) uint8 and valid (H, W) bool, None where all pixels are; raises FileFault."""
        ...


@final
@dataclass(frozen=True, slots=True)
class ShardPool:
    """The shards of a pool, how they are shuffled and read."""

    shards: tuple[Shard, ...]
    shuffle: int
    decode: SampleDecoder

    def first(self) -> Image:
        """The first image of the first shard, for a check before training.

        Raises:
            DataError: it cannot be read, there is none, a command or an address fails.
        """
        samples = read_shard(self.shards[0], self.decode.wanted, tries=1)
        try:
            sample = next(samples, None)
        except RunError as error:
            raise DataError(str(error)) from None
        finally:
            samples.close()
        if sample is None:
            raise DataError(f"{self.shards[0].place} holds no images.")
        return self.decode(sample)


@final
class ShardStream:
    """The images of a pool for one stream of a run: `self[position]` is (self, position), `image` decodes one.

    Each of the `slots` images of a step over all processes reads shards of its own: position p is that of slot p mod
    `slots`. Where there are fewer shards than slots, each shard is dealt out to several of them, image by image.
    """

    def __init__(self, pool: ShardPool, seed: int, name: str, slots: int, counts: ShardCounts) -> None:
        self.pool, self.seed, self.name, self.slots, self.counts = pool, seed, name, slots, counts
        self.shares = -(-slots // len(pool.shards))
        self._open: dict[int, _Slot] = {}

    def __getitem__(self, position: int) -> tuple[ShardStream, int]:
        return self, position

    def extent(self, position: int) -> None:
        """None: images are read whole."""
        return

    def image(self, position: int, region: Region | None = None) -> Image:
        """The image at a position, decoded; quick where slots of a slot follow each other.

        Raises:
            FileFault: it cannot be read. DataError: no shard holds an image. RunError: a command failed.
        """
        slot, at = position % self.slots, position // self.slots
        if slot not in self._open:
            self._open[slot] = _Slot(lambda skip: self._samples(slot, skip), self._mixed(slot), self.pool.shuffle)
        return self.pool.decode(self._open[slot].at(at))

    def __getstate__(self) -> dict[str, Any]:
        """Without open files: a worker begins by itself."""
        return {**self.__dict__, "_open": {}}

    def _mixed(self, slot: int) -> Callable[[int], NDArray[np.int64]]:
        return lambda block: rng_for(self.seed, f"shards/{self.name}", slot, block).permutation(self.pool.shuffle)

    def _samples(self, slot: int, skip: int) -> Iterator[Sample]:
        """The samples of a slot without the first `skip`; shards that are known to lie before them are not opened."""
        known, empty, units = self.counts.known, 0, len(self.pool.shards) * self.shares
        for turn in count():
            number, place = divmod(turn * self.slots + slot, units)
            shard, share = divmod(int(_order(self.seed, self.name, units, number)[place]), self.shares)
            total = known.get(shard)
            if total is None or len(range(share, total, self.shares)) > skip:
                total, whole = yield from read_shard(
                    self.pool.shards[shard], self.pool.decode.wanted, share + skip * self.shares, self.shares
                )
                if whole:
                    self.counts.note(shard, total)
            held = len(range(share, total, self.shares))
            skip = max(0, skip - held)
            empty = 0 if held else empty + 1
            if empty > units:
                raise DataError("the shards hold no images.")


@lru_cache(maxsize=8)
def _order(seed: int, stream: str, units: int, number: int) -> NDArray[np.int64]:
    """The order of shards, or of their shares, in a pass."""
    return rng_for(seed, f"shard-order/{stream}", number).permutation(units)


@final
class _Slot:
    """The stream of one slot: the block that is given out, and as much of the next as was given out of it.

    What was given out stays until its block is through: a position may be asked for early, in another's stead.
    """

    def __init__(
        self, samples: Callable[[int], Iterator[Sample]], order: Callable[[int], NDArray[np.int64]], size: int
    ) -> None:
        self.samples, self.order, self.size = samples, order, size
        self.block = -2
        self.held: list[Sample] = []
        self.ahead: list[Sample] = []
        self.source: Iterator[Sample] = iter(())

    def at(self, position: int) -> Sample:
        """The sample at a position of this slot."""
        block, place = divmod(position, self.size)
        if block != self.block:
            self._turn(block)
        if len(self.ahead) < min(self.size, place + 1):
            self.ahead.append(next(self.source))
        return self.held[int(self.places[place])]

    def _turn(self, block: int) -> None:
        if block == self.block + 1:
            self.ahead += islice(self.source, self.size - len(self.ahead))
            self.held, self.ahead = self.ahead, []
        else:
            self._load(block)
        self.block, self.places = block, self.order(block)

    def _load(self, block: int) -> None:
        self.source = self.samples(block * self.size)
        self.held, self.ahead = list(islice(self.source, self.size)), []
