"""Rasters through rasterio, which is imported only when one is read."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semikit.data.faults import FileFault


def read(path: Path, bands: Sequence[int] | None, masks: bool = False) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Values (H, W, C) as stored and valid (H, W) bool, None where all are.

    A pixel is invalid where the file says so (its mask or alpha band, else nodata in all bands) or a chosen band is
    not a finite number. A single band is repeated three times, unless `bands` or `masks`.

    Raises:
        FileFault: a band it does not have; rasterio is not installed.
    """
    rasterio = _rasterio(path)
    with rasterio.open(path) as file:
        plain = [i for i, kind in zip(file.indexes, file.colorinterp, strict=True) if kind.name != "alpha"]
        chosen = list(bands) if bands else plain
        if not bands and len(plain) == 1 and not masks:
            chosen = plain * 3
        if max(chosen) > file.count:
            raise missing_band(path, chosen, file.count)
        values = np.moveaxis(file.read(chosen), 0, 2)
        valid = None if masks else file.dataset_mask() != 0
    if valid is not None and values.dtype.kind == "f":
        valid &= np.isfinite(values).all(axis=2)
    return values, None if valid is None or valid.all() else valid


def info(path: Path) -> tuple[tuple[int, int], str]:
    """(H, W) and the type of the values, from the header."""
    with _rasterio(path).open(path) as file:
        return (file.height, file.width), str(file.dtypes[0])


def errors() -> tuple[type[Exception], ...]:
    """What rasterio raises beside OSError; looked up only once it is imported."""
    module = sys.modules.get("rasterio.errors")
    return (module.RasterioError,) if module else ()


def missing_band(path: Path, bands: Sequence[int], count: int) -> FileFault:
    """The error for a band a file does not have."""
    detail = f"asked for bands {list(bands)}, it has {count}"
    return FileFault("band missing", path, detail, f"Choose `bands` from 1 to {count}.")


def _rasterio(path: Path) -> Any:
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning
    except ImportError:
        remedy = "Install it (pip install rasterio) or save the images as PNG."
        raise FileFault("rasters need rasterio, which is not installed", path, "", remedy) from None
    # A training image needs no place on a map. Only added once: filters belong to all threads.
    if not any(entry[0] == "ignore" and entry[2] is NotGeoreferencedWarning for entry in warnings.filters):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
    return rasterio
