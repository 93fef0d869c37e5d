"""Whole images through a network: resized as one (`original`) or window by window (`sliding`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from semikit.augment.normalise import channel_statistics, normalize, to_float
from semikit.core.network import Network
from semikit.core.task import Inference
from semikit.data.formats.orientation import Orientation
from semikit.data.formats.rescale import Scale
from semikit.errors import DataError, FileFault
from semikit.raster.polygons import NODATA
from semikit.raster.region import Region
from semikit.settings.base import Settings

T = TypeVar("T")


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


def normalized(network: Network, images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Images (B, *T, H, W, C) uint8 as they are read -> (B, *T, C, H, W) on the device, by the network's mean and std.

    Raises:
        DataError: when the images have other channels than those the network was made for.
    """
    mean, std = channel_statistics(network.mean, network.std, device)  # type: ignore[arg-type]
    if images.shape[-1] != len(mean):
        raise DataError(
            f"the images have {images.shape[-1]} channels, but the model was made for {len(mean)}. Give images like "
            "those it was trained on, or choose `bands` in the data YAML."
        )
    return normalize(to_float(torch.from_numpy(images).to(device).movedim(-1, -3)), mean, std)


def refuse_channels(network: Network, image: NDArray[np.uint8], path: Path) -> None:
    """Raise where an image of many (*T, H, W, C) has other channels than the network was made for.

    Raises:
        FileFault: names the file.
    """
    if image.shape[-1] != (made := len(network.mean)):  # type: ignore[arg-type]
        detail = f"the images have {image.shape[-1]} channels, but the model was made for {made}"
        remedy = "Give images like those it was trained on, or train with `bands` in the data YAML."
        raise FileFault("image with other channels than the model learned from", path, detail, remedy)


def predict_scores(network: Network, images: Tensor, settings: EvaluateSettings, crop: int) -> Tensor:
    """Scores (B, K, H, W) for images (B, *T, C, H, W) of any size: logits (original) or summed softmax (sliding).

    Their argmax is the prediction; `probabilities` turns them into confidence.
    """
    if settings.window == "original":
        return original(network, images)
    return sliding(network, images, settings.size or crop)


def probabilities(scores: Tensor, settings: EvaluateSettings) -> Tensor:
    """Scores of `predict_scores` -> probabilities (B, K, H, W) that sum to 1."""
    if settings.window == "original":
        return scores.float().softmax(1)
    return scores / scores.sum(1, keepdim=True)


def probabilities_of(
    network: Network, image: NDArray[np.uint8], settings: EvaluateSettings, crop: int, inference: Inference
) -> Tensor:
    """One image (*T, H, W, C) uint8, as it is read -> probabilities (K, H, W) that sum to 1, on the device."""
    with torch.no_grad(), inference.autocast():
        scores = predict_scores(network, normalized(network, image[None], inference.device), settings, crop)
    return probabilities(scores, settings)[0]


def most_likely(
    network: Network,
    image: NDArray[np.uint8],
    valid: NDArray[np.bool_] | None,
    settings: EvaluateSettings,
    crop: int,
    inference: Inference,
) -> tuple[NDArray[np.uint8], Tensor]:
    """Class ids (H, W) uint8 of an image (H, W, C), 255 where not valid, and their confidence (H, W) on the device."""
    confidence, labels = probabilities_of(network, image, settings, crop, inference).max(0)
    ids: NDArray[np.uint8] = labels.to(torch.uint8).cpu().numpy()
    if valid is not None:
        ids[~valid] = NODATA
    return ids, confidence


def bands_and_scale(metadata: Mapping[str, Any]) -> tuple[tuple[int, ...] | None, Scale | None]:
    """Which bands a model reads, and from which range of values; None where files say it themselves."""
    bands, scale = metadata.get("bands"), metadata.get("scale")
    return None if bands is None else tuple(bands), None if scale is None else Scale.model_validate(scale)


def orientation_of(metadata: Mapping[str, Any]) -> Orientation:
    """How a model sees photos; one from before there was a choice, as they are stored."""
    return "viewer" if metadata.get("orientation") == "viewer" else "stored"


def original(network: Network, images: Tensor) -> Tensor:
    """Resize to the nearest multiple of the patch (at least one), predict, resize the logits back (as released)."""
    height, width = images.shape[-2:]
    size = [max(int(side / network.multiple + 0.5), 1) * network.multiple for side in (height, width)]
    if size == [height, width]:
        return network(images).float()  # type: ignore[no-any-return]
    every = F.interpolate(images.flatten(0, -4), size, mode="bilinear", align_corners=True)
    resized = every.reshape(*images.shape[:-2], *size)
    return F.interpolate(network(resized).float(), (height, width), mode="bilinear", align_corners=True)


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


_STRIP_BYTES = 16 << 20
"""About what the sums of a strip may take."""

_MOST_WAITING = 64
"""Windows that are kept, with those that need no network, before the next go through it."""

ReadRegion = Callable[[Region], tuple[NDArray[np.uint8], NDArray[np.bool_] | None]]
"""A region of an image -> pixels (*T, h, w, C) and valid (h, w), None where all are."""


@final
@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an image that is done: probabilities (K, h, w) float32 that sum to 1, valid (h, w) bool."""

    region: Region
    probabilities: Tensor
    valid: NDArray[np.bool_]


@final
@dataclass(frozen=True, slots=True)
class Coverage:
    """Square windows of `side` pixels every `side - overlap` pixels over an image of `size` (H, W); `batch` of them are
    predicted together.

    With `ramp` a window counts less towards its edges: its weight rises linearly over `overlap` pixels along each axis;
    else all of it counts the same.
    """

    size: tuple[int, int]
    side: int
    overlap: int
    batch: int
    ramp: bool = True

    def starts(self, axis: int) -> list[int]:
        """Where windows begin along rows (0) or columns (1); the last one ends at the border."""
        return window_starts(self.size[axis], self.side, self.side - self.overlap)

    def shape(self) -> tuple[int, int]:
        """(h, w) of every window; smaller than `side` where the image is."""
        return min(self.side, self.size[0]), min(self.side, self.size[1])

    def weights(self) -> Tensor:
        """Weights (h, w) of a window's pixels, above 0."""
        if not self.ramp:
            return torch.ones(self.shape())
        ramps = [_ramp(length, self.overlap) for length in self.shape()]
        return ramps[0][:, None] * ramps[1][None, :]

    def strips(self, classes: int) -> list[tuple[int, int]]:
        """First and last + 1 column of each strip."""
        width = max(self.side, _STRIP_BYTES // (4 * (classes + 1) * self.shape()[0]))
        return [(left, min(left + width, self.size[1])) for left in range(0, self.size[1], width)]


def predicted(
    read: ReadRegion,
    network: Network,
    coverage: Coverage,
    inference: Inference,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Piece]:
    """The parts of an image, every pixel once, with the mean of the windows' softmax by their weights.

    Windows without a valid pixel are not predicted. `progress` is called with
    the rows of windows that are done, and their number.
    """
    strips, tops = coverage.strips(network.num_classes), coverage.starts(0)
    bottoms, shape = [*tops[1:], coverage.size[0]], coverage.shape()
    for number, strip in enumerate(strips):
        lefts = [left for left in coverage.starts(1) if left < strip[1] and left + shape[1] > strip[0]]
        regions = [Region(top, left, *shape) for top in tops for left in lefts]
        windows = _in_order(read, network, regions, coverage.batch, inference)
        sums = _Sums(coverage, network.num_classes, strip)
        for row, (top, bottom) in enumerate(zip(tops, bottoms, strict=True)):
            for window in islice(windows, len(lefts)):
                sums.add(*window)
            yield sums.take(top, bottom - top)
            progress(number * len(tops) + row + 1, len(strips) * len(tops))


Window = tuple[int, Tensor | None, NDArray[np.bool_] | None]
"""First column, probabilities (K, h, w), None where no pixel is valid, and valid pixels (h, w), None where all are."""


def _in_order(
    read: ReadRegion, network: Network, regions: Sequence[Region], batch: int, inference: Inference
) -> Iterator[Window]:
    """Every region in order, `batch` of them together through the network."""
    waiting: list[tuple[Region, Any, Any]] = []
    count = 0
    for region, (image, valid) in zip(regions, read_ahead(lambda k: read(regions[k]), len(regions), 2), strict=True):
        empty = valid is not None and not valid.any()
        waiting.append((region, None if empty else image, valid))
        count += not empty
        if count == batch or len(waiting) == _MOST_WAITING:
            yield from _through(network, waiting, inference)
            waiting, count = [], 0
    yield from _through(network, waiting, inference)


def _through(network: Network, waiting: Sequence[tuple[Region, Any, Any]], inference: Inference) -> Iterator[Window]:
    images = [image for _, image, _ in waiting if image is not None]
    found = iter(_probabilities(network, np.stack(images), inference) if images else ())
    for region, image, valid in waiting:
        yield region.left, None if image is None else next(found), valid


def _probabilities(network: Network, images: NDArray[np.uint8], inference: Inference) -> Tensor:
    """Images (n, *T, h, w, C) -> probabilities (n, K, h, w) on the CPU."""
    height, width = images.shape[-3:-1]
    multiple = network.multiple
    with torch.no_grad(), inference.autocast():
        inputs = F.pad(normalized(network, images, inference.device), (0, -width % multiple, 0, -height % multiple))
        return network(inputs)[..., :height, :width].float().softmax(1).cpu()  # type: ignore[no-any-return]


@final
class _Sums:
    """Weighted sums over one row of windows of a strip, and over what reaches into the next."""

    def __init__(self, coverage: Coverage, classes: int, strip: tuple[int, int]) -> None:
        self.strip, self.weights = strip, coverage.weights()
        shape = (coverage.shape()[0], strip[1] - strip[0])
        self.total = torch.zeros((classes, *shape))
        self.weight = torch.zeros(shape)
        self.valid = np.zeros(shape, dtype=np.bool_)

    def add(self, left: int, probabilities: Tensor | None, valid: NDArray[np.bool_] | None) -> None:
        """Add a window that begins at the image's column `left`."""
        width = self.weights.shape[1]
        first, last = max(left, self.strip[0]), min(left + width, self.strip[1])
        here, there = slice(first - self.strip[0], last - self.strip[0]), slice(first - left, last - left)
        self.weight[:, here] += self.weights[:, there]
        self.valid[:, here] |= True if valid is None else valid[:, there]
        if probabilities is not None:
            self.total[:, :, here] += probabilities[:, :, there] * self.weights[:, there]

    def take(self, top: int, count: int) -> Piece:
        """The first `count` rows, which begin at the image's row `top`; they make room for those that follow."""
        done = self.total[:, :count] / self.weight[:count]
        piece = Piece(Region(top, self.strip[0], count, self.strip[1] - self.strip[0]), done, self.valid[:count].copy())
        for sums, axis in ((self.total, 1), (self.weight, 0)):
            rest = sums.narrow(axis, count, sums.shape[axis] - count).clone()
            sums.zero_().narrow(axis, 0, rest.shape[axis]).copy_(rest)
        kept_valid = self.valid[count:].copy()
        self.valid[:] = False
        self.valid[: len(kept_valid)] = kept_valid
        return piece


def _ramp(length: int, overlap: int) -> Tensor:
    """Weights (length,) that rise from both ends to 1."""
    place = torch.arange(length) + 0.5
    return (torch.minimum(place, length - place) / max(overlap, 0.5)).clamp(max=1.0)


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


def grouped(items: Iterable[T], size: int, key: Callable[[T], Any] = lambda item: None) -> Iterator[list[T]]:
    """Consecutive items with an equal `key` together, at most `size` of them."""
    group: list[T] = []
    for item in items:
        if group and (len(group) == size or key(group[0]) != key(item)):
            yield group
            group = []
        group.append(item)
    if group:
        yield group
