"""Look through labelled images before training: everything that is wrong, in one message."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from semikit.data.class_sources import UNKNOWN, ClassSource
from semikit.data.class_splits import ClassSplit
from semikit.data.faults import FileFault, some
from semikit.errors import DataError


def check_images(split: ClassSplit, val: ClassSource, test: ClassSource | None, thorough: bool) -> None:
    """Decode every labelled, validation and test image that lies in a file, with `thorough` the unlabelled too.

    Raises:
        DataError: one message with all problems: unreadable images, more than 8 bits, another number of bands.
    """
    looked: dict[str, tuple[ClassSource, Sequence[int]]] = {
        "labelled": (split.pool, split.labeled),
        "val": (val, range(len(val))),
    }
    if test is not None:
        looked["test"] = (test, range(len(test)))
    if thorough:
        taken = set(split.labeled)
        looked["unlabelled"] = (split.pool, [index for index in split.unlabeled if index not in taken])
    problems = [told for part, (source, indices) in looked.items() for told in _problems(part, source, indices)]
    if len(problems) == 1:
        raise DataError(problems[0])
    if problems:
        raise DataError("\n- ".join([f"{len(problems)} problems with the data:", *problems]))


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
    known = int((labels[np.asarray(split.unlabeled)] != UNKNOWN).sum())
    return (
        f"{told}. Of {known} of {len(split.unlabeled)} unlabelled images the class is known; it is used for logs only"
    )


def _problems(part: str, source: ClassSource, indices: Sequence[int]) -> list[str]:
    """A sentence for each kind of fault, with three files and the number of the others."""

    def look(index: int) -> FileFault | None:
        if not source.files(index):
            return None
        try:
            source.image(index)
        except FileFault as fault:
            return fault
        return None

    kinds: dict[str, list[FileFault]] = {}
    with ThreadPoolExecutor() as threads:
        for fault in threads.map(look, indices):
            if fault is not None:
                kinds.setdefault(fault.kind, []).append(fault)
    return [_told(part, kind, faults) for kind, faults in kinds.items()]


def _told(part: str, kind: str, faults: Sequence[FileFault]) -> str:
    return f"{part}: {kind}: {some([fault.where for fault in faults])}. {faults[0].remedy}"
