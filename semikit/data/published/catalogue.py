"""The published data sets, read from `configs/published/` and `configs/downloads.yaml`:
what they are, where a root lies, what can be fetched and how it is recognised.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Self, final
from urllib.parse import quote, urlsplit

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from semikit.data.formats.mask_values import MaskValues
from semikit.errors import unknown
from semikit.files import at_home
from semikit.settings.base import Settings
from semikit.settings.messages import validate

Colour = tuple[int, int, int]

DATES = ("A", "B")
"""Folders of the two dates in the root of a data set of pairs."""
LABEL = "label"
"""Folder of their masks."""

CONFIGS = Path(__file__).parents[2] / "configs"
"""The folder of YAML files that belongs to the package."""


def _colours(raw: Any) -> Any:
    """Colours from hexadecimal text, "804080 f423e8 …"."""
    return tuple(tuple(bytes.fromhex(item)) for item in raw.split()) if isinstance(raw, str) else raw


@final
class Published(Settings):
    """One published data set."""

    name: str
    """As on the command line."""
    task: str = "seg"
    """Of `semikit train`; those of cd are pairs of two dates."""
    title: str
    """Its usual name."""
    homepage: str
    """Where its terms are."""
    licence: str
    """Of images and annotations."""
    classes: tuple[str, ...]
    """Class names, in the order of the class numbers."""
    palette: Annotated[tuple[Colour, ...], BeforeValidator(_colours)]
    """The colour that is usual for each class."""
    ignore: tuple[int, ...]
    """Mask values that do not count."""
    mapping: dict[int, int] = Field(default_factory=dict)
    """Mask value -> class, for classes that are stored otherwise than by their number."""
    counts: dict[str, int]
    """Images (or pairs) of each part: train, val, test where there is one, and further ones without masks."""
    splits: dict[str, tuple[int, int]]
    """Name of an official split -> labelled and unlabelled images."""
    labels: str
    """What is labelled where nothing is said."""
    layout: tuple[str, str, str] | None = None
    """Of pairs that are laid out as they are: folders of the first date, the second and the masks, below those of the
    parts. Without val a share of train is held out, see `preparers/_folders.py`."""
    deep: bool = False
    """Whether images have more than 8 bits, and one range of values is sampled of them."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.palette) != len(self.classes):
            raise ValueError(f"{len(self.classes)} classes but {len(self.palette)} colours")
        for split, counts in self.splits.items():
            if sum(counts) != self.counts["train"]:
                raise ValueError(f"split {split}: {counts} do not add up to {self.counts['train']} training images")
        return self

    @property
    def values(self) -> MaskValues:
        """How the values of a prepared mask are read: class numbers, and those that do not count."""
        named = [f"{value} ({self.classes[number]})" for value, number in sorted(self.stored.items())]
        held = " and ".join(named if self.mapping else ["class numbers", *map(str, self.ignore)])
        remedy = f"Masks of {self.name} hold {held}; `semikit data verify` tells the cause."
        mapping = tuple(sorted(self.mapping.items()))
        return MaskValues(len(self.classes), self.ignore, mapping, remedy, exact=bool(mapping))

    @property
    def stored(self) -> dict[int, int]:
        """Mask value -> class, of every class."""
        plain = set(range(len(self.classes))) - set(self.mapping.values())
        return {**{number: number for number in sorted(plain)}, **self.mapping}

    @property
    def masked(self) -> tuple[str, ...]:
        """Parts whose images have masks."""
        return tuple(part for part in self.counts if part in ("train", "val", "test"))

    @property
    def extra(self) -> tuple[str, ...]:
        """Parts that have images only."""
        return tuple(part for part in self.counts if part not in self.masked)

    @property
    def pairs(self) -> bool:
        """Whether an image is a pair of two dates: A/NAME and B/NAME."""
        return self.task == "cd"

    @property
    def lists(self) -> str:
        """The folder of the authors' repository that holds the official lists."""
        return f"{'remote-sensing/' if self.pairs else ''}splits/{self.name}"

    def files(self, image: str) -> tuple[str, ...]:
        """The files of an image by the one that lists name: itself, or of a pair those of both dates."""
        return tuple(f"{date}{image.removeprefix(DATES[0])}" for date in DATES) if self.pairs else (image,)

    def named(self, image: str) -> str:
        """The name of an image by its file: "JPEGImages/2007_000032", of a pair "train_1_16"."""
        return (image.removeprefix(f"{DATES[0]}/") if self.pairs else image).rpartition(".")[0]


def published_names() -> list[str]:
    """Names of all published data sets."""
    return sorted(path.stem for path in (CONFIGS / "published").glob("*.yaml"))


@lru_cache
def read_published(name: str) -> Published:
    """A published data set by name.

    Raises:
        UnknownNameError: with the nearest known names.
    """
    if name not in published_names():
        raise unknown("published data set", name, published_names())
    path = CONFIGS / "published" / f"{name}.yaml"
    return validate(Published, yaml.safe_load(path.read_text(encoding="utf-8")), str(path))


def root_of(name: str, given: Path | None) -> Path:
    """Where a data set lies: the absolute path of what was given, or of its default.

    Raises:
        DataError: `~` of a user nobody knows.
    """
    return at_home(given or default_root(name)).absolute()


def default_root(name: str) -> Path:
    """Where a data set lies unless said otherwise: $SEMIKIT_DATA/NAME, else ./data/NAME."""
    return at_home(Path(os.environ.get("SEMIKIT_DATA") or "data")).absolute() / name


_DOWNLOADS = CONFIGS / "downloads.yaml"


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
    """Its name on the disk."""
    what: str
    """What it holds."""
    part: str
    """By which it is asked for."""
    optional: bool = False
    """Whether it is fetched only when its part is asked for."""
    urls: tuple[Url, ...] = ()
    """Where it lies, in the order they are tried; none where the user has to fetch it."""
    md5: Md5 | None = None
    """Checksum."""
    sha256: Sha256 | None = None
    """Checksum."""
    source: str | None = None
    """Who gives the checksum."""
    size: Annotated[int, Field(gt=0)] | None = Field(default=None, alias="bytes")
    """Length in bytes."""
    by_hand: str | None = None
    """What the user does where nothing may be fetched."""
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
    return validate(Downloads, yaml.safe_load(_DOWNLOADS.read_text(encoding="utf-8")), str(_DOWNLOADS))


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
