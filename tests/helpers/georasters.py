"""Small rasters with a place on the map."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

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
