"""What masks hold: a histogram of values or colours of some of them, and what it makes of classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from semikit.data.formats.colours import COLOUR, Colour, packed, unpacked
from semikit.data.formats.images import read_mask
from semikit.data.formats.mask_values import is_lossy
from semikit.errors import FileFault

_OPENED = 60
"""Masks of a part that are opened."""
_MOST = 255
_MOST_COLOURS = 64
_VOID = 255
_RARE = 0.005
"""Share of pixels up to which colours that a list does not name are taken for mistakes of an export."""
_VOIDS = {"void", "ignore", "ignored", "unlabeled", "unlabelled", "don't care"}


@final
@dataclass(frozen=True)
class Histogram:
    """Pixels and images of each value (or packed colour) in `opened` masks; `faults` could not be read."""

    opened: int
    pixels: Counter[int]
    images: Counter[int]
    faults: Sequence[str] = ()
    lossy: bool = False

    @property
    def coloured(self) -> bool:
        """Whether they are colours."""
        return any(value >= COLOUR for value in self.pixels)

    @property
    def shares(self) -> dict[int, float]:
        """Share of the pixels of each value, the values in order; of colours the most frequent first."""
        total = max(1, sum(self.pixels.values()))
        found = self.pixels.most_common() if self.coloured else sorted(self.pixels.items())
        return {value: count / total for value, count in found}

    @property
    def odd(self) -> str:
        """Why these are no classes; empty where they may be."""
        if not self.opened:
            return "none of the masks could be read"
        if len(self.pixels) > (_MOST_COLOURS if self.coloured else _MOST):
            return f"masks hold {len(self.pixels)} {'colours' if self.coloured else 'values'}"
        return "masks are JPEG, which changes values" if self.lossy and len(self.pixels) > 2 else ""


def histogram(masks: Sequence[Path]) -> Histogram:
    """The values of at most 60 masks, spread over all."""
    chosen = masks[:: max(1, -(-len(masks) // _OPENED))]
    pixels: Counter[int] = Counter()
    images: Counter[int] = Counter()
    faults: list[str] = []
    for path in chosen:
        try:
            values, counts = np.unique(_stored(path), return_counts=True)
        except FileFault as fault:
            faults.append(str(fault))
            continue
        pixels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        images.update(values.tolist())
    return Histogram(len(chosen) - len(faults), pixels, images, faults, any(map(is_lossy, chosen)))


def _stored(path: Path) -> NDArray[np.int64]:
    """Values of a mask; its colours where it has three channels. A palette PNG holds its indices."""
    try:
        return np.asarray(read_mask(path)).astype(np.int64)
    except FileFault:
        return np.asarray(read_mask(path, colours=True)).astype(np.int64)


@final
@dataclass(frozen=True)
class Classes:
    """What the values mean: names in order, with the value and share of each, and colours; values (or packed colours)
    that do not count.
    """

    names: Sequence[str]
    values: Sequence[int]
    shares: Sequence[float]
    ignore: Sequence[int] = ()
    colours: Sequence[Colour] = ()
    guessed: bool = True

    @property
    def mapping(self) -> dict[int, int]:
        """Stored value -> class, where they differ."""
        numbered = list(enumerate(self.values))
        return {} if self.colours else {value: number for number, value in numbered if number != value}


def classes_of(found: Histogram, names: Sequence[str], colours: dict[str, Colour] | None) -> Classes:
    """The classes behind values: `names` in order of the values and `colours`, where files beside the masks say them.

    255 does not count where it is not the only value beside 0.
    """
    if found.coloured:
        return _of_colours(found, colours)
    shares = found.shares
    whole = [value for value in shares if value != _VOID]
    binary = len(shares) == 2 and _VOID in shares
    values = [*shares] if binary else whole
    ignore = [] if binary or _VOID not in shares else [_VOID]
    dense = values and values[-1] < max(len(names), len(values) + 3)
    if dense and not binary:  # classes that the opened masks lack have numbers too
        values = list(range(max(len(names), values[-1] + 1)))
    fits = len(names) == len(values)
    plain = ["background", "foreground"] if len(values) == 2 else [f"class {value}" for value in values]
    every = list(zip(names if fits else plain, values, strict=True))
    void = [value for name, value in every if name.casefold() in _VOIDS]
    kept = [(name, value) for name, value in every if value not in void]
    shown = [shares.get(value, 0.0) for _, value in kept]
    return Classes([name for name, _ in kept], [v for _, v in kept], shown, [*void, *ignore], guessed=not fits)


def _of_colours(found: Histogram, known: dict[str, Colour] | None) -> Classes:
    """The classes that a list names, in its order, then colours that it does not; those called void do not count."""
    shares = {unpacked(value): share for value, share in found.shares.items()}
    named = {colour: name for name, colour in (known or {}).items()}
    others = [colour for colour, share in shares.items() if colour not in named and (not known or share > _RARE)]
    every = named | {colour: f"class {number}" for number, colour in enumerate(others, start=len(named))}
    void = [colour for colour, name in every.items() if name.casefold() in _VOIDS]
    kept = {colour: name for colour, name in every.items() if colour not in void}
    return Classes(
        list(kept.values()),
        list(range(len(kept))),
        [shares.get(colour, 0.0) for colour in kept],
        [packed(colour) for colour in void],
        list(kept),
        guessed=bool(others),
    )
