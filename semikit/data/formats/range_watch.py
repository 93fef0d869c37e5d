"""The values of images beside the range that a model learned from: what does not fit is noticed, not only clipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from semikit.data.formats.rescale import BYTE, BYTES, Scale, as_bytes
from semikit.errors import some

OUTSIDE = 0.1
"""Share of the values of an image outside the learned range from which it is noticed. The range is that of percentiles
2 to 98 where it was sampled, so that some always lie outside."""


@dataclass(slots=True)
class _Seen:
    """Of one image: number of values, how many of them lie outside the range, lowest and highest of each band (C,)."""

    count: int
    outside: int
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@final
class RangeWatch:
    """Collects what is read for a model that learned values from `scale`, None: of 8 bits. Threads may share it.

    `origin` says of the range, in notices, where it is from.
    """

    def __init__(self, scale: Scale | None, origin: str = "that was learned from") -> None:
        self.scale, self.origin = scale, origin
        self._lock = Lock()
        self._seen: dict[Path, _Seen] = {}
        self._deep: dict[Path, None] = {}
        self._shallow: dict[Path, None] = {}
        self._plain: dict[Path, None] = {}

    def add(self, path: Path, values: NDArray[Any], valid: NDArray[np.bool_] | None) -> None:
        """Values (H, W, C) of an image, or of a part of it, as stored, and where they are valid (H, W), None: all."""
        if self.scale is None:
            if path not in self._deep and as_bytes(values, valid) is None:
                self._deep[path] = None
            return
        pixels = values.reshape(-1, values.shape[2]) if valid is None else values[valid]
        if not len(pixels) or len(self.scale.bounds[0]) not in (1, values.shape[2]):
            return
        if values.dtype == np.uint8 and max(self.scale.bounds[1]) > BYTE:
            self._shallow[path] = None
        low, high = (np.asarray(bound, np.float32) for bound in self.scale.bounds)
        outside = int(((pixels < low) | (pixels > high)).sum())
        self._count(
            path, _Seen(pixels.size, outside, pixels.min(0).astype(np.float64), pixels.max(0).astype(np.float64))
        )

    def _count(self, path: Path, found: _Seen) -> None:
        with self._lock:
            before = self._seen.setdefault(path, found)
            if before is not found:
                before.count += found.count
                before.outside += found.outside
                before.low = np.minimum(before.low, found.low)
                before.high = np.maximum(before.high, found.high)

    def add_plain(self, path: Path) -> None:
        """A photo of 8 bits, which no range is applied to."""
        if self.scale is not None and self.scale.bounds != BYTES.bounds:
            self._plain[path] = None

    def seen(self) -> tuple[Any, ...]:
        """All that was collected, as it may go to another process."""
        return self._seen, self._deep, self._shallow, self._plain

    def add_seen(self, seen: tuple[Any, ...]) -> None:
        """What another one has `seen`."""
        for path, found in seen[0].items():
            self._count(path, found)
        for own, other in zip((self._deep, self._shallow, self._plain), seen[1:], strict=True):
            own |= other

    @property
    def held(self) -> tuple[float, float] | None:
        """The lowest and highest value that was read, where there is a range."""
        seen = list(self._seen.values())
        return (min(one.low.min() for one in seen), max(one.high.max() for one in seen)) if seen else None

    @property
    def deep(self) -> list[Path]:
        """Images of other values than those of 8 bits, where the model learned from 8 bits."""
        return sorted(self._deep)

    def notices(self) -> tuple[str, ...]:
        """About images that do not fit the range, with both ranges, and about photos that no range is applied to."""
        if self.scale is None:
            what = "the model was trained on 8-bit images; of these percentiles 2 to 98 are brought to 0..255"
            return (f"{what}: {some([str(path) for path in self._deep])}",) if self._deep else ()
        if not self._plain:
            return self._unfit()
        names = some([str(path) for path in self._plain])
        what = "photos of 8 bits are read as they are, while the model learned values from"
        return (f"{what} {self.scale.text}: {names}", *self._unfit())

    def _unfit(self) -> tuple[str, ...]:
        """About rasters and deep photos: a sentence for those of 8 bits, at most one for the others."""
        assert self.scale is not None
        shallow = (shallow_notice(self.scale, list(self._shallow)),) if self._shallow else ()
        others = {path: seen for path, seen in self._seen.items() if path not in self._shallow}
        odd = {path: seen for path, seen in others.items() if seen.outside > OUTSIDE * seen.count}
        if odd:
            return (*shallow, self._notice("lie outside of", odd))
        flat = {path: seen for path, seen in others.items() if self._flat(seen)}
        alike = flat and len(flat) == len(others)
        return (*shallow, self._notice("all lie within one of 255 parts of", flat)) if alike else shallow

    def _flat(self, seen: _Seen) -> bool:
        assert self.scale is not None
        low, high = (np.asarray(bound) for bound in self.scale.bounds)
        return bool((seen.high - seen.low < (high - low) / BYTE).all())

    def _notice(self, how: str, odd: dict[Path, _Seen]) -> str:
        assert self.scale is not None
        share = sum(seen.outside for seen in odd.values()) / sum(seen.count for seen in odd.values())
        low, high = min(seen.low.min() for seen in odd.values()), max(seen.high.max() for seen in odd.values())
        values = f"{share:.0%} of the values" if share else "the values"
        return (
            f"{values} {how} the range {self.origin}, {self.scale.text}; these images hold {low:g} to "
            f"{high:g}: {some([str(path) for path in odd])}. Give images in the same units; where they are, a range "
            "for all of them is given before training, as scale: in the data YAML, and at prediction by --scale"
        )


def shallow_notice(scale: Scale, rasters: Sequence[Path]) -> str:
    """The sentence about rasters of 8 bits that are read in a range of more."""
    names = some([str(path) for path in rasters])
    return f"values are taken from {scale.text}, and these rasters hold 8 bits, all dark in it: {names}"
