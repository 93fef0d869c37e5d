"""Photos with Pillow: as pictures, and as the values that are stored.

Pillow gives pictures of 8 bits as they are. What it would change, it does not read here: 16-bit colour (of which it
takes the high bytes), gray of 2 and 4 bits and PGM as masks (which it scales) come through GDAL and numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from semikit.data.formats.headers import PhotoHeader, header_of, pnm_values
from semikit.errors import FileFault
from semikit.raster import reading as rasters

HEIC = frozenset({".heic", ".heif"})
"""Photos that need the extra `semikit[heic]`."""
AVIF = frozenset({".avif"})
"""Photos that Pillow reads from 11.3 on."""
PHOTOS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".ppm", ".pgm"}) | HEIC | AVIF

Reduce = Callable[[tuple[int, int]], float]
"""Size of an image as stored, pixels -> the factor by which it may be reduced."""

_GRAY = frozenset({"1", "L", "LA", "La"})
_MODULE = "pillow_heif"
_lock = Lock()


def missing_reader(path: Path) -> str:
    """What has to be installed here to read a file of this suffix; empty where nothing has to be."""
    suffix = path.suffix.lower()
    if suffix in HEIC and find_spec(_MODULE) is None:
        return 'pip install "semikit[heic]"'
    if suffix in AVIF and not ("avif" in features.modules and features.check_module("avif")):
        return 'pip install "pillow>=11.3"'
    return ""


@contextmanager
def opened(path: Path, data: bytes | None) -> Iterator[tuple[Image.Image, PhotoHeader]]:
    """A photo, of which only the header is read yet; `data` is what a file of this name holds that is not on the disk.

    Raises:
        FileFault: nothing that is installed reads this type.
        OSError, ValueError, struct.error: a damaged file.
    """
    _prepare(path)
    with path.open("rb") if data is None else BytesIO(data) as file, Image.open(file) as image:
        yield image, header_of(image, file)


def picture(path: Path, data: bytes | None, reduce: Reduce | None = None) -> tuple[NDArray[Any], int]:
    """RGB (H, W, 3) as stored, and its orientation: uint8 (palette, gray and CMYK converted, alpha dropped), or what a
    deeper image holds, gray three times.

    With `reduce` a JPEG is decoded at a half, quarter or eighth of its size where that factor allows it: the inverse
    cosine transform then gives fewer pixels, each the mean of those it stands for but for rounding.
    """
    with opened(path, data) as (image, header):
        if reduce is not None and (factor := reduce(header.size)) >= 2:
            side = next(side for side in (8, 4, 2) if side <= factor)
            image.draft(None, (image.width // side, image.height // side))
        if header.deep and header.as_stored:
            return np.repeat(np.array(image)[..., None], 3, axis=2), header.orientation
        if header.deep:
            values = _stored(path, data, image)
            return (values[..., :3] if values.shape[2] > 2 else np.repeat(values[..., :1], 3, 2)), header.orientation
        if image.mode == "P" and "transparency" in image.info:
            return np.array(image.convert("RGBA").convert("RGB")), header.orientation
        return np.array(image if image.mode == "RGB" else image.convert("RGB")), header.orientation


def stored_values(path: Path) -> NDArray[Any]:
    """The numbers in a file, (H, W) or (H, W, C): of a palette image the indices; bool where they
    have one bit, of which 1 is shown lighter than 0.
    """
    with opened(path, None) as (image, header):
        values = np.array(image) if header.as_stored else _stored(path, None, image)
        white = header.one_bit and values.ndim == 2 and _lighter(image)
    return values.astype(np.bool_) if white else values.astype(np.uint8) if values.dtype == np.bool_ else values


def _lighter(image: Image.Image) -> bool:
    """Whether 1 is shown lighter than 0."""
    colours = image.getpalette() if image.mode == "P" else None
    return colours is None or sum(colours[3:6]) > sum(colours[:3])


def stored_colours(path: Path) -> NDArray[Any]:
    """What a mask of colours shows, (H, W, 3); of one without colours what `stored_values` gives."""
    with opened(path, None) as (image, header):
        if image.mode in _GRAY or header.deep:
            return stored_values(path)
        return np.array(image.convert("RGBA").convert("RGB") if "transparency" in image.info else image.convert("RGB"))


def _stored(path: Path, data: bytes | None, image: Image.Image) -> NDArray[Any]:
    """Values (H, W, C) of a file of which Pillow would change them."""
    if image.format == "PPM":
        return pnm_values(path.read_bytes() if data is None else data)
    return rasters.png_values(path, data)


def _prepare(path: Path) -> None:
    """Make Pillow know HEIC before the first is opened; by one thread."""
    missing = missing_reader(path)
    if missing:
        kind = f"{path.suffix.lower()} cannot be read with what is installed"
        raise FileFault(kind, path, "", f"Install what reads it ({missing}), or save the images as JPEG or PNG.")
    if path.suffix.lower() in HEIC and "HEIF" not in Image.OPEN:
        with _lock:
            from pillow_heif import register_heif_opener

            register_heif_opener()
