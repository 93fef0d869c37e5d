"""What is known of the published data sets: classes, colours, counts, official splits. One YAML each, no torch."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Self, final

import yaml
from pydantic import BeforeValidator, model_validator

from semikit.core.settings import Settings
from semikit.core.validation import validate
from semikit.data.mask_values import MaskValues
from semikit.errors import unknown

Colour = tuple[int, int, int]

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
    title: str
    """As people call it."""
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
    counts: dict[str, int]
    """Images of each part: train, val, and further ones without masks."""
    splits: dict[str, tuple[int, int]]
    """Name of an official split -> labelled and unlabelled images."""
    labels: str
    """What is labelled where nothing is said."""

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
        remedy = f"Masks of {self.name} hold class numbers and {self.ignore[0]}; `semikit data verify` tells the cause."
        return MaskValues(len(self.classes), self.ignore, remedy=remedy)

    @property
    def extra(self) -> tuple[str, ...]:
        """Parts that have images only."""
        return tuple(part for part in self.counts if part not in ("train", "val"))


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


def default_root(name: str) -> Path:
    """Where a data set lies unless said otherwise: $SEMIKIT_DATA/NAME, else ./data/NAME."""
    return Path(os.environ.get("SEMIKIT_DATA") or "data").expanduser().absolute() / name
