"""Cityscapes: leftImg8bit and gtFine; masks by trainIds as they are, masks by labelIds converted beside them."""

from __future__ import annotations

import re

from semikit.data.published.catalogue import Published
from semikit.data.published.inputs import Inputs, Progress
from semikit.data.published.masks import train_ids
from semikit.data.published.prepared import Pair
from semikit.data.published.preparers import Job, Plan, Preparer, counted, jobs_for, paired, targets

Key = tuple[str, str, str]
"""Part, city, and the name that image and mask share."""

_IMAGES = r"leftImg8bit/(train|val|train_extra)/([^/\s]+)/([^/\s]+)_leftImg8bit\.png"
_MASKS = r"gtFine/(train|val)/([^/\s]+)/([^/\s]+)_gtFine_%s\.png"
_REMEDY = "Give leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, both whole."


def plan(inputs: Inputs, published: Published, progress: Progress) -> Plan:
    """Train, val, and train_extra without masks.

    Raises:
        DataError: images or masks that miss their partner.
    """
    images = jobs_for(inputs.find(_IMAGES), _key, _image, keep=False)
    ready = jobs_for(inputs.find(_MASKS % "labelTrainIds"), _key, _mask)
    converted = jobs_for(inputs.find(_MASKS % "labelIds"), _key, _mask, train_ids)
    masks = {**converted, **ready}
    pairs = {part: paired(part, _of(images, part), targets(_of(masks, part)), _REMEDY) for part in ("train", "val")}
    extra: list[Pair] = [(job.target, None) for job in _of(images, "train_extra").values()]
    used = {key: job for key, job in masks.items() if pairs[key[0]]}
    made = sum(job.convert is not None for job in used.values())
    summary = counted({"gtFine labelTrainIds as given": len(used) - made, "converted from labelIds": made})
    return Plan({**pairs, "train_extra": extra}, [*images.values(), *used.values()], summary)


def _key(match: re.Match[str]) -> Key:
    return match[1], match[2], match[3]


def _image(match: re.Match[str]) -> str:
    return f"leftImg8bit/{match[1]}/{match[2]}/{match[3]}_leftImg8bit.png"


def _mask(match: re.Match[str]) -> str:
    return f"gtFine/{match[1]}/{match[2]}/{match[3]}_gtFine_labelTrainIds.png"


def _of(jobs: dict[Key, Job], part: str) -> dict[Key, Job]:
    return {key: job for key, job in jobs.items() if key[0] == part}


plugin = Preparer(
    "leftImg8bit/{train,val,train_extra}/CITY/*_leftImg8bit.png (leftImg8bit_trainvaltest.zip, "
    "leftImg8bit_trainextra.zip) and gtFine/{train,val}/CITY/*_gtFine_labelIds.png or *_labelTrainIds.png "
    "(gtFine_trainvaltest.zip)",
    plan,
)
