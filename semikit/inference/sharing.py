"""How processes share a prediction: whole scenes, and of large ones the windows, which the first process writes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from tempfile import mkstemp
from typing import final

import numpy as np

from semikit.distributed.together import exchanged
from semikit.errors import FileFault
from semikit.inference.map_files import SCRATCH, Outputs
from semikit.inference.streamed import MapPart
from semikit.raster.region import Region

_MORE, _LITTLE = 1.25, 0.25
"""What one process may have to do, of an equal share of what is left, and what is little, of one of all pixels."""


@final
@dataclass(frozen=True, slots=True)
class Shares:
    """The scenes that all processes predict `together`, and those that each predicts `alone`; all in their order."""

    together: tuple[str, ...]
    alone: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, pixels: Mapping[str, int], divisible: Mapping[str, bool], count: int) -> Shares:
        """For `count` processes. The largest scenes, if `divisible`, are for all where one process would do more than
        its share; every other one, the larger first, is for the process that has the least to do.
        """
        if count == 1:
            return cls((), (tuple(pixels),))
        left = total = sum(pixels.values())
        together, owner, loads = set[str](), dict[str, int](), [0] * count
        for name in sorted(pixels, key=pixels.__getitem__, reverse=True):
            if divisible[name] and pixels[name] * count > max(_MORE * left, _LITTLE * total):
                together.add(name)
                left -= pixels[name]
                continue
            owner[name] = loads.index(min(loads))
            loads[owner[name]] += pixels[name]
        alone = (tuple(name for name in pixels if owner.get(name) == rank) for rank in range(count))
        return cls(tuple(name for name in pixels if name in together), tuple(alone))


@final
@dataclass(frozen=True, slots=True)
class _Given:
    """What a process did of a scene: a file of `count` parts with values of these `kinds`, or why it is not whole."""

    path: Path
    count: int
    kinds: tuple[str, ...]
    fault: FileFault | None

    def parts(self) -> Iterator[MapPart]:
        """Those in the file."""
        with self.path.open("rb") as file:
            for _ in range(self.count):
                region, valid, *values = (np.load(file, allow_pickle=False) for _ in range(2 + len(self.kinds)))
                yield MapPart(Region(*region.tolist()), valid, dict(zip(self.kinds, values, strict=True)))


def give(parts: Iterable[MapPart], outputs: Outputs, progress: Callable[[int, int], None]) -> None:
    """Write this process's parts of a scene into a file beside its map, for the first process, which removes it."""
    count, kinds, fault = 0, tuple[str, ...](), None
    outputs.classes.parent.mkdir(parents=True, exist_ok=True)
    number, name = mkstemp(prefix=f".{SCRATCH}.", dir=outputs.classes.parent)
    try:
        with os.fdopen(number, "wb") as file:
            try:
                for part in parts:
                    count, kinds = count + 1, tuple(part.values)
                    for array in (np.array(astuple(part.region)), part.valid, *part.values.values()):
                        np.save(file, array, allow_pickle=False)
                    progress(part.done, part.total)
            except FileFault as error:
                fault = error
        exchanged(_Given(Path(name), count, kinds, fault))
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def with_others(own: Iterable[MapPart]) -> Iterator[MapPart]:
    """The parts of a scene that this process, the first, did, and then those of all others.

    Raises:
        FileFault: the first that any of them met.
    """
    faults: list[FileFault] = []
    try:
        yield from own
    except FileFault as error:
        faults.append(error)
    given: list[_Given] = exchanged(None)[1:]  # type: ignore[assignment]
    try:
        for fault in (*faults, *(one.fault for one in given)):
            if fault is not None:
                raise fault
        for one in given:
            yield from one.parts()
    finally:
        for one in given:
            one.path.unlink(missing_ok=True)
