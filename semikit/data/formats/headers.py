"""What the header of a photo says of its pixels, before any is decoded.

Pillow's mode says how Pillow would give the pixels: of 16-bit colour their high bytes, of 2 and 4 bits gray and of PGM
scaled to 0..255. What is stored stands in the header alone.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_ORIENTATION = 0x0112
_TURNED = range(2, 9)
"""Orientations that EXIF knows beside upright."""

_ONE_BIT_BMP = (28, b"\x01\x00")
"""Where a BMP says how many bits a pixel has, and one bit."""

_PNM = re.compile(rb"P([2356])(?:\s+|#[^\n]*\n)+(\d+)(?:\s+|#[^\n]*\n)+(\d+)(?:\s+|#[^\n]*\n)+(\d+)\s")
"""Kind, width, height and greatest value of a PGM or PPM."""
_HEAD = 4096
"""Bytes of a PNM in which its header ends."""


@final
@dataclass(frozen=True, slots=True)
class PhotoHeader:
    """Size (H, W) as stored, numpy's name of the type of the values, whether Pillow gives them as stored, whether they
    have one bit, EXIF orientation (1: upright), images in the file.
    """

    size: tuple[int, int]
    dtype: str = "uint8"
    as_stored: bool = True
    one_bit: bool = False
    orientation: int = 1
    parts: int = 1

    @property
    def deep(self) -> bool:
        """Whether a value has more than 8 bits."""
        return self.dtype != "uint8"


def header_of(image: Image.Image, file: IO[bytes]) -> PhotoHeader:
    """The header of a photo that Pillow opened from `file`; pixels are not decoded, the place in the file is kept.

    Raises:
        OSError, ValueError, struct.error: a damaged file.
    """
    place = file.tell()
    size = (image.height, image.width)
    try:
        if image.format == "PNG":
            return _png(file, size)
        if image.format == "PPM":
            return _pnm(file, size)
        if image.format == "BMP":
            offset, one = _ONE_BIT_BMP
            file.seek(offset)
            return PhotoHeader(size, one_bit=file.read(len(one)) == one)
        dtype = {"I": "int32", "F": "float32"}.get(image.mode, "uint16" if image.mode.startswith("I;16") else "uint8")
        # Pillow turns a TIFF, which may be there by the name of a photo, when it is loaded.
        orientation = 1 if image.format == "TIFF" else _orientation(image.getexif)
        return PhotoHeader(size, dtype, True, image.mode == "1", orientation, _parts(image))
    finally:
        file.seek(place)


def _orientation(exif: Callable[[], Image.Exif]) -> int:
    """1 too where the EXIF data cannot be read, as viewers take it: the pixels are sound all the same."""
    try:
        value = exif().get(_ORIENTATION, 1)
    except (SyntaxError, ValueError, OSError, struct.error, LookupError, TypeError):
        return 1
    return int(value) if value in _TURNED else 1


def _loaded(data: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(data)
    return exif


def _parts(image: Image.Image) -> int:
    # An MPO holds previews of its one photo, a HEIC says which of its images is meant.
    return int(getattr(image, "n_frames", 1)) if image.format in {"GIF", "WEBP", "AVIF", "TIFF"} else 1


def _png(file: IO[bytes], size: tuple[int, int]) -> PhotoHeader:
    """Of a PNG: chunk by chunk, for Pillow decodes the whole image to find an orientation behind it."""
    file.seek(24)
    bits, colour = struct.unpack("BB", file.read(2))
    orientation, parts = 1, 1
    place = 8
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            break  # truncated, which is found when its pixels are read
        length, kind = struct.unpack(">I4s", head)
        if kind == b"eXIf":
            orientation = _orientation(partial(_loaded, file.read(length)))
        elif kind == b"acTL":
            parts = struct.unpack(">I", file.read(4))[0]
        place += length + 12
    low_gray = colour == 0 and bits in (2, 4)
    deep_colour = colour != 0 and bits == 16
    dtype = "uint16" if bits == 16 else "uint8"
    return PhotoHeader(size, dtype, not (low_gray or deep_colour), bits == 1, orientation, parts)


def _pnm(file: IO[bytes], size: tuple[int, int]) -> PhotoHeader:
    """Of a PGM or PPM; a PBM (bits) has no greatest value."""
    file.seek(0)
    found = _PNM.match(file.read(_HEAD))
    if found is None:
        return PhotoHeader(size, one_bit=True)
    most = int(found[4])
    return PhotoHeader(size, "uint16" if most > 255 else "uint8", as_stored=most == 255)


def pnm_values(data: bytes) -> NDArray[Any]:
    """The values (H, W, C) of a PGM or PPM as stored, of which `data` is the whole file; uint8 or uint16.

    Raises:
        ValueError: no such file, or a truncated one.
    """
    found = _PNM.match(data)
    if found is None:
        raise ValueError("it is no PGM or PPM")
    kind, width, height, most = (int(text) for text in found.groups())
    shape = (height, width, 3 if kind in (3, 6) else 1)
    count, body = height * width * shape[2], data[found.end() :]
    values: NDArray[Any]
    if kind in (2, 3):
        words = re.sub(rb"#[^\n]*", b"", body).split()[:count]
        values = np.array(words, dtype=np.bytes_).astype(np.int64)
    else:
        values = np.frombuffer(body, np.uint8 if most < 256 else np.dtype(">u2"), count)
    return values.astype(np.uint8 if most < 256 else np.uint16).reshape(shape)
