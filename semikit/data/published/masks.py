"""Masks as they are published -> as they are prepared, in single-channel PNGs; images that are cut into tiles."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semikit.errors import ConfigError, FileFault, RunError

Bytes = NDArray[np.uint8]

VOID = 255
"""Does not count, in the prepared masks of all published data sets of segmentation."""
CHANGED = 255
"""Marks what changed, in the prepared masks of change detection; the rest is 0."""
PNG_HEAD = 24
"""Bytes of a PNG that hold its size."""

_TRAIN_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""labelIds of the 19 classes of Cityscapes, in the order of their trainIds."""
_LABEL_IDS = 34
_ADE_CLASSES = 150
_DAMAGED_IMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error)
_DAMAGED_MATLAB = (KeyError, IndexError, ValueError, TypeError, OSError, NotImplementedError, zlib.error)


def decode(data: bytes, where: str) -> Bytes:
    """Values (H, W) of a mask file; of a palette image the indices. `where` stands in errors.

    Raises:
        FileFault: cannot be read, a colour image, or values of more than 8 bits.
    """
    with _faults("mask", where), Image.open(io.BytesIO(data)) as image:
        values = np.array(image)
    if values.ndim != 2:
        remedy = "Give the original masks: one channel, or a palette PNG."
        raise FileFault("colour mask", where, f"{values.shape[2]} channels", remedy)
    if values.size and (values.min() < 0 or values.max() > VOID):
        remedy = "Give the original masks, whose values are 0 to 255."
        raise FileFault("mask of more than 8 bits", where, f"largest value {values.max()}", remedy)
    return values.astype(np.uint8)


def decode_image(data: bytes, where: str) -> Bytes:
    """Pixels (H, W, 3) of an image file. `where` stands in errors.

    Raises:
        FileFault: cannot be read.
    """
    with _faults("image", where), Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


def png_size(head: bytes, where: str) -> tuple[int, int]:
    """(H, W) from the first `PNG_HEAD` bytes of a PNG.

    Raises:
        FileFault: no PNG.
    """
    if len(head) < PNG_HEAD or head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR":
        raise FileFault("no PNG", where, "by its first bytes", "Fetch or extract the file again.")
    width, height = struct.unpack(">II", head[16:24])
    return height, width


def change_mask(data: bytes, where: str) -> Bytes:
    """A mask file of change that holds 0 and 255, or 0 and 1 -> 0 and 255 (H, W).

    Raises:
        FileFault: cannot be read, or other values.
    """
    values = decode(data, where)
    refuse_other_changes(frozenset(np.unique(values).tolist()), where)
    return np.where(values > 0, np.uint8(CHANGED), np.uint8(0))


def any_change_mask(data: bytes, where: str) -> Bytes:
    """The same of a file that may have gray in three channels, or be a TIFF.

    Raises:
        FileFault: cannot be read, or other values.
    """
    with _faults("mask", where), Image.open(io.BytesIO(data)) as image:
        values = np.array(image if image.mode in ("1", "L", "P") else image.convert("L"), dtype=np.uint8)
    refuse_other_changes(frozenset(np.unique(values).tolist()), where)
    return np.where(values > 0, np.uint8(CHANGED), np.uint8(0))


def refuse_other_changes(present: Set[int], where: str) -> None:
    """Raise where a mask of change holds other values than 0 and 255, or 0 and 1.

    Raises:
        FileFault: names them.
    """
    if not (present <= {0, CHANGED} or present <= {0, 1}):
        values_found = ", ".join(map(str, sorted(present)[:5])) + (", …" if len(present) > 5 else "")
        remedy = "Give the original labels: 0 and 255, or 0 and 1. JPEG and resizing make values between."
        raise FileFault("mask of change with other values than two", where, f"values {values_found}", remedy)


def train_ids(data: bytes, where: str) -> Bytes:
    """Cityscapes: a labelIds file (0..33) -> trainIds (H, W), 0..18 and 255.

    Source: the label table of the data set's own scripts.

    Raises:
        FileFault: cannot be read, or a value above 33.
    """
    table = np.full(_LABEL_IDS, VOID, dtype=np.uint8)
    table[list(_TRAIN_IDS)] = np.arange(len(_TRAIN_IDS), dtype=np.uint8)
    values = decode(data, where)
    remedy = "labelIds hold 0 to 33. If the file holds trainIds, name it *_gtFine_labelTrainIds.png."
    return _translated(values, table, where, remedy)


def without_zero(data: bytes, where: str) -> Bytes:
    """ADE20K: an original mask (0 = other, 1..150) -> 255 and 0..149 (H, W).

    Raises:
        FileFault: cannot be read, or a value above 150.
    """
    table = np.concatenate(([VOID], np.arange(_ADE_CLASSES))).astype(np.uint8)
    values = decode(data, where)
    remedy = "Originals hold 0 to 150. Files that are converted already must not lie among them."
    return _translated(values, table, where, remedy)


def from_boundaries(data: bytes, where: str) -> Bytes:
    """Class numbers (H, W) of a .mat file of the Semantic Boundaries Dataset (GTcls.Segmentation).

    Raises:
        ConfigError: scipy is not installed.
        FileFault: no such file of MATLAB.
    """
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError:
        raise ConfigError(
            'Masks of SBD are MATLAB files, which scipy reads. Install it: pip install "semikit[sbd]".'
        ) from None
    try:
        values = loadmat(io.BytesIO(data))["GTcls"][0, 0]["Segmentation"]
    except (*_DAMAGED_MATLAB, MatReadError) as error:
        remedy = "Fetch or extract benchmark.tgz again."
        raise FileFault("no mask of SBD", where, str(error) or type(error).__name__, remedy) from None
    return np.asarray(values, dtype=np.uint8)


def write_png(path: Path, values: Bytes) -> None:
    """Write a mask (H, W) or image (H, W, 3) as PNG, whole or not at all.

    Raises:
        RunError: the disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(temporary, format="PNG")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(
            f"{path} cannot be written: {error.strerror or error}. Make room, or choose another --root; what is done "
            "is kept, the same command goes on from there."
        ) from None


@contextmanager
def _faults(what: str, where: str) -> Iterator[None]:
    """What Pillow raises for damaged files, as one error."""
    try:
        yield
    except (*_DAMAGED_IMAGE, Image.DecompressionBombError) as error:
        remedy = "Fetch or extract the file again."
        reason = str(error).partition("<")[0].strip() or type(error).__name__  # without the address of a buffer
        raise FileFault(f"unreadable, truncated or far too large {what}", where, reason, remedy) from None


def _translated(values: Bytes, table: Bytes, where: str, remedy: str) -> Bytes:
    if values.size and values.max() >= len(table):
        raise FileFault(f"mask value above {len(table) - 1}", where, f"largest value {values.max()}", remedy)
    return table[values]
