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
from semikit.data.synthetic.scenery.blocks import draw_plan
from semikit.data.synthetic.scenery.light import draw_light, photograph
from semikit.data.synthetic.scenery.paint import Canvas, Clouds, footprints, paint
from semikit.data.synthetic.scenery.plan import MARGIN
from semikit.data.synthetic.source import SPLITS, GeneratedSamples, Split
from semikit.raster.cog import MapFile
from semikit.raster.grid import Grid
from semikit.raster.region import Region
from semikit.settings.base import Settings

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
    """One split of `shapes-cd`: pairs are made when first asked for and kept (63 KiB each at 96 pixels)."""

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
    """Write a made scene at two dates as GeoTIFFs of half a metre a pixel, in UTM zone 33; before.tif and after.tif."""
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
