"""Scores and pictures of tasks that label pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from semikit.core import confusion
from semikit.core.network import Network
from semikit.core.task import Inference, Scores
from semikit.data.sources import PixelSource
from semikit.tasks._inference import EvaluateSettings, predict_logits, probabilities
from semikit.tasks._pictures import heat, sheet, shown_labels

Normalized = Callable[[NDArray[np.uint8], torch.device], Tensor]
"""Images (B, H, W, C) uint8 -> normalised (B, C, H, W) on a device."""


def evaluate_pixels(
    networks: Mapping[str, Network],
    source: PixelSource,
    class_names: Sequence[str],
    settings: EvaluateSettings,
    crop: int,
    inference: Inference,
    normalized: Normalized,
) -> dict[str, Scores]:
    """Scores of each network over all images of a source, each counted once, at its own size."""
    size = len(class_names)
    matrices = {name: torch.zeros((size, size), dtype=torch.long, device=inference.device) for name in networks}
    for images, labels, valid in _batches(source, settings.batch):
        inputs = normalized(images, inference.device)
        truth = torch.from_numpy(labels).to(inference.device).long()
        counted = torch.from_numpy(valid).to(inference.device)
        for name, network in networks.items():
            with torch.no_grad(), inference.autocast():
                predicted = predict_logits(network, inputs, settings, crop).argmax(1)
            matrices[name] += confusion.count(predicted, truth, counted, size)
    return {name: scores_of(matrix, class_names, settings) for name, matrix in matrices.items()}


def scores_of(matrix: Tensor, class_names: Sequence[str], settings: EvaluateSettings) -> Scores:
    """Percentages from a confusion matrix (K, K): mIoU as asked for, both ways beside it, and pixel accuracy.

    A class that does not occur has IoU 0 in `per_class`, as the paper counts it.
    """
    means = {way: float(confusion.mean_iou(matrix, way)) * 100 for way in ("paper", "present")}  # type: ignore[arg-type]
    per_class = (confusion.iou(matrix).nan_to_num(nan=0.0) * 100).tolist()
    return Scores(
        metric="mIoU",
        value=means[settings.average],
        per_class=dict(zip(class_names, per_class, strict=True)),
        extra={
            "mIoU_paper": means["paper"],
            "mIoU_present": means["present"],
            "pixel_accuracy": float(confusion.pixel_accuracy(matrix)) * 100,
        },
    )


def _batches(
    source: PixelSource, size: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]]:
    """Consecutive images of equal size together, at most `size`; read ahead by threads."""
    waiting: list[tuple[Any, Any, Any]] = []
    for item in read_ahead(lambda index: _labeled_image(source, index), len(source)):
        if waiting and (len(waiting) == size or waiting[0][0].shape != item[0].shape):
            yield _stacked(waiting)
            waiting = []
        waiting.append(item)
    if waiting:
        yield _stacked(waiting)


def read_ahead(read: Callable[[int], Any], count: int, threads: int = 4) -> Iterator[Any]:
    """`read(0)`, `read(1)` … in order, a few ahead."""
    with ThreadPoolExecutor(threads) as pool:
        numbers = iter(range(count))
        futures = [pool.submit(read, index) for index in islice(numbers, 2 * threads)]
        while futures:
            yield futures.pop(0).result()
            futures += [pool.submit(read, index) for index in islice(numbers, 1)]


def _labeled_image(source: PixelSource, index: int) -> tuple[Any, Any, Any]:
    image, seen = source.image(index)
    labels, valid = source.mask(index)
    return image, labels, valid if seen is None else valid & seen


def _stacked(items: list[tuple[Any, Any, Any]]) -> tuple[Any, Any, Any]:
    images, labels, valid = (np.stack(part) for part in zip(*items, strict=True))
    return images, labels, valid


def picture_sheet(
    network: Network,
    source: PixelSource,
    class_names: Sequence[str],
    colours: NDArray[np.uint8],
    settings: EvaluateSettings,
    crop: int,
    inference: Inference,
    normalized: Normalized,
    count: int = 4,
) -> Image.Image:
    """A few images spread over a source: image, truth, prediction, confidence."""
    rows = []
    for index in sorted({int(i) for i in np.linspace(0, len(source) - 1, count)}):
        image, labels, valid = _labeled_image(source, index)
        with torch.no_grad(), inference.autocast():
            scores = predict_logits(network, normalized(image[None], inference.device), settings, crop)
        confidence, predicted = probabilities(scores, settings)[0].max(0)
        prediction = predicted.to(torch.uint8).cpu().numpy()
        rows.append(
            [
                displayed(image),
                shown_labels(labels, valid, colours),
                shown_labels(prediction, None, colours),
                heat(confidence.float().cpu().numpy()),
            ]
        )
    legend = [(name, colours[i]) for i, name in enumerate(class_names)]
    return sheet(rows, ("image", "truth", "prediction", "confidence"), legend)


def displayed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Image (H, W, C) as (H, W, 3): the first three bands, or the first one three times."""
    return image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)
