"""What stands in a generated scene: along streets buildings, pads, car parks, cars and trees, some of which change."""

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
    turn = rng.uniform(0.0, np.pi)
    bends = tuple(
        (rng.uniform(0.0, width), rng.uniform(*period), rng.uniform(0.0, 2 * np.pi))
        for width, period in ((5.0, (22.0, 40.0)), (14.0, (60.0, 120.0)))
    )
    corners = np.array([-MARGIN, size + MARGIN], dtype=np.float64)
    y, x = np.meshgrid(corners, corners)
    slack = sum(width for width, _, _ in bends)
    p, q = y * np.sin(turn) + x * np.cos(turn), y * np.cos(turn) - x * np.sin(turn)
    first = float(p.min()) - slack - rng.uniform(0.0, _WIDTH[0])
    count = int((float(p.max()) + slack - first) / _WIDTH[0]) + 1
    edges = first + np.concatenate([[0.0], np.cumsum(rng.uniform(*_WIDTH, count))])
    length = rng.uniform(*_LENGTH, count)
    start = q.min() - rng.uniform(0.0, 1.0, count) * length
    rows = int((q.max() - q.min()) / _LENGTH[0]) + 2
    return Streets(turn, bends, edges, length, start, rng.uniform(size=(count, rows)) < _OPEN)


_TILES = np.array([[66, 38, 28], [66, 42, 32], [50, 36, 29], [40, 41, 45], [62, 59, 55], [56, 47, 37]]) / 100.0
_SHEETS = np.array([[88, 88, 87], [63, 64, 65], [45, 54, 65], [47, 45, 43], [74, 70, 62]]) / 100.0
_PADS = np.array([[61, 50, 37], [40, 40, 41], [76, 75, 72], [62, 40, 31], [38, 48, 43]]) / 100.0
_CARS = np.array([[92, 92, 93], [15, 15, 17], [55, 57, 60], [60, 15, 13], [18, 27, 48]]) / 100.0
_POOL = np.array([0.40, 0.66, 0.74])
_BOTH: Dates = (True, True)

Lot = tuple[float, float, float, float]
"""Middle (u, v) and size along v and across."""


@final
@dataclass(frozen=True, slots=True)
class Block:
    """Land between streets: its middle (u, v), half its width and length, its (column, row).

    `rate` is the share of its buildings that change, `grows` the share of these that are new.
    """

    u: float
    v: float
    half: tuple[float, float]
    index: tuple[int, int]
    rate: float
    grows: float

    def lots(self, rng: np.random.Generator, step: tuple[float, float], rows: int) -> list[Lot]:
        """Lots about `step` long side by side along v, in one row or two."""
        count = int((self.half[1] * 2 - 7.0) / rng.uniform(*step))
        long, depth = (self.half[1] * 2 - 7.0) / count, (self.half[0] * 2 - 7.0) / rows
        return [
            (self.u + (side + 0.5 - rows / 2) * depth, self.v + (k + 0.5 - count / 2) * long, long, depth)
            for k, side in np.ndindex(count, rows)
        ]


def tile_colours(rng: np.random.Generator, count: int) -> Floats:
    """Colours (count, 3) of roofs of houses."""
    colours: Floats = _TILES[rng.integers(0, len(_TILES), count)]
    return colours


def add_house(rng: np.random.Generator, plan: Plan, block: Block, lot: Lot, across: bool, colour: Floats) -> None:
    """A house with a gabled, hipped or, now and then, flat roof, at times with a wing."""
    u, v, step, depth = lot
    y, x, angle = plan.streets.place(u + rng.uniform(-1.5, 1.5), v + rng.uniform(-1.0, 1.0))
    turned = across != (rng.uniform() < 0.15)
    long, wide = (depth, step) if turned else (step, depth)
    sides = (rng.uniform(0.36, 0.43) * long, min(rng.uniform(0.28, 0.38) * wide, 7.8))
    half = (max(sides), min(sides))
    turned = turned if sides[0] >= sides[1] else not turned
    flat = bool(rng.uniform() < 0.15)
    wing = None
    if rng.uniform() < 0.4 and not flat:
        place, reach, width = rng.uniform((-0.5, 2.0, 3.6), (0.5, 4.5, 5.0)).tolist()
        wing = (place * half[0], half[1] + reach, width)
    slab = Slab(
        y=y,
        x=x,
        angle=angle + float(np.pi / 2 * turned + np.pi * rng.integers(0, 2) + rng.normal(0.0, 0.05)),
        half=half,
        colours=_roof(rng, colour, repainted=0.12),
        here=_stands(rng, block),
        building=True,
        eave=rng.uniform(2.6, 5.0),
        pitch=0.0 if flat else rng.uniform(0.35, 0.8),
        hip=bool(rng.uniform() < 0.4),
        wing=wing,
    )
    _add(rng, plan, slab)


def add_hall(rng: np.random.Generator, plan: Plan, block: Block, lot: Lot) -> None:
    """A hall with a low gable, or a flat roof with things on it."""
    u, v, step, depth = lot
    half = (rng.uniform(0.32, 0.43) * step, min(rng.uniform(0.27, 0.39) * depth, 14.0))
    y, x, angle = plan.streets.place(u + rng.uniform(-2.0, 2.0), v)
    low = bool(rng.uniform() < 0.35)
    parts = rng.uniform((-0.7, -0.7, 0.8, 0.8, 0.8), (0.7, 0.7, 2.2, 2.2, 2.0), (0 if low else rng.integers(1, 5), 5))
    slab = Slab(
        y=y,
        x=x,
        angle=angle,
        half=half,
        colours=_roof(rng, _SHEETS[rng.integers(0, len(_SHEETS))], repainted=0.15),
        here=_stands(rng, block),
        building=True,
        eave=rng.uniform(4.0, 8.5),
        pitch=float(rng.uniform(0.12, 0.3)) if low else 0.0,
        parts=tuple((a * half[0], b * half[1], da, db, up) for a, b, da, db, up in parts.tolist()),
    )
    _add(rng, plan, slab)


def _stands(rng: np.random.Generator, block: Block) -> Dates:
    """At which dates a building of the block stands."""
    if rng.uniform() >= block.rate:
        return _BOTH
    return (False, True) if rng.uniform() < block.grows else (True, False)


def _roof(rng: np.random.Generator, colour: Floats, repainted: float) -> Floats:
    """Colours (2, 3) of a roof at the two dates, now and then another at the second."""
    first = colour * rng.uniform(0.85, 1.12) + rng.normal(0.0, 0.02, 3)
    others = np.concatenate([_TILES, _SHEETS])
    other = others[rng.integers(0, len(others))]
    return np.stack([first, other if rng.uniform() < repainted else first * rng.uniform(0.92, 1.08)])


def _add(rng: np.random.Generator, plan: Plan, slab: Slab) -> None:
    """Add a building; where it does not stand, its ground is at times bare or paved: flat, but of the same outline."""
    if slab.changed and rng.uniform() < 0.3:
        half = (slab.half[0] + rng.uniform(0.0, 2.0), slab.half[1] + rng.uniform(0.0, 2.0))
        add_pad(plan, (slab.y, slab.x, slab.angle), half, _pad(rng), (slab.here[1], slab.here[0]))
    if plan.sees(slab.y, slab.x, slab.reach):
        plan.slabs.append(slab)


def _pad(rng: np.random.Generator) -> Floats:
    """Colours (2, 3) of soil, asphalt, concrete, a court; at times of another at the second date."""
    first = _PADS[rng.integers(0, len(_PADS))] * rng.uniform(0.88, 1.1)
    return np.stack([first, _PADS[rng.integers(0, len(_PADS))] if rng.uniform() < 0.2 else first])


def add_pad(
    plan: Plan, place: tuple[float, float, float], half: tuple[float, float], colours: Floats, here: Dates
) -> None:
    """A flat rectangle at (y, x, angle)."""
    slab = Slab(*place, half, colours, here)
    if plan.sees(slab.y, slab.x, slab.reach):
        plan.slabs.append(slab)


def add_empty(rng: np.random.Generator, plan: Plan, lot: Lot) -> None:
    """A lot without a building: mostly a pad, there at one date or both."""
    u, v, step, depth = lot
    if rng.uniform() < 0.8:
        half = (rng.uniform(0.28, 0.42) * step, rng.uniform(0.28, 0.42) * depth)
        here: Dates = ((True, True), (True, False), (False, True))[int(rng.integers(0, 3))]
        add_pad(plan, plan.streets.place(u, v), half, _pad(rng), here)


def add_garden(rng: np.random.Generator, plan: Plan, block: Block, lot: Lot) -> None:
    """A drive from the street, and at times a pool."""
    u, v, step, depth = lot
    out = 1.0 if u > block.u else -1.0
    paving = np.stack([_PADS[2] * rng.uniform(0.8, 1.0)] * 2)
    drive = plan.streets.place(u + out * 0.33 * depth, v + float(rng.choice([-0.4, 0.4])) * step)
    add_pad(plan, drive, (1.2, 0.2 * depth), paving, _BOTH)
    if rng.uniform() < 0.2:
        pool = plan.streets.place(u - out * 0.44 * depth, v + rng.uniform(-0.2, 0.2) * step)
        add_pad(plan, pool, (2.4, 1.3), np.stack([_POOL, _POOL * rng.uniform(0.8, 1.0)]), _BOTH)


def add_car(rng: np.random.Generator, plan: Plan, place: tuple[float, float, float], here: Dates) -> None:
    """A car at (y, x, angle)."""
    y, x, angle = place
    if plan.sees(y, x, 0.0):
        colours = np.stack([_CARS[rng.integers(0, len(_CARS))]] * 2)
        plan.cars.append(Slab(y, x, angle, (2.2, 1.05), colours, here, eave=1.2))


def add_parking(rng: np.random.Generator, plan: Plan, lot: Lot) -> None:
    """A paved lot with two rows of cars; others stand there at the second date."""
    u, v, step, depth = lot
    add_pad(plan, plan.streets.place(u, v), (0.45 * step, 0.42 * depth), np.stack([_PADS[1] * 1.1] * 2), _BOTH)
    for row in (-1.0, 1.0):
        for along in np.arange(-0.4 * step, 0.4 * step, 3.1).tolist():
            y, x, angle = plan.streets.place(u + row * 0.27 * depth, v + along)
            for here in ((True, False), (False, True)):
                if rng.uniform() < 0.55:
                    add_car(rng, plan, (y, x, angle + float(np.pi) / 2), here)


def add_trees(
    rng: np.random.Generator, plan: Plan, block: Block, count: int, border: float, buildings: list[Slab]
) -> None:
    """Trees of a block, the share `border` of them along its edge; where a building stands there is none."""
    width, length = block.half[0] - 6.0, block.half[1] - 6.0
    for _ in range(count):
        a, b, radius, grown, height, tint = rng.uniform(
            (-1, -1, 2.0, 0.88, 0.9, -1), (1, 1, 4.6, 1.18, 1.8, 1)
        ).tolist()
        if rng.uniform() < border:
            a, b = (float(np.sign(a)), b) if rng.uniform() < length / (length + width) else (a, float(np.sign(b)))
        felled, planted, evergreen = (rng.uniform(size=3) < (0.04, 0.04, 0.22)).tolist()
        y, x, _ = plan.streets.place(block.u + a * width, block.v + b * length)
        if not plan.sees(y, x, radius):
            continue
        near = [slab for slab in buildings if slab.holds(y, x, 0.6 * radius)]
        stays = [0.0 if gone or any(s.here[k] for s in near) else 1.0 for k, gone in enumerate((planted, felled))]
        tree = Tree(y, x, (radius * stays[0], radius * grown * stays[1]), radius * height, tint, evergreen)
        plan.trees.append(tree)
