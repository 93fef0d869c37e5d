"""Scores and pictures of tasks that label pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from semikit.core.network import Network
from semikit.core.task import Inference, Scores
from semikit.data.check import Part, missing_files, size_fault
from semikit.data.palette import Palette
from semikit.data.sources import PixelSource
from semikit.distributed.collectives import own_share, sum_over_processes
from semikit.distributed.groups import GO, agreed
from semikit.errors import DataError
from semikit.inference.pictures import heat, sheet, shown_labels
from semikit.inference.windows import (
    Coverage,
    EvaluateSettings,
    normalized,
    predict_scores,
    predicted,
    probabilities_of,
    read_ahead,
)
from semikit.metrics import confusion
from semikit.raster.region import Region, middle

Bytes = NDArray[np.uint8]

_SHOWN = 768
"""Side of the part of a raster that a picture shows, pixels."""
_LEGEND = 24
"""Classes up to which a legend names all of them."""


Score = Callable[[Tensor, Sequence[str], EvaluateSettings], Scores]
"""Confusion matrix (K, K), names of the classes, settings -> scores in percent."""


@final
@dataclass(frozen=True)
class PixelEvaluation:
    """How networks that label pixels are scored and shown: classes, settings, training crop, colours, what is read off
    the confusion matrix, and what the pictures of an image are called.
    """

    class_names: tuple[str, ...]
    settings: EvaluateSettings
    crop: int
    palette: Palette
    score: Score
    titles: tuple[str, ...] = ("image",)

    def scores(self, networks: Mapping[str, Network], source: PixelSource, inference: Inference) -> dict[str, Scores]:
        """Scores of each network over all images of a source, each counted once, at its own size.

        Processes share the images without padding their number, and every one of them gets the scores of all.

        Raises:
            DataError: when no pixel of any mask is valid, or a file is at fault.
        """
        gone = missing_files([Part("scored images", source, range(len(source)), masks=True)])
        if gone:
            raise DataError(f"{gone[0]}.")
        size, device = len(self.class_names), inference.device
        matrices = {name: torch.zeros((size, size), dtype=torch.long, device=device) for name in networks}
        streamed, whole = self._parted(source, own_share(len(source)))
        for index in streamed:
            for name, network in networks.items():
                matrices[name] += self._streamed(network, source, index, inference).to(device)
        for images, labels, valid in _batches(source, whole, self.settings.batch):
            truth, counted = torch.from_numpy(labels).to(device).long(), torch.from_numpy(valid).to(device)
            for name, network in networks.items():
                with torch.no_grad(), inference.autocast():
                    inputs = normalized(network, images, device)
                    predicted = predict_scores(network, inputs, self.settings, self.crop).argmax(1)
                matrices[name] += confusion.count(predicted, truth, counted, size)
        agreed(GO)  # the hosts wait here as long as one has to: what waits on the device is given up after minutes
        matrices = {name: sum_over_processes(matrix) for name, matrix in matrices.items()}
        if not all(matrix.any() for matrix in matrices.values()):
            raise DataError("nothing to score: no pixel of any mask is valid. Check `ignore` and `mapping`.")
        return {name: self.score(matrix, self.class_names, self.settings) for name, matrix in matrices.items()}

    def _parted(self, source: PixelSource, indices: Sequence[int]) -> tuple[list[int], list[int]]:
        """The images of which windows are read, and those that are read whole."""
        if self.settings.window != "sliding":
            return [], list(indices)
        parts: tuple[list[int], list[int]] = [], []
        for index in indices:
            parts[source.extent(index) is None].append(index)
        return parts

    def _streamed(self, network: Network, source: PixelSource, index: int, inference: Inference) -> Tensor:
        """The confusion matrix (K, K) of a raster, of which only windows are read."""
        extent, side = source.extent(index), self.settings.size or self.crop
        assert extent is not None
        windows = Coverage(extent, side, side - max(int(side * 2 / 3), 1), self.settings.batch, ramp=False)
        classes = len(self.class_names)
        matrix = torch.zeros((classes, classes), dtype=torch.long)
        for piece in predicted(lambda region: source.image(index, region), network, windows, inference):
            labels, counted = source.mask(index, piece.region)
            if labels.shape != piece.valid.shape:
                raise size_fault(source, index, (*extent, 1), labels.shape)
            truth, valid = torch.from_numpy(labels).long(), torch.from_numpy(counted & piece.valid)
            matrix += confusion.count(piece.probabilities.argmax(0), truth, valid, classes)
        return matrix

    def picture(self, network: Network, source: PixelSource, inference: Inference) -> Image.Image:
        """A few images spread over a source: image, truth, prediction, confidence."""
        rows, present = [], set[int]()
        for image, labels, valid in self._examples(source):
            prediction, confidence = self._predicted(network, image, inference)
            rows.append([*displayed(image), self._shown(labels, valid), self._shown(prediction), heat(confidence)])
            present |= {*np.unique(labels[valid]).tolist(), *np.unique(prediction).tolist()}
        return sheet(rows, (*self.titles, "truth", "prediction", "confidence"), self._legend(present))

    def comparison(self, networks: Mapping[str, Network], source: PixelSource, inference: Inference) -> Image.Image:
        """A few images and their truth beside the prediction of each network, titled by its name."""
        rows, present = [], set[int]()
        for image, labels, valid in self._examples(source):
            predictions = [self._predicted(network, image, inference)[0] for network in networks.values()]
            rows.append([*displayed(image), self._shown(labels, valid), *map(self._shown, predictions)])
            present |= {*np.unique(labels[valid]).tolist(), *np.unique(np.stack(predictions)).tolist()}
        return sheet(rows, (*self.titles, "truth", *networks), self._legend(present))

    def _examples(self, source: PixelSource, count: int = 4) -> Iterator[tuple[Bytes, Bytes, NDArray[np.bool_]]]:
        for index in sorted({int(i) for i in np.linspace(0, len(source) - 1, count)}):
            extent = source.extent(index)  # of a raster its middle is shown
            yield _labeled_image(source, index, None if extent is None else middle(extent, _SHOWN))

    def _predicted(self, network: Network, image: Bytes, inference: Inference) -> tuple[Bytes, NDArray[np.float32]]:
        confidence, predicted = probabilities_of(network, image, self.settings, self.crop, inference).max(0)
        return predicted.to(torch.uint8).cpu().numpy(), confidence.float().cpu().numpy()

    def _shown(self, labels: Bytes, valid: NDArray[np.bool_] | None = None) -> Bytes:
        return shown_labels(labels, valid, self.palette)

    def _legend(self, present: set[int]) -> list[tuple[str, Bytes]]:
        """All classes, or where they are many those that are shown."""
        many = len(self.class_names) > _LEGEND
        return [
            (self.class_names[k], self.palette[k]) for k in (sorted(present) if many else range(len(self.class_names)))
        ]


def _batches(
    source: PixelSource, indices: Sequence[int], size: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]]:
    """Consecutive images of equal size together, at most `size`; read ahead by threads."""
    waiting: list[tuple[Any, Any, Any]] = []
    for item in read_ahead(lambda position: _labeled_image(source, indices[position]), len(indices)):
        if waiting and (len(waiting) == size or waiting[0][0].shape != item[0].shape):
            yield _stacked(waiting)
            waiting = []
        waiting.append(item)
    if waiting:
        yield _stacked(waiting)


def _labeled_image(source: PixelSource, index: int, region: Region | None = None) -> tuple[Any, Any, Any]:
    image, seen = source.image(index, region)
    labels, valid = source.mask(index, region)
    if labels.shape != image.shape[-3:-1]:
        raise size_fault(source, index, image.shape, labels.shape)
    return image, labels, valid if seen is None else valid & seen


def _stacked(items: list[tuple[Any, Any, Any]]) -> tuple[Any, Any, Any]:
    images, labels, valid = (np.stack(part) for part in zip(*items, strict=True))
    return images, labels, valid


def displayed(image: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Image (*T, H, W, C) as a picture (H, W, 3) of each date: the first three bands, or the first one three times."""
    rgb = image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)
    return list(rgb) if rgb.ndim > 3 else [rgb]
