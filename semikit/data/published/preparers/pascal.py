"""PASCAL VOC 2012: VOCtrainval with SegmentationClassAug, the authors' SegmentationClass, SBD, or alone.

The mask of an image is taken from SegmentationClassAug, else from the larger folder called SegmentationClass, else from
SBD; so an image with a fine mask of VOC never gets a coarse one of SBD. Palette masks are copied as they are: their
indices are the class numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Set
from pathlib import PurePosixPath

from semikit.data.published.catalogue import Published
from semikit.data.published.inputs import Found, Inputs, Progress
from semikit.data.published.masks import from_boundaries
from semikit.data.published.preparers import Job, Matched, Plan, Preparer, by_folder, jobs_for, paired, targets
from semikit.errors import DataError

_IMAGES = r"JPEGImages/([^/\s]+)\.jpg"
_AUGMENTED = r"SegmentationClassAug/([^/\s]+)\.png"
_MASKS = r"SegmentationClass/([^/\s]+)\.png"
_MATLAB = r"dataset/cls/([^/\s]+)\.mat"
_LIST = r"ImageSets/Segmentation/(train|val)\.txt"
_OFFICIAL = r"splits/pascal/(val)\.txt"
_OTHER_YEAR = re.compile(r"(^|/)VOC(?!2012/)\d{4}/")

_REMEDY = (
    "Extract or fetch VOCtrainval_11-May-2012.tar and the masks again; masks of the validation images are those of "
    "VOC or SegmentationClassAug, SBD's do not mark what is void."
)


def plan(inputs: Inputs, published: Published, progress: Progress) -> Plan:
    """The images for validation as VOC lists them; every other image with a mask is for training.

    Raises:
        DataError: no list of the validation images; images or masks that miss their partner.
    """
    images = _jobs(_of_2012(inputs.find(_IMAGES)), "JPEGImages/{}.jpg", keep=False)
    if not images:
        return Plan({}, [], "")
    lists = jobs_for(_of_2012(inputs.find(_LIST)), _first, lambda m: f"ImageSets/Segmentation/{m[1]}.txt")
    listed = _validation(inputs, lists)
    fine = _png(inputs)
    coarse = _jobs(_of_2012(inputs.find(_MATLAB)), "SegmentationClass/{}.png", convert=True)
    val = listed & (images.keys() | fine.keys())
    masks = {**{stem: job for stem, job in coarse.items() if stem not in listed}, **fine}
    for_training = {stem: job for stem, job in masks.items() if stem not in listed}
    pairs = {
        "train": paired("train", _only(images, for_training), targets(for_training), _REMEDY),
        "val": paired("val", _only(images, val), targets(_only(fine, val)), _REMEDY),
    }
    used = _only(images, {*for_training, *val})
    notices = _notices(inputs, lists, for_training.keys())
    return Plan(pairs, [*lists.values(), *used.values(), *masks.values()], _told(masks), notices)


def _png(inputs: Inputs) -> dict[str, Job]:
    folders = [_of_2012(inputs.find(_AUGMENTED)), *by_folder(_of_2012(inputs.find(_MASKS)))]
    return _jobs([match for folder in folders for match in folder], "SegmentationClass/{}.png")


def _jobs(matches: Iterable[Matched], target: str, *, convert: bool = False, keep: bool = True) -> dict[str, Job]:
    converted = from_boundaries if convert else None
    return jobs_for(matches, _first, lambda m: target.format(m[1]), converted, keep=keep)


def _validation(inputs: Inputs, lists: dict[str, Job]) -> set[str]:
    """Stems of VOC's own list, else of the official one."""
    official = inputs.root / "splits" / "val.txt"
    found = lists["val"].found if "val" in lists else next((found for _, found in inputs.find(_OFFICIAL)), None)
    if found is not None:
        return _stems(inputs, found)
    if official.is_file():
        return _listed(official.read_text(encoding="utf-8", errors="replace"))
    raise DataError(
        "pascal: no list of the images for validation. Give ImageSets/Segmentation/val.txt, which lies in "
        "VOCtrainval_11-May-2012.tar, or fetch the official lists: semikit data fetch pascal --splits."
    )


def _stems(inputs: Inputs, found: Found) -> set[str]:
    (content,) = (data for _, data in inputs.read([found]))
    return _listed(content.decode("utf-8", errors="replace"))


def _listed(text: str) -> set[str]:
    """Stems of "2007_000033" or "JPEGImages/2007_000033.jpg SegmentationClass/…"."""
    return {PurePosixPath(line.split()[0]).stem for line in text.splitlines() if line.strip()}


def _told(masks: dict[str, Job]) -> str:
    kinds = Counter(
        "SBD, converted" if job.convert else PurePosixPath(job.found.name).parent.name for job in masks.values()
    )
    return "; ".join(f"{count} of {kind}" for kind, count in sorted(kinds.items()))


def _notices(inputs: Inputs, lists: dict[str, Job], for_training: Set[str]) -> list[str]:
    if "train" not in lists or not for_training <= _stems(inputs, lists["train"].found):
        return []
    return ["only VOC's own masks: give SegmentationClassAug.zip or SBD (benchmark.tgz) too for all 10582 of training"]


def _only(jobs: dict[str, Job], keys: Iterable[str]) -> dict[str, Job]:
    return {key: jobs[key] for key in keys if key in jobs}


def _of_2012(matches: Iterable[Matched]) -> list[Matched]:
    return [(match, found) for match, found in matches if not _OTHER_YEAR.search(found.name)]


def _first(match: re.Match[str]) -> str:
    return match[1]


plugin = Preparer(
    "JPEGImages/*.jpg and ImageSets/Segmentation/val.txt (VOCtrainval_11-May-2012.tar) with "
    "SegmentationClassAug/*.png, SegmentationClass/*.png or SBD's dataset/cls/*.mat",
    plan,
)
