"""Values stored in masks -> classes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from semikit.data.formats.colours import COLOUR, described_colours
from semikit.errors import FileFault, some

_IGNORED, VALID, _OUTSIDE = 0, 1, 2
"""What a mask value is."""
_VOID = 255
_NUMBERS = "Masks of `corrected` hold class numbers, and 255 where nothing is labelled."
_NO_CLASS = "mask of colours that are no class"
_NOISE = 2
"""Values that are no class up to which those of a JPEG are looked at one by one."""
_SHOWN = 8
"""Values that a notice names."""
_WHOLE = 64
"""Classes up to which a line of `mapping` is written out."""


@final
@dataclass(frozen=True, slots=True)
class MaskValues:
    """Which mask value is which class: as `mapping` says (value, class), none where in `ignore`, else the value."""

    num_classes: int
    ignore: tuple[int, ...] = ()
    mapping: tuple[tuple[int, int], ...] = ()
    remedy: str = ""
    """What to do about other values, where there is no data file to change."""
    exact: bool = False
    """A class that `mapping` leads to is stored as `mapping` says and under no other value."""
    colours: tuple[tuple[int, int, str], ...] = ()
    """Packed colour, class (-1: does not count) and name, sorted, for masks that have colours; see `colours.packed`."""

    def numbers(self) -> MaskValues:
        """How masks of the numbers of the same classes are read, in which 255 does not count."""
        return MaskValues(self.num_classes, (_VOID,), remedy=_NUMBERS)

    def decode(self, raw: NDArray[Any], file: Path | str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Stored values (H, W), whole numbers -> labels (H, W) uint8, 0 where invalid, and valid (H, W) bool.

        bool are those of one bit: their 1 is white, which of two classes is the one that `mapping` stores as 255.

        Raises:
            FileFault: when a value is neither a class, mapped nor ignored; names values and pixel counts.
        """
        if raw.dtype == np.bool_:
            stored = dict(self.mapping)
            white = 255 if self.num_classes == 2 and 255 in stored and 1 not in stored else 1
            raw = raw.astype(np.uint8) * np.uint8(white)
        if raw.size and raw.max() >= COLOUR:
            labels, states = self._by_colour(raw)
        elif raw.size and raw.min() >= 0 and raw.max() < 256:
            labels, states = self._translated(raw.astype(np.uint8))
        else:
            labels, states = self._looked_up(raw)
        if (states == _OUTSIDE).any():
            raise self._fault(raw, states == _OUTSIDE, file)
        return labels, states.view(np.bool_)

    def read(self, value: int) -> tuple[int, int]:
        """The class of one value (0 where it has none) and whether it is ignored (0), valid (1) or outside (2)."""
        mapped = dict(self.mapping).get(value)
        if mapped is not None:
            return mapped, VALID
        if value in self.ignore:
            return 0, _IGNORED
        taken = self.exact and value in dict(self.mapping).values()
        return (value, VALID) if 0 <= value < self.num_classes and not taken else (0, _OUTSIDE)

    def _translated(self, raw: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        # Several times faster than indexing a numpy table.
        stored = bytearray(raw)
        labels, states = (np.frombuffer(stored.translate(table), np.uint8) for table in _tables(self))
        return labels.reshape(raw.shape), states.reshape(raw.shape)

    def _by_colour(self, raw: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        known, classes = np.array([entry[:2] for entry in self.colours], dtype=np.int32).T
        places = np.searchsorted(known, raw).clip(max=len(known) - 1)
        labels = np.maximum(classes, 0).astype(np.uint8)[places]
        states = np.where(classes < 0, _IGNORED, VALID).astype(np.uint8)[places]
        return labels, np.where(known[places] == raw, states, np.uint8(_OUTSIDE))

    def _looked_up(self, raw: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        values, inverse = np.unique(raw, return_inverse=True)
        pairs = np.array([self.read(int(value)) for value in values], dtype=np.uint8).reshape(-1, 2)
        return pairs[inverse, 0].reshape(raw.shape), pairs[inverse, 1].reshape(raw.shape)

    def _fault(self, raw: NDArray[Any], outside: NDArray[np.bool_], file: Path | str) -> FileFault:
        values, counts = np.unique(raw[outside], return_counts=True)
        lossy = _lossy(file)
        if lossy and len(values) > _NOISE:
            detail = f"{len(values)} values that are no class"
            return FileFault(
                "mask in a lossy format", file, detail, f"{lossy.strip()} Export them anew, from their program."
            )
        if values[0] >= COLOUR:
            known = {colour: name for colour, _, name in self.colours}
            remedy = "Add them to `colors` or, where they do not count, to `ignore_colors`."
            return FileFault(_NO_CLASS, file, described_colours(values, counts, known), f"{remedy}{lossy}")
        counted = [f"{value}: {count} pixels" for value, count in zip(values[:5], counts[:5], strict=True)]
        counted += [f"and {len(values) - 5} more values"] if len(values) > 5 else []
        kind = f"mask value outside the classes 0 to {self.num_classes - 1}"
        if self.exact and set(values.tolist()) <= set(dict(self.mapping).values()):
            kind = "mask value of a class that is stored otherwise"
        stored = StoredValues(self, frozenset(np.unique(raw).tolist()), frozenset(values.tolist()), lossy)
        return FileFault(kind, file, ", ".join(counted), stored.remedy(), stored)

    def unreachable(self) -> list[int]:
        """Classes that no mask value leads to: all of theirs are ignored, or mapped to another class."""
        found = {self.read(value)[0] for value in range(self.num_classes) if self.read(value)[1] == VALID}
        mapped = {number for _, number in self.mapping} | {number for _, number, _ in self.colours}
        return sorted({*range(self.num_classes)} - found - mapped)

    def counted_from_1(self) -> str:
        """The line of the data file that says that classes are stored as 1 to K."""
        return f"`mapping: {_listing((value + 1, value) for value in range(self.num_classes))}`"


@final
@dataclass(frozen=True, slots=True)
class StoredValues:
    """What masks hold, `present` among it `outside` the classes; `warning` follows the remedy."""

    values: MaskValues
    present: frozenset[int]
    outside: frozenset[int]
    warning: str = ""

    def remedy(self) -> str:
        """What is most likely meant, as a line for the data file."""
        return self._likely() + self.warning

    def _likely(self) -> str:
        values, outside = self.values, self.outside
        if values.remedy:
            return values.remedy
        most = values.num_classes
        stored = {number: value for value, number in values.mapping if number in outside}
        if values.exact and stored:
            number, value = next(iter(stored.items()))
            return (
                f"`mapping` says that class {number} is stored as {value} (for a plain folder of pairs that is the "
                "default). If the masks hold class numbers, leave `mapping` out; a plain folder is then described by a "
                f"YAML file, which `semikit data init FOLDER` drafts. If both occur, add {number}: {number} to it."
            )
        if outside == {_VOID} and self.present <= {0, _VOID} and most == 2:
            return "Only 0 and 255 occur; if 255 is class 1, add `mapping: {255: 1}`."
        if outside <= {most, _VOID} and self._from_1():
            return self._shifted()
        if outside == {_VOID}:
            return (
                "If 255 means that a pixel does not count, add `ignore: [255]`; if it is a class, `mapping: {255: 1}`."
            )
        first = sorted(outside)[:5]
        return (
            f"Add the missing names to `classes`, or say which class they are, as `mapping: {{{first[0]}: 0}}`, "
            f"or that they do not count, as `ignore: {first}`. In a palette PNG the values are palette indices."
        )

    def _from_1(self) -> bool:
        """Whether classes may be stored as 1 to K: they occur, and 0 does not or is ignored."""
        found = self.present - {*self.values.ignore, _VOID}
        return not self.values.mapping and bool(found) and found <= {*range(1, self.values.num_classes + 1)}

    def _shifted(self) -> str:
        line = self.values.counted_from_1()
        void = " and `ignore: [255]`" if _VOID in self.outside and self.values.num_classes != _VOID else ""
        if self.values.num_classes in self.outside:
            return f"If classes are stored as 1 to {self.values.num_classes}, add {line}{void}."
        return (
            "If 255 means that a pixel does not count, add `ignore: [255]`. 0 does not occur: if classes are stored "
            f"as 1 to {self.values.num_classes}, add {line} too."
        )


@final
class MaskWatch:
    """Which values of a `mapping` occur in the masks that are read. Threads may share it."""

    def __init__(self, values: MaskValues) -> None:
        self.values = values
        self._present = set[int]()

    def add(self, raw: NDArray[Any]) -> None:
        """Stored values of a mask (H, W), as `MaskValues.decode` takes them."""
        if not self.unseen:
            return
        if raw.dtype == np.bool_:  # their 1 may be what `mapping` calls 255
            self._present |= {1, _VOID} if raw.any() else {0}
        elif raw.dtype == np.uint8:
            self._present |= set(np.flatnonzero(np.bincount(raw.ravel(), minlength=256)).tolist())
        else:
            self._present |= set(np.unique(raw).tolist())

    @property
    def unseen(self) -> list[int]:
        """Values of `mapping` that no mask holds so far."""
        return [value for value, _ in self.values.mapping if value not in self._present]

    @property
    def without_effect(self) -> bool:
        """Whether `mapping` changes no value, although masks hold its classes, under their own numbers."""
        return bool(self._doubtful) and len(self.unseen) == len(self.values.mapping)

    def notices(self) -> tuple[str, ...]:
        """At most one sentence: about values that do not occur, while their class is stored as its own number."""
        if not self._doubtful:
            return ()
        listed = _listing(self._doubtful)
        numbers = some([str(value) for value in sorted(self._present)], _SHOWN)
        classes = sorted({number for _, number in self._doubtful})
        return (
            f"`mapping: {listed}`: no mask holds {some([str(value) for value, _ in self._doubtful], _SHOWN)}, while "
            f"what holds {some([str(number) for number in classes], _SHOWN)} is read as the class of that number. "
            f"Masks hold {numbers}, by the numbers stored in their files (2- and 4-bit gray is not spread to 0..255). "
            "Correct `mapping` or leave it out",
        )

    @property
    def _doubtful(self) -> list[tuple[int, int]]:
        stated = dict(self.values.mapping)
        unseen = self.unseen
        direct = self._present - stated.keys()
        return [(value, stated[value]) for value in unseen if stated[value] in direct]


def joint_remedies(faults: Iterable[FileFault], classes: Iterable[int]) -> dict[str, str]:
    """Kind of fault -> what is most likely meant by all masks together, as one may lack what others have; `classes`
    occur in masks without faults.
    """
    joint: dict[str, StoredValues] = {}
    for fault in faults:
        if isinstance(fault.evidence, StoredValues):
            found, before = fault.evidence, joint.get(fault.kind)
            present = found.present | (before.present if before else {*classes})
            outside = found.outside | (before.outside if before else set())
            joint[fault.kind] = replace(found, present=present, outside=outside)
    return {kind: found.remedy() for kind, found in joint.items()}


def _listing(pairs: Iterable[tuple[int, int]]) -> str:
    parts = [f"{value}: {number}" for value, number in pairs]
    return "{" + ", ".join(parts if len(parts) <= _WHOLE else [*parts[:3], "…", parts[-1]]) + "}"


def is_lossy(file: Path | str) -> bool:
    """Whether a file's format may change values when it compresses."""
    return str(file).lower().endswith((".jpg", ".jpeg", ".webp"))


def _lossy(file: Path | str) -> str:
    return " JPEG and WebP change values when they compress: save masks as PNG." if is_lossy(file) else ""


@lru_cache(maxsize=8)
def _tables(values: MaskValues) -> tuple[bytes, bytes]:
    """Classes and states of the values 0..255."""
    pairs = [values.read(value) for value in range(256)]
    return bytes(number for number, _ in pairs), bytes(state for _, state in pairs)
