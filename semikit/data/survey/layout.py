"""Which folders of images, masks, dates, classes and parts there are, by their names and the names of their files."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, final

from semikit.data.folders import walk

TaskName = Literal["seg", "cd", "cls"]

PARTS = {
    "train": {"train", "training"},
    "val": {"val", "valid", "validation", "dev"},
    "test": {"test", "testing"},
    "unlabeled": {"unlabeled", "unlabelled", "unlab", "nolabel"},
}
_MASKS = {
    *("mask", "masks", "label", "labels", "annotation", "annotations", "annot", "ann", "gt", "groundtruth", "gtfine"),
    *("seg", "segmentation", "segmentations", "segmentationclass", "segmentationclassaug", "target", "targets"),
}
_IMAGES = {"image", "images", "img", "imgs", "jpegimages", "leftimg8bit", "photos", "rgb", "pictures", "input"}
_DATES = (("a", "b"), ("before", "after"), ("pre", "post"), ("t1", "t2"), ("time1", "time2"), ("im1", "im2"),
          ("image1", "image2"), ("date1", "date2"))  # fmt: skip
_KNOWN_TAILS = ("labeltrainids", "labelids")
_SEPARATOR = re.compile(r"[_\-.]")


@final
@dataclass(frozen=True, slots=True)
class Place:
    """Files of one kind: their folder below the one that was looked at, and name (below it, without suffix) -> file."""

    folder: str
    files: Mapping[str, Path]


@final
@dataclass(frozen=True, slots=True)
class Matched:
    """A part: its images (of pairs both dates), its masks, and how they are written in a YAML.

    `masks` by the name of their image; `entry` are the keys and values of the YAML.
    """

    images: Sequence[Path]
    masks: Mapping[str, Path]
    entry: Mapping[str, str]


@final
@dataclass(frozen=True)
class Layout:
    """What was understood: the task, its parts, folders of images without labels, class names where folders say them,
    the files that belong to nothing, and the keys and values of `train` if the folders of classes are none.
    """

    task: TaskName
    parts: Mapping[str, Matched]
    unlabeled: Sequence[Matched] = ()
    classes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    other: Sequence[str] = ()
    doubts: Sequence[Mapping[str, str]] = ()


def look(folder: Path) -> tuple[list[Place], list[str]]:
    """All images below a folder, by the deepest folder whose name says what they are, and the other files."""
    images: dict[str, dict[str, Path]] = defaultdict(dict)
    inside = walk(folder)
    for name in sorted(inside.images):
        root = _root(PurePosixPath(name).parent)
        images[root][PurePosixPath(name).relative_to(root).as_posix()] = folder / name
    return [Place(root, found) for root, found in images.items()], sorted(inside.others)


def _root(below: PurePosixPath) -> str:
    """The path up to its last folder that is named after a part or a kind."""
    last = max((k for k, name in enumerate(below.parts, start=1) if _part(name) or _kind(name)), default=0)
    return PurePosixPath(*below.parts[:last]).as_posix()


def _words(name: str) -> set[str]:
    found = {word for word in re.split(r"[^a-z0-9]+", name.casefold()) if word}
    return found | {part for word in found if word.endswith("annot") for part in (word.removesuffix("annot"), "annot")}


def _part(name: str) -> str | None:
    return next((part for part, words in PARTS.items() if _words(name) & words), None)


def _kind(name: str) -> str | None:
    """mask, image, a date by its number, or None."""
    words = _words(name)
    for before, after in _DATES:
        if name.casefold() in (before, after):
            return "date 1" if name.casefold() == before else "date 2"
    return "mask" if words & _MASKS else "image" if words & _IMAGES else None


def part_of(root: str) -> str | None:
    """The part that a path speaks of."""
    return next((part for name in PurePosixPath(root).parts if (part := _part(name))), None)


def kind_of(root: str) -> str | None:
    """What a path says of its files: the last word counts."""
    return next((kind for name in reversed(PurePosixPath(root).parts) if (kind := _kind(name))), None)


def stems(place: Place) -> dict[str, Path]:
    """Name without suffix -> file."""
    return {name.rpartition(".")[0]: path for name, path in place.files.items()}


@final
@dataclass(frozen=True, slots=True)
class Tails:
    """What follows the common part of the names of images and masks."""

    image: str
    mask: str
    fitting: int


def tails(images: Iterable[str], masks: Iterable[str]) -> Tails:
    """How names of masks and images differ: at most by their ends, from a separator (_ - .) on."""
    known = set(images)
    names = list(masks)
    same = len(known & set(names))
    tail = _common_tail(known)
    bases = {name.removesuffix(tail) for name in known}
    found: Counter[str] = Counter()
    for name in names:
        for match in _SEPARATOR.finditer(name):
            if name[: match.start()] in bases:
                found[name[match.start() :]] += 1
    best = max(found.values(), default=0)
    if best <= same:
        return Tails("", "", same)
    equal = [text for text, count in found.items() if count == best]
    chosen = next((text for key in _KNOWN_TAILS for text in equal if key in text.casefold()), equal[0])
    return Tails(tail, chosen, best)


def is_mask_tail(tail: str) -> bool:
    """Whether the end of a name is that of a mask: _mask, -gt and the like."""
    return bool(_words(tail) & (_MASKS | {"l"}))


def _common_tail(names: Iterable[str]) -> str:
    """The end that all names share, from a separator on, if it holds a letter."""
    listed = list(names)
    if len(listed) < 2:
        return ""
    ends = [listed[0][match.start() :] for match in _SEPARATOR.finditer(listed[0]) if match.start()]
    named = (end for end in ends if any(character.isalpha() for character in end))
    return next((end for end in named if all(name.endswith(end) for name in listed)), "")
