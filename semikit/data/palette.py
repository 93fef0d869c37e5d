"""Colours of classes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

Palette = npt.NDArray[np.uint8]
"""A colour (R, G, B) for each of 256 class ids, (256, 3)."""

_STEPS = (0, 36, 73, 109, 146, 182, 219, 255)
"""Of red, green and blue."""
_LEAST_COLOUR = 70
"""Difference of the largest and smallest of them, or a colour is too gray to stand out on an image."""
_FIRST = (0, 109, 219)
_GRAY = 128.0
"""What colours are compared upon, laid over it half transparent."""
_VIEWERS = np.array(
    [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ]
)
"""What linear RGB looks like to all eyes, and to those without red and without green receptors.

Source: Machado, Oliveira, Fernandes, A Physiologically-based Model for Simulation of Color Vision Deficiency, 2009.
"""
_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
"""Linear RGB to Oklab, in which distances are as large as differences look. Source: Ottosson, 2020."""


def palette(num_classes: int, given: Sequence[Sequence[int]] | None = None) -> Palette:
    """Distinct colours (256, 3) uint8, the first `num_classes` in use; the same index always has the same colour.

    They are those `given`, if any. Otherwise each is the one that differs most from all before it, also for those who
    see no red or no green, and where it is laid over an image.
    """
    colours = np.zeros((256, 3), dtype=np.uint8)
    if given is not None:
        colours[: len(given)] = given
        return colours
    colours[:num_classes] = _distinct()[:num_classes]
    return colours


@cache
def _distinct() -> Palette:
    """Colours (256, 3), each as far from those before it as there is one."""
    every = np.stack(np.meshgrid(_STEPS, _STEPS, _STEPS, indexing="ij"), axis=-1).reshape(-1, 3)
    candidates = every[np.ptp(every, axis=1) >= _LEAST_COLOUR]
    looks = as_seen((candidates + _GRAY) / 2)
    chosen = [int(np.abs(candidates - _FIRST).sum(axis=1).argmin())]
    nearest = np.full(len(candidates), np.inf)
    while len(chosen) < 256:
        distance = np.linalg.norm(looks - looks[:, chosen[-1:]], axis=2).min(axis=0)
        nearest = np.minimum(nearest, distance)
        chosen.append(int(nearest.argmax()))
    return np.asarray(candidates[chosen], dtype=np.uint8)


def as_seen(colours: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Colours (N, 3) 0..255 -> (3, N, 3) in Oklab, as they look to all eyes, and to those without red and green."""
    share = colours / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ _VIEWERS.transpose(0, 2, 1), 0, 1)
    return np.asarray(np.cbrt(seen @ _CONES.T) @ _OKLAB.T, dtype=np.float64)
