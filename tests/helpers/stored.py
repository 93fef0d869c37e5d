"""Images written number by number, as few libraries write them: PNG of every depth, PGM and PPM of any maximum."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6
"""Colour types of PNG."""
CHANNELS = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGBA: 4}
DEPTHS = {GRAY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GRAY_ALPHA: (8, 16), RGBA: (8, 16)}


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def png(
    path: Path, values: NDArray[Any], depth: int, colour: int = GRAY, orientation: int = 1, behind: bool = False
) -> Path:
    """Write values (H, W, C) below 2 ** depth; an orientation stands before the pixels or `behind` them."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + _packed(row.ravel(), depth) for row in values)
    tag = b"" if orientation == 1 else _chunk(b"eXIf", exif(orientation).tobytes().removeprefix(b"Exif\0\0"))
    colours = np.random.default_rng(0).integers(0, 256, 3 << depth, dtype=np.uint8).tobytes() if colour == 3 else b""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
        + (_chunk(b"PLTE", colours) if colours else b"")
        + (b"" if behind else tag)
        + _chunk(b"IDAT", zlib.compress(rows))
        + (tag if behind else b"")
        + _chunk(b"IEND", b"")
    )
    return path


def pnm(path: Path, values: NDArray[Any], most: int, plain: bool = False) -> Path:
    """Write values (H, W, 1 or 3) up to `most` as PGM or PPM, as bytes or as text (`plain`)."""
    kind = {(1, False): 5, (3, False): 6, (1, True): 2, (3, True): 3}[values.shape[2], plain]
    head = f"P{kind}\n# by hand\n{values.shape[1]} {values.shape[0]}\n{most}\n".encode()
    body = " ".join(map(str, values.ravel())).encode() if plain else values.astype(">u2" if most > 255 else "u1")
    path.write_bytes(head + bytes(body))
    return path


def bmp(path: Path, values: NDArray[Any], depth: int) -> Path:
    """Write values (H, W, 1) below 2 ** depth as a BMP with a palette of any colours."""
    height, width = values.shape[:2]
    rows = [_packed(row.ravel(), depth) for row in values[::-1]]
    body = b"".join(row + b"\0" * (-len(row) % 4) for row in rows)
    colours = np.random.default_rng(0).integers(0, 256, 4 << depth, dtype=np.uint8).tobytes()
    start = 54 + len(colours)
    head = struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, depth, 0, len(body), 2835, 2835, 1 << depth, 0)
    path.write_bytes(head + info + colours + body)
    return path


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _packed(row: NDArray[Any], depth: int) -> bytes:
    if depth >= 8:
        return row.astype(">u2" if depth == 16 else "u1").tobytes()
    bits = "".join(f"{int(value):0{depth}b}" for value in row)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")
