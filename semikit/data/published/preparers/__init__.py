"""How each published data set is laid out: one module a data set, found by name; `plugin` is its `Preparer`.

A preparer reads what was given and says what is to be done; nothing is written before the plan is whole.

A new data set needs a module here, `configs/published/NAME.yaml` (what it is: classes, counts, mask values),
`configs/datasets/NAME.yaml` (its recipe) and its addresses in `configs/downloads.yaml`; pairs that are laid out as they
are need no module, but a `layout` in their YAML (`_folders.py`). Sets of image classification
that torchvision reads are a line of `data/published/class_sets.py` instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar, final

from semikit.data.published.catalogue import Published
from semikit.data.published.inputs import Found, Inputs, Progress
from semikit.data.published.masks import Bytes
from semikit.data.published.prepared import Pair
from semikit.errors import DataError, some

Convert = Callable[[bytes, str], Bytes]
"""Content of a published mask, and its name for errors -> class numbers (H, W)."""
Matched = tuple[re.Match[str], Found]
K = TypeVar("K", bound=Hashable)


@final
@dataclass(frozen=True, slots=True)
class Job:
    """One file to be laid out: `found` goes to `target` below the root, as it is or converted."""

    found: Found
    target: str
    convert: Convert | None = None
    keep: bool = True
    """What lies at `target` stays, whatever its size; else it is replaced where the size differs."""


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done for a data set."""

    pairs: dict[str, list[Pair]]
    """Part -> images and masks."""
    jobs: list[Job]
    masks: str
    """Where the masks come from, for the record."""
    notices: list[str] = field(default_factory=list)
    before: Callable[[], None] | None = None
    """Called once the root is marked as not whole, before the first file."""
    vacated: str = ""
    """Files below this folder of the root are set aside by `before`, so they do not count as in place."""
    after: Callable[[Progress], None] | None = None
    """Makes what no single member holds, after the last file."""
    after_bytes: int = 0
    """About how much that writes."""
    own: str = ""
    """What is not as published, for the record; see `Record.own`."""
    ordered: bool = False
    """The lists keep the order of `pairs`; else they are sorted."""


@final
@dataclass(frozen=True, slots=True)
class Preparer:
    """Of one data set."""

    wanted: str
    """What is looked for, in words."""
    plan: Callable[[Inputs, Published, Progress], Plan]
    """Raises DataError with all that is missing."""


def jobs_for(
    matches: Iterable[Matched],
    key: Callable[[re.Match[str]], K],
    target: Callable[[re.Match[str]], str],
    convert: Convert | None = None,
    *,
    keep: bool = True,
) -> dict[K, Job]:
    """A job for each key; of several members with one key the first counts."""
    jobs: dict[K, Job] = {}
    for match, found in matches:
        jobs.setdefault(key(match), Job(found, target(match), convert, keep))
    return jobs


def by_folder(matches: Iterable[Matched], group: int = 1) -> list[list[Matched]]:
    """Members apart by place and by the folder at which the group `group` begins, largest first."""
    folders: dict[Hashable, list[Matched]] = {}
    for match, found in matches:
        folders.setdefault((found.place, match.string[: match.start(group)]), []).append((match, found))
    return sorted(folders.values(), key=len, reverse=True)


def paired(part: str, images: Mapping[K, Job], masks: Mapping[K, str], remedy: str) -> list[Pair]:
    """Every image with its mask (target paths); a part without any image is empty.

    Raises:
        DataError: an image without mask, a mask without image; three of each and their number.
    """
    if not images:
        return []
    bare = [job.target for key, job in images.items() if key not in masks]
    lost = [target for key, target in masks.items() if key not in images]
    missing = [f"{len(bare)} of {len(images)} images have no mask ({some(sorted(bare))})"] if bare else []
    missing += [f"{len(lost)} of {len(masks)} masks have no image ({some(sorted(lost))})"] if lost else []
    if missing:
        raise DataError(f"{part}: {'; '.join(missing)}. {remedy}")
    return [(job.target, masks[key]) for key, job in images.items()]


def targets(jobs: Mapping[K, Job]) -> dict[K, str]:
    """Where the files of jobs go."""
    return {key: job.target for key, job in jobs.items()}


def counted(kinds: Mapping[str, int]) -> str:
    """`{"as given": 0, "converted": 11}` -> "11 converted"."""
    return "; ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
