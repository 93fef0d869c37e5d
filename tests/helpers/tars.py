"""Tar shards with images that tell their number."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 40


def encoded(number: int, side: int = SIDE, kind: str = "PNG") -> bytes:
    """An image whose upper left pixel is the number in red and green."""
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
    pixels[0, 0] = number % 256, number // 256, 0
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def number_of(image: Any) -> int:
    """The number of a decoded image."""
    return int(image[0, 0, 0]) + 256 * int(image[0, 0, 1])


def write(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """A tar with these files, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def pool(folder: Path, sizes: Iterable[int], side: int = SIDE, endings: tuple[str, ...] = ("png",)) -> list[Path]:
    """Shards pool-0.tar … of so many images each, numbered through; with several endings each key has several files."""
    found, number = [], 0
    for shard, size in enumerate(sizes):
        numbers = range(number, number + size)
        files = [(f"{k:04d}.{end}", encoded(k, side)) for k in numbers for end in endings]
        found.append(write(folder / f"pool-{shard}.tar", files))
        number += size
    return found


def unpack(path: Path, folder: Path) -> None:
    """Unpack an archive of ours; the filter that later versions ask for is not known before Python 3.11.4."""
    with tarfile.open(path) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(folder, filter="data")
        else:
            archive.extractall(folder)
