"""Made images of one shape each, 32x32 pixels: the outline is the class, never colour; nothing is downloaded.

Every image is a pure function of (seed, split, number). A pale shape of some size, turn, stretch and place lies on a
darker, cloudy background; a bar may cross it, spots and texture lie about, tints, light, blur and grain vary. None of
that tells anything about the class. Colours are held back on purpose: with free ones a small network learns the colours
of 64 labelled images by heart and not one outline. Images are generated in blocks, all of a block at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from semikit.core.rng import rng_for
from semikit.data.labeled_images import LabeledArrays
from semikit.data.samples import DataParts
from semikit.data.synthetic.source import SPLITS, Split
from semikit.settings.base import Settings

Floats = NDArray[np.floating[Any]]

CLASS_NAMES = ("disc", "ring", "square", "triangle", "star", "cross", "crescent", "letter T")

SIDE = 32
_BLOCK = 30 * len(CLASS_NAMES)
"""Images that are generated together; in each block every class is equally frequent."""


@final
class ClassShapesSettings(Settings):
    """The built-in data set `shapes-cls`: how many images, which seed."""

    train: int = Field(default=4800, ge=len(CLASS_NAMES))
    """Images in the training split, labelled and unlabelled together."""
    val: int = Field(default=960, ge=len(CLASS_NAMES))
    """Images in the validation split."""
    test: int = Field(default=960, ge=len(CLASS_NAMES))
    """Images in the test split."""
    seed: int = Field(default=0, ge=0)
    """Seed of the generator; another seed gives other images of the same kind."""


def open_shapes(settings: ClassShapesSettings) -> DataParts:
    """All three splits, generated now (about 4000 images a second)."""
    train, val, test = shapes_source(settings, "train"), shapes_source(settings, "val"), shapes_source(settings, "test")
    return DataParts(train, (), val, test, CLASS_NAMES, balanced=True)


def shapes_source(settings: ClassShapesSettings, split: Split) -> LabeledArrays:
    """The images of one split."""
    count = getattr(settings, split)
    blocks = [make_block(settings.seed, split, number) for number in range(-(-count // _BLOCK))]
    images, labels = (np.concatenate(parts)[:count] for parts in zip(*blocks, strict=True))
    return LabeledArrays(split, images, labels)


def make_block(seed: int, split: Split, number: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """240 images (240, 32, 32, 3) uint8 and their classes (240,); depends on the arguments alone."""
    rng = rng_for(seed, "shapes-cls", SPLITS[split], number)
    labels = rng.permutation(np.arange(_BLOCK) % len(CLASS_NAMES))
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)[:, None] - np.float32((SIDE - 1) / 2)
    image = _background(rng, y, x)
    for _ in range(2):
        image = _spot(rng, image, y, x)
    image = _shape(rng, image, labels, y, x)
    image = _bar(rng, image, y, x)
    return _photograph(rng, image, y, x), labels.astype(np.int64)


def _uniform(rng: np.random.Generator, low: float, high: float, *more: int) -> Floats:
    """One number for each image of a block (N, 1, 1), or `more` (N, *more)."""
    return rng.uniform(low, high, (_BLOCK, *(more or (1, 1)))).astype(np.float32)


def _colours(rng: np.random.Generator) -> Floats:
    """Dark colours (N, 3) of any hue, near gray."""
    return _uniform(rng, 0.22, 0.32, 1) + _uniform(rng, -0.03, 0.03, 3)


def _sometimes(rng: np.random.Generator, most: float) -> Floats:
    """0 for half of the images, up to `most` for the others (N, 1, 1)."""
    return np.maximum(_uniform(rng, -most, most), 0)


def _over(image: Floats, cover: Floats, colour: Floats) -> Floats:
    """`colour` (N, 3) or (N, H, W, 3) laid over where `cover` (N, H, W) is 1."""
    paint = colour[:, None, None] if colour.ndim == 2 else colour
    return image + cover[..., None] * (paint - image)


def _waves(rng: np.random.Generator, y: Floats, x: Floats, short: float, long: float) -> Floats:
    """Waves (N, H, W) between -1 and 1 of any direction and phase, `short` to `long` pixels from crest to crest."""
    angle, phase = _uniform(rng, 0, 2 * np.pi), _uniform(rng, 0, 2 * np.pi)
    return np.sin((y * np.cos(angle) + x * np.sin(angle)) * (2 * np.pi / _uniform(rng, short, long)) + phase)


def _background(rng: np.random.Generator, y: Floats, x: Floats) -> Floats:
    """Clouds between a colour and one near it, and a fine texture on some."""
    colour = _colours(rng)
    clouds = np.mean([_waves(rng, y, x, 12, 50) for _ in range(3)], axis=0)
    other = colour + _uniform(rng, -0.08, 0.08, 3)
    image = _over(np.broadcast_to(colour[:, None, None], (_BLOCK, SIDE, SIDE, 3)), 0.5 + 0.5 * clouds, other)
    return image + (_sometimes(rng, 0.06) * _waves(rng, y, x, 3, 7))[..., None]


def _spot(rng: np.random.Generator, image: Floats, y: Floats, x: Floats) -> Floats:
    """A small dark blot anywhere."""
    radius, squeeze = _uniform(rng, 1.0, 3.0), _uniform(rng, 0.6, 1.6)
    away = np.hypot((y - _uniform(rng, -16, 16)) * squeeze, (x - _uniform(rng, -16, 16)) / squeeze)
    return _over(image, np.clip(radius - away + 0.5, 0, 1), _colours(rng))


def _shape(rng: np.random.Generator, image: Floats, labels: NDArray[np.int64], y: Floats, x: Floats) -> Floats:
    """The shape, lighter than all that lies under it, plain or faintly striped."""
    radius, turn, stretch = _uniform(rng, 8.0, 12.0), _uniform(rng, -0.5, 0.5), _uniform(rng, 0.87, 1.15)
    v, u = y - _uniform(rng, -4, 4), x - _uniform(rng, -4, 4)
    v, u = (v * np.cos(turn) - u * np.sin(turn)) * stretch, (v * np.sin(turn) + u * np.cos(turn)) / stretch
    inside = np.empty(v.shape, np.float32)
    for label, outline in enumerate(_OUTLINES):
        of = labels == label
        inside[of] = outline(v[of] / radius[of], u[of] / radius[of]) * radius[of]
    bright = _colours(rng) + _uniform(rng, 0.3, 0.5, 1)
    paint = bright[:, None, None] + (_sometimes(rng, 0.1) * _waves(rng, y, x, 4, 9))[..., None]
    return _over(image, np.clip(inside + 0.5, 0, 1), paint)


def _bar(rng: np.random.Generator, image: Floats, y: Floats, x: Floats) -> Floats:
    """A dark bar across half of the images, which may hide a part of the shape."""
    angle = _uniform(rng, 0, np.pi)
    away = np.abs(y * np.cos(angle) + x * np.sin(angle) - _uniform(rng, -12, 12))
    return _over(image, np.clip(_uniform(rng, -2.0, 2.0) - away + 0.5, 0, 1), _colours(rng))


def _photograph(rng: np.random.Generator, image: Floats, y: Floats, x: Floats) -> NDArray[np.uint8]:
    """Light that falls off, exposure, blur and grain."""
    light = 1 + (_waves(rng, y, x, 60, 120) * _uniform(rng, 0, 0.3))[..., None]
    image = image * light * _uniform(rng, 0.94, 1.06, 1, 1, 3)
    soft = _uniform(rng, 0.0, 0.25, 1, 1, 1)
    for axis in (1, 2):
        padded = np.concatenate([image.take([0], axis), image, image.take([-1], axis)], axis)
        before, after = padded.take(range(SIDE), axis), padded.take(range(2, SIDE + 2), axis)
        image = image + soft * (before + after - 2 * image)
    grain = rng.standard_normal(image.shape, np.float32) * _uniform(rng, 0.0, 0.05, 1, 1, 1)
    return (np.clip(image + grain, 0, 1) * 255 + 0.5).astype(np.uint8)


# ---- Outlines: how far a place (v, u) lies inside, in radii; negative outside. A shape fills about the unit disc.


def _disc(v: Floats, u: Floats) -> Floats:
    return 0.9 - np.hypot(v, u)


def _ring(v: Floats, u: Floats) -> Floats:
    return 0.22 - np.abs(np.hypot(v, u) - 0.78)


def _square(v: Floats, u: Floats) -> Floats:
    return 0.8 - np.maximum(np.abs(v), np.abs(u))


def _triangle(v: Floats, u: Floats) -> Floats:
    return 0.58 - np.maximum(v, np.abs(u) * 0.866 - v * 0.5)


def _star(v: Floats, u: Floats) -> Floats:
    wedge = np.abs(np.mod(np.arctan2(v, u), 2 * np.pi / 5) - np.pi / 5) / (np.pi / 5)
    return 0.42 + 0.68 * wedge**1.5 - np.hypot(v, u)


def _cross(v: Floats, u: Floats) -> Floats:
    v, u = np.abs(v), np.abs(u)
    inside: Floats = np.maximum(np.minimum(1 - v, 0.3 - u), np.minimum(0.3 - v, 1 - u))
    return inside


def _crescent(v: Floats, u: Floats) -> Floats:
    inside: Floats = np.minimum(1 - np.hypot(v, u), np.hypot(v, u - 0.5) - 0.7)
    return inside


def _letter(v: Floats, u: Floats) -> Floats:
    stem = np.minimum(0.9 - np.abs(v), 0.26 - np.abs(u))
    inside: Floats = np.maximum(stem, np.minimum(0.26 - np.abs(v + 0.64), 0.9 - np.abs(u)))
    return inside


_OUTLINES: tuple[Callable[[Floats, Floats], Floats], ...] = (
    _disc,
    _ring,
    _square,
    _triangle,
    _star,
    _cross,
    _crescent,
    _letter,
)
