"""Images drawn class by class: as many of each, or in proportion where that cannot be."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from semikit.core.rng import rng_for
from semikit.data.samples import DataParts, Subset
from semikit.errors import DataError, some

Members = Sequence[NDArray[np.int64]]
"""Which images are of each class."""

_MOST_HELD = 5000


def members_of(parts: DataParts) -> Members:
    """The images of train that are of each class."""
    return [np.flatnonzero(parts.train.labels == number) for number in range(len(parts.class_names))]


def drawn_by_class(
    labels: str, share: Fraction | None, parts: DataParts, seed: int
) -> tuple[list[int], tuple[str, ...]]:
    """The labelled images that a number or, given as `share` too, a fraction asks for, and notices.

    A number is divided evenly, a fraction taken of every class. Where that cannot be, because the classes do not divide
    the number or one has too few images, and `parts.stratify` allows it, images are drawn in proportion to the classes,
    at least one of each, and a notice says so.

    Raises:
        DataError: more asked than there are, less than one of each class, or what cannot be balanced and has to be.
    """
    members, names = members_of(parts), parts.class_names
    total = sum(map(len, members))
    if share is None:
        count = int(labels)
        counts = [count // len(members)] * len(members)
        why = _unbalanced("labels", count, members, names)
    else:
        count = max(round(total * share), len(members))
        counts = _shares(share, members)
        none = [f"{name!r} ({len(of)})" for name, of, found in zip(names, members, counts, strict=True) if not found]
        why = (f"labels {labels!r} leaves no labelled image of {some(none, 5)}", "Ask for more.") if none else None
    if why is None:
        return _drawn_of_each(members, counts, seed), ()
    reason, remedy = why
    if not parts.stratify or not len(members) <= count <= total:
        raise DataError(f"{reason}. {remedy}")
    counts = _proportional(count, members)
    return _drawn_of_each(members, counts, seed), (f"{reason}. {_described(counts, names, 'labelled')}",)


def held_out(parts: DataParts, count: int | None) -> DataParts:
    """The same data with validation images taken out of train, in balance over the classes.

    They are the same ones for every seed, so that runs can be compared. `count` None: a tenth of the images with a
    label, at most 5000, rounded down to what the classes divide. Where the smallest class does not have so many, and
    `parts.stratify` allows it, they are taken in proportion to the classes, of each at least one that is not its last.

    Raises:
        DataError: a number that the classes do not divide, or a class with fewer images, where balance is asked for.
    """
    train, members = parts.train, members_of(parts)
    counts, how = _held_counts(count, members, parts)
    chosen = np.array(_drawn_of_each(members, counts, 0, "validation"), np.int64)
    rest = np.setdiff1d(np.arange(len(train)), chosen)
    notice = f"{len(chosen)} images of train are held out to choose the best on (data.validation says how many){how}"
    return replace(parts, train=Subset(train, rest), val=Subset(train, chosen), notices=(*parts.notices, notice))


def _held_counts(count: int | None, members: Members, parts: DataParts) -> tuple[list[int], str]:
    """How many validation images of each class, and how that came about."""
    names, least, total = parts.class_names, min(map(len, members)), sum(map(len, members))
    tenth = min(_MOST_HELD, total // 10)
    in_balance = least * len(names) // 2
    uneven = count is None and in_balance < tenth
    if parts.stratify and uneven:
        count = tenth
    if count is None:
        count = max(1, min(tenth, in_balance) // len(names)) * len(names)
    if parts.stratify and (uneven or count % len(names) or count // len(names) >= least):
        most = sum(max(len(of) - 1, 0) for of in members)
        if count > most:
            raise DataError(
                f"data.validation {count} would take all images of a class out of train; at most {most} can go."
            )
        counts = _proportional(count, members, spare=1)
        return counts, f". {_described(counts, names, 'held out')}"
    if count // len(names) >= least:
        raise DataError(
            f"data.validation {count} would take all images of a class out of train. {most_balanced(members)}"
        )
    why = _unbalanced("data.validation", count, members, names)
    if why is not None:
        raise DataError(". ".join(why))
    return [count // len(names)] * len(names), ""


def _described(counts: Sequence[int], names: Sequence[str], what: str) -> str:
    """What a choice in proportion came to: the rarest and the most common class."""
    pairs = sorted(zip(counts, names, strict=True))
    (least, rare), (most, common) = pairs[0], pairs[-1]
    return f"{sum(counts)} are {what} in proportion to the classes: {rare} {least} … {common} {most}"


def _proportional(count: int, members: Members, spare: int = 0) -> list[int]:
    """So many in all, of each class at least one and the others by its size; `spare` of each are left.

    One after the other goes to the class that is furthest below its part (Webster's method), so that no class gets
    fewer of more.
    """
    sizes = [max(len(of) - spare, 0) for of in members]
    counts = [min(1, size) for size in sizes]
    waiting = [(-size / 3, k) for k, size in enumerate(sizes) if size > 1]
    heapq.heapify(waiting)
    for _ in range(count - sum(counts)):
        _, k = heapq.heappop(waiting)
        counts[k] += 1
        if counts[k] < sizes[k]:
            heapq.heappush(waiting, (-sizes[k] / (2 * counts[k] + 1), k))
    return counts


def _unbalanced(what: str, count: int, members: Members, names: Sequence[str]) -> tuple[str, str] | None:
    """Why a number cannot be divided evenly over the classes, and what helps; None where it can."""
    classes = len(members)
    if not count:
        return f"{what} 0 leaves nothing; the fewest are {classes}, one of each class", "Ask for more."
    each, rest = divmod(count, classes)
    if rest or not each:
        near = [str(number) for number in (each * classes, (each + 1) * classes) if number]
        return (
            f"{what} {count} cannot be balanced over {classes} classes; the nearest that can: {', '.join(near)}",
            "For other numbers list the images in a file.",
        )
    short = [f"{name!r} has {len(of)}" for name, of in zip(names, members, strict=True) if len(of) < each]
    if short:
        reason = f"{what} {count} asks for {each} of each of {classes} classes, but {some(short, 5)}"
        return reason, most_balanced(members)
    return None


def most_balanced(members: Members) -> str:
    """A sentence that says how many images can be drawn in balance."""
    each = min(map(len, members))
    return f"At most {each * len(members)} can be labelled in balance ({each} of each class); all takes every label."


def _shares(fraction: Fraction, members: Members) -> list[int]:
    """How many of each class: its share, rounded so that the sum is round(N*f) (largest remainders first)."""
    exact = [len(of) * fraction for of in members]
    counts = [int(share) for share in exact]
    order = sorted(range(len(exact)), key=lambda k: (counts[k] - exact[k], k))
    for k in order[: round(sum(exact)) - sum(counts)]:
        counts[k] += 1
    return counts


def _drawn_of_each(members: Members, counts: Sequence[int], seed: int, stream: str = "split") -> list[int]:
    """So many of each class; each class has its own order, drawn from the seed."""
    chosen: list[int] = []
    for number, (of, count) in enumerate(zip(members, counts, strict=True)):
        chosen += rng_for(seed, stream, number).permutation(of)[:count].tolist()
    return sorted(chosen)
