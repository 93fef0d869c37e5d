"""Images and masks from files: photos with Pillow, rasters (TIFF, JPEG 2000, VRT) with rasterio.

The number in the file is the number that is read, by what the header says of it; what an 8-bit picture shows is what
Pillow shows. Whoever asks for images `upright` gets photos as a viewer shows them (EXIF orientation). Of rasters the
orientation tag of TIFF is not applied, as GDAL and GIS do not: their place on the map is that of the stored pixels.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semikit.data.formats.colours import packed_pixels
from semikit.data.formats.orientation import Orientation, mask_orientation, turned, turned_size
from semikit.data.formats.photos import PHOTOS as PHOTOS
from semikit.data.formats.photos import Reduce, opened, picture, stored_colours, stored_values
from semikit.data.formats.range_watch import RangeWatch
from semikit.data.formats.rescale import Range, as_bytes, to_uint8
from semikit.errors import FileFault
from semikit.raster import reading as rasters
from semikit.raster.grid import Grid
from semikit.raster.names import RasterName
from semikit.raster.reading import Bands
from semikit.raster.region import Region

DEEP_PHOTOS = frozenset({".png", ".pgm", ".ppm"})
"""Photos that may have more than 8 bits."""
RASTERS = frozenset({".tif", ".tiff", ".jp2", ".vrt"})

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_IN_MEMORY = r"'?/vsimem/[^\s']+'?|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.tiff?|<_io\.\w+[^>]*>"
"""What GDAL and Pillow call a file that is not on the disk."""


@final
@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What a file's header says: size (H, W) as stored, numpy's name of the type of its values, EXIF orientation (1:
    upright), how many images are in the file, of which the first is read, and of a raster more.
    """

    size: tuple[int, int]
    dtype: str
    orientation: int = 1
    parts: int = 1
    raster: rasters.RasterHeader | None = None

    @property
    def shown(self) -> tuple[int, int]:
        """(H, W) as a viewer shows it."""
        return turned_size(self.size, self.orientation)


def read_image(
    path: Path,
    bands: Bands | None = None,
    scale: Range | None = None,
    region: Region | None = None,
    onto: Grid | None = None,
    data: bytes | None = None,
    upright: bool = False,
    watch: RangeWatch | None = None,
) -> tuple[Bytes, Mask | None]:
    """Image (H, W, C) uint8 and valid (H, W) bool, None where all pixels are.

    Photos come as RGB (palette, gray and CMYK converted, alpha dropped), rasters with all their bands but alpha; a
    single band is repeated three times. `bands`, counted from 1, chooses among them instead. 8-bit photos are never
    rescaled; other values go from `scale` (min, max) to 0..255. Without it values of 8 bits, of whatever type, stay as
    they are, and others go from percentiles 2 and 98 of this image. Of a raster only `region` is read, and it is
    brought onto the grid `onto` first; photos are given whole, and `upright` as a viewer shows them. `data` is what a
    file of this name holds that is not on the disk. `watch` is given what is read.

    Raises:
        FileFault: cannot be read, a band it does not have, or other bands than `scale` is of.
    """
    values, valid = read_values(path, bands, region, onto, data, upright)
    return in_range(values, valid, path, scale, watch), valid


def in_range(
    values: NDArray[Any], valid: Mask | None, path: Path, scale: Range | None, watch: RangeWatch | None
) -> Bytes:
    """Values of any type (H, W, C) of an image that is called `path` -> uint8, as `read_image` says.

    Raises:
        FileFault: other bands than `scale` is of.
    """
    if values.dtype == np.uint8 and not is_raster(path):
        if watch is not None:
            watch.add_plain(path)
        return values
    if watch is not None:
        watch.add(path, values, valid)
    if scale is None and (stored := as_bytes(values, valid)) is not None:
        return stored
    if scale is not None and len(scale[0]) not in (1, values.shape[2]):
        detail = f"{values.shape[2]} bands, the range of values is of {len(scale[0])}"
        remedy = "Give images with the bands the model learned from, or choose them with `bands: [...]`."
        raise FileFault("image with other bands than the range of values", path, detail, remedy)
    return to_uint8(values, scale, valid)


def read_values(
    path: Path,
    bands: Bands | None = None,
    region: Region | None = None,
    onto: Grid | None = None,
    data: bytes | None = None,
    upright: bool = False,
    reduce: Reduce | None = None,
) -> tuple[NDArray[Any], Mask | None]:
    """What `read_image` gives, before values are rescaled: (H, W, C) of any type; a JPEG smaller where `reduce` allows.

    Raises:
        FileFault: cannot be read, or a band it does not have.
    """
    if is_raster(path):
        with faults_of(path, region), rasters.stored(path, data) as file:
            values, valid = rasters.read(file, bands, region=region, onto=onto)
        return np.ascontiguousarray(values), valid
    with faults_of(path):
        values, orientation = picture(path, data, reduce)
    if upright:
        values = np.ascontiguousarray(turned(values, orientation))
    return (values if bands is None else _chosen(values, bands, path)), None


def read_rgb(
    path: Path,
    data: bytes | None = None,
    upright: bool = False,
    bands: Bands | None = None,
    scale: Range | None = None,
    reduce: Reduce | None = None,
) -> Bytes:
    """An image file as RGB (H, W, 3) uint8, `upright` as a viewer shows it; `data` is what a file of this name holds
    that is not on the disk. `bands` and `scale` are those of `read_image`; a JPEG comes smaller where `reduce` allows.

    Raises:
        FileFault: cannot be read, more than 8 bits, or a raster that has not three bands.
    """
    stored, valid = read_values(path, bands, data=data, upright=upright, reduce=reduce)
    values = as_bytes(stored, valid) if scale is None else in_range(stored, valid, path, scale, None)
    if values is None:
        remedy = "Classification reads images of 8 bits: bring all of them to 0..255 in one way and save them so."
        raise FileFault("image of more than 8 bits", path, str(stored.dtype), remedy)
    if values.shape[2] != 3:
        remedy = "Classification reads RGB: save three bands."
        raise FileFault("raster that has not three bands", path, f"{values.shape[2]} bands", remedy)
    return values


def sample_values(path: Path, bands: Bands | None = None) -> tuple[NDArray[Any], Mask | None]:
    """What `read_values` gives; of a large raster only some rows and columns.

    Raises:
        FileFault: cannot be read, or a band it does not have.
    """
    if not is_raster(path):
        return read_values(path, bands)
    with faults_of(path):
        return rasters.sample(path, bands)


def read_mask(path: Path, region: Region | None = None, orientation: int = 1, colours: bool = False) -> NDArray[Any]:
    """Stored values (H, W) of a mask, whole numbers; of a palette image the indices, of a raster its only band; bool
    where they have one bit, of which 1 is the only value beside 0.

    Only those of `region`, if given. They are turned by `orientation`, that of the image they are of. Nodata of a
    raster is not consulted: say `ignore` for it, as a mask's nodata is often a class (0). With `colours`
    an image of three channels or with a palette comes as `colours.packed_pixels` has it.

    Raises:
        FileFault: cannot be read, or a colour image and no colours were asked for.
    """
    return read_mask_onto(path, region, None, orientation, colours)[0]


def read_mask_onto(
    path: Path, region: Region | None, onto: Grid | None, orientation: int = 1, colours: bool = False
) -> tuple[NDArray[Any], Mask | None]:
    """What `read_mask` gives, brought onto the grid `onto` first, and where the mask lies (H, W); None: everywhere.

    Raises:
        FileFault: cannot be read, or a colour image.
    """
    covered = None
    if is_raster(path):
        with faults_of(path, region):
            values, covered = rasters.read(path, None, masks=True, region=region, onto=onto, colours=colours)
    else:
        with faults_of(path):
            values = stored_colours(path) if colours else stored_values(path)
        values = values if region is None else values[region.slices]
    values = turned(values, orientation)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim == 3 and colours and values.shape[2] >= 3 and values.dtype == np.uint8:
        return packed_pixels(values), covered
    if values.ndim == 3:
        raise _deep_colours(path, values) if colours and values.shape[2] >= 3 else _colour(path, values)
    return _whole(values, path), covered


def read_info(path: Path) -> ImageInfo:
    """What a file's header says; pixels are not decoded.

    Raises:
        FileFault: cannot be read.
    """
    with faults_of(path):
        if is_raster(path):
            raster = rasters.header(path)
            return ImageInfo(raster.size, raster.dtype, parts=raster.parts, raster=raster)
        with opened(path, None) as (_, photo):
            return ImageInfo(photo.size, photo.dtype, photo.orientation, photo.parts)


def image_size(path: Path, upright: bool = False) -> tuple[int, int]:
    """(H, W) from the header, `upright` as a viewer shows it; pixels are not decoded.

    Raises:
        FileFault: cannot be read.
    """
    info = read_info(path)
    return info.shown if upright else info.size


def orientation_of_mask(mask: Path, image: Path, stated: Orientation) -> int:
    """By which orientation a mask is turned, so that it lies on its image as a viewer shows it; 1: not turned.

    Raises:
        FileFault: cannot be read; a mask that fits neither, or of which it cannot be told.
    """
    if stated == "stored" or is_raster(image):
        return 1
    info = read_info(image)
    return 1 if info.orientation == 1 else mask_orientation(mask, image_size(mask), info.size, info.orientation, stated)


def spread_by_pillow(path: Path) -> bool:
    """Whether Pillow gives a mask of gray of 2 or 4 bits, or a PGM, by values spread to 0..255, as it was once read.

    Raises:
        FileFault: cannot be read.
    """
    if is_raster(path):
        return False
    with faults_of(path), opened(path, None) as (_, photo):
        return not (photo.as_stored or photo.deep)


def is_raster(path: Path) -> bool:
    """Whether rasterio reads it."""
    return isinstance(path, RasterName) or path.suffix.lower() in RASTERS


def _chosen(values: NDArray[Any], bands: Bands, path: Path) -> NDArray[Any]:
    numbers = rasters.band_numbers(path, bands, [None] * values.shape[2])
    return np.ascontiguousarray(values[..., [number - 1 for number in numbers]])


def _colour(path: Path, values: NDArray[Any]) -> FileFault:
    gray = (
        values.shape[2] >= 3 and (values[..., 0] == values[..., 1]).all() and (values[..., 0] == values[..., 2]).all()
    )
    colours = len(np.unique(values.reshape(-1, values.shape[2]), axis=0))
    remedy = (
        "Its channels are equal: save one of them, with Pillow Image.open(f).getchannel(0).save(f)."
        if gray
        else "Say which colour is which class, `colors: {road: [128, 64, 128], …}`, or save class numbers: one channel "
        "or a palette PNG, where value 0 is the first class."
    )
    return FileFault("colour mask read as RGB", path, f"{values.shape[2]} channels, {colours} colours", remedy)


def _deep_colours(path: Path, values: NDArray[Any]) -> FileFault:
    remedy = "Save it with 8 bits per channel: the colours that `colors` names are 0 to 255."
    return FileFault("colour mask of more than 8 bits", path, str(values.dtype), remedy)


def _whole(values: NDArray[Any], path: Path) -> NDArray[Any]:
    if values.dtype.kind != "f":
        return values
    if not np.isfinite(values).all() or (values != np.rint(values)).any():
        remedy = "Save class numbers as whole numbers (uint8)."
        raise FileFault("mask of values that are no whole numbers", path, str(values.dtype), remedy)
    return values.astype(np.int64)


@contextmanager
def faults_of(path: Path, region: Region | None = None) -> Iterator[None]:
    """What Pillow and GDAL raise for damaged files, as one error that names the file and the region."""
    try:
        yield
    except FileFault:
        raise
    except Image.DecompressionBombError:
        detail = f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, which would be decoded as a whole"
        remedy = "Cut it into tiles, or save it as a tiled GeoTIFF, which is read by windows."
        raise FileFault("image too large", path, detail, remedy) from None
    except _damage() as error:
        kind, remedy = "unreadable or truncated image", "Replace the file or take it out of the folder."
        if isinstance(path, RasterName):
            kind = "raster that GDAL cannot read"
            remedy = (
                "Check its name (rio info NAME), and of an address that it can be reached and gives parts of files."
            )
        detail = _reason(error, path) if region is None else f"{region}: {_reason(error, path)}"
        raise FileFault(kind, path, detail, remedy) from None


def _damage() -> tuple[type[Exception], ...]:
    return OSError, SyntaxError, ValueError, EOFError, MemoryError, struct.error, *rasters.errors()


def _reason(error: BaseException, path: Path) -> str:
    """The error's own words, without the path, unless it is a part of a name: `netcdf:PATH:ndvi`."""
    cause = error.__cause__ if isinstance(error, rasters.errors()) and error.__cause__ else error  # GDAL's own words
    system = cause.strerror if isinstance(cause, OSError) else None  # without number and path
    text = system or " ".join(str(cause).split()) or type(error).__name__
    text = re.sub(rf"'?(?<![:\"])(/vsicurl/)?{re.escape(str(path))}'?|{_IN_MEMORY}", "", text)
    return " ".join(text.split()).removeprefix(": ").removesuffix(".")


def read_grid(path: Path, upright: bool = False) -> Grid:
    """Where the pixels of a file lie; a photo has a size, `upright` that a viewer shows, and no place.

    Raises:
        FileFault: cannot be read.
    """
    if not is_raster(path):
        return Grid(image_size(path, upright))
    with faults_of(path):
        return rasters.grid_of(path)


def refuse_loose_place(path: Path) -> None:
    """Raise where a raster is placed by ground control points or the like, which a map on its grid would lose.

    Raises:
        FileFault: it is, or cannot be read.
    """
    raster = read_info(path).raster if is_raster(path) else None
    if raster is not None and raster.loose_place:
        remedy = "Bring it onto a grid (gdalwarp IN OUT.tif), or write pictures without a place (--format png)."
        raise FileFault("place that is no grid on the map", path, f"by {raster.loose_place}", remedy)


def files_of(path: Path) -> list[Path]:
    """All files an image is read from; a virtual raster refers to others.

    Raises:
        FileFault: cannot be read.
    """
    if not is_raster(path):
        return [path]
    with faults_of(path):
        return rasters.parts_of(path)
