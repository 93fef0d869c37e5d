"""Colours of classes."""

from __future__ import annotations

import colorsys

import numpy as np
import numpy.typing as npt


def palette(num_classes: int) -> npt.NDArray[np.uint8]:
    """Distinct colours (256, 3) uint8, the first `num_classes` in use; the same index always has the same colour.

    Hues step by the golden ratio, so that neighbours differ, and lightness alternates.
    """
    colours = np.zeros((256, 3), dtype=np.uint8)
    for i in range(num_classes):
        hue = (0.58 + i * 0.618034) % 1.0
        light, saturation = ((0.52, 0.62), (0.70, 0.55), (0.38, 0.70))[i % 3]
        colours[i] = np.round(np.array(colorsys.hls_to_rgb(hue, light, saturation)) * 255)
    return colours
