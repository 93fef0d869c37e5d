"""Values of any type -> uint8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from semikit.settings.base import Settings

BYTE = 255
"""The greatest value of 8 bits."""

Range = tuple[Sequence[float], Sequence[float]]
"""Lowest and highest value, each one number for all bands or one per band."""


@final
class Scale(Settings):
    """The range of stored values that becomes 0..255; one number for all bands or one per band."""

    min: float | tuple[float, ...]
    """Stored value that becomes 0."""
    max: float | tuple[float, ...]
    """Stored value that becomes 255."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.bounds
        got = f"got min {self.min}, max {self.max}"
        if len(low) != len(high):
            raise ValueError(f"min and max are one number each, or both one for each band; {got}")
        if not all(a < b for a, b in zip(low, high, strict=True)):
            raise ValueError(f"min must be below max, band by band; {got}")
        return self

    @property
    def bounds(self) -> Range:
        """Lowest and highest values, each one number or one per band."""
        low, high = (value if isinstance(value, tuple) else (value,) for value in (self.min, self.max))
        return low, high

    def unit(self, mean: Sequence[float], std: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of stored values, one a band, as those of values that are brought to 0..1."""
        low, high = map(np.asarray, self.bounds)
        return tuple(((mean - low) / (high - low)).tolist()), tuple((std / (high - low)).tolist())

    @property
    def text(self) -> str:
        """The range in words: "0 to 10000"; of several bands their bounds, one after the other."""
        low, high = self.bounds
        return f"{', '.join(f'{v:g}' for v in low)} to {', '.join(f'{v:g}' for v in high)}"


BYTES = Scale(min=0.0, max=float(BYTE))
"""The range of 8 bits, which changes no whole number in 0..255."""


def to_uint8(values: NDArray[Any], scale: Range | None, valid: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """Values (H, W, C), `scale` mapped to 0..255, clipped; 0 where not valid or not finite.

    Without `scale` percentiles 2 and 98 of the valid pixels of each band are taken.
    """
    low, high = (np.asarray(bound, dtype=np.float32) for bound in scale or percentiles(values, valid))
    with np.errstate(invalid="ignore"):
        unit = (values.astype(np.float32) - low) / (high - low)
        unit = np.clip(np.nan_to_num(unit, nan=0.0, posinf=1.0, neginf=0.0), 0.0, 1.0)
    result: NDArray[np.uint8] = (unit * 255.0 + 0.5).astype(np.uint8)
    if valid is not None:
        result[~valid] = 0
    return result


def as_bytes(values: NDArray[Any], valid: NDArray[np.bool_] | None) -> NDArray[np.uint8] | None:
    """Values (H, W, C) of any type as uint8, 0 where not valid, if all valid ones are whole numbers in 0..255: such
    are values of 8 bits, whatever type they were saved as. None if not.
    """
    if values.dtype == np.uint8:
        return values
    seen = values if valid is None else values[valid]
    if seen.size and not (seen.min() >= 0 and seen.max() <= BYTE and (seen == np.rint(seen)).all()):
        return None
    shown = values if valid is None else np.where(valid[..., None], values, 0)
    return shown.astype(np.uint8)


def percentiles(values: NDArray[Any], valid: NDArray[np.bool_] | None) -> tuple[list[float], list[float]]:
    """Percentiles 2 and 98 of each band (H, W, C) over valid, finite pixels; (0, 1) where there are none."""
    low, high = [], []
    for band in np.moveaxis(values, 2, 0):
        chosen = band[np.isfinite(band)] if valid is None else band[valid & np.isfinite(band)]
        a, b = np.percentile(chosen, [2, 98]) if chosen.size else (0.0, 1.0)
        low.append(float(a))
        high.append(float(b) if b > a else float(a) + 1.0)
    return low, high
