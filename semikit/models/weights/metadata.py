"""What a file of weights says of its network: validated before anything is built from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, final

from pydantic import ConfigDict, Field, ValidationError

from semikit.errors import WeightsError
from semikit.settings.base import BandList, Settings
from semikit.settings.messages import explain

LARGEST_SIDE = 1 << 14
"""Pixels of a crop or window."""

_Side = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Byte = Annotated[int, Field(ge=0, le=255)]


@final
class Metadata(Settings):
    """The entries that tasks read; a task of a plugin may write fewer, or more."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    task: str
    """seg, cd, cls, or one of a plugin."""
    class_names: Annotated[tuple[str, ...], Field(min_length=1)]
    """In the order of their numbers."""
    model: dict[str, Any] = Field(default_factory=dict)
    """Settings of the network."""
    mean: Annotated[tuple[_Finite, ...], Field(min_length=1)] | None = None
    """Of the channels, 0..1."""
    std: Annotated[tuple[_Positive, ...], Field(min_length=1)] | None = None
    """Of the channels, 0..1."""
    evaluate: dict[str, Any] = Field(default_factory=dict)
    """Settings of evaluation."""
    best: dict[str, Any] = Field(default_factory=dict)
    """Which network was the best, by which protocol, when."""
    palette: tuple[tuple[_Byte, _Byte, _Byte], ...] | None = None
    """Colours of the classes."""
    crop: _Side | None = None
    """Side of the training crop, pixels."""
    size: _Side | None = None
    """Side that whole images are brought to, pixels."""
    side: tuple[_Side, _Side] | None = None
    """Size of the images (H, W) where they were not brought to another."""
    bands: BandList | None = None
    """Bands of rasters, numbers from 1 or names."""
    scale: dict[str, Any] | None = None
    """Range of raster values."""
    orientation: Literal["viewer", "stored"] = "stored"
    """Whether photos are turned as viewers do; runs begun before there was a choice did not."""


def checked(raw: Any, path: Path) -> dict[str, Any]:
    """The metadata as they are, once they are known to be such.

    Raises:
        WeightsError: with everything that is wrong in them.
    """
    if not isinstance(raw, Mapping):
        raise WeightsError(f"{path} does not say how its network is built. {_REMEDY}")
    try:
        Metadata.model_validate(dict(raw))
    except ValidationError as error:
        reason = explain(error, Metadata).replace("\n", "; ")
        raise WeightsError(f"{path}: what it says of its network is damaged: {reason}. {_REMEDY}") from None
    return dict(raw)


_REMEDY = "Give a file as semikit wrote it, or its run folder."
