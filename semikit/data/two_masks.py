"""One mask of change out of two masks: land cover of both dates, or buildings before and grades of damage after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from semikit.core.transitions import transition_name, without_arrow
from semikit.data.formats.mask_values import MaskValues
from semikit.data.samples import Bytes, Mask
from semikit.errors import ConfigError, unknown

Chosen = Literal["all", "differing"] | tuple[tuple[str, str], ...]
"""Which transitions are classes: all, also of one class to itself, those of two different classes, or these."""

MOST_CLASSES = 255
_NONE = 255
"""In a table: does not count."""
_BUILDING = MaskValues(2, mapping=((255, 1),))
"""No building and building, stored as 1 or 255."""


@final
@dataclass(frozen=True, slots=True)
class TwoMasks:
    """How the classes of two masks become one: the values of each, and a table [class before][class after] -> class."""

    values: tuple[MaskValues, MaskValues]
    names: tuple[str, ...]
    table: tuple[tuple[int, ...], ...]

    def joined(self, before: tuple[Bytes, Mask], after: tuple[Bytes, Mask]) -> tuple[Bytes, Mask]:
        """Labels (H, W) and valid (H, W) of both masks -> those of the change."""
        labels = np.array(self.table, dtype=np.uint8)[before[0], after[0]]
        valid = before[1] & after[1] & (labels != _NONE)
        return np.where(valid, labels, np.uint8(0)), valid


def transitions(classes: Sequence[str], values: MaskValues, chosen: Chosen) -> TwoMasks:
    """Of two masks of land cover with these classes, of which class 0 is unchanged.

    A pixel is unchanged where both masks say so, or both say one class and that is no transition. It does not count
    where only one mask says so, or where its transition is not among those chosen.

    Raises:
        ConfigError: a class nobody knows or with an arrow in its name, or more transitions than a map has values.
    """
    named = classes[1:]
    if arrows := [name for name in named if name not in without_arrow(named)]:
        raise ConfigError(
            f"class {arrows[0]!r} holds an arrow, which stands between the two classes of a transition. Rename it."
        )
    if isinstance(chosen, str):
        pairs = [(a, b) for a in named for b in named if chosen == "all" or a != b]
    else:
        for name in (name for pair in chosen for name in pair if name not in named):
            raise unknown("class in `transitions`", name, named)
        pairs = list(dict.fromkeys(chosen))
    if len(pairs) >= MOST_CLASSES:
        raise ConfigError(
            f"{len(named)} classes have {len(pairs)} transitions, and a map has {MOST_CLASSES} classes. Name those "
            f"that occur: transitions: [[{named[0]}, {named[1]}], …]; the others do not count."
        )
    table = np.full((len(classes), len(classes)), _NONE)
    np.fill_diagonal(table, 0)
    for number, (before, after) in enumerate(pairs, 1):
        table[classes.index(before), classes.index(after)] = number
    names = (classes[0], *(transition_name(*pair) for pair in pairs))
    return TwoMasks((values, values), names, tuple(map(tuple, table.tolist())))


def grades(classes: Sequence[str], values: MaskValues) -> TwoMasks:
    """Of a mask of buildings before, and one of the grades of their damage after, with these classes; class 0 is no
    building. A pixel does not count where only one mask has a building: it was not graded.
    """
    none = (0, *[_NONE] * (len(classes) - 1))
    return TwoMasks((_BUILDING, values), tuple(classes), (none, (_NONE, *range(1, len(classes)))))
