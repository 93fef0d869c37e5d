"""Made aerial scenes at two dates: buildings come and go, everything else differs too; nothing is downloaded.

Every pair is a pure function of (seed, split, index, size). The label is true where the footprint of a building
appeared or disappeared, on the grid of date A. No change, though the pixels differ: season, crops, light, shadows,
haze, cars, trees that grow, pads of soil or asphalt that come and go, repainted roofs, and a date B that lies up to
1.5 pixels off.
"""

from __future__ import annotations

from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from semikit.core.rng import rng_for
from semikit.data.synthetic.scene_images import Canvas, Clouds, draw_light, footprints, paint, photograph
from semikit.data.synthetic.scene_parts import (
    MARGIN,
    PARCELS,
    Block,
    Floats,
    Plan,
    add_car,
    add_empty,
    add_garden,
    add_hall,
    add_house,
    add_parking,
    add_trees,
    draw_streets,
    tile_colours,
)
from semikit.data.synthetic.source import SPLITS, GeneratedSamples, Split
from semikit.raster.cog import MapFile
from semikit.raster.grid import Grid
from semikit.raster.region import Region
from semikit.settings.base import Settings

_SHARES = (0.60, 0.20, 0.09, 0.06, 0.05)
"""Of homes, works, fields, parks and woods."""
_UNTOUCHED = 0.025
_ESTATE = 0.34

_GRASS = np.array([[40, 48, 26], [33, 41, 21], [57, 52, 33], [46, 43, 31]]) / 100.0
_LEAVES = np.array([[32, 43, 18], [19, 30, 14], [52, 38, 16], [40, 36, 29]]) / 100.0
_CROPS = np.array([[33, 44, 20], [46, 55, 26], [72, 64, 38], [44, 35, 27], [63, 56, 41]]) / 100.0
_SOIL, _PAVING = np.array([0.61, 0.50, 0.37]), np.array([0.53, 0.53, 0.53])


def draw_plan(rng: np.random.Generator, size: int) -> Plan:
    """Everything in a scene of `size` pixels a side; the number of things grows with the area."""
    streets = draw_streets(rng, size)
    columns, rows = streets.opened.shape
    season = rng.integers(0, len(_GRASS), 2)
    plan = Plan(
        size=size,
        streets=streets,
        land=np.zeros((2, columns, rows, PARCELS, 2, 3)),
        furrows=np.zeros((2, columns, rows, PARCELS)),
        grass=_GRASS[season] + rng.normal(0.0, 0.025, (2, 3)),
        leaves=_LEAVES[season] + rng.normal(0.0, 0.02, (2, 3)),
    )
    untouched = bool(rng.uniform() < _UNTOUCHED)
    kinds = _kinds(rng, columns, rows)
    for column, row in np.ndindex(columns, rows):
        half = float(streets.edges[column + 1] - streets.edges[column]) / 2, float(streets.length[column]) / 2
        u, v = float(streets.edges[column]) + half[0], float(streets.start[column]) + (2 * row + 1) * half[1]
        if plan.sees(*streets.place(u, v)[:2], reach=float(np.hypot(*half)) + 8.0):
            _FILL[kinds[column, row]](rng, plan, _block(rng, (u, v), half, (column, row), untouched))
    _traffic(rng, plan)
    return plan


def _kinds(rng: np.random.Generator, columns: int, rows: int) -> NDArray[np.int64]:
    """What each block is (columns, rows): often the same as the one before it, in its column or the next."""
    shares = np.array(_SHARES) * rng.uniform(0.3, 1.0, len(_SHARES))
    kinds = rng.choice(len(shares), (columns, rows), p=shares / shares.sum())
    like = rng.uniform(size=(columns, rows))
    for column, row in np.ndindex(columns, rows):
        if row and like[column, row] < 0.25:
            kinds[column, row] = kinds[column, row - 1]
        elif column and like[column, row] > 0.75:
            kinds[column, row] = kinds[column - 1, row]
    return kinds.astype(np.int64)


def _block(
    rng: np.random.Generator,
    middle: tuple[float, float],
    half: tuple[float, float],
    index: tuple[int, int],
    untouched: bool,
) -> Block:
    """A block; one in three is being built or cleared as a whole, in the others few buildings change."""
    estate = rng.uniform() < _ESTATE
    rate = rng.uniform(0.55, 0.95) if estate else rng.uniform(0.0, 0.3)
    grows = float(rng.choice([0.06, 0.94], p=[0.4, 0.6])) if estate else 0.6
    return Block(*middle, half, index, 0.0 if untouched else rate, grows)


def _homes(rng: np.random.Generator, plan: Plan, block: Block) -> None:
    """Two rows of lots with houses, gardens with trees."""
    _ground(rng, plan, block, plan.grass, rough=0.03)
    across, roofs = bool(rng.uniform() < 0.5), tile_colours(rng, 2)
    first = len(plan.slabs)
    for lot in block.lots(rng, (18.0, 23.0), 2):
        if rng.uniform() < 0.1:
            add_empty(rng, plan, lot)
            continue
        add_garden(rng, plan, block, lot)
        add_house(rng, plan, block, lot, across, roofs[rng.integers(0, 2)])
    _plant(rng, plan, block, int(rng.integers(5, 17)), border=0.3, first=first)


def _works(rng: np.random.Generator, plan: Plan, block: Block) -> None:
    """Halls and blocks of flats on paved ground or lawn, car parks."""
    paving = np.stack([_PAVING * rng.uniform(0.8, 1.15)] * 2)
    _ground(rng, plan, block, paving if rng.uniform() < 0.5 else plan.grass, rough=0.02)
    first = len(plan.slabs)
    for lot in block.lots(rng, (28.0, 44.0), 1 if rng.uniform() < 0.3 else 2):
        what = rng.uniform()
        if what < 0.17:
            add_parking(rng, plan, lot)
        elif what < 0.25:
            add_empty(rng, plan, lot)
        else:
            add_hall(rng, plan, block, lot)
    _plant(rng, plan, block, int(rng.integers(2, 14)), border=1.0, first=first)


def _fields(rng: np.random.Generator, plan: Plan, block: Block) -> None:
    """Strips of crops; what grows on a strip is drawn anew at each date."""
    strips = np.arange(PARCELS) // int(rng.choice([2, 4, 8]))
    for date in (0, 1):
        crops = _CROPS[rng.integers(0, len(_CROPS), PARCELS)] * rng.uniform(0.9, 1.1, (PARCELS, 1))
        plan.land[date][block.index] = np.stack([crops, crops * 0.85 + 0.15 * plan.grass[date]], axis=1)[strips]
        plan.furrows[date][block.index] = rng.uniform(0.0, 0.12, PARCELS)[strips]
    first = len(plan.slabs)
    if rng.uniform() < 0.5:
        add_house(rng, plan, block, (block.u, block.v, 26.0, 24.0), False, tile_colours(rng, 1)[0])
    _plant(rng, plan, block, int(rng.integers(3, 20)), border=0.95, first=first)


def _park(rng: np.random.Generator, plan: Plan, block: Block) -> None:
    """Meadow with trees and sports grounds."""
    _ground(rng, plan, block, plan.grass, rough=0.04)
    for lot in block.lots(rng, (30.0, 40.0), 1):
        if rng.uniform() < 0.5:
            add_empty(rng, plan, lot)
    _plant(rng, plan, block, int(rng.integers(10, 40)), border=0.4, first=len(plan.slabs))


def _woods(rng: np.random.Generator, plan: Plan, block: Block) -> None:
    """Trees close together."""
    _ground(rng, plan, block, plan.grass * 0.8, rough=0.03)
    _plant(rng, plan, block, int(block.half[0] * block.half[1] / 6.0), border=0.0, first=len(plan.slabs))


_FILL = (_homes, _works, _fields, _park, _woods)


def _plant(rng: np.random.Generator, plan: Plan, block: Block, count: int, border: float, first: int) -> None:
    """Trees around the buildings of a block: those from number `first` on."""
    add_trees(rng, plan, block, count, border, [slab for slab in plan.slabs[first:] if slab.building])


def _ground(rng: np.random.Generator, plan: Plan, block: Block, ground: Floats, rough: float) -> None:
    """Ground (2, 3) with patches of soil; where a block is built or cleared it was or is often bare or a field."""
    tint = rng.normal(0.0, rough, (PARCELS, 1, 1)) + rng.normal(0.0, rough / 3, (PARCELS, 1, 3))
    worn = rng.uniform(0.0, 1.0, (2, PARCELS, 1))
    for date in (0, 1):
        patches = ground[date] + (_SOIL - ground[date]) * worn[date]
        plan.land[date][block.index] = np.stack([np.broadcast_to(ground[date], patches.shape), patches], axis=1) + tint
    if block.rate > 0.5 and rng.uniform() < 0.6:
        bare = 0 if block.grows > 0.5 else 1
        before = _CROPS[rng.integers(0, len(_CROPS))] if rng.uniform() < 0.5 else _SOIL * rng.uniform(0.85, 1.1)
        plan.land[bare][block.index] = before + tint * 0.7
        plan.furrows[bare][block.index] = rng.uniform(0.0, 0.1)


def _traffic(rng: np.random.Generator, plan: Plan) -> None:
    """Cars on the streets, each there at one date."""
    streets, reach = plan.streets, plan.size + 2.0 * MARGIN
    middle = float(streets.along(np.array(plan.size / 2), np.array(plan.size / 2))[1])
    for edge in streets.edges.tolist():
        for here in ((True, False), (False, True)):
            for _ in range(int(rng.poisson(reach / 45.0))):
                v = middle + rng.uniform(-0.75, 0.75) * reach
                add_car(rng, plan, streets.place(edge + float(rng.choice([-1.3, 1.3])), v), here)


Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]

CLASS_NAMES = ("unchanged", "changed")

_SHIFT = 1.5

_SAMPLE, _SAMPLE_SIDE, _SAMPLE_CORNER = 1_000_000, 384, (390000.0, 5820000.0)
"""Number, side (pixels) and upper left corner of the scene to try prediction on; no split has that number."""


@final
class ScenesSettings(Settings):
    """The built-in data set `shapes-cd`: how large, how many, which seed."""

    size: int = Field(default=96, ge=32, le=512)
    """Side of the square images, in pixels; a larger image shows more buildings, not larger ones."""
    train: int = Field(default=400, ge=1)
    """Pairs in the training split, labelled and unlabelled together."""
    val: int = Field(default=60, ge=1)
    """Pairs in the validation split."""
    test: int = Field(default=100, ge=1)
    """Pairs in the test split."""
    seed: int = Field(default=0, ge=0)
    """Seed of the generator; another seed gives other scenes of the same kind."""


@final
class ScenesSource(GeneratedSamples):
    """One split of `shapes-cd`: pairs are generated when first asked for, and cached (63 KiB each at 96 pixels)."""

    name = "shapes-cd"

    def __init__(self, settings: ScenesSettings, split: Split) -> None:
        super().__init__(split, getattr(settings, split, 0))
        self.settings = settings

    def make(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """One of them, and its labels."""
        return make_pair(self.settings.seed, self.split, index, self.settings.size)


def make_pair(seed: int, split: Split, index: int, size: int) -> Pair:
    """Both dates (2, size, size, 3) uint8 and the labels (size, size) uint8; depends on the arguments alone."""
    rng = rng_for(seed, "shapes-cd", SPLITS[split], index)
    plan = draw_plan(rng, size)
    clouds = Clouds(rng, size)
    down, right = rng.uniform(-_SHIFT, _SHIFT, 2).tolist()
    canvases = Canvas(size, (0.0, 0.0)), Canvas(size, (down, right))
    images = []
    for date, canvas in enumerate(canvases):
        paint(plan, date, clouds, canvas)
        images.append(photograph(canvas, draw_light(rng), rng))
    return np.stack(images), footprints(plan, canvases[0])[MARGIN:-MARGIN, MARGIN:-MARGIN].copy()


def write_sample(seed: int, folder: Path) -> tuple[Path, Path]:
    """Write a generated scene at two dates as GeoTIFFs (0.5 m a pixel, UTM zone 33); before.tif and after.tif."""
    from affine import Affine
    from rasterio.crs import CRS

    pair, _ = make_pair(seed, "test", _SAMPLE, _SAMPLE_SIDE)
    west, north = _SAMPLE_CORNER
    grid = Grid((_SAMPLE_SIDE, _SAMPLE_SIDE), CRS.from_epsg(32633), Affine(0.5, 0.0, west, 0.0, -0.5, north))
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "before.tif", folder / "after.tif"
    for path, image in zip(paths, pair, strict=True):
        with MapFile(path, grid, bands=3, nodata=None, average=True) as file:
            file.write(Region(0, 0, *grid.size), image)
    return paths
