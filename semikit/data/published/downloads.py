"""What can be fetched, from where, and how it is recognised: `configs/downloads.yaml`, read."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Self, final
from urllib.parse import quote, urlsplit

import yaml
from pydantic import AfterValidator, Field, StringConstraints, model_validator

from semikit.data.published.catalogue import CONFIGS, read_published
from semikit.errors import unknown
from semikit.settings.base import Settings
from semikit.settings.messages import validate

DOWNLOADS = CONFIGS / "downloads.yaml"


def _web(url: str) -> str:
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"{url} is neither http nor https")
    return url


Url = Annotated[str, AfterValidator(_web)]
Md5 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]
Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


@final
class Download(Settings):
    """One file of a data set."""

    name: str
    """Under which it is kept."""
    what: str
    """What it holds."""
    part: str
    """By which it is asked for."""
    optional: bool = False
    """Whether it is fetched only when its part is asked for."""
    urls: tuple[Url, ...] = ()
    """Where it lies, in the order they are tried; none where a person has to fetch it."""
    md5: Md5 | None = None
    """Checksum."""
    sha256: Sha256 | None = None
    """Checksum."""
    source: str | None = None
    """Who gives the checksum."""
    size: Annotated[int, Field(gt=0)] | None = Field(default=None, alias="bytes")
    """Length in bytes."""
    by_hand: str | None = None
    """What a person does where nothing may be fetched."""
    instead: str | None = None
    """What to do when no address answers."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.urls) == bool(self.by_hand):
            raise ValueError(f"{self.name}: state either urls or by_hand")
        if Path(self.name).name != self.name:
            raise ValueError(f"{self.name}: a file name, without folders")
        return self

    @property
    def digest(self) -> tuple[str, str] | None:
        """Algorithm and hexadecimal checksum."""
        if self.sha256 is not None:
            return "sha256", self.sha256
        return None if self.md5 is None else ("md5", self.md5)


@final
class Lists(Settings):
    """The official lists."""

    urls: tuple[Url, ...]
    """Where they lie; `{path}` stands for the path."""
    lists: dict[str, tuple[Sha256, int]]
    """Path in the authors' repository -> sha256 of the file and number of lines."""

    def of(self, name: str) -> dict[str, tuple[str, int]]:
        """The lists of one data set, by their path below `splits/NAME/` (of pairs `remote-sensing/splits/NAME/`)."""
        begin = f"{read_published(name).lists}/"
        return {path.removeprefix(begin): facts for path, facts in self.lists.items() if path.startswith(begin)}

    def addresses(self, path: str) -> list[str]:
        """Where a list lies, in the order they are tried."""
        return [url.replace("{path}", quote(path)) for url in self.urls]


@final
class Downloads(Settings):
    """The whole file."""

    files: dict[str, tuple[Download, ...]]
    """Of each data set."""
    splits: Lists
    """The official lists of all data sets."""


@lru_cache
def read_downloads() -> Downloads:
    """What can be fetched, of all data sets."""
    return validate(Downloads, yaml.safe_load(DOWNLOADS.read_text(encoding="utf-8")), str(DOWNLOADS))


def downloads_of(name: str, parts: tuple[str, ...] = ()) -> list[Download]:
    """The files of a data set: those of the parts asked for, else all that are not optional.

    Raises:
        UnknownNameError: for a data set or part nobody knows.
    """
    files = read_downloads().files[read_published(name).name]
    known = dict.fromkeys(file.part for file in files)
    for part in parts:
        if part not in known:
            raise unknown(f"part of the downloads of {name}", part, known)
    return [file for file in files if (file.part in parts if parts else not file.optional)]
