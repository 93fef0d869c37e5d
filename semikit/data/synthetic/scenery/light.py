"""Sun, shadows, haze and the camera: what turns a painted scene into a photograph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from semikit.data.synthetic.scenery.paint import Canvas
from semikit.data.synthetic.scenery.plan import MARGIN, Floats

_SKY, _SUN, _HAZE = (np.array(c, dtype=np.float32) for c in ([0.93, 1.0, 1.12], [1.05, 1.0, 0.92], [0.74, 0.78, 0.82]))
_STEEPEST = 0.9


@final
@dataclass(frozen=True, slots=True)
class Light:
    """Light and camera at one date: `towards` is the way (y, x) to the sun along the ground, `rise` its steepness.

    `direct` is the sun's share of the light, the rest comes from the sky; `blur` in pixels, the others as factors.
    """

    towards: tuple[float, float]
    rise: float
    direct: float
    exposure: Floats
    haze: float
    gamma: float
    blur: float
    grain: float


def draw_light(rng: np.random.Generator) -> Light:
    """The sun is somewhere in the south, high or low, the sky clear or covered, the picture warm or cool."""
    angle, warm, green = float(rng.uniform(-1.1, 1.1)), float(rng.uniform(-0.1, 0.1)), float(rng.uniform(-0.03, 0.03))
    return Light(
        towards=(float(np.cos(angle)), float(np.sin(angle))),
        rise=float(rng.uniform(0.6, 1.5)),
        direct=float(rng.uniform(0.3, 0.7)),
        exposure=rng.uniform(0.8, 1.2) * np.array([1.0 + warm, 1.0 + green, 1.0 - warm]),
        haze=float(rng.uniform(0.0, 0.22)),
        gamma=float(rng.uniform(0.8, 1.2)),
        blur=float(rng.uniform(0.35, 0.6)),
        grain=float(rng.uniform(0.006, 0.022)),
    )


def photograph(canvas: Canvas, light: Light, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The image without the margin, (size, size, 3) uint8."""
    down, right = (np.clip(slope, -_STEEPEST, _STEEPEST) for slope in np.gradient(canvas.height))
    facing = 1 - (down * light.towards[0] + right * light.towards[1]) / light.rise
    sun = np.clip(facing / np.sqrt(1 + down * down + right * right), 0, 1.8) * (1 - _shadow(canvas.height, light))
    image: Floats = canvas.colour * ((1 - light.direct) * _SKY + light.direct * sun[..., None] * _SUN)
    image = image * light.exposure.astype(np.float32)
    image = _blurred(image + light.haze * (_HAZE - image), light.blur)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    grain = rng.normal(0.0, light.grain, (*image.shape[:2], 4)).astype(np.float32)
    image = np.clip(image, 0, 1) ** light.gamma + grain[..., :1] + np.float32(0.5) * grain[..., 1:]
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _shadow(height: Floats, light: Light) -> Floats:
    """Share (h, w) of the sun's light that is blocked: something on the way to the sun is higher than the ray."""
    rows, columns = height.shape
    padded = np.pad(height, MARGIN, mode="edge")
    blocked = np.zeros_like(height)
    for step in np.arange(1.0, MARGIN, 0.75).tolist():
        top, left = (MARGIN + round(step * part) for part in light.towards)
        ahead = padded[top : top + rows, left : left + columns]
        np.maximum(blocked, ahead - np.float32(step * light.rise) - height, out=blocked)
    return _blurred(np.clip(blocked / np.float32(0.8), 0, 1), 0.6)


def _blurred(image: Floats, sigma: float) -> Floats:
    """Gaussian blur of three pixels over rows and columns, sigma in pixels; the outermost pixels stay."""
    side = float(np.exp(-0.5 / sigma**2))
    middle = 1.0 / (1.0 + 2.0 * side)
    image = image.copy()
    image[1:-1] = middle * image[1:-1] + side * middle * (image[:-2] + image[2:])
    image[:, 1:-1] = middle * image[:, 1:-1] + side * middle * (image[:, :-2] + image[:, 2:])
    return image
