"""Rasters through rasterio, which is imported only when one is read."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from semikit.errors import FileFault, some
from semikit.raster.grid import Grid
from semikit.raster.names import RasterName
from semikit.raster.region import Region

_MOST_SAMPLED = 16_000_000
"""Pixels of a raster up to which all are read to sample its values."""

Bands = Sequence[int | str]
"""Bands of a raster in the order they are read in: numbers, from 1, or what the file calls them (up to a comma)."""

_SERVERS = {
    "GDAL_HTTP_CONNECTTIMEOUT": 10,
    "GDAL_HTTP_LOW_SPEED_TIME": 30,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1,
    "GDAL_HTTP_MAX_RETRY": 2,
    "GDAL_HTTP_RETRY_DELAY": 1,
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",
    "GDAL_HTTP_MULTIRANGE": "SERIAL",
    "CPL_VSIL_CURL_CACHE_SIZE": 128 << 20,
}
"""GDAL's options for rasters on servers, where the user has set none: seconds, bytes a second; no list of a folder is
asked for; and what was read is kept, as windows overlap (of ranges that are asked for at once GDAL keeps nothing).
"""

_importing = Lock()
_raised: tuple[type[Exception], ...] = ()
"""What rasterio and GDAL raise beside OSError; empty before they are imported."""


def read(
    path: Path,
    bands: Bands | None,
    masks: bool = False,
    region: Region | None = None,
    onto: Grid | None = None,
    colours: bool = False,
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Values (H, W, C) as stored and valid (H, W) bool, None where all are; only those of `region`, if given.

    A pixel is invalid where the file says so (its mask or alpha band, else nodata in all chosen bands) or a chosen band
    is not a finite number. A single band is repeated three times, unless `bands` or `masks`. `onto` is a grid that it
    is brought onto first (bilinear, masks nearest); what lies outside the raster is invalid, also of a mask. Masks of
    one bit, of which 1 is shown white, come as bool; with `colours` a palette comes as its colours (H, W, 3) uint8.

    Raises:
        FileFault: a band it does not have; of an image, a palette; rasterio is not installed.
    """
    with _opened(path, onto, masks) as (file, views):
        chosen = _chosen(file, path, bands, masks)
        window = None if region is None else window_of(region)
        values, valid = np.moveaxis(views[0].read(chosen, window=window), 0, 2), None
        if onto is not None or not masks:
            valid = _valid(file, views[0], chosen, window=window)
            for view in views[1:]:
                values = np.where(valid[..., None], values, np.moveaxis(view.read(chosen, window=window), 0, 2))
                valid |= _valid(file, view, chosen, window=window)
        if masks and colours and file.count == 1 and file.colorinterp[0].name == "palette":
            values = _palette(file)[values[..., 0]]
        elif masks and _one_bit(file):
            values = values.astype(np.bool_)
    if values.dtype.kind == "c":
        raise FileFault("complex numbers", path, str(values.dtype), "Save their magnitude as real numbers.")
    if valid is not None and values.dtype.kind == "f":
        valid &= np.isfinite(values).all(axis=2)
    return values, None if valid is None or valid.all() else valid


def _valid(file: Any, dataset: Any, chosen: list[int], **part: Any) -> NDArray[np.bool_]:
    """Where the chosen bands show something (H, W): by alpha, and where one of them is not nodata.

    `part` is what is read, as rasterio's `read` takes it.
    """
    # Masks tell of an alpha band for some types of values and numbers of bands only.
    alpha = [i for i, kind in zip(dataset.indexes, dataset.colorinterp, strict=True) if kind.name == "alpha"]
    added = dataset is not file and dataset.count > file.count
    shown = True if not (alpha or added) else _read(dataset, alpha[0] if alpha else dataset.count, part) != 0
    if dataset is not file and (alpha or added):
        return np.asarray(shown, dtype=np.bool_)
    chosen = sorted(set(chosen))
    if "out_shape" in part:
        part = {**part, "out_shape": (len(chosen), *part["out_shape"])}
    return np.asarray((dataset.read_masks(chosen, **part) != 0).any(axis=0) & shown, dtype=np.bool_)


def _read(dataset: Any, band: int, part: Mapping[str, Any]) -> NDArray[Any]:
    values: NDArray[Any] = dataset.read(band, **part)
    return values


def sample(path: Path, bands: Bands | None) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """What `read` gives, of a large raster every n-th row and column, so that little memory is needed."""
    with open_raster(path) as file:
        step = int(np.ceil(np.sqrt(file.height * file.width / _MOST_SAMPLED)))
        if step <= 1:
            return read(path, bands)
        chosen = _chosen(file, path, bands, False)
        shape = (max(1, file.height // step), max(1, file.width // step))
        values = np.moveaxis(file.read(chosen, out_shape=(len(chosen), *shape)), 0, 2)
        return values, _valid(file, file, chosen, out_shape=shape)


@contextmanager
def stored(path: Path, data: bytes | None) -> Iterator[Path]:
    """The file itself or, where `data` is what a TIFF of that name holds, one in memory.

    Raises:
        ValueError: `data` are no TIFF. Of other kinds GDAL knows some that refer to files of the machine.
    """
    if data is None:
        yield path
        return
    if data[:2] not in (b"II", b"MM"):
        raise ValueError("it is no TIFF")
    with rasterio_for(path).MemoryFile(data, ext=path.suffix) as file:
        try:
            yield Path(file.name)
        except FileFault as fault:
            raise FileFault(fault.kind, path, fault.detail, fault.remedy) from None


def png_values(path: Path, data: bytes | None) -> NDArray[Any]:
    """Values (H, W, C) of a PNG as stored, not scaled, alpha among them; `data` is what it holds if not on the disk."""
    library = rasterio_for(path)
    with ExitStack() as stack:
        if data is None:
            file = stack.enter_context(library.open(path, driver="PNG"))
        else:
            file = stack.enter_context(stack.enter_context(library.MemoryFile(data, ext=".png")).open(driver="PNG"))
        return np.moveaxis(file.read(), 0, 2)


@final
@dataclass(frozen=True, slots=True)
class RasterHeader:
    """Size (H, W), numpy's name of the type of the values, images in the file, bands, value of pixels without data, and
    what places it on the map where it is no grid there: ground control points, RPCs, a geolocation array; else empty.
    """

    size: tuple[int, int]
    dtype: str
    parts: int
    bands: int
    nodata: float | None
    loose_place: str


def header(path: Path) -> RasterHeader:
    """What the header of a raster says."""
    with open_raster(path) as file:
        if not file.count:
            raise ValueError(f"it has no band of its own, only subdatasets: {some(file.subdatasets)}")
        return RasterHeader(
            size=(file.height, file.width),
            dtype=str(file.dtypes[0]),
            parts=max(1, len(file.subdatasets)),
            bands=file.count,
            nodata=file.nodata,
            loose_place=_loose_place(file),
        )


def _loose_place(file: Any) -> str:
    if not file.transform.is_identity:
        return ""
    if file.gcps[0]:
        return "ground control points"
    return "RPCs" if file.rpcs is not None else "a geolocation array" if file.tags(ns="GEOLOCATION") else ""


def _palette(file: Any) -> NDArray[np.uint8]:
    """Colours (N, 3) of all values that the only band can hold; of those without one black."""
    known = file.colormap(1)
    table = np.zeros((np.iinfo(file.dtypes[0]).max + 1, 3), np.uint8)
    table[list(known)] = [colour[:3] for colour in known.values()]
    return table


def _one_bit(file: Any) -> bool:
    """Whether values are of one bit, of which 1 is shown lighter than 0 (in a fax it is black)."""
    if file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS") != "1":
        return False
    if file.colorinterp[0].name != "palette":
        return True
    colours = file.colormap(1)
    return bool(sum(colours[1][:3]) > sum(colours[0][:3]))


def grid_of(path: Path) -> Grid:
    """Where the pixels of a raster lie, from the header; without place on a map only their number is known."""
    with open_raster(path) as file:
        return Grid.of(file)


def is_striped(path: Path) -> bool:
    """Whether whole rows of a raster are stored together, so that a window costs all that lies beside it."""
    with rasterio_for(path).open(path) as file:
        return file.driver == "GTiff" and any(width >= file.width for _, width in file.block_shapes)


def parts_of(path: Path) -> list[Path]:
    """All files a raster is read from: the file itself, what lies beside it, and what a virtual one refers to."""
    found, waiting = set[Path](), [path]
    while waiting:
        one = waiting.pop()
        if one in found or not one.is_file():
            continue
        found.add(one)
        with open_raster(one) as file:
            waiting += [
                Path(name) for name in file.files if Path(name).suffix.lower() in (".vrt", ".tif", ".tiff", ".jp2")
            ]
    return sorted(found)


def errors() -> tuple[type[Exception], ...]:
    """What rasterio and GDAL raise beside OSError; empty before a raster was opened."""
    return _raised


def band_numbers(path: Path, bands: Bands, names: Sequence[str | None]) -> list[int]:
    """The numbers of bands of a file, whose bands are called by `names`, None: not at all.

    Raises:
        FileFault: a band that it does not have.
    """
    # Sentinel-2 as GDAL opens it: "B4, central wavelength 665 nm".
    known = {name.partition(",")[0]: number for number, name in reversed([*enumerate(names, start=1)]) if name}
    found = [known.get(band, 0) if isinstance(band, str) else band for band in bands]
    if all(0 < number <= len(names) for number in found):
        return found
    called = f", called {', '.join(map(repr, reversed(known)))}" if known else ""
    remedy = (
        f"Choose `bands` from 1 to {len(names)}{' or by their names' if known else ''}, or give images that have those "
        "bands (a model keeps its own; `predict --bands` says which of an image they are)."
    )
    detail = f"asked for bands {list(bands)}, it has {len(names)}{called}"
    raise FileFault("band missing", path, detail, remedy)


@contextmanager
def open_raster(path: Path) -> Iterator[Any]:
    """The raster, opened for as long as the block runs.

    Raises:
        FileFault: rasterio is not installed.
    """
    library = rasterio_for(path)
    with ExitStack() as stack:
        if isinstance(path, RasterName):
            options = {key: value for key, value in _SERVERS.items() if key not in os.environ}
            stack.enter_context(library.Env(**options))
        yield stack.enter_context(library.open(str(path) if isinstance(path, RasterName) else path))


@contextmanager
def _opened(path: Path, onto: Grid | None, nearest: bool) -> Iterator[tuple[Any, Sequence[Any]]]:
    """The file, and what is read: the file itself or its views on another grid, of which the first that is valid
    counts.
    """
    with ExitStack() as stack:
        file = stack.enter_context(open_raster(path))
        if onto is None:
            yield file, [file]
            return
        from rasterio.enums import Resampling
        from rasterio.vrt import WarpedVRT

        place = {"crs": onto.crs, "transform": onto.transform, "height": onto.size[0], "width": onto.size[1]}
        place["resampling"] = Resampling.nearest if nearest else Resampling.bilinear
        own = any(kind.name == "alpha" for kind in file.colorinterp)
        if nearest:  # nodata of a mask is often a class
            place |= {"src_nodata": None, "nodata": None}
        grid = Grid.of(file)
        turns = grid.turns_onto(onto)
        if len(turns) > 1:  # else GDAL guesses what to read from a few points, of which none may lie at the seam
            place |= {"SAMPLE_GRID": "YES", "SAMPLE_STEPS": "ALL"}
        # Without nodata or alpha of its own, an alpha band tells what lies outside the raster.
        place["add_alpha"] = not own and (nearest or file.nodata is None)
        views = [{**place, "src_transform": grid.turned(turn).transform} if turn else place for turn in turns]
        yield file, [stack.enter_context(WarpedVRT(file, **view)) for view in views]


def _chosen(file: Any, path: Path, bands: Bands | None, masks: bool) -> list[int]:
    """Numbers of the bands that are read."""
    plain = [i for i, kind in zip(file.indexes, file.colorinterp, strict=True) if kind.name != "alpha"]
    chosen = band_numbers(path, bands, file.descriptions) if bands else plain
    if not bands and len(plain) == 1 and not masks:
        chosen = plain * 3
    if not masks and any(file.colorinterp[band - 1].name == "palette" for band in chosen):
        remedy = "Its values are no brightness: expand it to colours (gdal_translate -expand rgb)."
        raise FileFault("raster with a palette as an image", path, "", remedy)
    return chosen


def window_of(region: Region) -> Any:
    """The region as rasterio has it."""
    from rasterio.windows import Window

    return Window(region.left, region.top, region.width, region.height)


def rasterio_for(path: Path) -> Any:
    """The library, for this file.

    Raises:
        FileFault: rasterio is not installed.
    """
    global _raised
    # Under one lock: of a module that another thread is importing, only a part is there.
    with _importing:
        try:
            import rasterio
            import rasterio.io
            import rasterio.vrt
            import rasterio.windows
            from rasterio._err import CPLE_BaseError
            from rasterio.errors import NotGeoreferencedWarning, RasterioError
        except ImportError:
            remedy = "Install it (pip install rasterio) or save the images as PNG."
            raise FileFault("rasters need rasterio, which is not installed", path, "", remedy) from None
        _raised = (RasterioError, CPLE_BaseError)
        # A training image needs no place on a map. Only where another filter is first: filters belong to all threads.
        of_all = (entry for entry in warnings.filters if entry[1] is entry[3] is None)  # any message, any module
        first = next((entry[0] for entry in of_all if issubclass(NotGeoreferencedWarning, entry[2])), None)
        if first != "ignore":
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
    return rasterio
