"""A generated scene becomes images: colour and height of every pixel at one date, then sun, shadows, haze, camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from semikit.data.synthetic.scene_parts import MARGIN, PARCELS, Floats, Plan, Slab

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
    angle, warm, green = rng.uniform(-1.1, 1.1), rng.uniform(-0.1, 0.1), rng.uniform(-0.03, 0.03)
    return Light(
        towards=(float(np.cos(angle)), float(np.sin(angle))),
        rise=rng.uniform(0.6, 1.5),
        direct=rng.uniform(0.3, 0.7),
        exposure=rng.uniform(0.8, 1.2) * np.array([1.0 + warm, 1.0 + green, 1.0 - warm]),
        haze=rng.uniform(0.0, 0.22),
        gamma=rng.uniform(0.8, 1.2),
        blur=rng.uniform(0.35, 0.6),
        grain=rng.uniform(0.006, 0.022),
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
