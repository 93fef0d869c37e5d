"""Maps that are written piece by piece: cloud optimised GeoTIFFs, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from semikit.errors import RunError
from semikit.files import need_space, short_name
from semikit.raster.grid import Grid
from semikit.raster.reading import errors, rasterio_for, window_of
from semikit.raster.region import Region

BLOCK = 512
_ROOM = 1.4
"""What the final form and its overviews may take while they are made, times the bytes of the map."""
BESIDE = (".aux.xml", ".ovr", ".msk")
"""What GDAL and other programs keep beside a raster; it would hold for a new map of the same name."""
CACHE = 32 << 20
"""Bytes that GDAL may keep of what it reads and writes."""


@final
class MapFile:
    """A GeoTIFF (uint8) on a grid, filled region by region in any order.

    Used as a context. It is written beside its name, without compression, and on a regular end copied into the final
    form (COG: tiled, compressed, with overviews); on any other end nothing is left. `nodata` is what `write` puts
    where it is marked so; `colours` (K, 3) make a palette; `tags` stand in the file; `average` smooths overviews;
    `descriptions` name the bands. `categories` name the values 0, 1 …, in GDAL's file beside it (NAME.tif.aux.xml).

    Raises:
        RunError: when the disk is full or the folder cannot be written.
    """

    def __init__(
        self,
        path: Path,
        grid: Grid,
        *,
        bands: int = 1,
        rgb: bool = False,
        nodata: int | None = 255,
        colours: NDArray[np.uint8] | None = None,
        tags: Mapping[str, str] | None = None,
        average: bool = False,
        descriptions: Sequence[str] = (),
        categories: Sequence[str] = (),
    ) -> None:
        self.path, self.grid, self.bands, self.nodata = path, grid, bands, nodata
        self.colours, self.tags, self.average, self.rgb = colours, dict(tags or {}), average, rgb
        self.descriptions, self.categories = descriptions, categories
        self.raw = path.with_name(f".{short_name(path)}.{os.getpid()}.raw.tif")
        self.finished = path.with_name(f".{short_name(path)}.{os.getpid()}.tif")

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._stack.callback(self._remove)
        rasterio = rasterio_for(self.path)
        profile = {
            "driver": "GTiff",
            "dtype": "uint8",
            "count": self.bands,
            "height": self.grid.size[0],
            "width": self.grid.size[1],
            "nodata": self.nodata,
            "BIGTIFF": "IF_SAFER",
            "photometric": "RGB" if self.rgb else "MINISBLACK",
        }
        profile |= {key: value for key in ("crs", "transform") if (value := getattr(self.grid, key)) is not None}
        try:
            self.file = self._stack.enter_context(rasterio.open(self.raw, "w+", **profile))
        except _refusals() as error:
            self._stack.close()
            raise self._refused(error) from error
        if self.colours is not None:
            self.file.write_colormap(1, {k: tuple(map(int, colour)) for k, colour in enumerate(self.colours)})
        for number, text in enumerate(self.descriptions, 1):
            self.file.set_band_description(number, text)
        self.file.update_tags(**self.tags)
        return self

    def write(self, region: Region, values: NDArray[np.uint8], valid: NDArray[np.bool_] | None = None) -> None:
        """Write values (h, w), or (h, w, bands), where `valid` (h, w), and nodata elsewhere."""
        bands = values[..., None] if values.ndim == 2 else values
        if valid is not None and self.nodata is not None:
            bands = np.where(valid[..., None], bands, np.uint8(self.nodata))
        try:
            self.file.write(np.moveaxis(bands, -1, 0), window=window_of(region))
        except _refusals() as error:
            raise self._refused(error) from error

    def read(self, region: Region) -> NDArray[np.uint8]:
        """The first of the bands (h, w), as it was written."""
        values: NDArray[np.uint8] = self.file.read(1, window=window_of(region))
        return values

    def tag(self, name: str, text: str) -> None:
        """Write a text into the file."""
        self.file.update_tags(**{name: text})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is not None:
                return
            try:
                self.file.close()
                self._finish()
            except _refusals() as refused:
                raise self._refused(refused) from refused

    def _finish(self) -> None:
        """The final form, under its name."""
        from rasterio.shutil import copy

        options = {
            "driver": "COG",
            "COMPRESS": "DEFLATE",
            "BLOCKSIZE": str(BLOCK),
            "BIGTIFF": "IF_SAFER",
            "OVERVIEW_RESAMPLING": "AVERAGE" if self.average else "NEAREST",
        }
        need_space(self.path.parent, int(self.raw.stat().st_size * _ROOM))
        copy(self.raw, self.finished, **options)
        for suffix in BESIDE:  # of a former map of this name
            self.path.with_name(f"{self.path.name}{suffix}").unlink(missing_ok=True)
        if self.categories:  # a TIFF has no place for them; first, so that a map under its name has them
            names = self.finished.with_name(f"{self.finished.name}{BESIDE[0]}")
            names.write_text(_named(self.categories), encoding="utf-8")
            names.replace(self.path.with_name(f"{self.path.name}{BESIDE[0]}"))
        self.finished.replace(self.path)

    def _remove(self) -> None:
        for path in (self.raw, self.finished):
            for suffix in ("", *BESIDE, ".ovr.tmp"):
                with suppress(OSError):
                    path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)

    def _refused(self, error: Exception) -> RunError:
        return RunError(
            f"could not write {self.path}: {error.__cause__ or error}. Free space on its disk or choose another -o."
        )


def read_tags(path: Path) -> dict[str, str]:
    """The texts in a raster."""
    with rasterio_for(path).open(path) as file:
        return dict(file.tags())


def _refusals() -> tuple[type[Exception], ...]:
    """What writing fails with."""
    return OSError, *errors()


def _named(categories: Sequence[str]) -> str:
    """What GDAL keeps beside a raster of one band whose values have names."""
    names = "\n".join(f"      <Category>{escape(name)}</Category>" for name in categories)
    return (
        '<PAMDataset>\n  <PAMRasterBand band="1">\n    <CategoryNames>\n'
        f"{names}\n    </CategoryNames>\n  </PAMRasterBand>\n</PAMDataset>\n"
    )


def class_tags(names: Sequence[str]) -> dict[str, str]:
    """Tags of a map that tell the name of each class, CLASS_0 and so on."""
    return {f"CLASS_{number}": name for number, name in enumerate(names)}


def small_cache() -> Any:
    """A context in which GDAL keeps little of what it reads and writes; without it, it takes a share of all memory."""
    import rasterio

    return rasterio.Env(GDAL_CACHEMAX=CACHE)
