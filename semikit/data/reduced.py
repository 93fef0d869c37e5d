"""Small copies of images and masks, for runs that have minutes: reading large photos takes longer than a small step."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from semikit.data.check import target_of
from semikit.data.samples import Samples
from semikit.errors import FileFault

VOID = 255
"""Value of a pixel that does not count, in the masks of a copy."""
_CHANNELS = (1, 3)
"""Gray and colour."""


def copy_reduced(
    source: Samples, indices: Sequence[int], folder: Path, side: int, masks: bool, done: Callable[[], None]
) -> list[FileFault]:
    """Write samples of photographs to folder/images and, with `masks`, their masks to folder/masks: PNG files under the
    names of the source, at most `side` pixels a side, masks of class numbers. Calls `done` after each.

    Returns the faults of those that could not be read, which are not there.
    """

    def copied(index: int) -> FileFault | None:
        try:
            _copy(source, index, folder, side, masks)
        except FileFault as fault:
            return fault
        finally:
            done()
        return None

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return [fault for fault in threads.map(copied, indices) if fault is not None]


def _copy(source: Samples, index: int, folder: Path, side: int, masks: bool) -> None:
    image, seen = source.image(index)
    name = f"{source.names[index]}.png"
    if image.shape[-1] not in _CHANNELS:
        remedy = "Choose three of them with `bands: [3, 2, 1]` in the YAML that describes the images."
        raise FileFault("image that is no photograph", source.names[index], f"{image.shape[-1]} bands", remedy)
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    factor = min(1.0, side / max(picture.size))
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    _save(picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0), folder / "images" / name)
    if masks:
        labels, valid = target_of(source, index, image.shape)
        counted = np.where(valid if seen is None else valid & seen, labels, np.uint8(VOID))
        _save(Image.fromarray(counted).resize(size, Image.Resampling.NEAREST), folder / "masks" / name)


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, compress_level=1)
