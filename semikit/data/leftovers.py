"""What a folder given in place of a description holds and no part uses."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from semikit.data.file_patterns import real_places
from semikit.data.folders import Inside, Listed, image_folders, walk
from semikit.data.samples import DataParts
from semikit.data.spec import PART_FOLDERS
from semikit.data.unused_files import Unused, unread

_REMEDY = "Parts are called train, val, test and unlabeled; other layouts are described by a YAML file."
_HALF = "A part holds both images and masks (of pairs A, B and label); add what is missing, or give a YAML file."
_LOOSE = "Move them to the images of a part, or give a YAML file."
_SHARDS = (".tar",)


def with_leftovers(parts: DataParts, folder: Path | None) -> DataParts:
    """The same data, whose train also names what `folder` holds and no part uses: folders of images, images beside the
    parts, and files that are not read.
    """
    if folder is None:
        return parts
    sources = parts.named().values()
    every = (path for one in sources for k in range(len(one)) for path in (*one.files(k), *one.target_files(k)))
    used = set(real_places(every))
    places = [Path(place) for place in {place.rpartition(os.sep)[0] for place in used}]
    real = {place: os.path.realpath(place) for place in image_folders(folder)}
    left = [place for place in real if not any(one.is_relative_to(real[place]) for one in places)]
    named = real_places(path for one in parts.unused for path, _ in one.files)
    missing = {name for part in ("val", "test") if part not in parts.named() for name in PART_FOLDERS[part]}
    half = [place for place in left if place.name in missing]
    found = list(_left(f"--data {folder}", left, half, folder, walk(folder, None, used | set(named))))
    train: Any = parts.train
    return replace(parts, train=replace(train, unused=(*train.unused, *found))) if found else parts


def _left(key: str, left: Sequence[Path], half: Sequence[Path], folder: Path, inside: Inside) -> Iterator[Unused]:
    """`left` are folders that are named as a whole, `half` those that are called like a missing part, `inside` what no
    part uses or names.
    """
    if half:
        yield Unused.of(key, "folders that are called like a part and are not laid out as one", half, _HALF)
    other = [place for place in left if place not in half]
    if other:
        yield Unused.of(key, "folders of images that are no part", other, _REMEDY)

    def loose(paths: Sequence[str]) -> tuple[Path, ...]:
        files = (folder / path for path in sorted(paths))
        return tuple(path for path in files if not any(path.is_relative_to(place) for place in left))

    images = loose(inside.images)
    if images:
        yield Unused.of(key, "images that lie in no part", images, _LOOSE)
    others = tuple(path for path in loose(inside.others) if path.suffix.lower() not in _SHARDS)
    yield from unread(Listed({}, others, loose(inside.special)), key)
