"""Polygons on a map over rasters: a mask on the grid of each raster that they, or the area that was labelled, touch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from semikit.data.conversion.labels import (
    IGNORED,
    Bytes,
    Drawing,
    LabeledImage,
    LabelSet,
    Numbers,
    Size,
    part_named,
    refuse_nothing,
)
from semikit.data.folders import image_files
from semikit.data.formats.images import is_raster, read_grid
from semikit.errors import ConfigError, DataError, some
from semikit.raster.grid import Grid
from semikit.raster.region import Region
from semikit.raster.vector_layers import Layer, attributes, read_layer

_OWN = ("class", "name")
"""Attributes of the polygons that `semikit predict --polygons` writes; the second one is the class."""


@final
@dataclass(frozen=True, slots=True)
class OnMap(Drawing):
    """Polygons, in the CRS of a raster, on its grid; outside of the `known` ones, if there are any, nothing counts."""

    suffix: ClassVar[str] = ".tif"

    layer: Layer
    known: Layer | None
    grid: Grid

    def digest(self, numbers: Numbers) -> str:
        """Of polygons, their values, and the grid."""
        known = "" if self.known is None else self.known.digest()
        place = f"{self.grid.size} {tuple(self.grid.transform)} {numbers.text()}"
        return hashlib.sha256(f"{self.layer.digest()} {known} {place}".encode()).hexdigest()

    def drawn(self, size: Size, numbers: Numbers) -> Bytes:
        """The whole raster."""
        return self.window(Region(0, 0, *size), numbers)

    def window(self, region: Region, numbers: Numbers) -> Bytes:
        """A region of the raster."""
        size = region.height, region.width
        mask = np.full(size, numbers.uncovered, dtype=np.uint8)
        values = [numbers.of(name or None) for name in self.layer.names]
        self.layer.burn(mask, values, self.grid.transform, region)
        if self.known is not None:
            inside = np.zeros(size, dtype=np.uint8)
            self.known.burn(inside, [1] * len(self.known.names), self.grid.transform, region)
            mask[inside == 0] = IGNORED
        return mask


def read_map_polygons(
    source: Path, images: Path | None, attribute: str | None, labeled_area: Path | None, layer_name: str | None = None
) -> LabelSet:
    """The labels of the rasters in `images`; `attribute` names the class of a polygon, one without a value does not
    count. Rasters that no polygon touches (with `labeled_area`: those outside of it) have no mask.

    Raises:
        ConfigError: no `images`, or it is not said which attribute is the class.
        DataError: files that cannot be read, rasters without a place on the map, or none that is touched.
    """
    if images is None:
        raise ConfigError(f"{source}: polygons on a map are drawn on the grids of rasters. Say which: --images DIR")
    layer = read_layer(source, attribute or _attribute(source, layer_name), layer_name)
    known = None if labeled_area is None else read_layer(labeled_area, None)
    rasters = {name: path for name, path in image_files(images, "images").items() if is_raster(path)}
    grids = {name: read_grid(path) for name, path in rasters.items()}
    lost = [str(rasters[name]) for name, grid in grids.items() if not grid.placed]
    if lost or not grids:
        what = f"{len(lost)} rasters have no place on the map: {some(lost)}" if lost else f"{images} holds no raster"
        raise DataError(f"{what}. Polygons are drawn on rasters with a CRS (GeoTIFF).")
    places = _Places(layer, known)
    labeled = []
    for name, grid in grids.items():
        drawing = places.on(grid)
        if drawing is not None:
            part = part_named(name.rpartition("/")[0])
            labeled.append(LabeledImage(f"{name}{rasters[name].suffix}", drawing, rasters[name], part, grid.size))
    if not labeled:
        first = next(iter(grids.values()))
        raise DataError(f"{source} touches none of the {len(grids)} rasters in {images}; the first is {first.text()}.")
    refuse_nothing(labeled, source, "polygon")
    names = sorted({name for name in layer.names if name}, key=lambda name: (not name.isdigit(), len(name), name))
    if not all(name.isdigit() for name in names):
        names.sort()
    rule = "of overlapping polygons the smaller lies on top"
    rule += "" if known is None else f"; outside of {labeled_area} nothing counts"
    folders: dict[str, Path] = {image.part: images for image in labeled}
    outside = "are touched by no polygon" if known is None else f"lie outside of {labeled_area}"
    rest = len(grids) - len(labeled)
    notices = [f"{rest} of {len(grids)} rasters {outside} and stay unlabelled"] if rest else []
    notices = [*_left_out(source, layer), *notices]
    return LabelSet("polygons", tuple(names), labeled, rule, folders, notices)


def _left_out(source: Path, layer: Layer) -> list[str]:
    empty = sum(not name for name in layer.names)
    notices = [f"{empty} polygons have no value of their attribute, their pixels do not count"] if empty else []
    if layer.others:
        notices.append(f"{source} also holds {layer.others}, which are no polygons and are left out")
    return notices


@final
class _Places:
    """Polygons in the CRS of each raster, which is computed once."""

    def __init__(self, layer: Layer, known: Layer | None) -> None:
        self._layers = layer, known
        self._moved: dict[str, tuple[Layer, Layer | None]] = {}

    def on(self, grid: Grid) -> OnMap | None:
        """What is drawn on a raster; None where nothing is known of it."""
        key = grid.crs.to_wkt()
        if key not in self._moved:
            layer, known = self._layers
            self._moved[key] = layer.in_crs(grid.crs), None if known is None else known.in_crs(grid.crs)
        layer, known = self._moved[key]
        near, inside = layer.touching(grid), None if known is None else known.touching(grid)
        return OnMap(near, inside, grid) if (near if inside is None else inside).names else None


def _attribute(source: Path, layer: str | None) -> str:
    known = attributes(source, layer)
    if all(name in known for name in _OWN):
        return _OWN[1]
    raise ConfigError(f"{source}: which attribute is the class? Say it with --attribute NAME. {_listing(known)}")


def _listing(known: dict[str, list[Any]]) -> str:
    shown: Sequence[str] = [f"{name} ({', '.join(values)})" for name, values in known.items()]
    return f"There are: {'; '.join(shown)}." if shown else "There are none: add one, with a name for each polygon."
