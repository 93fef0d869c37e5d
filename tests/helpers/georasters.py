"""Small rasters with a place on the map."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC

UTM = "EPSG:32633"


def save(
    path: Path,
    values: Any,
    *,
    crs: str | None = UTM,
    origin: tuple[float, float] = (400000.0, 5800000.0),
    pixel: float = 10.0,
    colormap: dict[int, tuple[int, ...]] | None = None,
    **profile: Any,
) -> Path:
    """Write values (H, W) or (C, H, W) as a GeoTIFF with its upper left corner at `origin`; `colormap`: a palette."""
    values = np.asarray(values)
    bands = values[None] if values.ndim == 2 else values
    path.parent.mkdir(parents=True, exist_ok=True)
    made: dict[str, Any] = {
        "driver": "GTiff",
        "dtype": bands.dtype,
        "count": bands.shape[0],
        "height": bands.shape[1],
        "width": bands.shape[2],
    }
    if crs is not None:
        made |= {"crs": crs, "transform": Affine(pixel, 0.0, origin[0], 0.0, -pixel, origin[1])}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **{**made, **profile}) as file:
            file.write(bands)
            if colormap is not None:
                file.write_colormap(1, colormap)
    return path


def ramp(height: int, width: int, bands: int = 3, dtype: str = "uint8") -> Any:
    """Values (C, H, W) that differ from pixel to pixel and grow along both axes."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([(rows * 3 + columns * 2 + 7 * band) % 250 for band in range(bands)]).astype(dtype)


LOOSE = {
    "ground control points": "ground control points",
    "RPCs": "RPCs",
    "_RPC.TXT": "RPCs",
    "a geolocation array": "a geolocation array",
}
"""Ways to place a raster on the map without a grid, and what they are called."""


def place_loosely(path: Path, kind: str) -> None:
    """Place a raster without a place of 92 x 112 pixels by one of `LOOSE`."""
    one, by_lon, by_lat = ([float(k == place) for k in range(20)] for place in range(3))
    rpc = RPC(100, 100, 52, 0.1, by_lat, one, 46, 46, 13, 0.1, by_lon, one, 56, 56)
    if kind == "_RPC.TXT":
        lines = (f"{key}: {value}" for key, value in _flat(rpc.to_gdal()))
        path.with_name(f"{path.stem}_RPC.TXT").write_text("\n".join(lines))
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "r+") as file:
            if kind == "RPCs":
                file.rpcs = rpc
            elif kind == "a geolocation array":
                file.update_tags(ns="GEOLOCATION", X_DATASET="lon.tif", Y_DATASET="lat.tif", X_BAND="1", Y_BAND="1")
            else:
                corners = [(0, 0, 4e5, 5.8e6), (0, 112, 4.1e5, 5.8e6), (92, 0, 4e5, 5.79e6), (92, 112, 4.1e5, 5.79e6)]
                file.gcps = [GroundControlPoint(*corner) for corner in corners], rasterio.crs.CRS.from_string(UTM)


def _flat(fields: dict[str, str]) -> Iterator[tuple[str, str]]:
    """As the text file has them: each coefficient in a line of its own."""
    for key, value in fields.items():
        if key.endswith("_COEFF"):
            yield from ((f"{key}_{k}", part) for k, part in enumerate(value.split(), start=1))
        else:
            yield key, value
