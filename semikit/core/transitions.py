"""Classes of change that say from what to what, by their names: "ground → building", also written "ground -> building".

The names are all there is: they stand in a data YAML, in weights and in maps, so that scores and tables of transitions
need nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

_ARROW = re.compile(r"\s*(?:→|->)\s*")


def without_arrow(names: Sequence[str]) -> list[str]:
    """Names that say no transition."""
    return [name for name in names if not _ARROW.search(name)]


def transition_name(before: str, after: str) -> str:
    """The name of a class of change."""
    return f"{before} → {after}"


@final
@dataclass(frozen=True, slots=True)
class Transitions:
    """What the classes of change 1..K-1 lead from and to; class 0 is where nothing changed.

    `names` are the classes of one date (L), `before` and `after` (K,) their numbers from 1 at the two dates, 0 for
    class 0.
    """

    names: tuple[str, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def of(cls, class_names: Sequence[str]) -> Transitions | None:
        """From the names of the classes 0..K-1; None where they say no transitions."""
        ends = [_ARROW.split(name) for name in class_names[1:]]
        if not ends or any(len(parts) != 2 or not all(parts) for parts in ends):
            return None
        names = tuple(dict.fromkeys([before for before, _ in ends] + [after for _, after in ends]))
        numbers = [(names.index(before) + 1, names.index(after) + 1) for before, after in ends]
        return cls(names, (0, *(first for first, _ in numbers)), (0, *(second for _, second in numbers)))
