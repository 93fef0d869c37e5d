"""What `semikit data prepare` reads: archives and folders, by the names of their members."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import final

from semikit.data.published.archives import Member, folder_members, members
from semikit.errors import DataError

Progress = Callable[[str, int, int], None]
"""What is being done, how many are done, how many there are."""

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz")
DOWNLOADS = "downloads"
"""The folder below a root where fetched archives lie."""


@final
@dataclass(frozen=True, eq=False)
class Place:
    """An archive, or a folder; `prefix` stands before the names of its members, `root`: it is part of the root."""

    path: Path
    prefix: str = ""
    root: bool = False
    without: str = ""
    """Members below this are left out."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Name -> bytes of every member, once it was listed."""

    def members(self) -> Iterator[tuple[str, Member]]:
        """Name and content, in stored order; hidden and empty files are left out.

        Raises:
            DataError: unsafe or damaged.
        """
        for member in folder_members(self.path) if self.path.is_dir() else members(self.path):
            hidden = any(part.startswith(".") or part == "__MACOSX" for part in member.name.split("/"))
            if not hidden and member.size and not (self.without and member.name.startswith(self.without)):
                yield self.prefix + member.name, member


@final
@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """One member that is of use."""

    place: Place
    name: str

    @property
    def size(self) -> int:
        """Bytes."""
        return self.place.sizes[self.name]

    @property
    def where(self) -> str:
        """As it stands in messages."""
        return f"{self.place.path}: {self.name.removeprefix(self.place.prefix)}"


@final
class Inputs:
    """All that was given, and what is in the root already.

    Raises:
        DataError: no such source, or an archive that is damaged or unsafe.
    """

    def __init__(self, source: Path, root: Path, progress: Progress) -> None:
        self.root = root
        self.places = [*_given(source, root), *_root_places(root)]
        for done, place in enumerate(self.places):
            progress(f"looking through {place.path.name}", done, len(self.places))
            place.sizes.update(_sizes(place, source))
        progress("listed", len(self.places), len(self.places))

    @cached_property
    def in_place(self) -> dict[str, int]:
        """Path below the root -> bytes of what lies there."""
        return {name: size for place in self.places if place.root for name, size in place.sizes.items()}

    def find(self, pattern: str) -> list[tuple[re.Match[str], Found]]:
        """Members whose name ends in `pattern`, which begins at a folder; what was given before what is in the root."""
        compiled = re.compile(f"(?:^|/){pattern}$")
        return [
            (match, Found(place, name))
            for place in self.places
            for name in place.sizes
            if (match := compiled.search(name)) is not None
        ]

    def read(self, wanted: Iterable[Found]) -> Iterator[tuple[Found, bytes]]:
        """Contents, in stored order; each archive is passed once."""
        return ((found, member.read()) for found, member in self.members(wanted))

    def heads(self, wanted: Iterable[Found], count: int) -> Iterator[tuple[Found, bytes]]:
        """The first bytes of contents, in stored order."""
        return ((found, member.head(count)) for found, member in self.members(wanted))

    def members(self, wanted: Iterable[Found]) -> Iterator[tuple[Found, Member]]:
        """The members themselves, in stored order; each has to be read before the next is taken."""
        by_place: dict[Place, dict[str, Found]] = {}
        for found in wanted:
            by_place.setdefault(found.place, {})[found.name] = found
        for place, names in by_place.items():
            for name, member in place.members():
                if name in names:
                    yield names.pop(name), member
                if not names:
                    break


def _sizes(place: Place, source: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    try:
        for name, member in place.members():
            sizes.setdefault(name, member.size)  # of a name that stands in an archive twice the first counts, here too
        return sizes
    except DataError as error:
        if place.path == source:
            raise
        raise DataError(f"{error} If {place.path.name} is no part of the data set, move it out of {source}.") from None


def is_archive(path: Path) -> bool:
    """Whether its name is that of an archive."""
    return path.name.lower().endswith(ARCHIVES)


def _given(source: Path, root: Path) -> list[Place]:
    """Folders before archives: their files are linked and need no room."""
    downloads = root / DOWNLOADS
    archives = sorted(path for path in downloads.glob("*") if is_archive(path)) if downloads.is_dir() else []
    if source.is_file() and is_archive(source):
        return [Place(source), *(Place(path) for path in archives if not path.samefile(source))]
    if not source.is_dir():
        wrong = f"no archive ({', '.join(ARCHIVES)})" if source.exists() else "no such file or folder"
        raise DataError(f"--source {source}: {wrong}. Give the folder that holds the archives, or one archive.")
    inner = {path for path in source.rglob("[!.]*") if is_archive(path) and path.is_file()}
    archives += sorted(path for path in inner if not path.resolve().is_relative_to(downloads.resolve()))
    if source.samefile(root) if root.exists() else False:
        return [Place(path) for path in archives]
    below, above = root.resolve(), source.resolve()
    without = f"{below.relative_to(above).as_posix()}/" if below.is_relative_to(above) else ""
    return [Place(source, without=without), *(Place(path) for path in archives)]


def _root_places(root: Path) -> list[Place]:
    """The folders of the root; one that is a link is followed, as whoever made the root laid it there."""
    if not root.is_dir():
        return []
    skipped = {DOWNLOADS, "lists", "splits"}
    inner = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [Place(path.resolve(), f"{path.name}/", root=True) for path in inner if path.name not in skipped]
