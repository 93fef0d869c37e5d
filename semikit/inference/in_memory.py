"""Predictions that stay in memory: the same numbers as those that `predict` writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from semikit.core.network import Network
from semikit.core.task import Inference
from semikit.data.formats.images import in_range, read_rgb
from semikit.data.formats.orientation import Orientation
from semikit.data.formats.range_watch import RangeWatch
from semikit.data.formats.rescale import Range, as_bytes
from semikit.data.header_notices import file_notices
from semikit.data.palette import Palette
from semikit.errors import InputError
from semikit.inference.class_evaluation import ClassEvaluateSettings, ClassEvaluation
from semikit.inference.map_files import MapPredict
from semikit.inference.pictures import displayed
from semikit.inference.predictor import Predictor
from semikit.inference.scenes import DatePairs, SceneReader, SingleDates
from semikit.inference.streamed import pixels_of
from semikit.inference.windows import orientation_of
from semikit.raster.polygons import NODATA

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Bytes = NDArray[np.uint8]

_IN_MEMORY = Path("an image in memory")
"""What an image without a file is called."""


@final
@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network says of one image, or of two dates.

    Of pixels `classes` is a map (H, W) uint8 of class numbers, 255 where a raster has no data, and `confidence` (H, W)
    float32 the probability of the class (0..1), `palette` (256, 3) uint8 the colours of the classes. Of whole images
    classes and confidence are one number each, and `probabilities` (K,) float32 those of all classes. `names` are those
    of the classes.
    """

    classes: NDArray[np.uint8] | int
    confidence: NDArray[np.float32] | float
    names: tuple[str, ...]
    notices: tuple[str, ...] = ()
    """What should be known of the images, such as values outside the range the model learned from."""
    palette: Palette | None = field(default=None, repr=False)
    probabilities: NDArray[np.float32] | None = None
    pictures: Callable[[], list[Bytes]] = field(default=list, repr=False)
    """Reads the image from its file again, as a picture (H, W, 3) of each date; none of what has no file."""

    def plot(self, image: Any = None, ax: Axes | None = None) -> Axes:
        """Draw the map over its image in the colours of the classes, of two dates both side by side; of a whole image
        the most probable classes. `image` is what was predicted (of two dates both in a tuple); one that was given as a
        path is known. Returns the axes of matplotlib, new ones unless `ax` are given; nothing is shown or written.

        Raises:
            InputError: an image of another size; DataError: a file that cannot be read any more.
        """
        from matplotlib import pyplot

        from semikit.inference.plotting import draw

        dates = image if isinstance(image, tuple | list) else [image]
        pictures = self.pictures() if image is None else [_picture(one) for one in dates]
        if ax is None:
            ax = pyplot.subplots(figsize=(9 if pictures[1:] else 5.5, 4), layout="constrained")[1]
        draw(self, pictures, ax)
        return ax

    def _repr_png_(self) -> bytes:
        from matplotlib import pyplot

        file = BytesIO()
        figure: Any = self.plot().figure
        figure.savefig(file, format="png", dpi=90, bbox_inches="tight")
        pyplot.close(figure)
        return file.getvalue()


def segment(network: Network, metadata: Mapping[str, Any], image: Any, inference: Inference) -> Prediction:
    """A map of classes of one image: a path, a PIL image or an array (H, W, C) uint8.

    Raises:
        InputError: an array of another shape or type; DataError: a file that cannot be read or does not fit.
    """
    return _map(network, metadata, SingleDates.of(metadata), [image], inference)


def detect_change(
    network: Network, metadata: Mapping[str, Any], images: Sequence[Any], inference: Inference
) -> Prediction:
    """A map of change between two dates, the earlier first: two paths, or PIL images and arrays (H, W, C) uint8.

    Rasters are aligned and read window by window, as in `semikit predict`.

    Raises:
        InputError: a path and an image together, arrays of other or unequal shapes; DataError: files that do not fit.
    """
    return _map(network, metadata, DatePairs.of(metadata), images, inference)


def _map(
    network: Network, metadata: Mapping[str, Any], reader: SceneReader, images: Sequence[Any], inference: Inference
) -> Prediction:
    predictor = Predictor.of([network], metadata, reader, MapPredict(), inference)
    paths = tuple(_paths(images))
    if paths and len(paths) != len(images):
        raise InputError("one date is a path and the other an image; give two paths or two images.")
    if paths:
        read, size, by_windows = predictor.open(paths), reader.grid(paths).size, reader.by_windows(paths)
    else:
        dates = [_pixels(image, len(metadata["mean"]), reader.orientation, reader.watch) for image in images]
        if dates[0].shape != dates[-1].shape:
            raise InputError(f"the two dates have shapes {dates[0].shape} and {dates[1].shape}; they have to be equal.")
        read, size, by_windows = pixels_of(np.stack(dates) if dates[1:] else dates[0], None), dates[0].shape[:2], False
    classes, confidence = np.full(size, NODATA, np.uint8), np.zeros(size, np.float32)
    for piece in predictor.pieces(read, (size[0], size[1]), by_windows, from_above=False):
        found, shares = (values.cpu().numpy() for values in predictor.choice(piece.probabilities))
        classes[piece.region.slices] = np.where(piece.valid, found, np.uint8(NODATA))
        confidence[piece.region.slices] = shares
    notices, again = (*reader.watch.notices(), *file_notices(paths)), partial(_pictures, type(reader), metadata, paths)
    return Prediction(classes, confidence, reader.class_names, notices, predictor.colours, None, again)


def _pictures(kind: type[SceneReader], metadata: Mapping[str, Any], paths: tuple[Path, ...]) -> list[Bytes]:
    if not paths:
        return []
    reader = kind.of(metadata)
    return displayed(reader.samples(paths, reader.scale or reader.range_of(paths)).image(0)[0])


def _picture(image: Any) -> Bytes:
    """A path, PIL image or array as a picture (H, W, 3)."""
    if isinstance(image, str | PathLike):
        return read_rgb(Path(image), upright=True)
    return displayed(_pixels(image, np.shape(image)[2] if np.ndim(image) == 3 else 3, "viewer", None))[0]


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
    shares = evaluation.logits(network, seen[None], inference).float().softmax(1)[0].cpu().numpy()
    paths = _paths([image])
    return Prediction(
        int(shares.argmax()), float(shares.max()), names, tuple(file_notices(paths)), None, shares,
        partial(_pictures, SingleDates, metadata, tuple(paths)),
    )  # fmt: skip


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
