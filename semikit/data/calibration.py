"""Labelled images that pseudo-labels are measured on: a few of those chosen, which are learned from in no way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from semikit.data.hold_out import group_keys, name_hash
from semikit.data.samples import DataParts
from semikit.data.splits import CALIBRATION, Split
from semikit.errors import DataError

_FEWEST, _MOST = 8, 4
"""At least so many images, and at most one of so many (psychofict/CW-BASS-v2@fd355ef:train.py)."""


def with_calibration(split: Split, parts: DataParts, share: float, group: str | Path | None = None) -> Split:
    """The split with a share (0..1) of its labelled images held out, which leave the unlabelled ones too.

    By a hash of their names, so that no seed decides; whole groups where there are any; of whole images in proportion
    to the classes, none of which loses its last.

    Raises:
        DataError: nothing can be held out.
    """
    labeled, names = list(split.labeled), parts.train.names
    wanted = min(max(_FEWEST, round(share * len(labeled))), max(1, len(labeled) // _MOST))
    keys = [names[k] for k in labeled] if group is None else group_keys([names[k] for k in labeled], group)
    held = [labeled[k] for k in _held(keys, _classes(split, parts), wanted)]
    left = set(labeled) - set(held)
    if not held or not left:
        raise DataError(
            f"method.threshold 'auto' holds out labelled images to measure pseudo-labels on, and of {len(labeled)} "
            "none can be spared. Label more, or give a number: method.threshold=0.95."
        )
    gone = set(held)
    unlabeled: Sequence[int] = split.unlabeled if not split.unlabeled else [k for k in split.unlabeled if k not in gone]
    record = {**split.held_out, CALIBRATION: tuple(names[k] for k in sorted(held))}
    return replace(
        split, labeled=tuple(sorted(left)), unlabeled=unlabeled, held_out=record, calibration=tuple(sorted(held))
    )


def _classes(split: Split, parts: DataParts) -> list[int]:
    """The class of each labelled image; one for all where classes are those of pixels."""
    if not parts.balanced:
        return [0] * len(split.labeled)
    return [int(number) for number in np.asarray(parts.train.labels)[list(split.labeled)]]


def _held(keys: Sequence[str], classes: Sequence[int], wanted: int) -> list[int]:
    """Positions of the images that are held out; groups one after the other, of each class evenly spaced."""
    groups: dict[str, list[int]] = {}
    for position, key in enumerate(keys):
        groups.setdefault(key, []).append(position)
    left = {number: classes.count(number) for number in classes}
    sizes, seen = dict(left), dict.fromkeys(left, 0)
    order: list[tuple[float, bytes, str]] = []
    for key in sorted(groups, key=name_hash):
        number = classes[groups[key][0]]
        order.append(((seen[number] + 0.5) / sizes[number], name_hash(key), key))
        seen[number] += len(groups[key])
    held: list[int] = []
    for *_, key in sorted(order):
        taken = [classes[position] for position in groups[key]]
        if len(held) < wanted and all(left[number] > taken.count(number) for number in taken):
            held += groups[key]
            for number in taken:
                left[number] -= 1
    return held
