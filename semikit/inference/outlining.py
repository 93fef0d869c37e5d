"""Polygons and areas of a map that lies there: of classes, or of probabilities, from which classes are chosen anew."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from semikit.data.formats.images import faults_of
from semikit.data.palette import palette
from semikit.errors import ConfigError, FileFault, InputError
from semikit.files import make_folder
from semikit.inference.class_choice import ClassChoice
from semikit.inference.finishing import area_rows, polygons_notice, without_small_areas
from semikit.inference.map_files import (
    MAPS,
    Legend,
    MapPredict,
    Outputs,
    class_file,
    make_room,
    share_file,
    stored_share,
    table_beside,
    write_areas,
)
from semikit.raster.area_of_interest import AreaOfInterest, GridArea
from semikit.raster.cog import small_cache
from semikit.raster.grid import Grid
from semikit.raster.polygons import NODATA, check_outlines, write_polygons
from semikit.raster.reading import errors, open_raster, rasterio_for, window_of
from semikit.raster.region import Region, tiles

_BLOCK = 1024
_CHANGE = ("unchanged", "changed")
_REMEDY = "Give a map of classes, or of --probability, that `semikit predict` wrote."


@final
@dataclass(frozen=True)
class Map:
    """A GeoTIFF of classes, or of probabilities in `bands` (of change that something changed; of some classes), and
    what it says of its classes.
    """

    path: Path
    grid: Grid
    legend: Legend
    bands: tuple[str, ...] | None

    @classmethod
    def of(cls, path: Path) -> Map:
        """What lies in a file.

        Raises:
            FileFault: it is no map.
        """
        rasterio_for(path)  # which `errors` needs
        refused: tuple[type[Exception], ...] = (OSError, *errors())
        try:
            with open_raster(path) as file:
                grid, tags, kind = Grid.of(file), file.tags(), str(file.dtypes[0])
                labels = tuple(text or f"band {k}" for k, text in enumerate(file.descriptions, 1))
        except refused as error:
            raise FileFault("no map", path, str(error), _REMEDY) from None
        named, share = _legend(tags), tags.get("UNIT") == "percent" or kind.startswith("float")
        if not share and (kind != "uint8" or len(labels) > 1 or not named.names):
            detail = f"{len(labels)} bands of {kind}, without names of classes and without UNIT=percent"
            raise FileFault("no map", path, detail, _REMEDY)
        return cls(path, grid, _of_bands(named, labels) if share else named, labels if share else None)

    def read(self, file: Any, region: Region, choice: ClassChoice) -> tuple[NDArray[np.uint8], NDArray[Any] | None]:
        """Classes (h, w) and, of probabilities, that of the class (h, w)."""
        with faults_of(self.path, region):
            values, masks = (read(window=window_of(region)) for read in (file.read, file.read_masks))
        if self.bands is None:
            return values[0], None
        valid = (masks != 0).all(axis=0) & np.isfinite(values).all(axis=0)
        shares = np.where(valid, values, 0) / (100.0 if values.dtype == np.uint8 else 1.0)
        if len(shares) < len(self.legend.names):  # the others together
            shares = np.concatenate([1 - shares.sum(0, keepdims=True), shares])
        ids, share = (one.numpy() for one in choice(torch.from_numpy(shares)))
        return np.where(valid, ids, np.uint8(NODATA)).astype(np.uint8), share


def _legend(tags: Mapping[str, str]) -> Legend:
    """What the texts in a file say of its classes; those of change written before had no background."""
    names = tuple(tags[f"CLASS_{k}"] for k in range(NODATA) if f"CLASS_{k}" in tags)
    given = [tags.get(f"COLOUR_{k}", "").split(",") for k in range(len(names))]
    known = bool(names) and all(len(colour) == 3 for colour in given)
    colours = palette(len(names), [[int(part) for part in colour] for colour in given] if known else None)
    background = 0 if "BACKGROUND" in tags or names[:1] == _CHANGE[:1] else None
    return Legend(names, colours[: len(names)], background, float(tags["THRESHOLD"]) if "THRESHOLD" in tags else None)


def _of_bands(named: Legend, bands: tuple[str, ...]) -> Legend:
    """The classes that are chosen from bands of probabilities: all classes, change or none, or some and the others."""
    if bands == ("change",):
        return named if len(named.names) == 2 else Legend(_CHANGE, palette(2)[:2], 0, named.threshold)
    if bands == named.names or (not named.names and len(bands) > 1):
        return Legend(bands, named.colours if named.names else palette(len(bands))[: len(bands)], None)
    return Legend(("other", *bands), palette(len(bands) + 1)[: len(bands) + 1], 0)


def outline_map(source: Path, out: Path, options: MapPredict, classes: Path | None = None) -> list[str]:
    """Write the polygons of a map into `out` and, if wanted, the table of their areas beside it and the map of classes
    that they are drawn from; returns notices. Thresholds (none: that of a map of change), the least area,
    simplification and the area of interest are those of `options`.

    Raises:
        InputError: no map, a threshold for a map of classes, outputs that cannot be written.
        RunError: the disk is full.
    """
    given = Map.of(source)
    if given.bands is None and options.threshold:
        raise ConfigError(
            f"--threshold: {source} is a map of classes, which no longer knows probabilities. Give the map of "
            "probabilities that `semikit predict --probability` writes, or leave it out."
        )
    if classes is not None and (classes.suffix.lower() not in MAPS or classes.resolve() == source.resolve()):
        raise InputError(f"--map {classes}: a map is written as {' or '.join(MAPS)}, beside the one that is read.")
    own = given.legend.threshold if given.bands is not None and not options.threshold else None
    thresholds = options.threshold if own is None else (own,)
    choice = ClassChoice.of(thresholds, given.legend.names, given.legend.background)
    if given.bands is not None and given.legend.background is not None:
        given = replace(given, legend=replace(given.legend, threshold=choice.common))
    check_outlines(given.grid, source)
    area = None if options.aoi is None else AreaOfInterest.read(options.aoi).on(given.grid, source)
    make_room([Outputs(source, {}, out)])
    make_folder((classes or out).parent)
    notices = {} if own is None else {"threshold": f"threshold {own:g}, that of {source}; --threshold P sets another"}
    with ExitStack() as stack:
        stack.enter_context(small_cache())
        folder = Path(stack.enter_context(TemporaryDirectory(prefix=".map.", dir=(classes or out).parent)))
        drawn, shares = classes or folder / "map.tif", None if given.bands is None else folder / "shares.tif"
        notices |= _draw(given, drawn, shares, choice, area, options, classes or source)
        report = write_polygons(
            drawn,
            out,
            given.legend.names,
            simplify=options.simplify,
            background=given.legend.background,
            shares=shares,
            areas=options.areas,
        )
        notices["polygons"] = polygons_notice(report, out, given.grid.placed)
        if options.areas:
            rows = area_rows(given.legend.names, report, area, drawn)
            write_areas(table_beside(out), [(classes or source, *row) for row in rows], area is not None)
    return list(notices.values())


def _draw(
    given: Map,
    drawn: Path,
    shares: Path | None,
    choice: ClassChoice,
    area: GridArea | None,
    options: MapPredict,
    called: Path,
) -> dict[str, str]:
    """Write the classes of a map, and the probability of each; notices are of the map `called`."""
    grid = given.grid
    with ExitStack() as stack:
        file = stack.enter_context(open_raster(given.path))
        classes = stack.enter_context(class_file(drawn, grid, given.legend))
        sure = None if shares is None else stack.enter_context(share_file(shares, grid, ("confidence",)))
        for region in tiles(grid.size, _BLOCK):
            ids, share = given.read(file, region, choice)
            inside = None if area is None else area.inside(region)
            classes.write(region, ids, inside)
            if sure is not None and share is not None:
                sure.write(region, stored_share(share, shares))
        return without_small_areas(classes, called, grid, given.path, options.min_area, given.legend)
