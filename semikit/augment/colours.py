"""The colours of a strong view, drawn on the host and applied on the device, in whichever way the settings name."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from torch import Tensor

from semikit.augment.intensity import IntensityDraws, draw_intensity, random_intensity
from semikit.augment.settings import StrongSettings
from semikit.augment.strong import StrongFactors, draw_factors, strong_view

Colours: TypeAlias = StrongFactors | IntensityDraws
"""The draws of a strong view of B images."""


def draw_colours(rng: np.random.Generator, batch: int, settings: StrongSettings) -> Colours:
    """Draw the colours of one strong view of `batch` images, on the host."""
    draw = draw_intensity if settings.kind == "random" else draw_factors
    return draw(rng, batch, settings)


def coloured(pixels: Tensor, drawn: Colours) -> Tensor:
    """Pixels (B, C, H, W) float in 0..1 -> their strong view, same shape and range."""
    return random_intensity(pixels, drawn) if isinstance(drawn, IntensityDraws) else strong_view(pixels, drawn)
