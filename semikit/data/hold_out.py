"""Validation and test images taken out of train: a share of those with a mask or label, or one of several folds.

Which ones does not depend on the seed of a run, so that all runs of one description are compared on the same images;
nor on the order or the place of the files: each image (or group of images) has its place in the order by a hash of its
name, so that few change sides when labels are added.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from semikit.data.formats.table_columns import read_rows
from semikit.data.samples import DataParts, Subset
from semikit.data.spec import SplitSpec
from semikit.errors import DataError, some

_PLACE = re.compile(r"\{(stem|folder)(?::(\d+))?\}")

Groups = Sequence[Sequence[int]]
"""Numbers of images that are held out together, in the order in which they are."""


def held_out_as_stated(parts: DataParts, spec: SplitSpec, fold: int | None) -> DataParts:
    """The same data with the validation and test images that `spec` asks to take out of train, and a notice of it.

    In a set with one class for each image every class gives its part, where there are no groups. Of a held-out group
    the images without a mask leave train too: they show what the scored ones do.

    Raises:
        DataError: a fold that was not asked for or is missing, a group that cannot be told from a name, or nothing
            left to learn from.
    """
    _check_fold(spec, fold)
    names = parts.train.names
    keys = list(names) if spec.group is None else group_keys(names, spec.group)
    cut = _Cut(parts, keys, spec.group, np.arange(len(names)))
    if isinstance(spec.test, float):
        cut = cut.without_share("test", spec.test)
    if isinstance(spec.val, float):
        cut = cut.without_share("val", spec.val)
    elif spec.folds is not None and fold is not None:
        cut = cut.without_fold(spec.folds, fold)
    return parts if cut.parts is parts else replace(cut.parts, train=Subset(parts.train, cut.left))


def _check_fold(spec: SplitSpec, fold: int | None) -> None:
    if spec.folds is None and fold is not None:
        raise DataError(f"--fold {fold} was given, but the data are in no folds. Write `folds: 5` into their YAML.")
    if spec.folds is not None and fold is None:
        raise DataError(
            f"folds: {spec.folds}: which of them are the validation images? Give --fold 0 to --fold {spec.folds - 1}."
        )
    if spec.folds is not None and fold is not None and fold >= spec.folds:
        raise DataError(f"--fold {fold}: folds: {spec.folds} are counted from 0 to {spec.folds - 1}.")


def group_keys(names: Sequence[str], group: str | Path) -> list[str]:
    """The group of each name: by `{stem:6}`, `{folder}` and the like, by a regular expression, or by a table.

    Raises:
        DataError: names that belong to no group.
    """
    if isinstance(group, Path):
        known = _table(group)
        found = [known.get(name, known.get(PurePosixPath(name).name)) for name in names]
        remedy = f"Add a line file,group for each to {group}."
    elif _PLACE.search(group):
        return [_PLACE.sub(lambda match, name=name: _piece(name, match), group) for name in names]  # type: ignore[misc]
    else:
        pattern = re.compile(group)
        matches = [pattern.search(name) for name in names]
        found = [match and next((text for text in match.groups() if text is not None), match[0]) for match in matches]
        remedy = "The expression is searched in the path below the folder, without suffix."
    lone = [name for name, key in zip(names, found, strict=True) if not key]
    if lone:
        raise DataError(
            f"group {str(group)!r}: {len(lone)} of {len(names)} images have no group: {some(lone)}. {remedy}"
        )
    return [key for key in found if key]


def _piece(name: str, match: re.Match[str]) -> str:
    path = PurePosixPath(name)
    text = path.name if match[1] == "stem" else path.parent.as_posix()
    return text if match[2] is None else text[: int(match[2])]


def _table(path: Path) -> Mapping[str, str]:
    """Name without suffix -> group, of lines `file,group`; a first line of these words is no entry."""
    rows = read_rows(path, "group")
    if any(len(row) != 2 for row in rows):
        raise DataError(f"group: {path} holds lines of other than two cells. Write file,group in each.")
    if rows[0][1].lower() == "group":
        rows = rows[1:]
    return {str(PurePosixPath(file).with_suffix("")): group for file, group in rows}


# ----------------------------------------------------------------------------------------------------- what is chosen


@final
@dataclass(frozen=True, slots=True)
class _Cut:
    """Parts are taken out of train, whose images `left` are still in it; `keys` are the groups of all of them."""

    parts: DataParts
    keys: Sequence[str]
    group: str | Path | None
    left: NDArray[np.int64]

    def without_share(self, part: str, share: float) -> _Cut:
        """A share is taken out, of each class."""
        chosen = [index for groups in self._strata(part) for index in _by_share(groups, share)]
        return self._without(chosen, part, f"{part}: {share:g}")

    def without_fold(self, folds: int, fold: int) -> _Cut:
        """A fold is taken out: groups are dealt, class by class, to the fold that has fewest images so far."""
        groups = [group for stratum in self._strata("val") for group in stratum]
        if len(groups) < folds:
            raise DataError(
                f"folds: {folds} need as many images with a mask or label, or groups of them; train has {len(groups)}. "
                "Write fewer, or label more."
            )
        held: list[list[int]] = [[] for _ in range(folds)]
        for group in groups:
            held[min(range(folds), key=lambda number: len(held[number]))] += group
        return self._without(held[fold], "val", f"fold {fold} of the folds 0 to {folds - 1}")

    def _able(self) -> list[int]:
        """The images that can be scored."""
        return [int(index) for index in self.left if self.parts.train.has_target(int(index))]

    def _strata(self, part: str) -> list[Groups]:
        """The groups of the images that can be scored, in their order: of each class, or of all at once."""
        able, labels = self._able(), getattr(self.parts.train, "labels", None)
        if labels is None or self.group is not None:
            return [self._ordered(able, part)]
        numbers = range(len(self.parts.class_names))
        return [self._ordered([k for k in able if labels[k] == number], part) for number in numbers]

    def _ordered(self, indices: Sequence[int], part: str) -> Groups:
        """The images of each group; groups in the order of a hash of their key."""
        groups: dict[str, list[int]] = {}
        for index in indices:
            groups.setdefault(self.keys[index], []).append(index)
        return [groups[key] for key in sorted(groups, key=lambda key: (name_hash(f"{part}/{key}"), key))]

    def _without(self, chosen: Sequence[int], part: str, how: str) -> _Cut:
        """The images are a part of their own, with all that is of their groups taken out of train."""
        gone = {self.keys[index] for index in chosen}
        rest = np.array([index for index in self.left if self.keys[index] not in gone], np.int64)
        train, able = self.parts.train, self._able()
        if not chosen or not any(train.has_target(int(index)) for index in rest):
            raise DataError(
                f"{how} cannot be held out of {self._counted(able)}: some have to be left to learn from. "
                "Label more, or give these images a folder of their own."
            )
        notice = f"{len(chosen)} of {self._counted(able)} are held out as {part} ({how}; the same ones for every seed)"
        unused = len(self.left) - len(rest) - len(chosen)
        if self.group is not None:
            notice += f"; they are {len(gone)} of these groups"
        if unused:
            notice += f", of which {unused} images without a mask or label are not used"
        source = Subset(train, np.array(sorted(chosen), np.int64))
        changes: dict[str, Any] = {part: source, "notices": (*self.parts.notices, notice)}
        return replace(self, parts=replace(self.parts, **changes), left=rest)

    def _counted(self, able: Sequence[int]) -> str:
        text = f"{len(able)} images of train with a {'label' if self.parts.balanced else 'mask'}"
        if self.group is None:
            return text
        return f"{text} in {len({self.keys[k] for k in able})} groups ({str(self.group)!r})"


def name_hash(text: str) -> bytes:
    """What orders names whatever order the files have."""
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()


def _by_share(groups: Groups, share: float) -> list[int]:
    """Whole groups, as near to the share of their images as their order allows; at least one, never all."""
    wanted = max(1, round(share * sum(map(len, groups))))
    chosen: list[int] = []
    taken = 0
    for group in groups:
        if taken < len(groups) - 1 and 2 * (len(chosen) + len(group) - wanted) <= len(group):
            chosen += group
            taken += 1
    if chosen or len(groups) < 2:
        return chosen
    return list(sorted(groups, key=len)[0])
