"""Which image stands where: endless streams of images, as a function of (seed, stream, position)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import final

import numpy as np
from numpy.typing import NDArray

from semikit.core.rng import rng_for
from semikit.core.schedules import Growth


@final
@dataclass(frozen=True, slots=True)
class Stream:
    """Images of one kind: `length` of them, `batch` a step over all processes. `length` None: they come out of shards
    and have no number; `make` is given the position in the endless stream instead.

    `positions` are the positions in that batch made here (default all). With `growth` a step has fewer, of which the
    same part is made here.
    """

    name: str
    length: int | None
    batch: int
    positions: range | None = None
    growth: Growth | None = None

    def slots(self, step: int) -> range:
        """The positions in the batch of a step that are made here."""
        every = range(self.batch) if self.positions is None else self.positions
        if self.growth is None or not self.batch:
            return every
        size = self.growth.at(step)
        return range(every.start * size // self.batch, every.stop * size // self.batch)

    def begin(self, step: int) -> int:
        """The position in the endless stream of the first image of a step."""
        return step * self.batch if self.growth is None else self.growth.before(step)


def item_at(seed: int, stream: str, length: int, position: int) -> int:
    """The image at a position of an endless stream: passes follow each other, each in an order of its own."""
    return int(_order(seed, stream, length, position // length)[position % length])


def items_at(seed: int, stream: str, length: int, position: int, count: int) -> NDArray[np.int64]:
    """The images (count,) at consecutive positions of an endless stream; see `item_at`."""
    parts: list[NDArray[np.int64]] = []
    while count:
        number, start = divmod(position, length)
        part = _order(seed, stream, length, number)[start : start + count]
        parts.append(part)
        position, count = position + len(part), count - len(part)
    return np.concatenate(parts)


@lru_cache(maxsize=16)
def _order(seed: int, stream: str, length: int, number: int) -> NDArray[np.int64]:
    return rng_for(seed, f"order/{stream}", number).permutation(length)
