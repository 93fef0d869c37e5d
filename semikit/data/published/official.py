"""The official labelled lists: ROOT/splits/92/labeled.txt as in the authors' repository, or generated (ADE20K).

Lists that were fetched are used only when they are the official ones to the letter, up to line ends, spaces around
entries, and empty lines. ADE20K's are the first n of the sorted training list, shuffled by `random.Random(0)`, which
gives the published files (LiheYoung/UniMatch-V2, splits/ade20k).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from semikit.data.published.catalogue import DATES, Published, read_downloads
from semikit.data.published.prepared import Pair, Prepared, read_list
from semikit.errors import DataError, some, unknown
from semikit.files import shell_word

SPLITS = "splits"
"""The folder of a root that holds the lists."""

_GENERATED = ("ade20k",)
_PREFIX = "official:"


def is_generated(name: str) -> bool:
    """Whether the lists of a data set follow from the names of its images, so that no file is needed."""
    return name in _GENERATED


def split_name(text: str, published: Published) -> str:
    """`"official:1/16"`, `"1/16"` or `"1_16"` -> "1/16".

    Raises:
        UnknownNameError: with the official splits of the data set.
    """
    given = text.removeprefix(_PREFIX)
    name = given.replace("_", "/")
    if name not in published.splits:
        raise unknown(f"official split of {published.name}", given, published.splits)
    return name


def list_file(root: Path, split: str) -> Path:
    """Where the labelled list of a split lies below a root."""
    return root / SPLITS / split.replace("/", "_") / "labeled.txt"


def labeled_images(prepared: Prepared, split: str) -> list[str]:
    """The labelled images of an official split, as paths below the root, in the order of the list.

    Raises:
        UnknownNameError: no such split.
        DataError: a root that is only a part of the data set, a list that is missing or not the official one, or one
            that names images the root does not have.
    """
    published = prepared.published
    name = split_name(split, published)
    _refuse_part(prepared, name)
    pairs = read_list(prepared.path, "train")
    if is_generated(published.name):
        lines = shuffled(pairs)[: published.splits[name][0]]
    else:
        lines = read_official(published, name, list_file(prepared.path, name))
    images = [_image(published, line) for line in lines]
    known = {image for image, _ in pairs}
    missing = [image for image in images if image not in known]
    if missing:
        raise DataError(
            f"{_PREFIX}{name}: {len(missing)} of {len(images)} images of the list are not among the training images "
            f"of {prepared.path}: {some(missing)}. Prepare the root from the published archives."
        )
    return images


def _image(published: Published, line: str) -> str:
    """The image of a line "image mask", or of the name of a pair's files, as a path below the root."""
    return f"{DATES[0]}/{line}" if published.pairs else line.partition(" ")[0]


def shuffled(pairs: Sequence[Pair]) -> list[str]:
    """Lines "image mask" in the order whose beginning is labelled and whose rest is unlabelled."""
    lines = sorted(f"{image} {mask}" for image, mask in pairs)
    random.Random(0).shuffle(lines)
    return lines


def _refuse_part(prepared: Prepared, split: str) -> None:
    published, counts, own = prepared.published, prepared.record.counts, prepared.record.own
    if prepared.record.complete(published):
        return
    counted = ", ".join(f"{part} {counts.get(part, 0)} of {published.counts[part]}" for part in published.masked)
    what = f"is not as published ({own})" if own else f"holds only a part of {published.title} ({counted} images)"
    raise DataError(
        f"{_PREFIX}{split}: {prepared.path} {what}, so no official list applies. Prepare the whole data set as it is "
        "published, or give --labels a number or a fraction."
    )


def read_official(published: Published, split: str, path: Path) -> list[str]:
    """The lines of a list that is known to be the official one.

    Raises:
        DataError: missing, or not that list; says which one it is.
    """
    if not path.is_file():
        raise DataError(
            f"{_PREFIX}{split}: no list {path}. Fetch it with: semikit data fetch {published.name} --splits --root "
            f"{shell_word(path.parents[2])}"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not a text file. {_remedy(published, path)}") from None
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    wanted = f"{published.lists}/{split.replace('/', '_')}/labeled.txt"
    found = known_lists(lines)
    if wanted not in found:
        what = f"the official list {found[0]}" if found else f"no official list of {published.title}"
        raise DataError(
            f"{path} is {what}: it has {len(lines)} entries, the official list {wanted} has "
            f"{published.splits[split][0]} and another sha256. {_remedy(published, path)}"
        )
    return lines


def known_lists(lines: Sequence[str]) -> list[str]:
    """Paths of the official lists that hold these lines; the files end with a newline or without."""
    text = "\n".join(lines)
    digests = {sha256((text + end).encode()).hexdigest() for end in ("", "\n")}
    return [path for path, (digest, _) in read_downloads().splits.lists.items() if digest in digests]


def _remedy(published: Published, path: Path) -> str:
    root = shell_word(path.parents[2])
    return (
        f"Delete it and run: semikit data fetch {published.name} --splits --root {root}; lists of your own go by their "
        "path, --labels FILE."
    )
