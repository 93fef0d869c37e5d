"""Colours of classes."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Palette = npt.NDArray[np.uint8]
"""A colour (R, G, B) for each of 256 class ids, (256, 3)."""


def palette(num_classes: int, given: Sequence[Sequence[int]] | None = None) -> Palette:
    """Distinct colours (256, 3) uint8, the first `num_classes` in use; the same index always has the same colour.

    They are those `given`, if any. Otherwise hues step by the golden ratio, so that neighbours differ, and lightness
    alternates.
    """
    colours = np.zeros((256, 3), dtype=np.uint8)
    if given is not None:
        colours[: len(given)] = given
        return colours
    for i in range(num_classes):
        hue = (0.58 + i * 0.618034) % 1.0
        light, saturation = ((0.52, 0.62), (0.70, 0.55), (0.38, 0.70))[i % 3]
        colours[i] = np.round(np.array(colorsys.hls_to_rgb(hue, light, saturation)) * 255)
    return colours
