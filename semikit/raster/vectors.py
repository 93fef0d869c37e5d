"""Files of polygons with class and area, written whole or not at all: GeoJSON, GeoPackage, Shapefile, FlatGeobuf."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from semikit.errors import DataError, RunError
from semikit.raster.geodesic import Geodesic, Geometries

SUFFIXES = (".geojson", ".json", ".gpkg", ".shp", ".fgb")
_DRIVERS = {".gpkg": "GPKG", ".shp": "ESRI Shapefile", ".fgb": "FlatGeobuf"}
_SHAPEFILE = (".shx", ".dbf", ".prj", ".cpg", ".qpj", ".qix", ".sbn", ".sbx", ".shp.xml")
"""What lies beside a .shp and is of it."""

_DECIMALS = 6
"""Of areas: pixels of drones are square centimetres."""
_PROBABILITY_DECIMALS = 4
_SHORT = 10
"""Characters of the name of an attribute of a Shapefile."""
_IN_PIXELS = "The raster has no CRS: coordinates are pixels (column, row from the upper left corner), areas too."
_PLANE = 'LOCAL_CS["Undefined Cartesian SRS",UNIT["Meter",1]]'
"""What GeoPackage calls a plane that is nowhere on the Earth."""


@final
@dataclass(frozen=True, slots=True)
class Batch:
    """Polygons (N,) in pixels, their classes (N,) and areas (N,): square metres, or pixels where there is no CRS; with
    the mean probability (N,) of each, 0..1, if known.
    """

    polygons: Geometries
    values: NDArray[np.int32]
    areas: NDArray[np.float64]
    means: NDArray[np.float64] | None = None

    def properties(self, names: Sequence[str]) -> list[NDArray[Any]]:
        """Columns (N,): class, name, area and, if known, probability."""
        labels = np.array([names[value] for value in self.values], dtype=object)
        columns: list[NDArray[Any]] = [self.values, labels, self.areas.round(_DECIMALS)]
        return columns if self.means is None else [*columns, self.means.round(_PROBABILITY_DECIMALS)]


def check_destination(out: Path, classes: Path) -> None:
    """Refuse a name that polygons of the map `classes` cannot be written under.

    Raises:
        DataError: another suffix than `SUFFIXES`, no folder, the map itself, a database in use.
    """
    refusal = f"polygons cannot be written to {out}:"
    if out.suffix.lower() not in SUFFIXES:
        raise DataError(f"{refusal} its name must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}.")
    if not out.parent.is_dir():
        raise DataError(f"{refusal} there is no folder {out.parent}. Make it, or choose another.")
    if out.is_dir():
        raise DataError(f"{refusal} it is a folder. Name a file in it.")
    if out.exists() and classes.exists() and out.samefile(classes):
        raise DataError(f"{refusal} it is the map they are made from. Choose another name.")
    # SQLite would play them into the new file.
    beside = [f"{out}{ending}" for ending in ("-wal", "-journal") if Path(f"{out}{ending}").exists()]
    if beside:
        raise DataError(f"{refusal} it is open in another program, as {beside[0]} shows. Close it there.")


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A name in a new folder beside `out`; the file written there replaces `out`, unless an exception comes. What a
    Shapefile has beside it goes with it.

    Raises:
        RunError: the disk is full, or the folder cannot be written; `out` is untouched then.
    """
    try:
        with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
            unfinished = Path(folder) / out.name
            yield unfinished
            with unfinished.open("rb+") as file:
                os.fsync(file.fileno())
            for former in beside(out):
                former.unlink(missing_ok=True)
            for part in (*filter(Path.exists, beside(unfinished)), unfinished):
                part.replace(out.parent / part.name)
    except RunError:
        raise
    except (OSError, RuntimeError) as error:
        raise RunError(f"{out} cannot be written: {error}. Make room, or choose another place for it.") from error


def beside(out: Path) -> list[Path]:
    """The files that belong to a file of polygons, besides itself."""
    return [out.with_suffix(suffix) for suffix in _SHAPEFILE] if out.suffix.lower() == ".shp" else []


Writer = Callable[[Path, Iterable[Batch], Geodesic | None, Sequence[str], bool], None]
"""Writes batches of polygons, in pixels, of classes with names; whether they know probabilities."""


def writer_of(path: Path) -> Writer:
    """What writes a file of this suffix."""
    driver = _DRIVERS.get(path.suffix.lower())
    return write_geojson if driver is None else partial(write_layer, driver)


def write_geojson(
    path: Path, batches: Iterable[Batch], geodesic: Geodesic | None, names: Sequence[str], means: bool = False
) -> None:
    """GeoJSON in longitude and latitude; without `geodesic` in pixels, which its member "notice" says. With `means`
    every batch knows its probabilities.

    Source: RFC 7946.
    """
    from shapely.geometry import mapping

    with path.open("w", encoding="utf-8", newline="\n") as file:
        notice = "" if geodesic else f'"notice": {json.dumps(_IN_PIXELS)}, '
        file.write(f'{{"type": "FeatureCollection", {notice}"features": [')
        between = "\n"
        for batch in batches:
            shapes = geodesic.geojson(batch.polygons) if geodesic else batch.polygons
            columns = [column.tolist() for column in batch.properties(names)]
            for place, *row in zip(shapes, *columns, strict=True):
                properties = dict(zip(_fields(geodesic, means), row, strict=True))
                feature = {"type": "Feature", "properties": properties, "geometry": mapping(_right_handed(place))}
                file.write(between + json.dumps(feature, ensure_ascii=False, allow_nan=False))
                between = ",\n"
        file.write("\n]}\n")


def write_layer(
    driver: str,
    path: Path,
    batches: Iterable[Batch],
    geodesic: Geodesic | None,
    names: Sequence[str],
    means: bool = False,
) -> None:
    """One layer, named like the file, in the CRS of the raster; without `geodesic` in pixels. FlatGeobuf is written at
    once, when all polygons are there; the others batch by batch.

    Raises:
        RuntimeError: it does not hold what was written (on a full disk SQLite does not always say so).
    """
    from pyogrio import read_info
    from shapely import transform

    nothing = np.array([], dtype=object)
    floats = nothing.astype(np.float64)
    empty = Batch(nothing, nothing.astype(np.int32), floats, floats if means else None)
    first = (nothing, *empty.properties(names))
    held: list[tuple[NDArray[Any], ...]] = [first]
    written = 0
    if driver != "FlatGeobuf":
        _append(driver, path, geodesic, first)
    for batch in batches:
        shapes = transform(batch.polygons, geodesic.in_crs) if geodesic else batch.polygons
        rows = (shapes, *batch.properties(names))
        written += len(shapes)
        if driver == "FlatGeobuf":
            held.append(rows)
        elif len(shapes):
            _append(driver, path, geodesic, rows)
    if driver == "FlatGeobuf":
        _append(driver, path, geodesic, tuple(np.concatenate(column) for column in zip(*held, strict=True)))
    if read_info(path, force_feature_count=True)["features"] != written:
        raise RuntimeError(f"it does not hold the {written} polygons that were written")


def _append(driver: str, path: Path, geodesic: Geodesic | None, rows: tuple[NDArray[Any], ...]) -> None:
    """Write polygons and their columns to the layer, which the first call makes."""
    from pyogrio.raw import write
    from shapely import to_wkb

    begun, packed = path.exists(), driver == "GPKG"
    shapes, *columns = rows
    fields = _fields(geodesic, means=len(columns) > 3)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")
        write(
            path,
            to_wkb(np.array([_right_handed(place) for place in shapes], dtype=object)),
            columns,
            [name[:_SHORT] for name in fields] if driver == "ESRI Shapefile" else fields,
            driver=driver,
            geometry_type="Polygon",
            crs=geodesic.wkt if geodesic else _PLANE if packed else None,
            append=begun,
            encoding="UTF-8",
            layer_options={"DESCRIPTION": _IN_PIXELS} if packed and not geodesic and not begun else None,
        )


def _right_handed(place: Any) -> Any:
    """With outer rings counterclockwise and holes clockwise."""
    from shapely import MultiPolygon
    from shapely.geometry.polygon import orient

    return MultiPolygon([orient(part) for part in place.geoms]) if place.geom_type == "MultiPolygon" else orient(place)


def _fields(geodesic: Geodesic | None, means: bool) -> list[str]:
    return ["class", "name", "area_m2" if geodesic else "area_px", *(["probability"] if means else [])]
