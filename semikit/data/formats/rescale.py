"""Values of any type -> uint8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Range = tuple[Sequence[float], Sequence[float]]
"""Lowest and highest value, each one number for all bands or one per band."""


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


def percentiles(values: NDArray[Any], valid: NDArray[np.bool_] | None) -> tuple[list[float], list[float]]:
    """Percentiles 2 and 98 of each band (H, W, C) over valid, finite pixels; (0, 1) where there are none."""
    low, high = [], []
    for band in np.moveaxis(values, 2, 0):
        chosen = band[np.isfinite(band)] if valid is None else band[valid & np.isfinite(band)]
        a, b = np.percentile(chosen, [2, 98]) if chosen.size else (0.0, 1.0)
        low.append(float(a))
        high.append(float(b) if b > a else float(a) + 1.0)
    return low, high
