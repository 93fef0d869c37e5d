"""Polygons of a file (GeoJSON, GeoPackage, Shapefile) and the pixels of rasters that they cover."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from semikit.errors import ConfigError, DataError, FileFault, SemikitError
from semikit.raster.burning import burn
from semikit.raster.geodesic import Geometries
from semikit.raster.grid import TURNS, Grid
from semikit.raster.region import Region

VECTORS = (".geojson", ".gpkg", ".shp")
"""Suffixes of files of polygons; GeoJSON may end in .json too."""
_REMEDY = "Give polygons as GeoJSON, GeoPackage or Shapefile."
_OTHERS = {"points": (0, 4), "lines": (1, 2, 5), "collections": (7,), "without a shape": (-1,)}
"""Words for the numbers that shapely gives types of geometry."""
_PIECES = 64
"""Into which edges as long as their polygon are split."""
_SHORTEST = 1e-12


@final
@dataclass(frozen=True, slots=True)
class Layer:
    """Polygons (N,) of a file in its CRS (well-known text), and what one attribute says of them (N,), as text."""

    polygons: Geometries
    names: tuple[str, ...]
    crs: str
    owners: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """The feature (N,) of the file that each polygon is of, counted from 1; empty where there is no file."""
    others: str = ""
    """What else the file holds, with numbers: lines, points, features without a shape."""

    def in_crs(self, crs: Any) -> Layer:
        """The same polygons in the CRS of a raster (rasterio's); what has no place in it is left out.

        Edges are split first, as a line that is straight in one CRS is bent in another.
        """
        from pyproj import CRS, Transformer
        from shapely import bounds, segmentize, transform

        before, after = CRS.from_user_input(self.crs), CRS.from_wkt(crs.to_wkt())
        if before.equals(after, ignore_axis_order=True):
            return self
        change = Transformer.from_crs(before, after, always_xy=True)
        layer = self._cut() if before.is_geographic and not after.is_geographic else self
        west, south, east, north = bounds(layer.polygons).T
        lengths = np.maximum(np.maximum(east - west, north - south) / _PIECES, _SHORTEST)
        finer = segmentize(layer.polygons, lengths)
        moved = np.asarray(transform(finer, lambda points: np.column_stack(change.transform(*points.T))))
        return replace(layer, polygons=moved, crs=after.to_wkt()).chosen(np.isfinite(bounds(moved)).all(axis=1))

    def _cut(self) -> Layer:
        """Of polygons in degrees what lies beyond 180 as parts of their own, turned to between -180 and 180: other
        systems end there, and what crosses their end would reach around the Earth.
        """
        from shapely import area, bounds, box, get_parts, intersection, make_valid, transform

        west, _, east, _ = bounds(self.polygons).T
        across = (west < -180) | (east > 180)
        if not across.any():
            return self
        rest, over = np.flatnonzero(~across), np.flatnonzero(across)
        whole, shapes, places = make_valid(self.polygons[over]), [self.polygons[rest]], [rest]
        for turn in TURNS:
            inside = intersection(whole, box(-180 - turn, -90, 180 - turn, 90))
            move = np.array([turn, 0.0])
            parts, owners = get_parts(transform(inside, lambda points, by=move: points + by), return_index=True)
            shapes.append(parts[area(parts) > 0])
            places.append(over[owners[area(parts) > 0]])
        return replace(self.chosen(np.concatenate(places)), polygons=np.concatenate(shapes))

    def touching(self, grid: Grid) -> Layer:
        """The polygons that touch a raster of the same CRS, the largest first; longitudes are those of the raster."""
        from shapely import area, intersects, transform
        from shapely.geometry import Polygon

        outline, turns = np.array(grid.corners), TURNS if grid.crs.is_geographic else TURNS[:1]
        moves = [np.array([turn, 0.0]) for turn in turns]
        hits = [np.flatnonzero(intersects(self.polygons, Polygon(outline - move))) for move in moves]
        pairs = zip(hits, moves, strict=True)
        moved = [transform(self.polygons[hit], lambda points, by=move: points + by) for hit, move in pairs]
        near = replace(self.chosen(np.concatenate(hits)), polygons=np.concatenate(moved))
        return near.chosen(np.argsort(-area(near.polygons), kind="stable"))

    def chosen(self, which: NDArray[Any]) -> Layer:
        """Some of the polygons, by a mask or by numbers."""
        names = np.array(self.names, dtype=object)[which]
        owners = self.owners[which] if len(self.owners) else self.owners
        return Layer(self.polygons[which], tuple(names), self.crs, owners)

    def digest(self) -> str:
        """The same as long as polygons and names are."""
        from shapely import to_wkb

        made = hashlib.sha256(repr((self.names, self.crs)).encode())
        for shape in to_wkb(self.polygons):
            made.update(shape)
        return made.hexdigest()

    def burn(self, values: NDArray[np.uint8], numbers: Sequence[int], transform: Any, region: Region) -> None:
        """Give the pixels (H, W) of a region of a raster of this `transform` the number of their polygon, in place."""
        from shapely import bounds

        a, b, c, d, e, f = tuple(transform)[:6]  # operators for transforms differ between versions of affine
        corner = c + a * region.left + b * region.top, f + d * region.left + e * region.top
        shifted = type(transform)(a, b, corner[0], d, e, corner[1])
        left, bottom, right, top = Grid((region.height, region.width), None, shifted).bounds
        west, south, east, north = bounds(self.polygons).T
        near = np.flatnonzero((west <= right) & (east >= left) & (south <= top) & (north >= bottom))
        burn(values, ((self.polygons[k], numbers[k]) for k in near.tolist()), shifted)


def read_layer(path: Path, attribute: str | None, layer: str | None = None) -> Layer:
    """The polygons of a file's `layer`, which may be left out where there is one; names are empty without `attribute`.

    Raises:
        FileFault: cannot be read, no polygons, no CRS.
        DataError: no such attribute, with those that there are.
        ConfigError: see `layer_of`.
    """
    import pyogrio
    from pyogrio.raw import read
    from shapely import from_wkb, get_parts, get_type_id, is_empty

    with _faults_of(path):
        chosen = layer_of(path, layer)
        known = list(pyogrio.read_info(path, layer=chosen)["fields"])
        if attribute is not None and attribute not in known:
            raise DataError(f"{path} has no attribute {attribute!r}; it has {', '.join(map(str, known)) or 'none'}.")
        info, _, shapes, columns = read(path, layer=chosen, columns=[] if attribute is None else [attribute])
        if not info["crs"]:
            remedy = "Save it with the CRS it was drawn in (a Shapefile needs its .prj)."
            raise FileFault("polygons without a coordinate reference system", path, "", remedy)
        geometries = np.asarray(from_wkb(shapes), dtype=object)
        kinds = np.where(is_empty(geometries), -1, get_type_id(geometries))
        areal = np.isin(kinds, (3, 6))
        if not areal.any():
            raise FileFault("file without polygons", path, f"{len(geometries)} features", _REMEDY)
        names = ["" for _ in geometries] if attribute is None else [_text(value) for value in columns[0]]
        kept = np.flatnonzero(areal)
        parts, owners = get_parts(geometries[kept], return_index=True)
        numbers = (kept[owners] + 1).astype(np.int64)
        others = _counted(kinds[~areal])
        return Layer(parts, tuple(names[kept[k]] for k in owners), str(info["crs"]), numbers, others)


def layer_of(path: Path, layer: str | None) -> str:
    """The layer that is meant: the one that is named, or the only one with shapes.

    Raises:
        ConfigError: there is no such one, or there are several; names them.
    """
    import pyogrio

    with _faults_of(path):
        names = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        if layer is not None and layer not in names:
            raise ConfigError(f"{path} has no layer {layer!r}; it has {', '.join(names) or 'none'}.")
        if layer is None and len(names) > 1:
            raise ConfigError(
                f"{path} has several layers: {', '.join(names)}. Say which one is meant, --layer NAME; of a labelled "
                "area or an --aoi, save the one that counts as a file of its own."
            )
        if not names:
            raise FileFault("file without polygons", path, "no layer with shapes", _REMEDY)
        return layer or names[0]


def _counted(kinds: NDArray[Any]) -> str:
    """Numbers of shapely's types of geometry, in words."""
    counts = {word: int(np.isin(kinds, numbers).sum()) for word, numbers in _OTHERS.items()}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def fields_of(path: Path) -> list[str]:
    """The names of the attributes of a file's only layer.

    Raises:
        FileFault: cannot be read.
        ConfigError: see `layer_of`.
    """
    import pyogrio

    with _faults_of(path):
        return [str(name) for name in pyogrio.read_info(path, layer=layer_of(path, None))["fields"]]


def attributes(path: Path, layer: str | None = None) -> dict[str, list[str]]:
    """The attributes of the polygons of a file's layer, each with some of its values.

    Raises:
        FileFault: cannot be read.
        ConfigError: see `layer_of`.
    """
    from pyogrio.raw import read

    with _faults_of(path):
        info, _, _, columns = read(path, layer=layer_of(path, layer), read_geometry=False)
        return {
            str(name): sorted({_text(value) for value in column})[:6]
            for name, column in zip(info["fields"], columns, strict=True)
        }


@contextmanager
def _faults_of(path: Path) -> Iterator[None]:
    """What GDAL, GEOS and PROJ say of a damaged file, as one error; their warnings are not shown."""
    from shapely.errors import ShapelyError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except SemikitError:
        raise
    except (RuntimeError, ValueError, LookupError, OSError, ShapelyError) as error:
        reason = " ".join(str(error).split()).partition("; It might help")[0]  # drivers are not named here
        reason = reason.replace(f"'{path}'", "").strip().removeprefix(f"{path}: ").removesuffix(".")
        raise FileFault("unreadable polygons", path, reason, _REMEDY) from None


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:g}"
    return str(value)
