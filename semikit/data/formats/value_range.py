"""The range of values of deep images, from a sample of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from semikit.data.formats.images import DEEP_PHOTOS, is_raster, read_info, sample_values
from semikit.data.formats.orientation import Orientation
from semikit.data.formats.range_watch import RangeWatch
from semikit.data.formats.rescale import BYTES, Scale, as_bytes, percentiles
from semikit.data.samples import DataParts, Samples, refuse_masks_among_images, refuse_overlap, spread
from semikit.errors import DataError
from semikit.raster.reading import Bands

_SAMPLED_IMAGES, _SAMPLED_SIDE = 32, 256


def rescaled(parts: DataParts, stated: Scale | None, orientation: Orientation) -> DataParts:
    """The parts of a data set in folders, read with the range that is stated or, over all dates of train, sampled, and
    turned as `orientation` says.

    Raises:
        DataError: a file in two parts, masks among images; images whose values cannot be brought to one range; a stated
            range that affects no file.
    """
    named = parts.named()
    if not parts.allow_overlap:
        refuse_overlap(named)
    refuse_masks_among_images(named)
    notices = () if stated is None else _unaffected({name: _files(part) for name, part in named.items()}, stated)
    scale = stated or sampled_scale(_files(parts.train), parts.bands)
    for name, part in () if scale not in (None, BYTES) or stated else named.items():
        if name != "train":
            refuse_deep(_files(part), parts.bands)

    def read(part: Any) -> Any:
        return part and replace(part, scale=scale and scale.bounds, orientation=orientation)

    return replace(
        parts,
        train=read(parts.train),
        unlabeled=tuple(map(read, parts.unlabeled)),
        val=read(parts.val),
        test=read(parts.test),
        scale=scale,
        notices=(*parts.notices, *notices),
    )


def _files(part: Samples) -> list[Path]:
    return [path for k in range(len(part)) for path in part.files(k)]


def _unaffected(parts: Mapping[str, Sequence[Path]], stated: Scale) -> Sequence[str]:
    """Notices about parts whose values a stated range does not change.

    Raises:
        DataError: it changes none at all.
    """
    without = [name for name, files in parts.items() if not any(map(_rescaled, spread(files, _SAMPLED_IMAGES)))]
    if len(without) == len(parts) and not any(_rescaled(path) for files in parts.values() for path in files):
        raise DataError(
            f"`scale` (values {stated.text}) affects no file: the images of {', '.join(parts)} are photos of 8 bits, "
            "which are read as they are. Leave it out; if a model brought it along, give deep images like its own."
        )
    some_parts = f"the images of {', '.join(without)} that were looked at are photos of 8 bits, read as they are"
    return [f"`scale` (values {stated.text}) does not affect all parts: {some_parts}"] if without else ()


def _rescaled(path: Path) -> bool:
    """Whether a range of values is applied to a file."""
    return is_raster(path) or (path.suffix.lower() in DEEP_PHOTOS and read_info(path).dtype != "uint8")


def sampled_scale(images: Sequence[Path], bands: Bands | None) -> Scale | None:
    """Percentiles 2 and 98, band by band, over at most 32 images spread over a list; None where all are 8 bit, and the
    range 0 to 255 where they are of another type but hold whole numbers in it alone.

    Raises:
        DataError: rasters of 8 bit and deeper ones, or of different numbers of bands.
    """
    paths = spread(images, _SAMPLED_IMAGES)
    deep = [path for path in paths if read_info(path).dtype != "uint8"]
    if not deep:
        return None
    samples = [_sample(path, bands) for path in deep]
    if all(sample.bytes for sample in samples):
        return BYTES
    shallow = [path for path in paths if is_raster(path) and path not in deep]
    if shallow:
        raise DataError(f"rasters of 8 bit ({shallow[0]}) and deeper ones ({deep[0]}) together; convert one kind.")
    if len({sample.pixels.shape[1] for sample in samples}) > 1:
        counted = list(zip(deep, samples, strict=True))[:5]
        counts = ", ".join(f"{path.name}: {sample.pixels.shape[1]}" for path, sample in counted)
        raise DataError(f"images differ in their number of bands ({counts}). Choose the same with `bands: [...]`.")
    low, high = percentiles(np.concatenate([sample.pixels for sample in samples])[None], None)
    return Scale(min=tuple(low), max=tuple(high))


def refuse_deep(images: Sequence[Path], bands: Bands | None) -> None:
    """Raise where images of more than 8 bits stand beside training images of 8 bits: they would have no common range.

    Raises:
        DataError: names one; of at most 32 files the headers are read, and of those of another type the values.
    """
    deep = [path for path in spread(images, _SAMPLED_IMAGES) if _is_deep(path, bands)]
    if deep:
        raise deep_beside_8_bits(deep[0])


def deep_beside_8_bits(path: Path) -> DataError:
    """The error for an image of more than 8 bits where those of train have 8."""
    return DataError(
        f"{path} has values of more than 8 bits, the images of train have 8. Convert one kind, or say the range "
        "with `scale: {min: …, max: …}`."
    )


def watch_some(images: Sequence[Path], watch: RangeWatch, bands: Bands | None) -> None:
    """Give a watch the values of at most 32 images, which are read where they may have more than 8 bits."""
    for path in spread(images, _SAMPLED_IMAGES):
        if _rescaled(path):
            watch.add(path, *sample_values(path, bands))


def _is_deep(path: Path, bands: Bands | None) -> bool:
    """Whether a file holds other values than those of 8 bits."""
    return read_info(path).dtype != "uint8" and not _sample(path, bands).bytes


@final
@dataclass(frozen=True, slots=True)
class _Sample:
    """Valid pixels (N, C) float32 of a regular grid over an image, as stored, and whether all values are of 8 bits."""

    pixels: NDArray[np.float32]
    bytes: bool


def _sample(path: Path, bands: Bands | None) -> _Sample:
    values, valid = sample_values(path, bands)
    steps = tuple(max(1, side // _SAMPLED_SIDE) for side in values.shape[:2])
    grid = (slice(None, None, steps[0]), slice(None, None, steps[1]))
    pixels = values[grid].reshape(-1, values.shape[2]).astype(np.float32)
    pixels = pixels if valid is None else pixels[valid[grid].ravel()]
    return _Sample(pixels, as_bytes(values, valid) is not None)
