"""ADE20K: originals hold 0 = other and 1..150; prepared masks hold 0..149 and 255, converted exactly once.

What a folder of masks holds shows in the values of many of them: originals never hold 255, converted ones never 150.
Masks that semikit converts lie in a folder of its own with a marker; originals that lay in their place are set aside to
`originals/` in one step. So nothing is converted again, wherever preparing was interrupted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from semikit.data.published.catalogue import Published
from semikit.data.published.inputs import Found, Inputs, Place, Progress
from semikit.data.published.masks import VOID, decode, without_zero
from semikit.data.published.preparers import Job, Matched, Plan, Preparer, by_folder, counted, jobs_for, paired, targets
from semikit.errors import DataError
from semikit.files import shell_word

Key = tuple[str, str]
"""Part (training, validation) and the name that image and mask share."""
Kind = Literal["original", "converted"]

_IMAGES = r"images/(training|validation)/(ADE_[^/\s]+)\.jpg"
_MASKS = r"annotations/(training|validation)/(ADE_[^/\s]+)\.png"
_PARTS = {"train": "training", "val": "validation"}
_REMEDY = "Give ADEChallengeData2016.zip, whole."

MARKER = ".converted"
"""In `annotations/`: the masks there hold 0..149 and 255."""
_ASIDE = "originals"
_LOOKED_AT = 500
_ENOUGH = 100
"""Of so many originals, or of so many converted masks, one shows what they are."""
_LAST = 150


def plan(inputs: Inputs, published: Published, progress: Progress) -> Plan:
    """Training and validation.

    Raises:
        DataError: masks whose kind is not clear; images or masks that miss their partner.
    """
    images = jobs_for(inputs.find(_IMAGES), _key, _image, keep=False)
    masks, own = _masks(inputs, progress)
    pairs = {
        part: paired(part, _of(images, folder), targets(_of(masks, folder)), _REMEDY) for part, folder in _PARTS.items()
    }
    there = {folder for folder, _ in images}
    used = {key: job for key, job in masks.items() if key[0] in there}
    made = sum(job.convert is not None for job in used.values())
    summary = counted({"with 0-149 and 255 as given": len(used) - made, "converted from 0-150": made})
    notices = [f"the original masks that lay in {inputs.root} are now in {inputs.root / _ASIDE}"] if own else []
    vacated = "annotations/" if own else ""
    return Plan(pairs, [*images.values(), *used.values()], summary, notices, _opening(inputs.root, own), vacated)


def told_kind(seen: NDArray[np.bool_], count: int, where: str, *, marked: bool = False) -> Kind:
    """What masks hold, of which `count` were opened: `seen` (256) says which values occur.

    Raises:
        DataError: neither originals nor converted once, a mixture, or too few to tell.
    """
    foreign = np.flatnonzero(seen[_LAST + 1 : VOID]) + _LAST + 1
    again = "Remove these masks, and give the original ADEChallengeData2016.zip or masks that were converted once."
    if seen[VOID - 1] and seen[VOID]:
        raise DataError(f"{where}: masks hold 254, so they were converted twice (0 -> 255 -> 254). {again}")
    if foreign.size:
        raise DataError(f"{where}: masks hold {foreign[0]}, which is no class of SceneParse150. {again}")
    if seen[_LAST] and (seen[VOID] or marked):
        raise DataError(f"{where}: original masks (150 occurs) and converted ones (255) are mixed. {again}")
    if marked or seen[VOID]:
        return "converted"
    if seen[_LAST] or count >= _ENOUGH:
        return "original"
    raise DataError(
        f"{where}: whether the masks are originals (0-150) or converted (0-149 and 255) cannot be told, as neither 150 "
        f"nor 255 occurs in {count} of them. Give all masks of the data set."
    )


def _masks(inputs: Inputs, progress: Progress) -> tuple[dict[Key, Job], bool]:
    """A job for each mask, and whether originals must be set aside first."""
    folders = [(_kind(inputs, folder, progress), folder) for folder in by_folder(inputs.find(_MASKS))]
    masks: dict[Key, Job] = {}
    aside = False
    for kind, folder in sorted(folders, key=lambda item: item[0]):
        moved = kind == "original" and _in_place(folder)
        aside |= moved
        matches = _set_aside(inputs.root, folder) if moved else folder
        for key, job in jobs_for(matches, _key, _mask, without_zero if kind == "original" else None).items():
            masks.setdefault(key, job)
    return masks, aside


def _kind(inputs: Inputs, folder: Sequence[Matched], progress: Progress) -> Kind:
    found = sorted((found for _, found in folder), key=lambda found: found.name)
    sample = found[:: -(-len(found) // _LOOKED_AT)]
    seen = np.zeros(VOID + 1, dtype=np.bool_)
    for done, (member, data) in enumerate(inputs.read(sample), start=1):
        seen[np.unique(decode(data, member.where))] = True
        progress("telling what the masks hold", done, len(sample))
    marked = _in_place(folder) and (inputs.root / "annotations" / MARKER).is_file()
    return told_kind(seen, len(sample), str(found[0].place.path), marked=marked)


def _in_place(folder: Sequence[Matched]) -> bool:
    return folder[0][1].place.root and folder[0][1].name.startswith("annotations/")


def _set_aside(root: Path, folder: Sequence[Matched]) -> list[Matched]:
    """The same members where they will lie once `_opening` has moved them."""
    if (root / "annotations").is_symlink():
        raise DataError(
            f"{root / 'annotations'} is a link to original masks, and converted ones go there. Remove the link and "
            f"give what it points at: --source {shell_word(folder[0][1].place.path.parent)}"
        )
    if (root / _ASIDE / "annotations").exists():
        raise DataError(
            f"both {root / 'annotations'} and {root / _ASIDE / 'annotations'} hold original masks. Remove one of them."
        )
    place = Place(root / _ASIDE / "annotations", "annotations/", sizes=folder[0][1].place.sizes)
    return [(match, Found(place, found.name)) for match, found in folder]


def _opening(root: Path, own: bool) -> Callable[[], None]:
    def before() -> None:
        if own:
            (root / _ASIDE).mkdir(exist_ok=True)
            (root / "annotations").rename(root / _ASIDE / "annotations")
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / MARKER).write_text("Masks here hold 0-149, and 255 for other.\n", encoding="utf-8")

    return before


def _key(match: re.Match[str]) -> Key:
    return match[1], match[2]


def _image(match: re.Match[str]) -> str:
    return f"images/{match[1]}/{match[2]}.jpg"


def _mask(match: re.Match[str]) -> str:
    return f"annotations/{match[1]}/{match[2]}.png"


def _of(jobs: dict[Key, Job], folder: str) -> dict[Key, Job]:
    return {key: job for key, job in jobs.items() if key[0] == folder}


plugin = Preparer(
    "images/{training,validation}/ADE_*.jpg and annotations/{training,validation}/ADE_*.png (ADEChallengeData2016.zip, "
    "or its images with the authors' annotations)",
    plan,
)
