"""Pairs that stay as they are published: PART/DATE/NAME becomes DATE/PART/NAME, masks become PNG of 0 and 255.

Where nobody has chosen pairs to validate on, the last fifth of those for training, by name, are held out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from semikit.data.published.catalogue import LABEL, Published
from semikit.data.published.inputs import Found, Inputs, Progress
from semikit.data.published.masks import any_change_mask
from semikit.data.published.prepared import Pair
from semikit.data.published.preparers import Job, Plan, Preparer
from semikit.data.published.preparers._tiles import KINDS, PARTS, Trio, check_whole

_SUFFIXES = r"\.(?:png|PNG|jpg|JPG|jpeg|tif|TIF|tiff)"
_HELD_OUT = 5
"""One of so many training pairs is for validation, where there are none."""


def of_layout(published: Published) -> Preparer:
    """The preparer of a data set whose folders `published.layout` names."""
    assert published.layout is not None
    wanted = f"{{{','.join(PARTS)}}}/{{{','.join(published.layout)}}}/*"
    return Preparer(wanted, partial(plan, folders=published.layout))


def plan(inputs: Inputs, published: Published, progress: Progress, folders: tuple[str, str, str]) -> Plan:
    """What is to be laid out.

    Raises:
        DataError: pairs of which a file is missing.
    """
    kinds = dict(zip(folders, KINDS, strict=True))
    found = inputs.find(rf"({'|'.join(PARTS)})/({'|'.join(kinds)})/([^/\s]+){_SUFFIXES}")
    trios = trios_of((match[1], kinds[match[2]], match[3], member) for match, member in found)
    laid = inputs.find(rf"({'|'.join(KINDS)})/({'|'.join(PARTS)})/([^/\s]+){_SUFFIXES}")
    trios = trios_of(((match[2], match[1], match[3], member) for match, member in laid if member.place.root), trios)
    check_whole(trios, f"Give the whole of {published.title}.")
    jobs = [job_of(name, kind, found) for name, trio in trios.items() for kind, found in trio.files.items()]
    return Plan(pairs_by_part(trios), jobs, f"{len(trios)} pairs as published")


def trios_of(files: Iterable[tuple[str, str, str, Found]], trios: dict[str, Trio] | None = None) -> dict[str, Trio]:
    """PART/NAME -> the files of a pair, out of part, kind (A, B, label), name and member; the first of each counts."""
    found = {} if trios is None else trios
    for part, kind, name, member in files:
        found.setdefault(f"{part}/{name}", Trio(part)).files.setdefault(kind, member)
    return found


def job_of(name: str, kind: str, found: Found) -> Job:
    """How one file of a pair is laid out."""
    if kind == LABEL:
        return Job(found, target_of(name, kind, ".png"), any_change_mask)
    return Job(found, target_of(name, kind, f".{found.name.rpartition('.')[2]}"), keep=False)


def target_of(name: str, kind: str, suffix: str) -> str:
    """Path of a file of PART/NAME below the root."""
    return f"{kind}/{name}{suffix}"


def pairs_by_part(trios: Mapping[str, Trio], suffix: str = "") -> dict[str, list[Pair]]:
    """Part -> first date and mask of its pairs; `suffix` is that of the dates, else as they are."""
    pairs: dict[str, list[Pair]] = {part: [] for part in PARTS}
    for name, trio in sorted(trios.items()):
        ending = suffix or f".{trio.files['A'].name.rpartition('.')[2]}"
        pairs[trio.part].append((target_of(name, "A", ending), target_of(name, LABEL, ".png")))
    if pairs["train"] and not pairs["val"]:
        kept = len(pairs["train"]) - round(len(pairs["train"]) / _HELD_OUT)
        pairs["train"], pairs["val"] = pairs["train"][:kept], pairs["train"][kept:]
    return pairs
