"""`semikit data prepare`: from what was downloaded to a prepared root.

First everything is listed and planned, then files are laid out one after the other, each whole or not at all, then
lists and record are written. What is in place already stays, so an interrupted run is gone on with by the same command.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from semikit.data.published import prepared
from semikit.data.published.archives import Member
from semikit.data.published.catalogue import Published, read_published
from semikit.data.published.inputs import Inputs, Place, Progress
from semikit.data.published.masks import write_png
from semikit.data.published.prepared import Record
from semikit.data.published.preparers import Job, Plan, Preparer, jobs_for
from semikit.data.published.preparers._folders import of_layout
from semikit.errors import DataError, RunError
from semikit.files import at_home, need_space
from semikit.registry import Registry

PREPARERS = Registry("published data set", "data.published.preparers")

_BLOCK = 4096
"""What a file takes at least."""


@final
@dataclass(frozen=True, slots=True)
class PrepareReport:
    """What was done."""

    record: Record
    lines: list[str] = field(default_factory=list)
    """RunInfo."""
    notices: list[str] = field(default_factory=list)
    """What the user should know."""


def prepare(name: str, source: Path, root: Path, progress: Progress) -> PrepareReport:
    """Lay out a published data set below `root` from archives or folders in `source`, ROOT/downloads and the root.

    Raises:
        UnknownNameError: no such data set.
        DataError: nothing of it was found, files are missing or damaged, or the root belongs to another data set.
        ConfigError: an optional package is not installed.
        RunError: the disk is full.
    """
    published = read_published(name)
    source, root = at_home(source).absolute(), at_home(root).absolute()
    previous = _previous(name, root)
    inputs = Inputs(source, root, progress)
    preparer: Preparer = of_layout(published) if published.layout else PREPARERS.get(name)
    plan = preparer.plan(inputs, published, progress)
    counts = {part: len(pairs) for part, pairs in plan.pairs.items() if pairs}
    if not counts:
        raise _nothing(published, preparer, source, inputs.places)
    jobs = [*_needed(plan, inputs), *_official(name, inputs)]
    need_space(root, _bytes(jobs, root) + plan.after_bytes)
    # The masks of an earlier run are reported as what they were.
    same = previous is not None and plan.after is None and not _masks(plan) & {job.target for job in jobs}
    masks = previous.masks if previous and same else prepared.begun_with(root) or plan.masks
    record = Record(dataset=name, counts=counts, masks=masks, own=plan.own)
    _lay_out(plan, jobs, inputs, record, progress)
    notices = [*plan.notices, *_parts(published, record)]
    return PrepareReport(record, _lines(published, record, jobs, inputs, plan), notices)


def _lay_out(plan: Plan, jobs: list[Job], inputs: Inputs, record: Record, progress: Progress) -> None:
    root = inputs.root
    try:
        prepared.begin(root, record.masks)
        if plan.before is not None:
            plan.before()
        _copy(jobs, inputs, progress)
        if plan.after is not None:
            plan.after(progress)
        for part in record.counts:
            prepared.write_list(root, part, plan.pairs[part] if plan.ordered else sorted(plan.pairs[part]))
        prepared.finish(root, record)
    except OSError as error:
        raise RunError(
            f"{error.filename or root} cannot be written: {error.strerror or error}. Files that are done are kept; "
            "run the same command again to go on."
        ) from None


def _copy(jobs: list[Job], inputs: Inputs, progress: Progress) -> None:
    waiting = {job.found: job for job in jobs}
    for done, (found, member) in enumerate(inputs.members(waiting), start=1):
        _write(waiting[found], member, inputs.root)
        progress("laying out files", done, len(jobs))


def _write(job: Job, member: Member, root: Path) -> None:
    if job.convert is None:
        member.copy_to(root / job.target)
    else:
        write_png(root / job.target, job.convert(member.read(), job.found.where))


def _needed(plan: Plan, inputs: Inputs) -> list[Job]:
    """Jobs whose file is not in place; an image of another size than the one given is replaced."""
    in_place = {
        name: size for name, size in inputs.in_place.items() if not (plan.vacated and name.startswith(plan.vacated))
    }
    return [
        job
        for job in plan.jobs
        if job.target not in in_place or not (job.keep or in_place[job.target] == job.found.size)
    ]


def _official(name: str, inputs: Inputs) -> list[Job]:
    """Lists of the authors' repository; those that are in the root stay."""
    found = inputs.find(rf"splits/{name}/((?:[^/]+/)*[^/]+\.txt)")
    jobs = jobs_for(found, lambda match: match[1], lambda match: f"splits/{match[1]}")
    return [job for job in jobs.values() if not (inputs.root / job.target).exists()]


def _masks(plan: Plan) -> set[str]:
    return {mask for pairs in plan.pairs.values() for _, mask in pairs if mask is not None}


def _bytes(jobs: Iterable[Job], root: Path) -> int:
    """Room that the files take; those that can be linked take none."""
    device = _existing(root).stat().st_dev
    linked = {job.found.place for job in jobs if job.found.place.path.is_dir()}
    free = {place for place in linked if place.path.stat().st_dev == device}
    return sum(job.found.size + _BLOCK for job in jobs if job.convert is not None or job.found.place not in free)


def _existing(path: Path) -> Path:
    return next(above for above in (path, *path.parents) if above.exists())


def _previous(name: str, root: Path) -> Record | None:
    """The record of a root that was prepared before."""
    if root.exists() and not root.is_dir():
        raise DataError(f"--root {root} is a file. Give a folder.")
    if not (root / prepared.RECORD).is_file():
        return None
    try:
        record = prepared.read_record(root)
    except DataError:
        # Damaged or of another version: preparing again is what that error asks for.
        return None
    if record.dataset != name:
        raise DataError(f"{root} was prepared for {record.dataset}, not for {name}. Give another --root.")
    return record


def _nothing(published: Published, preparer: Preparer, source: Path, places: list[Place]) -> DataError:
    seen = Counter[str]()
    for place in places:
        for name in place.sizes:
            seen["/".join([place.path.name, *name.removeprefix(place.prefix).split("/")[:-1][:2]])] += 1
    found = ", ".join(f"{folder} ({count} files)" for folder, count in seen.most_common(8)) or "no files"
    return DataError(
        f"nothing of {published.title} was found in {source}: no images with masks. Looked for: {preparer.wanted}. "
        f"Found: {found}. What can be fetched: semikit data fetch {published.name}; terms: {published.homepage}."
    )


def _lines(published: Published, record: Record, jobs: list[Job], inputs: Inputs, plan: Plan) -> list[str]:
    lines = [f"{part}: {count} of {published.counts[part]} images" for part, count in record.counts.items()]
    missing = [part for part in published.counts if part not in record.counts]
    lines += [f"not given: {', '.join(missing)}"] if missing else []
    lines.append(f"masks: {record.masks}")
    places = dict.fromkeys(job.found.place.path.name for job in jobs)
    if jobs or plan.after is None:
        lines.append(f"{len(jobs)} files laid out{' from ' + ', '.join(places) if places else ''}")
    return [*lines, f"root: {inputs.root}"]


def _parts(published: Published, record: Record) -> list[str]:
    """What is not as published."""
    refused = "; official lists will be refused" if published.splits else ""
    if record.own:
        return [f"not as published: {record.own}{refused}"]
    counts = record.counts
    words = {"train": "training", "val": "validation", "test": "test"}
    return [
        f"a part: {counts.get(part, 0)} of {published.counts[part]} {word} images{refused}"
        for part, word in words.items()
        if part in published.masked and counts.get(part, 0) != published.counts[part]
    ]
