"""What is wrong with masks of a published data set, told from the values they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from semikit.data.faults import some
from semikit.data.published.catalogue import Published

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
        told = _few(outside)
        problems.append(
            f"{len(files)} masks hold values that are neither a class (0 to {len(published.classes) - 1}) nor "
            f"{' or '.join(str(value) for value in published.ignore)}: {told} in {some(files)}. "
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
        told = f"{len(files)} masks hold other values than {wanted}: {_few(outside)} in {some(files)}."
        if present <= {0, 1}:
            return [
                f"{told} {_DIVIDED} Prepare this root into another, which writes 255 for 1: `semikit data prepare "
                f"{published.name} --source ROOT --root ANOTHER`."
            ]
        cause = _MIXED if outside == [1] else _SMEARED
        return [f"{told} {cause} Remove the folder label/ and prepare again from the original labels."]
    if len(masks) >= _SEVERAL and len(present) == 1:
        return [
            f"all {len(masks)} masks hold nothing but {min(present)}: nothing could be learned from them. They were "
            "converted wrongly (1 divided by 255 is 0) or are of other images. Remove the folder label/ and prepare "
            "again from the original labels."
        ]
    return []


def _few(values: Sequence[int]) -> str:
    return ", ".join(str(value) for value in values[:5]) + (", …" if len(values) > 5 else "")


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
    fits, told = causes.get(name, (False, _OTHER))
    return told if fits else _OTHER


def _too_few(published: Published, masks: Masks, present: frozenset[int]) -> bool:
    """0 and 1, 0 and 255 and the like in several masks of many classes."""
    return len(masks) >= _SEVERAL and len(present) <= 2 and len(published.classes) > 2
