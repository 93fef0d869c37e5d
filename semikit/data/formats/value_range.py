"""The range of values of deep images, from a sample of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from semikit.data.formats.images import is_raster, read_info, sample_values
from semikit.data.formats.rescale import Scale, percentiles
from semikit.data.samples import DataParts, Samples, refuse_overlap
from semikit.errors import DataError, some

_SAMPLED_IMAGES, _SAMPLED_SIDE = 32, 256
_BYTE = 255


def rescaled(parts: DataParts, stated: Scale | None) -> DataParts:
    """The parts of a data set in folders, read with the range that is stated or, over all dates of train, sampled.

    Raises:
        DataError: a file in two parts; images whose values cannot be brought to one range.
    """
    named = parts.named()
    refuse_overlap(named)
    scale = stated or sampled_scale(_files(parts.train), parts.bands)
    for name, part in () if scale is not None else named.items():
        if name != "train":
            refuse_deep(_files(part))

    def read(part: Any) -> Any:
        return part and replace(part, scale=scale and scale.bounds)

    return replace(
        parts,
        train=read(parts.train),
        unlabeled=tuple(map(read, parts.unlabeled)),
        val=read(parts.val),
        test=read(parts.test),
        scale=scale,
    )


def _files(part: Samples) -> list[Path]:
    return [path for k in range(len(part)) for path in part.files(k)]


def sampled_scale(images: Sequence[Path], bands: tuple[int, ...] | None) -> Scale | None:
    """Percentiles 2 and 98, band by band, over at most 32 images spread over a list; None where all are 8 bit.

    Raises:
        DataError: rasters of 8 bit and deeper ones, or of different numbers of bands.
    """
    paths = _spread(images)
    deep = [path for path in paths if read_info(path).dtype != "uint8"]
    if not deep:
        return None
    shallow = [path for path in paths if is_raster(path) and path not in deep]
    if shallow:
        raise DataError(f"rasters of 8 bit ({shallow[0]}) and deeper ones ({deep[0]}) together; convert one kind.")
    samples = [_sample(path, bands) for path in deep]
    if len({sample.shape[1] for sample in samples}) > 1:
        counts = ", ".join(f"{path.name}: {s.shape[1]}" for path, s in list(zip(deep, samples, strict=True))[:5])
        raise DataError(f"images differ in their number of bands ({counts}). Choose the same with `bands: [...]`.")
    low, high = percentiles(np.concatenate(samples)[None], None)
    return Scale(min=tuple(low), max=tuple(high))


def refuse_deep(images: Sequence[Path]) -> None:
    """Raise where images of more than 8 bits stand beside training images of 8 bits: they would have no common range.

    Raises:
        DataError: names one; at most 32 headers are read.
    """
    deep = [path for path in _spread(images) if read_info(path).dtype != "uint8"]
    if deep:
        raise DataError(
            f"{deep[0]} has values of more than 8 bits, the images of train have 8. Convert one kind, or say the range "
            "with `scale: {min: …, max: …}`."
        )


def depth_notice(images: Sequence[Path], scale: Scale | None) -> str | None:
    """A warning where rasters do not have the depth that a stated range is of; at most 32 headers are read."""
    if scale is None:
        return None
    deep = max(scale.bounds[1]) > _BYTE
    kinds = {path: read_info(path).dtype for path in _spread(images) if is_raster(path)}
    shallow = [str(path) for path, kind in kinds.items() if kind == "uint8"]
    deeper = [str(path) for path, kind in kinds.items() if kind != "uint8"]
    if deep and shallow:
        return f"values are taken from {scale.text}, and these rasters hold 8 bits, all dark in it: {some(shallow)}"
    if not deep and deeper:
        return f"values are taken from {scale.text}, and these rasters hold more than 8 bits: {some(deeper)}"
    return None


def _spread(images: Sequence[Path]) -> list[Path]:
    return [images[k] for k in sorted({int(k) for k in np.linspace(0, len(images) - 1, _SAMPLED_IMAGES)})]


def _sample(path: Path, bands: tuple[int, ...] | None) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Valid pixels (N, C) of a regular grid over the image, as stored."""
    values, valid = sample_values(path, bands)
    steps = tuple(max(1, side // _SAMPLED_SIDE) for side in values.shape[:2])
    grid = (slice(None, None, steps[0]), slice(None, None, steps[1]))
    pixels = values[grid].reshape(-1, values.shape[2]).astype(np.float32)
    return pixels if valid is None else pixels[valid[grid].ravel()]
