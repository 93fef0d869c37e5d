"""Predictions that stay in memory: the same numbers as those that `predict` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from semikit.core.network import Network
from semikit.core.task import Inference
from semikit.data.formats.images import in_range, is_raster, read_rgb
from semikit.data.formats.orientation import Orientation
from semikit.data.formats.range_watch import RangeWatch
from semikit.data.formats.rescale import Range, as_bytes
from semikit.data.formats.value_range import sampled_scale
from semikit.data.header_notices import parts_notices
from semikit.data.masked_images import plain_images
from semikit.errors import InputError
from semikit.inference.class_evaluation import ClassEvaluateSettings, ClassEvaluation
from semikit.inference.predict_pairs import PairMaker, PairPredict
from semikit.inference.windows import EvaluateSettings, bands_and_scale, most_likely, orientation_of
from semikit.raster.polygons import NODATA

Bytes = NDArray[np.uint8]

_IN_MEMORY = Path("an image in memory")
"""What an image without a file is called."""


@final
@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network says of one image, or of two dates.

    Of pixels `classes` is a map (H, W) uint8 of class numbers, 255 where a raster has no data, and `confidence` (H, W)
    float32 the probability of the class (0..1). Of whole images they are one number each. `names` are those of the
    classes.
    """

    classes: NDArray[np.uint8] | int
    confidence: NDArray[np.float32] | float
    names: tuple[str, ...]
    notices: tuple[str, ...] = ()
    """What should be known of the images, such as values outside the range the model learned from."""


def segment(network: Network, metadata: Mapping[str, Any], image: Any, inference: Inference) -> Prediction:
    """A map of classes of one image: a path, a PIL image or an array (H, W, C) uint8.

    Raises:
        InputError: an array of another shape or type; DataError: a file that cannot be read or does not fit.
    """
    bands, scale = bands_and_scale(metadata)
    watch, orientation = RangeWatch(scale), orientation_of(metadata)
    if isinstance(image, str | PathLike):
        pixels, valid = plain_images({Path(image).stem: Path(image)}, None, bands, scale, watch, orientation).image(0)
    else:
        pixels, valid = _pixels(image, len(metadata["mean"]), orientation, watch), None
    settings = EvaluateSettings.model_validate(metadata["evaluate"])
    network.to(inference.device).eval()
    notices = (*watch.notices(), *parts_notices(_paths([image])))
    classes, confidence = most_likely(network, pixels, valid, settings, metadata["crop"], inference)
    return Prediction(classes, confidence.float().cpu().numpy(), tuple(metadata["class_names"]), notices)


def detect_change(
    network: Network, metadata: Mapping[str, Any], images: Sequence[Any], inference: Inference
) -> Prediction:
    """A map of change between two dates, the earlier first: two paths, or PIL images and arrays (H, W, C) uint8.

    Rasters are aligned and read window by window, as in `semikit predict`.

    Raises:
        InputError: a path and an image together, arrays of other or unequal shapes; DataError: files that do not fit.
    """
    maker = PairMaker.of(network, metadata, PairPredict(), inference)
    paths = _paths(images)
    if paths and len(paths) != len(images):
        raise InputError("one date is a path and the other an image; give two paths or two images.")
    if paths:
        files = (paths[0], paths[1])
        size, rasters = maker.grid(files).size, all(map(is_raster, files))
        read = maker.reader(files, maker.scale or sampled_scale(files, maker.bands))
    else:
        before, after = (_pixels(image, len(metadata["mean"]), maker.orientation, maker.watch) for image in images)
        if before.shape != after.shape:
            raise InputError(f"the two dates have shapes {before.shape} and {after.shape}; they have to be equal.")
        pair, size, rasters = np.stack([before, after]), (before.shape[0], before.shape[1]), False

        def read(region: Any) -> tuple[Bytes, None]:
            rows, columns = region.slices
            return pair[:, rows, columns], None

    classes, confidence = np.full(size, NODATA, np.uint8), np.zeros(size, np.float32)
    for piece in maker.pieces(read, size, rasters):
        shares, found = (values.numpy() for values in piece.probabilities.max(0))
        classes[piece.region.slices] = np.where(piece.valid, found.astype(np.uint8), np.uint8(NODATA))
        confidence[piece.region.slices] = shares
    return Prediction(classes, confidence, maker.class_names, (*maker.watch.notices(), *parts_notices(paths)))


def classify(network: Network, metadata: Mapping[str, Any], image: Any, inference: Inference) -> Prediction:
    """The class of one image: a path, a PIL image or an array (H, W, 3) uint8.

    Raises:
        InputError: an array of another shape or type; DataError: a file that cannot be read.
    """
    orientation, named = orientation_of(metadata), isinstance(image, str | PathLike)
    pixels = read_rgb(Path(image), upright=orientation != "stored") if named else _pixels(image, 3, orientation, None)
    settings = ClassEvaluateSettings.model_validate(metadata["evaluate"])
    names = tuple(metadata["class_names"])
    evaluation = ClassEvaluation(names, settings, metadata["size"])
    seen = evaluation.fitted(pixels, metadata["side"])
    network.to(inference.device).eval()
    shares = evaluation.logits(network, seen[None], inference).float().softmax(1)[0].cpu()
    return Prediction(int(shares.argmax()), float(shares.max()), names, tuple(parts_notices(_paths([image]))))


def _paths(images: Sequence[Any]) -> list[Path]:
    return [Path(image) for image in images if isinstance(image, str | PathLike)]


def _pixels(image: Any, channels: int, orientation: Orientation, watch: RangeWatch | None) -> Bytes:
    """A PIL image, turned as its camera asks unless they are taken as stored, or an array as pixels (H, W, channels)
    uint8. A PIL image of more than 8 bits is brought to the range of values that the model learned from, as from its
    file; `watch` is None where a model takes 8 bits alone.
    """
    scale = None if watch is None else watch.scale
    bounds = None if scale is None else scale.bounds
    if isinstance(image, Image.Image):
        image = image if orientation == "stored" else ImageOps.exif_transpose(image)
        if image.mode[0] in "IF":
            return _deep(np.array(image), channels, bounds, watch)
        image = image.convert("RGB" if channels == 3 else image.mode)
    values = np.array(image)  # a copy: torch takes no arrays that cannot be written to
    if values.dtype != np.uint8 or values.ndim != 3 or values.shape[2] != channels or not values.size:
        learned = "" if scale is None else f" Bring values from {scale.text} to 0..255 first, or give a path."
        raise InputError(
            f"an image has shape {values.shape} and type {values.dtype}; the model takes (H, W, {channels}) "
            f"uint8 arrays, PIL images and paths.{learned}"
        )
    return in_range(values, None, _IN_MEMORY, bounds, watch)


def _deep(values: NDArray[Any], channels: int, bounds: Range | None, watch: RangeWatch | None) -> Bytes:
    """Values (H, W) of a PIL image of one channel and more than 8 bits as pixels (H, W, channels)."""
    repeated = np.repeat(values[..., None], channels, axis=2)
    stored = as_bytes(repeated, None)
    if watch is None and stored is None:
        raise InputError(
            f"an image has more than 8 bits ({values.dtype}), and the model takes 8: bring all to 0..255 in one way."
        )
    return stored if watch is None and stored is not None else in_range(repeated, None, _IN_MEMORY, bounds, watch)
