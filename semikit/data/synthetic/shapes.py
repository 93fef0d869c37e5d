"""Made images of patterned shapes: labels by pattern, never by colour; nothing is downloaded.

Every image is a pure function of (seed, split, index). A scene is a soft background and 4 or 5 overlapping shapes; the
pattern on a shape (stripes, checks, dots, rings, rays) is its class. Outline, size, turn, hue, contrast, polarity, the
light, its colour, blur and grain vary from object to object and image to image and tell nothing about the class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from semikit.core.rng import rng_for
from semikit.data.synthetic.source import SPLITS, GeneratedSamples, Split
from semikit.settings.base import Settings

Floats = NDArray[np.float64]

CLASS_NAMES = ("background", "stripes", "checks", "dots", "rings", "rays")

_UNIT = 64.0
_OBJECTS = (4, 6)
_RADIUS = (14.0, 22.0)
_RIM = 1.8
_CORNER = 1.2


@final
class ShapesSettings(Settings):
    """The built-in data set `shapes`: how large, how many, which seed."""

    size: int = Field(default=80, ge=32, le=512)
    """Side of the square images, in pixels; shapes and patterns grow with it."""
    train: int = Field(default=600, ge=1)
    """Images in the training split, labelled and unlabelled together."""
    val: int = Field(default=100, ge=1)
    """Images in the validation split."""
    test: int = Field(default=100, ge=1)
    """Images in the test split."""
    seed: int = Field(default=0, ge=0)
    """Seed of the generator; another seed gives other images of the same kind."""


@final
class ShapesSource(GeneratedSamples):
    """One split of `shapes`: images are generated when first asked for, and cached (25 KiB each at 80 pixels)."""

    name = "shapes"

    def __init__(self, settings: ShapesSettings, split: Split) -> None:
        super().__init__(split, getattr(settings, split, 0))
        self.settings = settings

    def make(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """One of them, and its labels."""
        return make_scene(self.settings.seed, self.split, index, self.settings.size)


def make_scene(seed: int, split: Split, index: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One image (size, size, 3) uint8 and its labels (size, size) uint8; depends on the arguments alone."""
    rng = rng_for(seed, "shapes", SPLITS[split], index)
    y, x = (np.mgrid[0:size, 0:size] + 0.5) * (_UNIT / size)
    image = _background(rng, y, x)
    labels = np.zeros((size, size), dtype=np.uint8)
    for centre in _centres(rng):
        label = int(rng.integers(1, len(CLASS_NAMES)))
        _paint(rng, image, labels, label, (y - centre[0], x - centre[1]))
    image = _photograph(rng, image, y, x)
    return (image * 255.0 + 0.5).astype(np.uint8), labels


def _centres(rng: np.random.Generator) -> list[Floats]:
    """Where the shapes stand: each the farthest of ten random places from those before, so that they spread out."""
    centres: list[Floats] = []
    for _ in range(int(rng.integers(*_OBJECTS))):
        places = rng.uniform(2.0, _UNIT - 2.0, (10, 2))
        gaps = [min((float(np.hypot(*(p - c))) for c in centres), default=0.0) for p in places]
        centres.append(places[int(np.argmax(gaps))])
    return centres


def _paint(
    rng: np.random.Generator, image: Floats, labels: NDArray[np.uint8], label: int, offset: tuple[Floats, Floats]
) -> None:
    """Draw one shape, its soft shadow first, over what is there already."""
    y, x = offset
    radius = rng.uniform(*_RADIUS)
    pixel = float(y[1, 0] - y[0, 0])
    outline = _outline(rng)
    shadow = np.clip((outline(y - 1.5, x - 1.5) * radius - np.hypot(y - 1.5, x - 1.5)) / 3.0 + 0.5, 0.0, 1.0)
    image *= 1.0 - rng.uniform(0.3, 0.6) * shadow[..., None]
    inside = outline(y, x) * radius - np.hypot(y, x)
    cover = np.clip(inside / pixel + 0.5, 0.0, 1.0)
    pattern = _PATTERNS[label - 1](rng, y, x)[..., None]
    dark, light = _colours(rng)
    edge = np.full(3, rng.uniform(0.85, 1.0))
    rim = np.clip((inside - _RIM) / pixel + 0.5, 0.0, 1.0)[..., None]
    paint = dark + (light - dark) * pattern
    image += cover[..., None] * (edge + rim * (paint - edge) - image)
    labels[cover > 0.5] = label


def _outline(rng: np.random.Generator) -> Callable[[Floats, Floats], Floats]:
    """Radius of a shape over direction, about 1: a polygon of 3 to 6 sides, an ellipse or a lobed blob."""
    turn, sides = rng.uniform(0.0, 2.0 * np.pi), int(rng.integers(3, 9))
    stretch, lobes = rng.uniform(0.65, 1.0), rng.uniform(0.08, 0.2)

    def radius(y: Floats, x: Floats) -> Floats:
        angle = np.arctan2(y, x) - turn
        if sides <= 6:
            wedge = np.mod(angle, 2.0 * np.pi / sides) - np.pi / sides
            straight: Floats = np.cos(np.pi / sides) ** 0.5 / np.cos(wedge)
            return np.clip(straight, 0.0, _CORNER)
        if sides == 7:
            return stretch / np.hypot(stretch * np.cos(angle), np.sin(angle))
        return 1.0 + lobes * np.sin((3 + int(stretch > 0.8)) * angle)

    return radius


def _colours(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Two colours of any hues, one clearly lighter than the other; which of the two comes first is drawn too."""
    tint = rng.uniform(0.0, 1.0, (2, 3))
    tint = tint - tint.mean(axis=1, keepdims=True)
    middle, contrast = rng.uniform(0.3, 0.7), rng.uniform(0.35, 0.7) * rng.choice([-1.0, 1.0])
    pair = np.clip(np.array([[middle - contrast / 2], [middle + contrast / 2]]) + 0.6 * tint, 0.02, 1.0)
    return pair[0], pair[1]


def _soft(wave: Floats, sharpness: float = 4.0) -> Floats:
    """A wave in -1..1 as a soft-edged two-tone pattern in 0..1."""
    return 0.5 + 0.5 * np.tanh(sharpness * wave)


def _turned(rng: np.random.Generator, y: Floats, x: Floats) -> tuple[Floats, Floats]:
    angle = rng.uniform(0.0, np.pi)
    return y * np.cos(angle) - x * np.sin(angle), y * np.sin(angle) + x * np.cos(angle)


def _stripes(rng: np.random.Generator, y: Floats, x: Floats) -> Floats:
    v, _ = _turned(rng, y, x)
    return _soft(np.sin(2 * np.pi * (v / rng.uniform(4.5, 8.0) + rng.uniform())) - rng.uniform(-0.4, 0.4))


def _checks(rng: np.random.Generator, y: Floats, x: Floats) -> Floats:
    v, u = _turned(rng, y, x)
    period, (a, b) = rng.uniform(7.0, 11.0), rng.uniform(0.0, 2 * np.pi, 2)
    return _soft(np.sin(2 * np.pi * v / period + a) * np.sin(2 * np.pi * u / period + b), 6.0)


def _dots(rng: np.random.Generator, y: Floats, x: Floats) -> Floats:
    v, u = _turned(rng, y, x)
    period, (a, b) = rng.uniform(5.5, 8.5), rng.uniform(0.0, 1.0, 2)
    near = np.hypot(np.mod(v / period + a, 1.0) - 0.5, np.mod(u / period + b, 1.0) - 0.5)
    return _soft((rng.uniform(0.26, 0.34) - near) * 2.0)


def _rings(rng: np.random.Generator, y: Floats, x: Floats) -> Floats:
    radius = np.hypot(y - rng.uniform(-2, 2), x - rng.uniform(-2, 2))
    return _soft(np.sin(2 * np.pi * (radius / rng.uniform(4.5, 8.0) + rng.uniform())) - rng.uniform(-0.4, 0.4))


def _rays(rng: np.random.Generator, y: Floats, x: Floats) -> Floats:
    angle = np.arctan2(y - rng.uniform(-2, 2), x - rng.uniform(-2, 2))
    return _soft(np.sin(int(rng.integers(6, 11)) * angle + rng.uniform(0.0, 2 * np.pi)))


_PATTERNS = (_stripes, _checks, _dots, _rings, _rays)


def _background(rng: np.random.Generator, y: Floats, x: Floats) -> Floats:
    """Clouds of two colours: sums of a few broad waves."""
    clouds = np.zeros(y.shape)
    for _ in range(6):
        angle, period = rng.uniform(0.0, 2 * np.pi), rng.uniform(10.0, 40.0)
        clouds += np.sin(2 * np.pi * (y * np.cos(angle) + x * np.sin(angle)) / period + rng.uniform(0.0, 2 * np.pi))
    dark, light = _colours(rng)
    return dark + 0.6 * (light - dark) * _soft(clouds, 0.4)[..., None]


def _photograph(rng: np.random.Generator, image: Floats, y: Floats, x: Floats) -> Floats:
    """Light that falls off across the scene, its colour, exposure, blur and grain; result in 0..1."""
    angle = rng.uniform(0.0, 2 * np.pi)
    slope = (y * np.cos(angle) + x * np.sin(angle)) / _UNIT
    light = 1.0 - rng.uniform(0.0, 0.5) * (slope - slope.min())
    image = image * light[..., None] * rng.uniform(0.75, 1.15, 3) * rng.uniform(0.7, 1.2)
    image = _blurred(image, rng.uniform(0.2, 0.4) / float(y[1, 0] - y[0, 0]))
    grain = rng.normal(0.0, 1.0, image.shape) * rng.uniform(0.0, 0.025)
    return np.clip(np.clip(image, 0.0, 1.0) ** rng.uniform(0.7, 1.3) + grain, 0.0, 1.0)


def _blurred(image: Floats, sigma: float) -> Floats:
    """Gaussian blur over rows and columns, sigma in pixels, edges repeated."""
    reach = int(np.ceil(3.0 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        padded = np.pad(image, [(reach, reach) if a == axis else (0, 0) for a in range(3)], mode="edge")
        parts = [w * np.take(padded, np.arange(k, k + image.shape[axis]), axis) for k, w in enumerate(weights)]
        image = np.sum(parts, axis=0)
    return image
