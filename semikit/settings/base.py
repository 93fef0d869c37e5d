"""The base of every settings class: frozen, strict, no unknown keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Location = Annotated[Path, Field(strict=False)]
"""A path; text is accepted too, for YAML has no paths."""

_Band = Annotated[
    Annotated[int, Field(ge=1), Tag("number")] | Annotated[str, Field(min_length=1), Tag("name")],
    Discriminator(lambda raw: "name" if isinstance(raw, str) else "number"),
]
BandList = Annotated[tuple[_Band, ...], Field(min_length=1)]
"""Bands of a raster by their number or name, as a setting."""


class Settings(BaseModel):
    """Settings of one part of semikit; the class stands beside what it configures, an instance never changes.

    Nothing is converted (no text to numbers), except that a list may stand for a tuple, for YAML has only lists.
    Numbers are finite.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    RENAMED: ClassVar[Mapping[str, str]] = {}
    """Former key -> its name now. A former key is still refused; the message names the new one."""

    @model_validator(mode="before")
    @classmethod
    def _lists_stand_for_tuples(cls, raw: Any) -> Any:
        return {key: _frozen(value) for key, value in raw.items()} if isinstance(raw, dict) else raw


def one_or_many(raw: Any) -> Any:
    """A tuple of what YAML gives: nothing, one thing or a list of them."""
    return () if raw is None else tuple(raw) if isinstance(raw, (list, tuple)) else (raw,)


def _frozen(value: Any) -> Any:
    """Lists, also inside lists and mappings, as tuples."""
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(item) for item in value)
    return {key: _frozen(item) for key, item in value.items()} if type(value) is dict else value
