"""Look through labelled images before training: everything that is wrong, in one message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from semikit.data.class_sources import LARGEST, UNKNOWN, ClassSource
from semikit.data.class_splits import ClassSplit
from semikit.errors import DataError, FileFault, some

Progress = Callable[[int, int], None]

_MOST = 0.9
"""Share of images of one small size from which the others are taken for mistakes."""


@final
@dataclass(frozen=True, slots=True)
class Looked:
    """Images to be looked at; `name` (labelled, unlabelled, val, test) is told in errors."""

    name: str
    source: ClassSource
    indices: Sequence[int]


def spread(part: Looked, most: int) -> Looked:
    """At most so many images of a part, evenly."""
    step = max(1, -(-len(part.indices) // most))
    return replace(part, indices=part.indices[::step])


def refuse_other_size(part: str, source: ClassSource | None, size: tuple[int, int]) -> None:
    """Raise where images that are scored are not of the `size` (H, W) of those that are learned from.

    Raises:
        DataError: says which size they have, or that they have several.
    """
    held = None if source is None else source.arrays()
    if source is None or (held is not None and held.shape[1:3] == size):
        return
    theirs = "several sizes" if held is None else f"{held.shape[2]}x{held.shape[1]}"
    raise DataError(
        f"{part}: images of {theirs}, while those that are learned from have {size[1]}x{size[0]} (width x height). "
        "Bring all to one size, or crop them all: views.size=224."
    )


def check_images(parts: Sequence[Looked], progress: Progress | None = None) -> None:
    """Decode every image in a file; those in memory are sound. `progress` is told (done, all) after each.

    Where nine of ten images have one size of at most 96 pixels a side, others are refused: they would keep all from
    being held in memory.

    Raises:
        DataError: one message with a sentence for each kind of problem in each part, three files and the number of the
            others: unreadable, more than 8 bits, not three bands, another size.
    """
    listed = [(part, index) for part in parts for index in part.indices if part.source.files(index)]
    faults: dict[tuple[str, str], list[FileFault]] = {}
    sizes: list[tuple[str, str, tuple[int, int]]] = []
    with ThreadPoolExecutor() as threads:
        for done, (part, name, seen) in enumerate(threads.map(_look, listed), 1):
            if progress is not None:
                progress(done, len(listed))
            if isinstance(seen, FileFault):
                faults.setdefault((part, seen.kind), []).append(seen)
            else:
                sizes.append((part, name, seen))
    for part, fault in _other_sizes(sizes):
        faults.setdefault((part, fault.kind), []).append(fault)
    told = [
        f"{part}: {kind}: {some([fault.where for fault in found])}. {found[0].remedy}"
        for (part, kind), found in faults.items()
    ]
    if told:
        raise DataError(told[0] if len(told) == 1 else "\n- ".join([f"{len(told)} problems with the data:", *told]))


def balance_told(split: ClassSplit, class_names: Sequence[str]) -> str:
    """How many labelled images each class has, and how many of the unlabelled a label is known of (for the logs)."""
    labels = np.asarray(split.pool.labels)
    counts = np.bincount(labels[list(split.labeled)], minlength=len(class_names))
    least, most = int(counts.min()), int(counts.max())
    each = f"{least}" if least == most else f"{least} to {most}"
    absent = [name for name, count in zip(class_names, counts, strict=True) if not count]
    told = f"labelled images of each of {len(class_names)} classes: {each}"
    if absent:
        told += f"; none of {some(absent)}: what has no label cannot be learned"
    if not split.unlabeled:  # they come out of shards
        return told
    known = int((labels[np.asarray(split.unlabeled)] != UNKNOWN).sum())
    return (
        f"{told}. Of {known} of {len(split.unlabeled)} unlabelled images the class is known; it is used for logs only"
    )


def _look(item: tuple[Looked, int]) -> tuple[str, str, tuple[int, int] | FileFault]:
    """Part, name and size (H, W) of an image, or what is wrong with it."""
    part, index = item
    try:
        height, width, _ = part.source.image(index).shape
        return part.name, part.source.names[index], (height, width)
    except FileFault as fault:
        return part.name, part.source.names[index], fault


def _other_sizes(seen: Sequence[tuple[str, str, tuple[int, int]]]) -> list[tuple[str, FileFault]]:
    counts = Counter(size for _, _, size in seen)
    if len(counts) <= 1:
        return []
    (common, count), *_ = counts.most_common(1)
    if max(common) > LARGEST or count < _MOST * len(seen):
        return []
    kind = f"image of another size than most ({common[1]}x{common[0]}, width x height)"
    remedy = "Bring all to one size, or take these out."
    return [
        (part, FileFault(kind, name, f"{size[1]}x{size[0]}", remedy)) for part, name, size in seen if size != common
    ]
