"""Where change detection takes its pairs from: the user's folders, a published data set, made scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

from semikit.data.check import Part
from semikit.data.formats.images import is_raster
from semikit.data.formats.mask_values import MaskValues
from semikit.data.pair_folders import pair_source, resolve_pairs
from semikit.data.pair_spec import PairImages, PairSpec
from semikit.data.pairs import aligned, mask_grid
from semikit.data.palette import Palette, palette
from semikit.data.shards.images import PoolPair
from semikit.data.sources import PixelSource
from semikit.data.synthetic.scenes import CLASS_NAMES, ScenesSettings, ScenesSource, make_pair
from semikit.errors import some
from semikit.raster.cog import MapFile
from semikit.raster.grid import Grid
from semikit.raster.region import Region
from semikit.tasks._data import SPLITS, PixelSources, SourceSettings, open_folders, open_published

_COLOURS = ((40, 44, 52), (229, 38, 110))
"""Unchanged and changed: dark and light, also for those who see no colours."""


_SAMPLE, _SAMPLE_SIDE, _SAMPLE_CORNER = 1_000_000, 384, (390000.0, 5820000.0)
"""Number, side (pixels) and upper left corner of the scene to try prediction on; no split has that number."""


@final
class PairData(SourceSettings):
    """Where pairs and masks come from; one of `folders`, `published` and `scenes`."""

    KINDS = ("folders", "published", "scenes")

    folders: PairSpec | None = None
    """The user's own folders, as in the data YAML."""
    scenes: ScenesSettings | None = None
    """The built-in procedural scenes."""


def open_pairs(data: PairData) -> PixelSources:
    """The sources a configuration names.

    Raises:
        DataError: folders or prepared roots that are not as described.
    """
    if data.scenes is not None:
        train, val, test = (ScenesSource(data.scenes, name) for name in SPLITS)
        return PixelSources(train, (), val, test, CLASS_NAMES, change_palette(len(CLASS_NAMES)), synthetic=True)
    if data.published is not None:
        return open_published(data, data.published, _more_pairs)
    assert data.folders is not None
    return open_folders(data, data.folders, "cd", _folder, resolve_pairs, PoolPair, change_palette)


def change_palette(num_classes: int) -> Palette:
    """Colours (256, 3) uint8 of maps of change: the unchanged is dark, changes stand out."""
    colours = palette(num_classes)
    colours[:2] = _COLOURS
    return colours


def alignment_notices(parts: Sequence[Part]) -> list[str]:
    """What a person should know of rasters that lie on other grids than the first date of their pair; reads headers.

    Raises:
        FileFault: two dates, or a date and its mask, without a place in common.
    """
    dates: list[str] = []
    masks: list[str] = []
    bare: list[str] = []
    for source, index in ((part.source, index) for part in parts for index in part.indices):
        files, mask = source.files(index), source.mask_file(index)
        if files and all(map(is_raster, files)):
            alignment = aligned(*files)
            dates += [alignment.notice] if alignment.notice else []
            bare += [] if alignment.notice or alignment.grid.placed else [str(files[0])]
        if mask is not None and mask_grid(files[0], mask) is not None:
            masks.append(str(mask))
    if len(dates) > 1:
        dates = [f"{len(dates)} pairs of rasters do not lie on one grid: {some(dates)}"]
    if masks:
        dates.append(f"masks on another grid than date A are brought onto it: {some(masks)}")
    if bare:
        dates.append(f"rasters without a coordinate reference system, taken pixel by pixel: {some(bare)}")
    return dates


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


def _folder(folder: Path) -> PairImages:
    return PairImages(images_a=folder / "A", images_b=folder / "B")


def _more_pairs(folder: Path, values: MaskValues, key: str) -> PixelSource:
    return pair_source(_folder(folder), values, None, key)
