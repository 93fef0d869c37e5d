"""Which whole images are labelled: a number in balance over the classes, a fraction, a list, or all."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from semikit.core.draws import draw
from semikit.data.class_sources import UNKNOWN, ClassPool, ClassSource
from semikit.data.faults import some
from semikit.data.name_lists import listed
from semikit.data.splits import OFFICIAL, Family, refuse_shared
from semikit.errors import DataError

OfficialList = Callable[[str], Path]
"""Name of an official split, "1%" -> the file that lists its labelled images."""

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


def choose_labeled(
    labels: str | None,
    train: ClassSource,
    others: Mapping[str, ClassSource | None],
    class_names: Sequence[str],
    unlabeled: Sequence[ClassSource] = (),
    *,
    seed: int = 0,
    official: OfficialList | None = None,
) -> ClassSplit:
    """The labelled images; unlabelled is all of train and the extra sources.

    `labels`: "250" (in total, the same number of each class) | "1/10" (of every class; round(N*f) in total) | path of
    a list | "official:1%", which `official` leads to a list | "all". Of one seed, a smaller number is a subset of a
    larger. `others` are val and test, of which no image may be labelled.

    Raises:
        DataError: nothing given, a number that the classes do not divide, a class with fewer images than asked, a
            malformed option, an unknown entry of a list, a labelled file that is also in val or test.
    """
    members = [np.flatnonzero(train.labels == number) for number in range(len(class_names))]
    known = sum(map(len, members))
    family: Family = "random"
    if labels is None:
        raise DataError(f"how many images are labelled? Give --labels {_ALLOWED}. {_most(members)}")
    if labels == "all":
        family, labeled = "all", np.flatnonzero(train.labels != UNKNOWN).tolist()
    elif labels.startswith(OFFICIAL):
        family, labeled = "official", _from_list(_official(labels, official), train, others)
    elif re.fullmatch(r"\d+", labels):
        labeled = _drawn(members, _balanced(int(labels), members, class_names), seed)
    elif re.fullmatch(r"\d+/\d+", labels):
        labeled = _drawn(members, _shares(labels, members, class_names), seed)
    elif Path(labels).is_file():
        family, labeled = "file", _from_list(Path(labels), train, others)
    else:
        raise DataError(f"labels {labels!r}: no such file, and neither a number nor a fraction. Give {_ALLOWED}.")
    for part, source in others.items():
        refuse_shared(train, labeled, source, part)
    pool = ClassPool((train, *unlabeled))
    return ClassSplit(tuple(labeled), range(len(pool)), pool, family, seed, known)


def _balanced(count: int, members: Sequence[NDArray[np.int64]], names: Sequence[str]) -> list[int]:
    """How many of each class, the same for all.

    Raises:
        DataError: not divisible, or a class with fewer images.
    """
    classes = len(members)
    each, rest = divmod(count, classes)
    if rest or not each:
        near = [str(number) for number in (each * classes, (each + 1) * classes) if number]
        raise DataError(
            f"labels {count} cannot be balanced over {classes} classes; the nearest that can: {', '.join(near)}. "
            "For other numbers list the images in a file."
        )
    short = [f"{name!r} has {len(of)}" for name, of in zip(names, members, strict=True) if len(of) < each]
    if short:
        raise DataError(
            f"labels {count} asks for {each} of each of {classes} classes, but {some(short, 5)}. {_most(members)}"
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


def _drawn(members: Sequence[NDArray[np.int64]], counts: Sequence[int], seed: int) -> list[int]:
    """So many of each class; each class has its own order, drawn from the seed."""
    chosen: list[int] = []
    for number, (of, count) in enumerate(zip(members, counts, strict=True)):
        chosen += draw(seed, "split", number).permutation(of)[:count].tolist()
    return sorted(chosen)


def _from_list(path: Path, train: ClassSource, others: Mapping[str, ClassSource | None]) -> list[int]:
    theirs = {part: source.names for part, source in others.items() if source is not None}
    return listed(path, train.names, theirs, _ALLOWED, lambda k: bool(train.labels[k] != UNKNOWN), "label")


def _official(labels: str, official: OfficialList | None) -> Path:
    if official is None:
        raise DataError(f"labels {labels!r}: these data have no official splits. Give {_ALLOWED}.")
    return official(labels.removeprefix(OFFICIAL))
