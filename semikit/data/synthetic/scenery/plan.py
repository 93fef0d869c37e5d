"""Streets of a made scene, and what can stand along them: slabs (buildings, pads, cars) and trees."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Dates = tuple[bool, bool]

PARCELS = 8
"""Pieces of one block of land: two rows of four."""
MARGIN = 16
"""Pixels around the image in which things are drawn too, for their shadows may fall into it."""

_WIDTH, _LENGTH = (58.0, 76.0), (56.0, 92.0)
_OPEN = 0.22


@final
@dataclass(frozen=True, slots=True)
class Streets:
    """A net of streets and the coordinates along it: u across, v along columns of blocks, both in pixels.

    Column k lies between edges[k] and edges[k + 1] in u; its blocks are length[k] long in v, the first at start[k].
    Where opened[k, row] is true, no street parts a block from the one before. `bends` are waves (width, period over
    2 pi, phase) of the streets along v.
    """

    turn: float
    bends: tuple[tuple[float, float, float], ...]
    edges: Floats
    length: Floats
    start: Floats
    opened: NDArray[np.bool_]

    def along(self, y: Floats, x: Floats) -> tuple[Floats, Floats]:
        """(u, v) of places (y, x)."""
        cos, sin = float(np.cos(self.turn)), float(np.sin(self.turn))
        u, v = y * sin + x * cos, y * cos - x * sin
        for width, period, phase in self.bends:
            u = u + width * np.sin(v / period + phase)
        return u, v

    def place(self, u: float, v: float) -> tuple[float, float, float]:
        """(y, x) of (u, v), and the angle of the street along v there, radians from the y axis."""
        cos, sin, slope = np.cos(self.turn), np.sin(self.turn), 0.0
        for width, period, phase in self.bends:
            u -= width * float(np.sin(v / period + phase))
            slope += width / period * float(np.cos(v / period + phase))
        return float(v * cos + u * sin), float(u * cos - v * sin), self.turn + float(np.arctan(slope))


@final
@dataclass(frozen=True, slots=True)
class Slab:
    """A rectangle on the ground with or without a height; lengths in pixels, `half` along and across.

    `colours` (2, 3) and `here` are by date. `wing` is (place along, reach across, half width) of a second body,
    `parts` (along, across, half along, half across, height) of what stands on a flat roof.
    """

    y: float
    x: float
    angle: float
    half: tuple[float, float]
    colours: Floats
    here: Dates
    building: bool = False
    eave: float = 0.0
    pitch: float = 0.0
    hip: bool = False
    wing: tuple[float, float, float] | None = None
    parts: tuple[tuple[float, ...], ...] = ()

    @property
    def changed(self) -> bool:
        """Whether it is a building that stands at one date only."""
        return self.building and self.here[0] != self.here[1]

    @property
    def reach(self) -> float:
        """Pixels from its middle within which it lies."""
        across = self.half[1] if self.wing is None else max(self.half[1], self.wing[1])
        return float(np.hypot(self.half[0], across)) + 1.5

    def local(self, y: Floats, x: Floats) -> tuple[Floats, Floats]:
        """Coordinates along and across its long axis, from its middle."""
        cos, sin, dy, dx = float(np.cos(self.angle)), float(np.sin(self.angle)), y - self.y, x - self.x
        return dy * cos - dx * sin, dy * sin + dx * cos

    def holds(self, y: float, x: float, slack: float) -> bool:
        """Whether a place is inside or nearer than `slack`."""
        along, across = (float(c) for c in self.local(np.array(y), np.array(x)))
        wing = 0.0 if self.wing is None else self.wing[1]
        return abs(along) < self.half[0] + slack and -self.half[1] - slack < across < max(self.half[1], wing) + slack


@final
@dataclass(frozen=True, slots=True)
class Tree:
    """A tree: its radius at the two dates, 0 where it is not there, its height, and its shade of colour in -1..1."""

    y: float
    x: float
    radius: tuple[float, float]
    height: float
    tint: float
    evergreen: bool


@final
@dataclass(slots=True)
class Plan:
    """A scene of size x size pixels at its two dates.

    `land[date]` holds two colours of each piece of land, (columns, rows, PARCELS, 2, 3), `furrows[date]` how deep it is
    ploughed; `grass` and `leaves` (2, 3) are the colours of the season at each date.
    """

    size: int
    streets: Streets
    land: Floats
    furrows: Floats
    grass: Floats
    leaves: Floats
    slabs: list[Slab] = field(default_factory=list)
    cars: list[Slab] = field(default_factory=list)
    trees: list[Tree] = field(default_factory=list)

    def sees(self, y: float, x: float, reach: float) -> bool:
        """Whether something of that reach lies in the image or its margin."""
        low, high = -MARGIN - reach, self.size + MARGIN + reach
        return low < y < high and low < x < high


def draw_streets(rng: np.random.Generator, size: int) -> Streets:
    """Streets over an image of `size` pixels a side and its margin."""
    turn = float(rng.uniform(0.0, np.pi))
    bends = tuple(
        (float(rng.uniform(0.0, width)), float(rng.uniform(*period)), float(rng.uniform(0.0, 2 * np.pi)))
        for width, period in ((5.0, (22.0, 40.0)), (14.0, (60.0, 120.0)))
    )
    corners = np.array([-MARGIN, size + MARGIN], dtype=np.float64)
    y, x = np.meshgrid(corners, corners)
    slack = sum(width for width, _, _ in bends)
    p, q = y * np.sin(turn) + x * np.cos(turn), y * np.cos(turn) - x * np.sin(turn)
    first = float(p.min()) - slack - float(rng.uniform(0.0, _WIDTH[0]))
    count = int((float(p.max()) + slack - first) / _WIDTH[0]) + 1
    edges = first + np.concatenate([[0.0], np.cumsum(rng.uniform(*_WIDTH, count))])
    length = rng.uniform(*_LENGTH, count)
    start = q.min() - rng.uniform(0.0, 1.0, count) * length
    rows = int((q.max() - q.min()) / _LENGTH[0]) + 2
    return Streets(turn, bends, edges, length, start, rng.uniform(size=(count, rows)) < _OPEN)
