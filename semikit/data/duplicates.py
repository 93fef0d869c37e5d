"""The same picture under several names or in several parts of one's own data, found by the bytes of its files."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from semikit.data.samples import DataParts, Samples, regions_of
from semikit.data.splits import is_held_out
from semikit.errors import DataError, FileFault, some
from semikit.files import file_digest

Place = tuple[str, int]
"""A part and the number of a sample in it."""

_SCORED = ("val", "test")
_COMPARED = 4096
"""Bytes at both ends of a file that are compared before whole files are."""
_AT_ONCE = 1024
"""Samples that a thread is given together."""


def overlap_notices(parts: DataParts, refuse: bool) -> list[str]:
    """What is to be told of pictures that are there more than once; with `refuse`, one that is both learned from (also
    without its label) and scored on is an error, unless it was taken out of train with the others.

    A pair is the same where both dates are. An image of one value throughout (a blank tile) shows nothing that could be
    learned by heart: it may be in any part.

    Raises:
        DataError: names the pictures and both places.
    """
    named = parts.named()
    groups = same_pictures(named)
    notices = []
    for part in _SCORED:
        shared = [group for group in groups if _is_in(group, part) and _is_learned(group)]
        shared = [group for group in shared if not _is_blank(named, group[0])]
        if not shared:
            continue
        found = f"{len(shared)} pictures of {part} are also learned from: {_listed(named, shared, part)}"
        held_out = is_held_out(named[part], parts.train)
        if refuse and not held_out:
            raise DataError(
                f"{found}. A score on them says little of new images: take them out of train or of {part}, or, where "
                "that is meant, write `allow_overlap: true` into the description of the data."
            )
        remedy = f"; {part} was held out of train: `group` keeps what belongs together in one part" if held_out else ""
        notices.append(f"{found}{remedy}")
    both = [group for group in groups if all(_is_in(group, part) for part in _SCORED)]
    if both:
        notices.append(f"{len(both)} pictures of test are also in val: {_listed(named, both, 'test')}")
    return [*notices, *_learned_twice(named, groups)]


def _learned_twice(named: Mapping[str, Samples], groups: Sequence[Sequence[Place]]) -> Iterator[str]:
    """What is to be told of pictures that are learned from under several names."""
    learned = [[place for place in group if place[0] not in _SCORED] for group in groups]
    learned = [group for group in learned if len(group) > 1]
    if learned:
        shown = [" = ".join(_name(named, place, "train") for place in group[:3]) for group in learned]
        yield f"{len(learned)} pictures are learned from under several names: {some(shown)}"
    labels = getattr(named["train"], "labels", None)
    if labels is None:
        yield from _several_masks(named["train"], learned)
    else:
        known = [[k for part, k in group if part == "train" and labels[k] >= 0] for group in learned]
        torn = [group for group in known if len({int(labels[k]) for k in group}) > 1]
        if torn:
            shown = [" = ".join(named["train"].names[k] for k in group[:3]) for group in torn]
            yield f"{len(torn)} pictures of train have several classes: {some(shown)}. Correct their labels"


def _several_masks(train: Samples, learned: Sequence[Sequence[Place]]) -> Iterator[str]:
    """What is to be told of pictures of train whose masks are not the same bytes."""
    torn = []
    for group in learned:
        numbers = [k for part, k in group if part == "train"]
        masks = [files for k in numbers if (files := train.target_files(k)) and all(path.is_file() for path in files)]
        if len({tuple(map(file_digest, files)) for files in masks}) > 1:
            torn.append(" = ".join(train.names[k] for k in numbers[:3]))
    if torn:
        yield f"{len(torn)} pictures of train have several masks: {some(torn)}. Keep the right one"


def same_pictures(parts: Mapping[str, Samples]) -> list[list[Place]]:
    """Groups of samples whose image files hold the same bytes; samples that are generated or in memory are in none.

    Sizes are compared first, then both ends, then contents: of a hundred thousand files few are read whole. Files that
    are missing are equal to none; they are reported when the data are checked.
    """
    places = [(part, index) for part, source in parts.items() for index in range(len(source))]
    groups = [places]
    for key in (_sizes, _ends, _contents):
        groups = _parted(parts, groups, key)
    return groups


def _parted(
    parts: Mapping[str, Samples], groups: Iterable[Sequence[Place]], key: Callable[[Sequence[Path]], Hashable]
) -> list[list[Place]]:
    """Finer groups, by a key of the files as well; a sample that is alone then is in none."""

    def keys_of(places: Sequence[Place]) -> list[Hashable]:
        return [_unless_missing(key, parts[part].files(index)) for part, index in places]

    flat = [(number, place) for number, group in enumerate(groups) for place in group]
    pieces = [[place for _, place in flat[k : k + _AT_ONCE]] for k in range(0, len(flat), _AT_ONCE)]
    with ThreadPoolExecutor() as threads:
        found = [item for keys in threads.map(keys_of, pieces) for item in keys]
    parted: dict[tuple[int, Hashable], list[Place]] = {}
    for (number, place), item in zip(flat, found, strict=True):
        if item is not None:
            parted.setdefault((number, item), []).append(place)
    return [group for group in parted.values() if len(group) > 1]


def _unless_missing(key: Callable[[Sequence[Path]], Hashable], files: Sequence[Path]) -> Hashable:
    with suppress(OSError):
        return key(files) if files else None
    return None


def _sizes(files: Sequence[Path]) -> Hashable:
    return tuple(path.stat().st_size for path in files)


def _ends(files: Sequence[Path]) -> Hashable:
    """A checksum of how files begin and end: of ten thousand small ones many are equally long."""
    total = 0
    for path in files:
        with path.open("rb") as file:
            total = zlib.crc32(file.read(_COMPARED), total)
            file.seek(max(0, os.fstat(file.fileno()).st_size - _COMPARED))
            total = zlib.crc32(file.read(), total)
    return total


def _contents(files: Sequence[Path]) -> Hashable:
    return tuple(file_digest(path) for path in files)


def _is_blank(parts: Mapping[str, Samples], place: Place) -> bool:
    """Whether an image has one value throughout, in each date and channel. One that cannot be read is not known to."""
    source, index = parts[place[0]], place[1]
    first: Any = None
    try:
        for region in regions_of(source, index):
            image, _ = source.image(index, region)
            first = image[..., :1, :1, :] if first is None else first
            if not np.array_equal(image, np.broadcast_to(first, image.shape)):
                return False
    except FileFault:
        return False
    return True


def _is_in(group: Iterable[Place], part: str) -> bool:
    return any(name == part for name, _ in group)


def _is_learned(group: Iterable[Place]) -> bool:
    return any(name not in _SCORED for name, _ in group)


def _listed(named: Mapping[str, Samples], groups: Sequence[Sequence[Place]], part: str) -> str:
    """The picture of a part in each group, and where else it is."""
    shown = []
    for group in groups:
        here = next(place for place in group if place[0] == part)
        there = next(place for place in group if place[0] != part)
        shown.append(f"{_name(named, here, part)} ({_name(named, there, '')})")
    return some(shown)


def _name(named: Mapping[str, Samples], place: Place, plain: str) -> str:
    """The name of a sample, after its part where that is another than `plain`."""
    part, index = place
    name = named[part].names[index]
    return name if part == plain else f"{part}: {name}"
