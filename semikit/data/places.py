"""Where the pixels of a file lie, and which files it is read from."""

from __future__ import annotations

from pathlib import Path

from semikit.data import rasters
from semikit.data.grids import Grid
from semikit.data.images import faults_of, image_size, is_raster


def read_grid(path: Path) -> Grid:
    """Where the pixels of a file lie; a photo has a size and no place.

    Raises:
        FileFault: cannot be read.
    """
    if not is_raster(path):
        return Grid(image_size(path))
    with faults_of(path):
        return rasters.grid_of(path)


def files_of(path: Path) -> list[Path]:
    """All files an image is read from; a virtual raster refers to others.

    Raises:
        FileFault: cannot be read.
    """
    if not is_raster(path):
        return [path]
    with faults_of(path):
        return rasters.parts_of(path)
