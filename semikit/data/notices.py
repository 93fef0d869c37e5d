"""What the counts of a data set say to its user."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from semikit.core.census import Census, PartCensus
from semikit.data.check import Part
from semikit.data.formats.mask_values import MaskValues, is_lossy
from semikit.data.samples import UNKNOWN
from semikit.data.splits import Split
from semikit.errors import some

_NAMED = 8
"""Classes that a notice names."""
_RAREST = 12
"""Classes that a notice names with their counts."""


def class_census(parts: Sequence[Part], class_names: tuple[str, ...]) -> Census:
    """Of images of one class each, which are counted without being opened."""

    def counted(part: Part) -> PartCensus:
        labels = np.asarray(part.source.labels)[np.asarray(part.indices, np.int64)]
        known = labels[labels != UNKNOWN]
        holding = np.bincount(known, minlength=len(class_names))
        return PartCensus(part.name, len(labels), len(labels), tuple(holding.tolist()))

    return Census(class_names, tuple(map(counted, parts)))


def rarest_notice(labelled: PartCensus, class_names: Sequence[str]) -> str:
    """How many labelled images hold each class, of many the rarest."""
    pairs = sorted(zip(labelled.holding, class_names, strict=True))
    held = ", ".join(f"{name} {count}" for count, name in pairs[:_RAREST])
    more = f" (the {_RAREST} rarest of {len(pairs)})" if len(pairs) > _RAREST else ""
    part = "" if labelled.opened == labelled.images else f" of {labelled.opened} opened"
    return f"labelled images{part} that hold each class: {held}{more}"


def lossy_notice(parts: Sequence[Part]) -> str | None:
    """A warning where masks are stored in a format that may have changed their values without leaving the classes."""
    files = (path for part in parts if part.masks for k in part.indices for path in part.source.target_files(k))
    lossy = [str(path) for path in files if is_lossy(path)]
    if not lossy:
        return None
    return (
        f"{len(lossy)} masks are JPEG or WebP, which may change one class into another near outlines: {some(lossy)}. "
        "Export them as PNG."
    )


def missing_classes(labelled: PartCensus, class_names: Sequence[str]) -> str | None:
    """A warning where all labelled images were opened and a class is in none of them, else None."""
    missing = [repr(name) for name, count in zip(class_names, labelled.holding, strict=True) if count == 0]
    if not missing or labelled.opened < labelled.images:
        return None
    return (
        f"no labelled image holds {'class' if len(missing) == 1 else 'classes'} {some(missing, _NAMED)}: it cannot be "
        "learned. Choose other labelled images (--seed, or --labels FILE) or more of them."
    )


def unscored_classes(census: Census) -> str | None:
    """A warning where the validation images were all opened and a class is in none of them, else None."""
    val = next((part for part in census.parts if part.name == "val"), None)
    if val is None or val.opened < val.images:
        return None
    missing = [repr(name) for name, count in zip(census.class_names, val.holding, strict=True) if count == 0]
    if not missing:
        return None
    return (
        f"no validation image holds {'class' if len(missing) == 1 else 'classes'} {some(missing)}: it has no score "
        "there (shown as \N{EN DASH})"
    )


def shift_notice(census: Census, values: MaskValues) -> str | None:
    """A warning where masks hold no 0, but other classes: they may be stored as 1 to K, each then taken for the next.

    With `mapping` or colours, or where 0 is ignored, the file says what is meant; of two masks it is not known.
    """
    joined = values.num_classes != len(census.class_names)  # of two masks
    stated = values.mapping or values.colours or 0 in values.ignore or values.remedy or joined
    if stated or any(part.holding[0] for part in census.parts):
        return None
    found = [k for k in range(len(census.class_names)) if any(part.holding[k] for part in census.parts)]
    if not found:
        return None
    parts = " and ".join(part.name for part in census.parts)
    return (
        f"no mask of {parts} holds 0 ({census.class_names[0]!r}), only {some([str(k) for k in found], 8)}. If classes "
        f"are stored as 1 to {values.num_classes}, every one is taken for the next one: add "
        f"{values.counted_from_1()} to the data file"
    )


def balance_notice(split: Split, class_names: Sequence[str]) -> str:
    """How many labelled images each class has, and how many of the unlabelled a label is known of (for the logs)."""
    labels = np.asarray(split.pool.labels)
    counts = np.bincount(labels[list(split.labeled)], minlength=len(class_names))
    least, most = int(counts.min()), int(counts.max())
    each = f"{least}" if least == most else f"{least} to {most}"
    absent = [name for name, count in zip(class_names, counts, strict=True) if not count]
    notice = f"labelled images of each of {len(class_names)} classes: {each}"
    if absent:
        notice += f"; none of {some(absent)}: what has no label cannot be learned"
    if not split.unlabeled:  # they come out of shards
        return notice
    known = int((labels[np.asarray(split.unlabeled)] != UNKNOWN).sum())
    return (
        f"{notice}. Of {known} of {len(split.unlabeled)} unlabelled images the class is known; it is used for logs only"
    )
