"""Which whole images are labelled: a number in balance over the classes, a fraction, a list, or all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from semikit.core.rng import rng_for
from semikit.data.class_parts import ClassPart, ClassParts, ClassPool
from semikit.data.class_sources import UNKNOWN
from semikit.data.formats.name_lists import listed
from semikit.data.splits import OFFICIAL, Family, refuse_shared
from semikit.errors import DataError, some

_MOST_HELD = 5000
_ALLOWED = "a number over all classes (250), a fraction of every class (1/10), a file with one name a line, or all"


@final
@dataclass(frozen=True, slots=True)
class ClassSplit:
    """Labelled numbers count over train; unlabelled is all of `pool`, the labelled included, as the field has it.

    `masked` is how many images of train have a label. `seed` matters to the family "random" alone.
    """

    labeled: tuple[int, ...]
    unlabeled: Sequence[int]
    pool: ClassPool
    family: Family
    seed: int
    masked: int


def choose_labeled(labels: str | None, parts: ClassParts, seed: int = 0) -> ClassSplit:
    """The labelled images; unlabelled is all of train and the extra sources.

    `labels`: "250" (in total, the same number of each class) | "1/10" (of every class; round(N*f) in total) | path of
    a list | "official:1%", which `parts.official` leads to a list | "all". Of one seed, a smaller number is a subset
    of a larger. No image of val and test may be labelled; of published data their names are looked at alone.

    Raises:
        DataError: nothing given, a number that the classes do not divide, a class with fewer images than asked, a
            malformed option, an unknown entry of a list, a labelled file that is also in val or test.
    """
    train, names = parts.train, parts.class_names
    members = [np.flatnonzero(train.labels == number) for number in range(len(names))]
    known = sum(map(len, members))
    family: Family = "random"
    if labels is None:
        raise DataError(f"how many images are labelled? Give --labels {_ALLOWED}. {_most(members)}")
    if labels == "all":
        family, labeled = "all", np.flatnonzero(train.labels != UNKNOWN).tolist()
    elif labels.startswith(OFFICIAL):
        family, labeled = "official", _official(labels, parts)
    elif re.fullmatch(r"\d+", labels):
        labeled = _drawn(members, _balanced(int(labels), members, names), seed)
    elif re.fullmatch(r"\d+/\d+", labels):
        labeled = _drawn(members, _shares(labels, members, names), seed)
    elif Path(labels).is_file():
        family, labeled = "file", _from_list(Path(labels), parts)
    else:
        raise DataError(f"labels {labels!r}: no such file, and neither a number nor a fraction. Give {_ALLOWED}.")
    if not parts.published:
        refuse_shared(train, labeled, parts.val, "val")
        refuse_shared(train, labeled, parts.test, "test")
    pool = ClassPool((train, *parts.unlabeled))
    return ClassSplit(tuple(labeled), range(len(pool)), pool, family, seed, known)


def held_out(parts: ClassParts, count: int | None) -> ClassParts:
    """The same data with validation images taken out of train, in balance over the classes.

    They are the same ones for every seed, so that runs can be compared. `count` None: a tenth of the images with a
    label, at most 5000, rounded down to what the classes divide.

    Raises:
        DataError: a number that the classes do not divide, or a class with fewer images.
    """
    train, names = parts.train, parts.class_names
    members = [np.flatnonzero(train.labels == number) for number in range(len(names))]
    if count is None:
        share = min(_MOST_HELD, sum(map(len, members)) // 10, min(map(len, members)) * len(names) // 2)
        count = max(1, share // len(names)) * len(names)
    if count // len(names) >= min(map(len, members)):
        raise DataError(f"data.validation {count} would take all images of a class out of train. {_most(members)}")
    chosen = np.array(_drawn(members, _balanced(count, members, names, "data.validation"), 0, "validation"), np.int64)
    rest = np.setdiff1d(np.arange(len(train)), chosen)
    told = f"{count} images of train are held out to choose the best on (data.validation says how many)"
    return replace(parts, train=ClassPart(train, rest), val=ClassPart(train, chosen), notices=(*parts.notices, told))


def _balanced(
    count: int, members: Sequence[NDArray[np.int64]], names: Sequence[str], what: str = "labels"
) -> list[int]:
    """How many of each class, the same for all.

    Raises:
        DataError: not divisible, or a class with fewer images.
    """
    classes = len(members)
    each, rest = divmod(count, classes)
    if rest or not each:
        near = [str(number) for number in (each * classes, (each + 1) * classes) if number]
        raise DataError(
            f"{what} {count} cannot be balanced over {classes} classes; the nearest that can: {', '.join(near)}. "
            "For other numbers list the images in a file."
        )
    short = [f"{name!r} has {len(of)}" for name, of in zip(names, members, strict=True) if len(of) < each]
    if short:
        raise DataError(
            f"{what} {count} asks for {each} of each of {classes} classes, but {some(short, 5)}. {_most(members)}"
        )
    return [each] * classes


def _most(members: Sequence[NDArray[np.int64]]) -> str:
    each = min(map(len, members))
    return f"At most {each * len(members)} can be labelled in balance ({each} of each class); all takes every label."


def _shares(labels: str, members: Sequence[NDArray[np.int64]], names: Sequence[str]) -> list[int]:
    """How many of each class: its share, rounded so that the sum is round(N*f) (largest remainders first).

    Raises:
        DataError: no fraction, or a class of which nothing would be left.
    """
    above, below = (int(part) for part in labels.split("/"))
    if below == 0 or above > below:
        raise DataError(f"labels {labels!r} is not a fraction between 0 and 1. Give {_ALLOWED}.")
    exact = [len(of) * Fraction(above, below) for of in members]
    counts = [int(share) for share in exact]
    order = sorted(range(len(exact)), key=lambda k: (counts[k] - exact[k], k))
    for k in order[: round(sum(exact)) - sum(counts)]:
        counts[k] += 1
    none = [f"{name!r} ({len(of)})" for name, of, count in zip(names, members, counts, strict=True) if not count]
    if none:
        raise DataError(f"labels {labels!r} leaves no labelled image of {some(none, 5)}. Ask for more.")
    return counts


def _drawn(members: Sequence[NDArray[np.int64]], counts: Sequence[int], seed: int, stream: str = "split") -> list[int]:
    """So many of each class; each class has its own order, drawn from the seed."""
    chosen: list[int] = []
    for number, (of, count) in enumerate(zip(members, counts, strict=True)):
        chosen += rng_for(seed, stream, number).permutation(of)[:count].tolist()
    return sorted(chosen)


def _from_list(path: Path, parts: ClassParts) -> list[int]:
    known = parts.train.labels != UNKNOWN
    others = {"val": parts.val, "test": parts.test}
    return listed(path, parts.train, others, _ALLOWED, lambda index: bool(known[index]), "label")


def _official(labels: str, parts: ClassParts) -> list[int]:
    """The images of an official list.

    Raises:
        DataError: there are none, or a list that has not as many images of each class as the official one.
    """
    if parts.official is None:
        raise DataError(f"labels {labels!r}: these data have no official splits. Give {_ALLOWED}.")
    path, each = parts.official(labels.removeprefix(OFFICIAL))
    found = _from_list(path, parts)
    counts = np.bincount(parts.train.labels[found], minlength=len(parts.class_names))
    other = [f"{name!r} {count}" for name, count in zip(parts.class_names, counts, strict=True) if count != each]
    if other:
        raise DataError(
            f"{path} is not the official list, which has {each} images of each class: {some(other)}. "
            f"Another list is given by its path: --labels {path}."
        )
    return found
