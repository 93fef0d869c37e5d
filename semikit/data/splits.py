"""Which images are labelled: a number, a fraction, an official or own list, or all that can be."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from semikit.core.rng import rng_for
from semikit.data.class_splits import drawn_by_class, members_of, most_balanced
from semikit.data.formats.name_lists import listed
from semikit.data.formats.table_columns import delimiter_of
from semikit.data.samples import DataParts, Pool, Samples, Subset
from semikit.errors import DataError, some, unknown

Family = Literal["random", "file", "all", "official"]
_Choice = tuple[Family, list[int], tuple[str, ...]]
"""How labelled images were chosen, which they are, and notices."""

OFFICIAL = "official:"
CALIBRATION = "calibration"
"""What the labelled images are called that pseudo-labels are measured on."""
_ALLOWED = "a number (46), a fraction (1/16, 10%, 0.1), a file with one name a line, or all"
_BALANCED = (
    "a number over all classes (250), a fraction of every class (1/10, 10%, 0.1), a file with one name a line, or all"
)
_NUMBER = re.compile(r"\d+")
_FRACTION = re.compile(r"\d+/\d+|\d*\.\d+|\d+(\.\d+)?%")


@final
@dataclass(frozen=True, slots=True)
class Split:
    """Labelled numbers count over train; unlabelled ones over `pool`, which is train and then the extra sources.

    Of pixels the unlabelled are all the others; of whole images all, the labelled included, as the field has it, unless
    the data say otherwise (`DataParts.labeled_apart`).
    `masked` is how many images of train can be labelled; a fraction was taken of that number. `seed` matters to the
    family "random" alone.
    """

    labeled: tuple[int, ...]
    unlabeled: Sequence[int]
    pool: Pool
    family: Family
    seed: int
    masked: int
    held_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Part (val, test, calibration) -> names of its images, where they were taken out of train."""
    also: Mapping[int, int] = field(default_factory=dict)
    """Unlabelled image -> class, of those that are learned with a label that somebody else gave them."""
    calibration: tuple[int, ...] = ()
    """Labelled images of train that are learned from in no way, for pseudo-labels are measured on them."""
    notices: tuple[str, ...] = ()
    """What a user should know of the choice."""


def choose(labels: str | None, parts: DataParts, seed: int = 0) -> Split:
    """The labelled images of train, and the unlabelled ones; of shards none has a number.

    `labels`: "46" | "1/16" (round(N*f), of the images that can be labelled; where `parts.balanced`, of every class) |
    path of a list | "official:1/16", which `parts.official` resolves | "all". None means all, and is refused where
    `parts.balanced`. Of one seed, fewer labels are a subset of more (of classes: of choices in balance, and of those in
    proportion).

    Raises:
        DataError: more asked than there are, a number that the classes do not divide (unless `parts.stratify`), a
            malformed option, an unknown file entry, an official split of data that have none.
    """
    train = parts.train
    able = np.array([index for index in range(len(train)) if train.has_target(index)], np.int64)
    if not len(able):
        raise DataError("no image of train has a mask, so none can be labelled; state the folder as train.masks.")
    family, labeled, notices = _labeled(labels, parts, able, seed)
    scored = {"val": parts.val, "test": parts.test}
    apart = {part for part, source in scored.items() if is_held_out(source, train)}
    pool = Pool((train, *parts.unlabeled))
    unlabeled: Sequence[int] = range(len(pool))
    if parts.pool is not None:
        unlabeled = ()
    elif parts.labeled_apart or not parts.balanced:
        taken = set(labeled)
        unlabeled = tuple(index for index in range(len(pool)) if index not in taken)
    held = {part: tuple(source.names) for part, source in scored.items() if source is not None and part in apart}
    return Split(tuple(labeled), unlabeled, pool, family, seed, len(able), held, notices=notices)


def of_these(split: Split, path: Path) -> Split:
    """The split with those unlabelled images alone that a file names, one a line.

    Raises:
        DataError: there is no such file, it names none, or others than unlabelled images.
    """
    if not path.is_file():
        raise DataError(f"data.only: there is no file {path}. Give a file with the name of an unlabelled image a line.")
    wanted = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    names = split.pool.names
    numbers = {names[index]: index for index in split.unlabeled}
    strange = [name for name in wanted if name not in numbers]
    if strange or not wanted:
        what = f"names {some(strange)}, no unlabelled images of this run" if strange else "names no image"
        raise DataError(f"data.only: {path} {what}. Give names as a run's unlabeled.txt has them, or leave it out.")
    return replace(split, unlabeled=tuple(sorted(numbers[name] for name in set(wanted))))


def with_labels(split: Split, path: Path, class_names: Sequence[str]) -> Split:
    """The split whose unlabelled images are learned with a label, too, where a table `image,label` gives them one.

    Raises:
        DataError: there is no such table, it names others than unlabelled images, one twice, or a strange class.
    """
    if not path.is_file():
        raise DataError(f"data.also_labeled: there is no file {path}. Give a table with the columns image and label.")
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        delimiter = delimiter_of(file.readline())
        file.seek(0)
        rows = csv.DictReader(file, restval="", delimiter=delimiter)
        if not {"image", "label"} <= set(rows.fieldnames or ()):
            raise DataError(f"data.also_labeled: {path} has no columns image and label. Give its first line so.")
        given = [(row["image"], row["label"]) for row in rows]
    names, labeled = split.pool.names, set(split.labeled)
    numbers = {names[index]: index for index in split.unlabeled if index not in labeled}
    classes = {name: number for number, name in enumerate(class_names)}
    strange = [name for name, _ in given if name not in numbers]
    if strange or len({name for name, _ in given}) < len(given):
        what = f"names {some(strange)}, no unlabelled images of this run" if strange else "names an image twice"
        raise DataError(f"data.also_labeled: {path} {what}. Give names as a run's unlabeled.txt has them, each once.")
    for _, label in given:
        if label not in classes:
            raise unknown(f"class in {path} (data.also_labeled)", label, class_names)
    return replace(split, also={numbers[name]: classes[label] for name, label in given})


def is_held_out(source: Samples | None, train: Samples) -> bool:
    """Whether the images of a part were taken out of train, at once or one part after the other."""
    return isinstance(source, Subset) and isinstance(train, Subset) and _whole(source) is _whole(train)


def _whole(source: Samples) -> Samples:
    """What a subset, or a subset of one, was taken out of."""
    while isinstance(source, Subset):
        source = source.source
    return source


def _labeled(labels: str | None, parts: DataParts, able: NDArray[np.int64], seed: int) -> _Choice:
    allowed = _BALANCED if parts.balanced else _ALLOWED
    if labels is None and parts.balanced:
        raise DataError(f"how many images are labelled? Give --labels {allowed}. {most_balanced(members_of(parts))}")
    if labels is None or labels == "all":
        return "all", able.tolist(), ()
    if labels.startswith(OFFICIAL):
        if parts.official is None:
            raise DataError(
                f"labels {labels!r}: these data have no official splits, as only published sets have. Give {allowed}."
            )
        return "official", sorted(parts.official(labels.removeprefix(OFFICIAL), parts)), ()
    if is_amount(labels):
        if not parts.balanced:
            return "random", _drawn(labels, able, seed), ()
        return "random", *drawn_by_class(labels, _fraction(labels, _BALANCED), parts, seed)
    if Path(labels).is_file():
        what = "label" if parts.balanced else "mask"
        return "file", from_list(Path(labels), parts, allowed, what), ()
    raise DataError(f"labels {labels!r}: no such file, and neither a number nor a fraction. Give {allowed}.")


def from_list(path: Path, parts: DataParts, allowed: str = _ALLOWED, what: str = "label") -> list[int]:
    """The images of train that a file names; see `listed`."""
    return listed(path, parts.train, {"val": parts.val, "test": parts.test}, allowed, parts.train.has_target, what)


def _drawn(labels: str, able: NDArray[np.int64], seed: int) -> list[int]:
    """So many of the images that can be labelled."""
    available = len(able)
    fraction = _fraction(labels, _ALLOWED)
    count = int(labels) if fraction is None else round(available * fraction)
    if count < 1:
        raise DataError(f"labels {labels!r} is {count} of {available} images with a mask; at least 1 is needed.")
    if count > available:
        raise DataError(f"labels {labels!r} asks for {count} images, but only {available} of train have a mask.")
    return sorted(able[rng_for(seed, "split").permutation(available)[:count]].tolist())


def is_amount(labels: str) -> bool:
    """Whether labels are a number or a fraction, and no file or name."""
    return bool(_NUMBER.fullmatch(labels) or _FRACTION.fullmatch(labels))


def _fraction(labels: str, allowed: str) -> Fraction | None:
    """The fraction that `1/16`, `10%` or `0.1` say; None of a number."""
    if _NUMBER.fullmatch(labels):
        return None
    try:
        found = Fraction(labels.removesuffix("%")) / (100 if labels.endswith("%") else 1)
    except ZeroDivisionError:
        found = Fraction(2)
    if found > 1:
        raise DataError(f"labels {labels!r} is not a fraction between 0 and 1. Give {allowed}.")
    return found
