"""`semikit data verify`: whether a prepared root is whole, and whether its masks hold what they should."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np

from semikit.data.formats.images import image_size, read_image, read_mask
from semikit.data.published.catalogue import Published
from semikit.data.published.inputs import Progress
from semikit.data.published.official import is_generated, list_file, read_official
from semikit.data.published.prepared import Pair, Prepared, open_prepared, read_list
from semikit.data.samples import spread
from semikit.errors import DataError, FileFault, mask_size_fault, of_one_kind, some
from semikit.files import shell_word

_SAMPLED = 200
_MEND = "Remove the file and prepare again from the original files."


@final
@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was seen."""

    lines: list[str] = field(default_factory=list)
    """RunInfo."""
    notices: list[str] = field(default_factory=list)
    """What the user should know."""
    problems: list[str] = field(default_factory=list)
    """What must be mended; empty when all is well."""


@final
@dataclass(frozen=True, slots=True)
class _Seen:
    """What one mask holds."""

    mask: str
    values: frozenset[int] = frozenset()
    fault: FileFault | None = None


def verify(name: str, root: Path | None, every: bool, progress: Progress) -> VerifyReport:
    """Look through a prepared root: counts, files, and 200 masks, evenly, or with `every` all, and their images.

    Raises:
        UnknownNameError: no such data set.
        DataError: no prepared root.
    """
    prepared = open_prepared(name, root)
    report = VerifyReport()
    report.lines.append(f"{prepared.published.title}: {prepared.path}")
    pairs = {part: read_list(prepared.path, part) for part in prepared.record.counts}
    _count(prepared, pairs, report)
    lost = _find_missing(prepared, pairs, report, progress)
    there = [pair for part in pairs.values() for pair in part if not lost & set(prepared.files(pair))]
    _look(prepared, there, every, report, progress)
    _official(prepared, report)
    return report


def _count(prepared: Prepared, pairs: dict[str, list[Pair]], report: VerifyReport) -> None:
    published, record = prepared.published, prepared.record
    refused = "; official lists will be refused" if published.splits else ""
    for part, listed in pairs.items():
        report.lines.append(f"{part}: {len(listed)} of {published.counts.get(part, 0)} images")
        if len(listed) != record.counts[part]:
            report.problems.append(
                f"{part}: lists/{part}.txt has {len(listed)} lines, {record.counts[part]} were prepared. "
                f"{_again(prepared)}"
            )
    if record.own:
        report.notices.append(f"not as published: {record.own}{refused}")
    elif not record.complete(published):
        wanted = " and ".join(f"{published.counts[part]} for {part}" for part in published.masked)
        report.notices.append(f"a part: published are {wanted}{refused}")
    report.lines.append(f"masks: {record.masks}")


def _find_missing(
    prepared: Prepared, pairs: dict[str, list[Pair]], report: VerifyReport, progress: Progress
) -> set[str]:
    """Files that are listed and not there, or empty."""
    lost: set[str] = set()
    total, done = sum(len(listed) for listed in pairs.values()), 0
    for part, listed in pairs.items():
        missing: list[str] = []
        for pair in listed:
            missing += [file for file in prepared.files(pair) if not _there(prepared.path / file)]
            done += 1
            progress("looking for files", done, total)
        if missing:
            files = sum(len(prepared.files(pair)) for pair in listed)
            report.problems.append(
                f"{part}: {len(missing)} of {files} files are missing or empty: {some(missing)}. {_again(prepared)}"
            )
        lost.update(missing)
    return lost


def _there(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _look(prepared: Prepared, pairs: Sequence[Pair], every: bool, report: VerifyReport, progress: Progress) -> None:
    masked = [(image, mask) for image, mask in pairs if mask is not None]
    wanted = masked if every else spread(masked, _SAMPLED)
    seen: list[_Seen] = []
    with ThreadPoolExecutor() as threads:
        for done, item in enumerate(threads.map(_looker(prepared, every), wanted), start=1):
            seen.append(item)
            progress("looking into masks", done, len(wanted))
    report.problems.extend(_faults([item.fault for item in seen if item.fault is not None]))
    values = {item.mask: item.values for item in seen if item.fault is None}
    report.problems.extend(diagnose(prepared.published, values))
    report.lines.append(f"opened {len(seen)} of {len(masked)} masks; {_coverage(prepared.published, values)}")


def _looker(prepared: Prepared, every: bool) -> Callable[[tuple[str, str]], _Seen]:
    def opened(pair: tuple[str, str]) -> _Seen:
        image, mask = pair
        try:
            values = read_mask(prepared.path / mask)
            for file in prepared.published.files(image):
                path = prepared.path / file
                size = read_image(path)[0].shape[:2] if every else image_size(path)
                if values.shape != size:
                    raise mask_size_fault(mask, size, (values.shape[0], values.shape[1]), _MEND)
            return _Seen(mask, frozenset(int(value) for value in np.unique(values)))
        except FileFault as fault:
            return _Seen(mask, fault=FileFault(fault.kind, fault.file, fault.detail, _MEND))

    return opened


def _faults(faults: Sequence[FileFault]) -> list[str]:
    """A sentence for each kind."""
    kinds: dict[str, list[FileFault]] = {}
    for fault in faults:
        kinds.setdefault(fault.kind, []).append(fault)
    return [f"{len(found)} files: {of_one_kind(found)}" for found in kinds.values()]


def _coverage(published: Published, masks: dict[str, frozenset[int]]) -> str:
    values = frozenset[int]().union(*masks.values())
    present = {number for value, number in published.stored.items() if value in values}
    absent = [name for number, name in enumerate(published.classes) if number not in present]
    count = f"{len(published.classes) - len(absent)} of {len(published.classes)} classes occur in them"
    if not absent:
        return count
    return f"{count}, not: {some(absent, 6)}"


def _official(prepared: Prepared, report: VerifyReport) -> None:
    """Which official lists are there, and whether each is what its name says."""
    published = prepared.published
    if not published.splits:
        return
    if is_generated(published.name):
        report.lines.append("official lists: generated from the names of the images")
        return
    here = [split for split in published.splits if list_file(prepared.path, split).is_file()]
    report.lines.append(f"official lists in splits/: {', '.join(here) or 'none'}")
    for split in here:
        try:
            read_official(published, split, list_file(prepared.path, split))
        except DataError as error:
            report.problems.append(str(error))


def _again(prepared: Prepared) -> str:
    name, root = prepared.published.name, shell_word(prepared.path)
    return f"Run `semikit data prepare {name} --source DIR --root {root}` again."


_ENOUGH = 100
"""In so many masks of ADE20K what does not count occurs for sure."""
_SEVERAL = 8

Masks = Mapping[str, frozenset[int]]
"""File -> values that occur in it."""


def diagnose(published: Published, masks: Masks) -> list[str]:
    """A sentence for each problem, with its likely cause and what to do; empty when all is well."""
    present = frozenset[int]().union(*masks.values())
    if published.pairs:
        return _of_change(published, masks, present)
    problems: list[str] = []
    outside = sorted(present - published.stored.keys() - set(published.ignore))
    if outside:
        files = [file for file, values in masks.items() if values & set(outside)]
        text = some([str(value) for value in outside], 5)
        problems.append(
            f"{len(files)} masks hold values that are neither a class (0 to {len(published.classes) - 1}) nor "
            f"{' or '.join(str(value) for value in published.ignore)}: {text} in {some(files)}. "
            f"{_cause(published.name, set(outside), present)}"
        )
    elif _too_few(published, masks, present):
        problems.append(
            f"all {len(masks)} masks hold nothing but {' and '.join(str(value) for value in sorted(present))}. "
            f"{published.title} has {len(published.classes)} classes: these are masks of one object, or their values "
            "were divided or thresholded. Give the original masks and prepare again."
        )
    elif published.name == "ade20k" and 255 not in present and len(masks) >= _ENOUGH:
        problems.append(f"255 occurs in none of {len(masks)} masks. {_NOT_CONVERTED}")
    labels = [file for file in masks if file.endswith("_labelIds.png")]
    if labels:
        problems.append(f"{len(labels)} masks are labelIds by their names: {some(labels)}. {_LABEL_IDS}")
    return problems


def _of_change(published: Published, masks: Masks, present: frozenset[int]) -> list[str]:
    """The same for maps of 0 and 255."""
    wanted = " and ".join(str(value) for value in sorted(published.stored))
    outside = sorted(present - published.stored.keys())
    if outside:
        files = [file for file, values in masks.items() if values & set(outside)]
        values = some([str(value) for value in outside], 5)
        text = f"{len(files)} masks hold other values than {wanted}: {values} in {some(files)}."
        if present <= {0, 1}:
            return [
                f"{text} {_DIVIDED} Prepare this root into another, which writes 255 for 1: `semikit data prepare "
                f"{published.name} --source ROOT --root ANOTHER`."
            ]
        cause = _MIXED if outside == [1] else _SMEARED
        return [f"{text} {cause} Remove the folder label/ and prepare again from the original labels."]
    if len(masks) >= _SEVERAL and len(present) == 1:
        return [
            f"all {len(masks)} masks hold nothing but {min(present)}: nothing could be learned from them. They were "
            "converted wrongly (1 divided by 255 is 0) or are of other images. Remove the folder label/ and prepare "
            "again from the original labels."
        ]
    return []


_DIVIDED = "They hold 1 for what changed, as after a division by 255; read as 0 and 255, all of it would be unchanged."
_MIXED = "Masks of 0 and 1 are mixed with masks of 0 and 255."
_SMEARED = "Values between come of JPEG, of resizing or of colours."
_LABEL_IDS = (
    "They are labelIds (0-33), not trainIds (0-18, 255). Remove the masks and prepare again from "
    "gtFine_trainvaltest.zip, which converts them."
)
_NOT_CONVERTED = (
    "They are the originals (0 = other, 1-150), not converted. Remove the masks and prepare again from "
    "ADEChallengeData2016.zip."
)
_TWICE = (
    "254 comes of converting twice (0 -> 255 -> 254). Remove the masks and prepare again from ADEChallengeData2016.zip."
)
_STUFF = (
    "They are maps of COCO-Stuff (171 classes), not the 80 things. Remove the masks and prepare again from "
    "annotations_trainval2017.zip."
)
_OTHER = "Remove the masks that were changed, and prepare again from the original archives."


def _cause(name: str, outside: set[int], present: frozenset[int]) -> str:
    """The likely cause of values outside the classes, and the remedy."""
    causes = {
        "cityscapes": (outside <= set(range(19, 34)), _LABEL_IDS),
        "ade20k": (outside == {150}, _NOT_CONVERTED),
        "coco": (outside <= set(range(81, 183)), _STUFF),
    }
    if name == "ade20k" and outside == {150} and 255 in present:
        return "Some are originals (0-150) among converted ones. " + _OTHER
    if name == "ade20k" and 254 in outside:
        return _TWICE
    if 255 not in present and max(outside) == 254 and name != "coco":
        return "255 seems to have been written as 254. " + _OTHER
    fits, text = causes.get(name, (False, _OTHER))
    return text if fits else _OTHER


def _too_few(published: Published, masks: Masks, present: frozenset[int]) -> bool:
    """0 and 1, 0 and 255 and the like in several masks of many classes."""
    return len(masks) >= _SEVERAL and len(present) <= 2 and len(published.classes) > 2
