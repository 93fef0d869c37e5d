"""Whole images through a network: resized as one (`original`) or window by window (`sliding`); reading ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field
from torch import Tensor
from torch.nn import functional as F

from semikit.augment.normalise import channel_statistics, normalize, to_float
from semikit.core.batch import to_device
from semikit.core.network import Network
from semikit.data.formats.orientation import Orientation
from semikit.data.formats.rescale import Scale
from semikit.errors import DataError, FileFault
from semikit.raster.reading import Bands
from semikit.settings.base import BandList, Settings
from semikit.settings.yaml_text import parse

T = TypeVar("T")

_SCORES = 1 << 26
"""Scores at the size of images that are in memory at once, at most (256 MB); what is made of them takes some more."""


def _listed(raw: Any) -> Any:
    """The text of a flag as bands: numbers and names between commas."""
    if not isinstance(raw, str):
        return raw
    parts = [part.strip() for part in raw.split(",")]
    return tuple(int(part) if part.isdecimal() else part for part in parts)


def _range(raw: Any) -> Any:
    """Two numbers, their text, or the text of what a data YAML says, as a range."""
    if isinstance(raw, str):
        raw = parse(raw, "--scale") if "{" in raw else raw.split(",")
    if not isinstance(raw, list | tuple):
        return raw
    try:
        low, high = map(float, raw)
    except ValueError:
        said = ",".join(map(str, raw))
        raise ValueError(f"takes MIN,MAX or, band by band, {{min: [0, 0], max: [3000, 5000]}}, got {said}") from None
    return {"min": low, "max": high}


class ValueSettings(Settings):
    """How values of images are read that differ from those a model learned from."""

    bands: Annotated[BandList | None, BeforeValidator(_listed)] = None
    """Which bands of an image are the model's, in its order: numbers from 1, or names; null: those of training."""
    scale: Annotated[Scale | None, BeforeValidator(_range)] = None
    """The range of values that is for these images what the range of training was for those; null: that of training."""


@final
class EvaluateSettings(Settings):
    """How whole images are evaluated and predicted (PROTOCOL: as released)."""

    window: Literal["original", "sliding"] = "original"
    """original: the image resized to the nearest multiple of the patch; sliding: overlapping square windows."""
    size: int | None = Field(None, ge=1)
    """Side of a sliding window, pixels; null: the training crop."""
    average: Literal["paper", "present"] = "paper"
    """mIoU over all classes, an absent one counting 0, or over the classes that occur."""
    batch: int = Field(4, ge=1)
    """Images of the same size that are evaluated together."""
    precise_bn: int = Field(0, ge=0)
    """Labelled images, at most, from which the running statistics of batch norm are taken anew before every evaluation
    and for the weights that are kept, seen as those that are scored; 0: the statistics of training."""
    threshold: float | str | tuple[float | str, ...] | None = None
    """The probability from which a pixel counts as changed, in evaluation and prediction; auto: the one with the best
    IoU of change on the images that the best network is chosen on. CLASS=P: of one class; null: the most probable
    class."""
    objects: tuple[str, ...] | None = None
    """Classes whose connected areas are scored too, in `semikit evaluate` and of the test images at the end of a run;
    null: every kind of change, none of segmentation."""
    objects_min_pixels: int = Field(0, ge=0)
    """Areas of fewer pixels are no objects."""


def normalized(network: Network, images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Images (B, *T, H, W, C) uint8 as they are read -> (B, *T, C, H, W) on the device, by the network's mean and std.

    Raises:
        DataError: when the images have other channels than those the network was made for.
    """
    statistics = channel_statistics(network.mean, network.std)  # type: ignore[arg-type]
    if images.shape[-1] != (channels := len(statistics[0])):
        raise DataError(
            f"the images have {images.shape[-1]} channels, but the model was made for {channels}. Give images like "
            "those it was trained on, or choose `bands` in the data YAML."
        )
    pixels, (mean, std) = to_device((torch.from_numpy(images), statistics), device)
    return normalize(to_float(pixels.movedim(-1, -3)), mean, std)


def refuse_channels(network: Network, image: NDArray[np.uint8], path: Path) -> None:
    """Raise where an image of many (*T, H, W, C) has other channels than the network was made for.

    Raises:
        FileFault: names the file.
    """
    if image.shape[-1] != (made := len(network.mean)):  # type: ignore[arg-type]
        detail = f"the images have {image.shape[-1]} channels, but the model was made for {made}"
        remedy = "Give images like those it was trained on, or say which bands are the model's: --bands 4,3,2."
        raise FileFault("image with other channels than the model learned from", path, detail, remedy)


def predict_scores(
    network: Network, images: Tensor, settings: EvaluateSettings, crop: int, scale: float = 1.0
) -> Tensor:
    """Scores (B, K, H, W) for images (B, *T, C, H, W) of any size: logits (original) or summed softmax (sliding).

    Their argmax is the prediction; `probabilities` turns them into confidence. The network sees the images with their
    sides times `scale`.
    """
    if settings.window == "original":
        return original(network, images, scale)
    window = settings.size or crop
    if scale == 1:
        return sliding(network, images, window)
    scores = sliding(network, resized(images, fitting(images, network.multiple, scale)), window)
    return resized(probabilities(scores, settings), images.shape[-2:])


def probabilities(scores: Tensor, settings: EvaluateSettings) -> Tensor:
    """Scores of `predict_scores` -> probabilities (B, K, H, W) that sum to 1."""
    if settings.window == "original":
        return scores.float().softmax(1)
    return scores / scores.sum(1, keepdim=True)


def together(size: tuple[int, int], classes: int) -> int:
    """How many images of a size (H, W) take little memory with the scores of all classes; 0: not even one."""
    return _SCORES // (classes * size[0] * size[1])


def bands_and_scale(metadata: Mapping[str, Any]) -> tuple[Bands | None, Scale | None]:
    """Which bands a model reads, and from which range of values; None where files say it themselves."""
    bands, scale = metadata.get("bands"), metadata.get("scale")
    return None if bands is None else tuple(bands), None if scale is None else Scale.model_validate(scale)


def orientation_of(metadata: Mapping[str, Any]) -> Orientation:
    """How a model sees photos; one from before there was a choice, as they are stored."""
    return "viewer" if metadata.get("orientation") == "viewer" else "stored"


def fitting(images: Tensor, multiple: int, scale: float = 1.0) -> list[int]:
    """The sides of images (..., H, W) times `scale`, each to the nearest multiple of the patch, at least one."""
    return [max(int(side * scale / multiple + 0.5), 1) * multiple for side in images.shape[-2:]]


def resized(images: Tensor, size: Sequence[int]) -> Tensor:
    """Images or scores (..., C, H, W) brought to a size (h, w), bilinear with corner on corner (as released)."""
    every = F.interpolate(images.flatten(0, -4), list(size), mode="bilinear", align_corners=True)
    return every.reshape(*images.shape[:-2], *size)


def original(network: Network, images: Tensor, scale: float = 1.0) -> Tensor:
    """Resize to the nearest multiple of the patch (at least one), predict, resize the logits back (as released)."""
    size = fitting(images, network.multiple, scale)
    if size == list(images.shape[-2:]):
        return network(images).float()  # type: ignore[no-any-return]
    return resized(network(resized(images, size)).float(), images.shape[-2:])


def coarse_scores(network: Network, images: Tensor, scale: float = 1.0) -> tuple[Tensor, tuple[int, int]]:
    """Logits (B, K, h, w) as fine as the decoder has them, and the (H, W) that the network saw: `original` resizes them
    to that and then to the images' size.
    """
    size = fitting(images, network.multiple, scale)
    features = network.encode(images if size == list(images.shape[-2:]) else resized(images, size))
    embedding = network.embed(features)
    return network.classify(embedding, (embedding.shape[-2], embedding.shape[-1])).float(), features.size


def rows_of(maps: Tensor, sizes: Sequence[tuple[int, int]], first: int, end: int) -> Tensor:
    """Rows `first` to `end` of maps (B, K, h, w) `resized` to one size after another; no others are made."""
    if not sizes:
        return maps[..., first:end, :]
    *before, size = sizes
    height = before[-1][0] if before else maps.shape[-2]
    # As torch resizes: the place of a row among those before it in single precision, its share of the next one.
    places = np.float32((height - 1) / max(size[0] - 1, 1)) * np.arange(first, end, dtype=np.float32)
    above = np.minimum(places.astype(np.int64), height - 1)
    below = np.minimum(above + 1, height - 1)
    rows = rows_of(maps, before, int(above[0]), int(below[-1]) + 1)
    rows = resized(rows, (rows.shape[-2], size[1]))
    numbers = (torch.from_numpy(above - above[0]), torch.from_numpy(below - above[0]), torch.from_numpy(places - above))
    upper, lower, share = to_device(numbers, maps.device)
    return torch.lerp(rows.index_select(-2, upper), rows.index_select(-2, lower), share.to(rows.dtype)[:, None])


def window_starts(length: int, window: int, stride: int | None = None) -> list[int]:
    """Where windows begin along a side: every `stride`, the last one snapped to the border.

    The stride is 2/3 of a window unless given (as released): 798 on 2048 gives 0, 532, 1064, 1250; a side no longer
    than the window gives 0.
    """
    stride = max(int(window * 2 / 3), 1) if stride is None else stride
    starts = list(range(0, max(length - window, 0), stride))
    return [*starts, max(length - window, 0)] if not starts or starts[-1] != length - window else starts


def sliding(network: Network, images: Tensor, window: int) -> Tensor:
    """Sum of the softmax of all windows over each pixel (B, K, H, W); every pixel is covered.

    Windows that the image does not fill are padded on the right and below with 0 (the mean colour) to a multiple of
    the patch, and the padding is cut off again.
    """
    height, width = images.shape[-2:]
    multiple = network.multiple
    total = images.new_zeros((images.shape[0], network.num_classes, height, width), dtype=torch.float32)
    for top in window_starts(height, window):
        for left in window_starts(width, window):
            part = images[..., top : top + window, left : left + window]
            h, w = part.shape[-2:]
            padded = F.pad(part, (0, -w % multiple, 0, -h % multiple))
            scores = network(padded).float().softmax(1)[:, :, :h, :w]
            total[:, :, top : top + h, left : left + w] += scores
    return total


def read_ahead(read: Callable[[int], Any], count: int, threads: int = 4) -> Iterator[Any]:
    """`read(0)`, `read(1)` … in order, a few ahead. Given up before the end, what was not begun is left out.

    Threads are not waited for: a generator that was given up may be collected in any thread at any moment, also while
    that thread holds a lock that waiting takes. A pool that is no longer used ends its threads by itself.
    """
    pool, numbers = ThreadPoolExecutor(threads), iter(range(count))
    futures = [pool.submit(read, index) for index in islice(numbers, 2 * threads)]
    try:
        while futures:
            yield futures.pop(0).result()
            futures += [pool.submit(read, index) for index in islice(numbers, 1)]
    finally:
        for future in futures:
            future.cancel()


def grouped(
    items: Iterable[T], size: int | Callable[[T], int], key: Callable[[T], Any] = lambda item: None
) -> Iterator[list[T]]:
    """Consecutive items with an equal `key` together, at most `size` of them, or as many as it says of an item."""
    group: list[T] = []
    for item in items:
        most = size if isinstance(size, int) else size(item)
        if group and (len(group) >= most or key(group[0]) != key(item)):
            yield group
            group = []
        group.append(item)
    if group:
        yield group


def readable_batches(
    read: Callable[[int], NDArray[np.uint8]], indices: Sequence[int], size: int
) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Images (B, ...) of one shape, at most `size`, and how many they are: one alone is there twice, as batch norm has
    no variance of it where it is pooled. Those that cannot be read are left out: training counts them.
    """

    def image_of(place: int) -> NDArray[np.uint8] | None:
        with suppress(DataError):
            return read(indices[place])
        return None

    found = (image for image in read_ahead(image_of, len(indices)) if image is not None)
    for batch in grouped(found, size, np.shape):
        yield np.stack(batch if len(batch) > 1 else batch * 2), len(batch)
