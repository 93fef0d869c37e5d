"""How names of masks differ from those of their images: for messages, never for matching."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from semikit.data.folders import is_image

Affixes = tuple[str, str]
"""What stands before and behind."""
CONVERT = "`semikit data convert LABELS --images IMAGES -o DIR` makes masks of label files."
UNKNOWN_CAUSE = "without an {other}"
"""The kind of files whose names are like those of no image."""
_NONE: Affixes = ("", "")
_COMPARED = 5000
"""Names that are compared; of more the first."""
_USUAL = ("labeltrainids", "labelids", "label", "mask", "gt", "seg", "lab", "annot", "target", "truth", "class")
"""What names of class maps have beside the image's, the surest first, where several kinds of files would fit."""


@final
@dataclass(frozen=True, slots=True)
class Naming:
    """What the files of most images have before and behind a common part: the images, and their masks; the subfolder
    masks lie in where it is not that of the image, else None; and how many masks fit.
    """

    image: Affixes
    mask: Affixes
    folder: str | None
    count: int


def naming(images: Collection[str], masks: Collection[str]) -> Naming | None:
    """How the names of most images become those of masks; None where no addition leads from one to the other. Where
    both are one folder, some of its names and words beside them.
    """
    together = images is masks
    found = []
    for image in _image_affixes(images):
        for flat in (False,) if together else (False, True):
            cores = {core for name in list(images)[:_COMPARED] if (core := _core(name, image, flat=flat)) is not None}
            counts: Counter[tuple[Affixes, str | None]] = Counter()
            for name in list(masks)[:_COMPARED]:
                place = name.rpartition("/")[0] if flat else None
                counts.update((affixes, place) for affixes in _around(name, cores, flat=flat))
            del counts[_NONE, None]
            if together:  # 10.png is no mask of 1.png
                counts = Counter({one: n for one, n in counts.items() if re.search("[^0-9]", "".join(one[0]))})
            best = min(counts, key=lambda one: (-counts[one], *_rank(one[0]), str(one[1])), default=None)
            if best is not None:
                found.append(Naming(image, *best, counts[best]))
    best_found = max(found, key=lambda one: one.count, default=None)
    least = 1 if together else min(len(images), len(masks), _COMPARED) / 2
    return best_found if best_found is not None and best_found.count >= least else None


def likely_causes(
    spare: Mapping[str, Path], images: Mapping[str, Path], unread: Collection[Path], other: str = "image"
) -> dict[str, list[tuple[Path, str]]]:
    """Kind -> files that belong to no image, each with a remark on the image it may belong to, by the likely cause.

    `images` are those without such a file, `unread` the files beside them that are no images here, `other` is what
    they are called.
    """
    causes: dict[str, list[tuple[Path, str]]] = {}
    if not spare:
        return causes
    tables = [(kind, {key(name): path for name, path in images.items()}, key) for kind, key in _KEYS.items()]
    foreign = {path.stem: path for path in unread}
    for name, path in spare.items():
        kind, image = UNKNOWN_CAUSE, foreign.get(name.rpartition("/")[2])
        if image is not None:
            kind = "whose {other} is of a type that is not read"
        else:
            for cause, table, key in tables:
                if (image := table.get(key(name))) is not None:
                    kind = cause
                    break
        remark = "" if image is None else f"{other} {image.name}"
        causes.setdefault(kind.format(other=other), []).append((path, remark))
    return causes


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """A name without regard to upper and lower case and the form of its letters."""
    return _composed(_composed(name).casefold())


def _bare(name: str) -> str:
    """Without suffixes of images that stand in the name (a.jpg of a.jpg.png)."""
    while is_image(name):
        name = name.rpartition(".")[0]
    return folded(name)


_KEYS: dict[str, Callable[[str], str]] = {
    "whose {other}'s name is in another Unicode form (composed and decomposed letters)": _composed,
    "whose {other}'s name differs in upper and lower case": folded,
    "with the {other}'s suffix in the name, or the other way round": _bare,
    "whose {other} lies in another subfolder": lambda name: _bare(name.rpartition("/")[2]),
}
"""Likely cause -> what two names then have in common; tried in this order."""


def _rank(affixes: Affixes) -> tuple[int, int, str]:
    text = "".join(affixes).lower()
    return next((k for k, word in enumerate(_USUAL) if word in text), len(_USUAL)), len(text), text


def _image_affixes(images: Collection[str]) -> list[Affixes]:
    """What all images may have before or behind the part that their masks share with them."""
    stems = [name.rpartition("/")[2] for name in images]
    if len(stems) < 2:
        return [_NONE]
    head, tail = _common_head(stems), _common_head([stem[::-1] for stem in stems])[::-1]
    heads = [(head[: match.end()], "") for match in re.finditer(r"[-_. ]", head)]
    tails = [("", tail[match.start() :]) for match in re.finditer(r"[-_. ]", tail)]
    return [_NONE, *reversed(tails), *heads]


def _common_head(texts: Sequence[str]) -> str:
    first, last = min(texts), max(texts)
    differ = (k for k, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return first[: next(differ, min(len(first), len(last)))]


def _core(name: str, affixes: Affixes, *, flat: bool) -> str | None:
    """The name without what stands before and behind; `flat`: of the file alone."""
    folder, _, stem = name.rpartition("/")
    core = stem.removeprefix(affixes[0]).removesuffix(affixes[1])
    return None if not core else core if flat or not folder else f"{folder}/{core}"


def _around(name: str, cores: Collection[str], *, flat: bool) -> Iterator[Affixes]:
    """What a name has before or behind one of the `cores`, for each that it begins or ends with."""
    folder, _, stem = name.rpartition("/")
    prefix = "" if flat or not folder else f"{folder}/"
    for cut in range(1, len(stem) + 1):
        if prefix + stem[:cut] in cores:
            yield "", stem[cut:]
        if cut < len(stem) and prefix + stem[cut:] in cores:
            yield stem[:cut], ""
