"""Which images are labelled: a number, a fraction, a list in a file, or every image with a mask."""

from __future__ import annotations

import filecmp
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from semikit.core.rng import rng_for
from semikit.data.formats.name_lists import listed
from semikit.data.sources import Filed, PixelSource, Pool, regions_of
from semikit.errors import DataError

Family = Literal["random", "file", "all", "official"]
Official = Callable[[str], Sequence[str]]
"""Name of an official split, "1/16" -> names of its labelled images."""

OFFICIAL = "official:"
_LOOKED = 4096
"""Bytes of a file that are looked at before two are compared."""
_ALLOWED = "a number (46), a fraction (1/16), a file with one name a line, or all"


@final
@dataclass(frozen=True, slots=True)
class Split:
    """Labelled numbers count over train; unlabelled ones over `pool`, which is train and then the extra sources.

    `masked` is how many images of train have a mask; a fraction was taken of that number. `seed` matters to the family
    "random" alone.
    """

    labeled: tuple[int, ...]
    unlabeled: tuple[int, ...]
    pool: Pool
    family: Family
    seed: int
    masked: int


def choose(
    labels: str | None,
    train: PixelSource,
    val: PixelSource,
    unlabeled: Sequence[PixelSource] = (),
    *,
    seed: int = 0,
    test: PixelSource | None = None,
    official: Official | None = None,
) -> Split:
    """The labelled images and, as unlabelled ones, all the rest of train and the extra sources.

    `labels`: "46" | "1/16" (round(N*f), of the images with a mask) | path of a list | "official:1/16", which `official`
    resolves | "all" or None (all with a mask). Of one seed, fewer labels are a subset of more.

    Raises:
        DataError: more asked than there are, a malformed option, an unknown file entry, a labelled file that is also
            in val or test, an official split of data that have none.
    """
    candidates = [index for index in range(len(train)) if train.has_mask(index)]
    if not candidates:
        raise DataError("no image of train has a mask, so none can be labelled; state the folder as train.masks.")
    if labels is None or labels == "all":
        family: Family = "all"
        labeled = candidates
    elif labels.startswith(OFFICIAL):
        family = "official"
        labeled = _official(labels, train, official)
    elif (count := _count(labels, len(candidates))) is not None:
        family = "random"
        order = rng_for(seed, "split").permutation(len(candidates))
        labeled = sorted(candidates[k] for k in order[:count])
    else:
        family = "file"
        labeled = listed(Path(labels), train, {"val": val, "test": test}, _ALLOWED, train.has_mask)
    if official is None:  # the parts of a published data set are what they are; empty tiles of WHU-CD may be equal
        for part, other in (("val", val), ("test", test)):
            refuse_shared(train, labeled, other, part)
    pool = Pool((train, *unlabeled))
    taken = set(labeled)
    rest = tuple(index for index in range(len(pool)) if index not in taken)
    return Split(tuple(labeled), rest, pool, family, seed, len(candidates))


def coverage(source: PixelSource, indices: Sequence[int], num_classes: int) -> NDArray[np.int64]:
    """How many of the images hold each class (K,); opens their masks."""

    def present(index: int) -> NDArray[np.bool_]:
        held = np.zeros(num_classes, np.bool_)
        for region in regions_of(source, index):
            labels, valid = source.mask(index, region)
            held |= np.bincount(labels[valid], minlength=num_classes) > 0
        return held

    with ThreadPoolExecutor() as threads:
        found = list(threads.map(present, indices))
    return np.sum(found, axis=0, dtype=np.int64) if found else np.zeros(num_classes, np.int64)


def missing_classes(counts: NDArray[np.int64], names: Sequence[str]) -> str | None:
    """A warning where a class is in no labelled image, else None."""
    missing = [repr(name) for name, count in zip(names, counts, strict=True) if count == 0]
    if not missing:
        return None
    return (
        f"no labelled image holds {'class' if len(missing) == 1 else 'classes'} {', '.join(missing)}: it cannot be "
        "learned. Choose other labelled images (--seed, or --labels FILE) or more of them."
    )


def shared_files(source: Filed, indices: Iterable[int], other: Filed) -> list[tuple[str, str]]:
    """Pairs of names whose image files hold the same bytes; none where a source is not made of files.

    Files that are missing are equal to none; they are told of when the data are checked.
    """
    sizes = {i: size for i in indices if (size := _sizes(source, i))}
    wanted, held = set(sizes.values()), set()
    alike: dict[tuple[tuple[int, ...], int], list[int]] = {}
    for j in range(len(other)):
        size = _sizes(other, j)
        if size is not None and size in wanted:
            held.add(size)
            alike.setdefault((size, _beginning(other, j)), []).append(j)
    near = {i: alike.get((size, _beginning(source, i)), []) for i, size in sizes.items() if size in held}
    pairs = [(i, j) for i, found in near.items() for j in found]
    return [(source.names[i], other.names[j]) for i, j in pairs if _same_bytes(source.files(i), other.files(j))]


def _beginning(source: Filed, index: int) -> int:
    """A checksum of how an image's files begin: of ten thousand small ones many are equally long."""
    total = 0
    for path in source.files(index):
        with path.open("rb") as file:
            total = zlib.crc32(file.read(_LOOKED), total)
    return total


def _sizes(source: Filed, index: int) -> tuple[int, ...] | None:
    """Bytes of an image's files; None where one is missing or it is made."""
    files = source.files(index)
    return tuple(path.stat().st_size for path in files) if files and all(path.is_file() for path in files) else None


def _same_bytes(files: Sequence[Path], others: Sequence[Path]) -> bool:
    """Compared piece by piece: a scene is not read whole."""
    return all(filecmp.cmp(path, other, shallow=False) for path, other in zip(files, others, strict=True))


def refuse_shared(train: Filed, labeled: Sequence[int], other: Filed | None, part: str) -> None:
    """Raise where a labelled file of train lies in another part too, under whatever name.

    Raises:
        DataError: names the files.
    """
    shared = [] if other is None else shared_files(train, labeled, other)
    if shared:
        told = ", ".join(name if name == twin else f"{name} (there {twin})" for name, twin in shared[:3])
        more = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
        raise DataError(f"labelled files that are also in {part}: {told}{more}. Take them out of train or of {part}.")


def _official(labels: str, train: PixelSource, official: Official | None) -> list[int]:
    if official is None:
        raise DataError(f"labels {labels!r}: only published data sets have official splits. Give {_ALLOWED}.")
    numbers = {name: index for index, name in enumerate(train.names)}
    return sorted(numbers[name] for name in official(labels.removeprefix(OFFICIAL)))


def _count(labels: str, available: int) -> int | None:
    """The number asked for; None where `labels` is a file."""
    if re.fullmatch(r"\d+", labels):
        count = int(labels)
    elif re.fullmatch(r"\d+/\d+", labels):
        count = round(available * _fraction(labels))
    elif Path(labels).is_file():
        return None
    else:
        raise DataError(f"labels {labels!r}: no such file, and neither a number nor a fraction. Give {_ALLOWED}.")
    if count < 1:
        raise DataError(f"labels {labels!r} is {count} of {available} images with a mask; at least 1 is needed.")
    if count > available:
        raise DataError(f"labels {labels!r} asks for {count} images, but only {available} of train have a mask.")
    return count


def _fraction(labels: str) -> Fraction:
    above, below = (int(part) for part in labels.split("/"))
    if below == 0 or above > below:
        raise DataError(f"labels {labels!r} is not a fraction between 0 and 1. Give {_ALLOWED}.")
    return Fraction(above, below)
