"""Lists of images in text files: one name, stem or path a line."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from semikit.errors import DataError

_COMPARED = 5000
"""Names a misspelt one is compared with; of more only the neighbours in their order are."""


def read_entries(path: Path, allowed: str) -> list[str]:
    """The lines of a list without blanks and comments; `allowed` says what may be given instead of this file.

    Raises:
        DataError: no text, or nothing in it.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise DataError(f"labels {str(path)!r} is not a text file. Give {allowed}.") from None
    entries = [line for line in lines if line and not line.startswith("#")]
    if not entries:
        raise DataError(f"{path} names no image; write one name a line.")
    return entries


def listed(
    path: Path,
    names: Sequence[str],
    others: Mapping[str, Sequence[str]],
    allowed: str,
    has: Callable[[int], bool],
    what: str = "mask",
) -> list[int]:
    """The images of train a file names, in order; `has` says which of them have a `what` (mask, label).

    `others` are the names of the other parts, of which none may be listed.

    Raises:
        DataError: an unknown or ambiguous entry, one named twice, one of another part, one that cannot be labelled.
    """
    numbers = _by_name(names)
    chosen: dict[int, str] = {}
    for entry in read_entries(path, allowed):
        found = _find(entry, numbers)
        if not found:
            raise _unknown_entry(entry, path, names, others)
        if len(found) > 1:
            told = ", ".join(names[k] for k in found[:3])
            raise DataError(f"{path}: {entry!r} fits {len(found)} images: {told}. Write the subfolder too.")
        if found[0] in chosen:
            raise DataError(f"{path}: {entry!r} and {chosen[found[0]]!r} are the same image; name each once.")
        if not has(found[0]):
            raise DataError(f"{path}: the image {entry!r} has no {what}, so it cannot be labelled.")
        chosen[found[0]] = entry
    return sorted(chosen)


def near(name: str, names: Sequence[str]) -> str:
    """A question after the nearest names, to be put behind a message; nothing where none is near."""
    if len(names) > _COMPARED:
        names = sorted(names)
        place = bisect_left(names, name)
        names = names[max(0, place - 100) : place + 100]
    found = get_close_matches(name, list(names), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(item) for item in found)}?" if found else ""


def _by_name(names: Sequence[str]) -> dict[str, list[int]]:
    """Numbers by name and by every end of it ("b/c" and "c" of "a/b/c")."""
    found: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        parts = PurePosixPath(name).parts
        for start in range(len(parts)):
            found.setdefault("/".join(parts[start:]), []).append(index)
    return found


def _find(entry: str, by_name: Mapping[str, list[int]]) -> list[int]:
    """The images an entry fits: as it stands, without suffix, then by ever shorter ends of the path.

    Of a line "image mask", as published lists have, the image counts.
    """
    for given in dict.fromkeys((entry, entry.split()[0])):
        for text in (given, str(PurePosixPath(given).with_suffix(""))):
            if text in by_name:
                return by_name[text]
        parts = PurePosixPath(given).with_suffix("").parts
        ends = ("/".join(parts[start:]) for start in range(1, len(parts)))
        found = next((by_name[end] for end in ends if end in by_name), [])
        if found:
            return found
    return []


def _unknown_entry(entry: str, path: Path, names: Sequence[str], others: Mapping[str, Sequence[str]]) -> DataError:
    for part, theirs in others.items():
        if _find(entry, _by_name(theirs)):
            return DataError(f"{path}: {entry!r} is an image of {part}, not of train; it must not be labelled.")
    return DataError(f"{path}: no image of train is named {entry!r}.{near(entry, names)}")
