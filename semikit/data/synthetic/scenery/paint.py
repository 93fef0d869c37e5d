"""Paints the plan of a made scene at one date: the colour and the height of every pixel."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import NDArray

from semikit.data.synthetic.scenery.plan import MARGIN, PARCELS, Floats, Plan, Slab

Window = tuple[slice, slice]

_ASPHALT, _KERB, _EVERGREEN = (
    np.array(c, dtype=np.float32) for c in ([0.42, 0.42, 0.42], [0.60, 0.60, 0.59], [0.16, 0.25, 0.15])
)
_LANE, _WALK = 3.1, 4.4
_TREE = 6


@final
class Canvas:
    """Colours (h, w, 3) and heights (h, w) of image and margin; `shift` (y, x) is how far off the plan it lies."""

    def __init__(self, size: int, shift: tuple[float, float]) -> None:
        steps = np.arange(-MARGIN, size + MARGIN) + 0.5
        self.y = (steps + shift[0]).astype(np.float32)[:, None]
        self.x = (steps + shift[1]).astype(np.float32)[None]
        self.colour = np.zeros((len(steps), len(steps), 3), dtype=np.float32)
        self.height = np.zeros((len(steps), len(steps)), dtype=np.float32)

    def window(self, slab: Slab) -> Window:
        """Rows and columns that a slab touches; empty where it lies outside."""
        top, left = slab.y - float(self.y[0, 0]), slab.x - float(self.x[0, 0])
        rows, columns = (slice(max(int(m - slab.reach), 0), max(int(m + slab.reach) + 2, 0)) for m in (top, left))
        return rows, columns

    def lay(self, where: Window, cover: Floats, colour: Floats) -> None:
        """Paint over what is there, by cover (h, w) in 0..1."""
        part = self.colour[where]
        part += cover[..., None] * (colour - part)


@final
class Clouds:
    """Noise of three sizes over the plan of a scene, the same at both dates."""

    CELLS = (17.0, 5.0, 1.6)

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        sides = [int((size + 2 * MARGIN + 8) / cell) + 3 for cell in self.CELLS]
        self.levels = [rng.normal(0.0, 1.0, (side, side)).astype(np.float32) for side in sides]

    def over(self, canvas: Canvas, level: int) -> Floats:
        """The noise of one size (h, w) where the canvas lies; mean 0."""
        values = self.levels[level]
        for axis, place in ((0, canvas.y[:, 0]), (1, canvas.x[0])):
            at = (place + np.float32(MARGIN + 4)) / np.float32(self.CELLS[level])
            low = at.astype(np.intp)
            part = (at - low).astype(np.float32)
            part = np.expand_dims(part * part * (3 - 2 * part), 1 - axis)
            first = np.take(values, low, axis)
            values = first + part * (np.take(values, low + 1, axis) - first)
        return values


def paint(plan: Plan, date: int, clouds: Clouds, canvas: Canvas) -> None:
    """Fill the canvas with what the plan shows at one date."""
    broad, middle, fine = (clouds.over(canvas, level) for level in range(3))
    _paint_land(plan, date, canvas, broad, middle)
    tall = [slab for slab in plan.slabs if slab.building]
    for slab in [*(slab for slab in plan.slabs if not slab.building), *plan.cars, *tall]:
        if slab.here[date]:
            _paint_slab(slab, date, canvas)
    _paint_trees(plan, date, canvas)
    canvas.colour *= (1 + 0.04 * fine + 0.03 * middle)[..., None]


def footprints(plan: Plan, canvas: Canvas) -> NDArray[np.uint8]:
    """1 where a changed building stands, at either date, else 0: (h, w) uint8 over the canvas."""
    labels = np.zeros(canvas.height.shape, dtype=np.uint8)
    for slab in plan.slabs:
        if slab.changed:
            rows, columns = canvas.window(slab)
            cover, _ = _body(slab, *slab.local(canvas.y[rows], canvas.x[:, columns]))
            labels[rows, columns] |= cover > 0.5
    return labels


def _paint_land(plan: Plan, date: int, canvas: Canvas, broad: Floats, middle: Floats) -> None:
    """Ground, furrows and streets."""
    streets = plan.streets
    u, v = streets.along(canvas.y, canvas.x)
    edges, length, start = (a.astype(np.float32) for a in (streets.edges, streets.length, streets.start))
    column = np.clip(np.searchsorted(edges, u) - 1, 0, len(length) - 1)
    a, b, wide, long = u - edges[column], v - start[column], np.diff(edges)[column], length[column]
    row = np.clip((b / long).astype(np.intp), 0, streets.opened.shape[1] - 1)
    b = b - row.astype(np.float32) * long
    half = PARCELS // 2
    parcel = (a > wide / 2) * half + np.clip((b / long * half).astype(np.intp), 0, half - 1)
    first, second = (plan.land[date][..., k, :].astype(np.float32)[column, row, parcel] for k in (0, 1))
    share = np.clip(0.3 + 0.6 * broad + 0.5 * middle, 0, 1)[..., None]
    depth = plan.furrows[date].astype(np.float32)[column, row, parcel]
    canvas.colour[:] = (first + share * (second - first)) * (1 + depth * np.sin(a * (2 * np.pi / 3.4)))[..., None]
    ahead = np.minimum(row + 1, streets.opened.shape[1] - 1)
    before = np.where(streets.opened[column, row], np.float32(np.inf), b)
    behind = np.where(streets.opened[column, ahead], np.float32(np.inf), long - b)
    away = np.minimum(np.minimum(a, wide - a), np.minimum(before, behind) + np.float32(0.6))
    whole = (slice(None), slice(None))
    canvas.lay(whole, np.clip(_WALK + 0.5 - away, 0, 1), _KERB)
    canvas.lay(whole, np.clip(_LANE + 0.5 - away, 0, 1), _ASPHALT)


def _body(slab: Slab, along: Floats, across: Floats) -> tuple[Floats, Floats]:
    """Cover in 0..1 and height in pixels of a slab over local coordinates."""
    ends, sides = slab.half[0] - np.abs(along), slab.half[1] - np.abs(across)
    inside = np.minimum(ends, sides)
    cover = np.clip(inside + 0.5, 0, 1)
    height = (slab.eave + slab.pitch * np.maximum(inside if slab.hip else sides, 0)) * (cover > 0)
    if slab.wing is not None:
        place, reach, half = slab.wing
        flanks = half - np.abs(along - place)
        wing = np.clip(np.minimum(np.minimum(flanks, reach - across), across + slab.half[1]) + 0.5, 0, 1)
        height = np.maximum(height, (slab.eave + slab.pitch * np.maximum(flanks, 0)) * (wing > 0))
        cover = np.maximum(cover, wing)
    if slab.building and slab.pitch == 0.0:
        height = height + 0.6 * np.clip(1.5 - np.abs(inside - 0.5), 0, 1)
    for a, b, long, wide, up in slab.parts:
        height = height + up * np.clip(np.minimum(long - np.abs(along - a), wide - np.abs(across - b)) + 0.5, 0, 1)
    return cover, height


def _paint_slab(slab: Slab, date: int, canvas: Canvas) -> None:
    rows, columns = canvas.window(slab)
    cover, height = _body(slab, *slab.local(canvas.y[rows], canvas.x[:, columns]))
    canvas.lay((rows, columns), cover, slab.colours[date].astype(np.float32))
    part = canvas.height[rows, columns]
    np.maximum(part, cover * height, out=part)


def _paint_trees(plan: Plan, date: int, canvas: Canvas) -> None:
    """All trees at once: lobed domes, of which the highest is seen."""
    trees = [tree for tree in plan.trees if tree.radius[date] > 0.0]
    table = [(tree.y, tree.x, tree.radius[date], tree.height, tree.tint) for tree in trees]
    y, x, radius, height, tint = np.array(table, dtype=np.float32).reshape(-1, 5).T[..., None, None]
    reach = np.arange(-_TREE, _TREE + 1)
    rows = np.floor(y - canvas.y[0, 0]).astype(np.intp) + reach[:, None]
    columns = np.floor(x - canvas.x[0, 0]).astype(np.intp) + reach
    dy = rows.astype(np.float32) + canvas.y[0, 0] - y
    dx = columns.astype(np.float32) + canvas.x[0, 0] - x
    away = np.hypot(dy, dx) / (radius * (1 + np.float32(0.14) * np.sin(3 * np.arctan2(dy, dx) + 40 * tint)))
    cover = np.clip((1 - away) * radius + 0.5, 0, 1)
    dome = height * (0.45 + 0.75 * np.sqrt(np.clip(1 - away * away, 0, 1))) * cover
    inside = (rows >= 0) & (rows < len(canvas.y)) & (columns >= 0) & (columns < canvas.x.shape[1])
    which, i, j = np.nonzero((cover > 0.05) & inside)
    order = np.argsort(dome[which, i, j], kind="stable")
    which, i, j = which[order], i[order], j[order]
    place = rows[which, i, 0], columns[which, 0, j]
    evergreen = np.array([tree.evergreen for tree in trees], dtype=bool)[which, None]
    colour = np.where(evergreen, _EVERGREEN, plan.leaves[date].astype(np.float32)) * (1 + 0.18 * tint[which, 0])
    ground = canvas.colour[place]
    canvas.colour[place] = ground + cover[which, i, j][:, None] * (colour - ground)
    np.maximum.at(canvas.height, place, dome[which, i, j])
