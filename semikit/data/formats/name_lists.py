"""Lists of images in text files: one name, stem or path a line."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from semikit.data.samples import Samples
from semikit.errors import DataError

_COMPARED = 5000
"""Names a misspelt one is compared with; of more only the neighbours in their order are."""


def read_entries(path: Path, allowed: str, names: Collection[str] = ()) -> list[str]:
    """The lines of a list without blanks and comments; `allowed` says what may be given instead of this file.

    A line that is one of `names` as it stands is that name, also where it begins with # or a blank.

    Raises:
        DataError: no text, or nothing in it.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise DataError(f"labels {str(path)!r} is not a text file. Give {allowed}.") from None
    found = [line if line in names else line.strip() for line in lines]
    entries = [line for line in found if line in names or (line and not line.startswith("#"))]
    if not entries:
        raise DataError(f"{path} names no image; write one name a line.")
    return entries


def listed(
    path: Path,
    train: Samples,
    others: Mapping[str, Samples | None],
    allowed: str,
    has: Callable[[int], bool],
    what: str = "mask",
) -> list[int]:
    """The images of train a file names, in order; `has` says which of them have a `what` (mask, label).

    `others` are val and test, of which none may be listed: an entry that is one of theirs as it stands (val/cat/1.jpg)
    is none of train, whatever the end of its path says.

    Raises:
        DataError: an unknown or ambiguous entry, one named twice, one of another part, one that cannot be labelled.
    """
    names = train.names
    numbers = _by_name(names)
    theirs = {part: (source, _by_name(source.names)) for part, source in others.items() if source is not None}
    chosen: dict[int, str] = {}
    for entry in read_entries(path, allowed, set(names)):
        found = _find(entry, numbers, names)
        if not any(_as_it_stands(entry, train, index) for index in found):
            _refuse_theirs(entry, path, theirs, anyhow=not found)
        if not found:
            raise DataError(f"{path}: no image of train is named {entry!r}.{near(entry, names)}")
        if len(found) > 1:
            fitting = ", ".join(names[k] for k in found[:3])
            raise DataError(f"{path}: {entry!r} fits {len(found)} images: {fitting}. Write the subfolder too.")
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


def _find(entry: str, by_name: Mapping[str, list[int]], names: Sequence[str]) -> list[int]:
    """The images an entry fits: as it stands, without suffix, then those whose whole name is an end of its path.

    Whole, since "dog/7" must not find "cat/7" by its end; and where an entry is the whole name of an image, it is not
    the end of another's. Of a line "image mask", as published lists have, the image counts. In a list that was written
    on Windows a backslash parts folders, where no name has one.
    """
    for given in dict.fromkeys((entry, entry.split()[0], entry.replace("\\", "/"))):
        for text in (given, str(PurePosixPath(given).with_suffix(""))):
            if text in by_name:
                return [index for index in by_name[text] if names[index] == text] or by_name[text]
        parts = PurePosixPath(given).with_suffix("").parts
        ends = ("/".join(parts[start:]) for start in range(1, len(parts)))
        for end in ends:
            found = [index for index in by_name.get(end, ()) if names[index] == end]
            if found:
                return found
    return []


def _refuse_theirs(
    entry: str, path: Path, theirs: Mapping[str, tuple[Samples, dict[str, list[int]]]], *, anyhow: bool
) -> None:
    """Raise where an entry is an image of another part: as it stands or, with `anyhow`, by an end of its path."""
    for part, (source, numbers) in theirs.items():
        held = _find(entry, numbers, source.names)
        if held and (anyhow or any(_as_it_stands(entry, source, index) for index in held)):
            raise DataError(f"{path}: {entry!r} is an image of {part}, not of train; it must not be labelled.")


def _as_it_stands(entry: str, source: Samples, index: int) -> bool:
    """Whether an image's place (its name, where it has no file) ends with the whole entry, suffix or not."""
    files = source.files(index)
    place = files[0].as_posix() if files else source.names[index]
    given = {entry, entry.split()[0]}
    given |= {str(PurePosixPath(text).with_suffix("")) for text in given}
    return any(f"/{text}".endswith(f"/{end}") for text in (place, place.rpartition(".")[0]) for end in given)
