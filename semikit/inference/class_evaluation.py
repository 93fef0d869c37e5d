"""Scores and pictures of images that have one class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from torch import Tensor

from semikit.augment.normalise import channel_statistics, normalize, to_float
from semikit.augment.weak import middle_crop, squeezed
from semikit.core.network import Network
from semikit.core.task import Inference, Scores
from semikit.data.class_sources import ClassSource
from semikit.distributed.collectives import own_share, sum_over_processes
from semikit.distributed.groups import GO, agreed
from semikit.errors import DataError
from semikit.inference.pictures import Example, gallery
from semikit.inference.windows import read_ahead
from semikit.metrics import confusion
from semikit.metrics.calibration import binned, expected_calibration_error
from semikit.settings.base import Settings

Bytes = NDArray[np.uint8]

_TOP = 5
_SHOWN = 32
"""Images of a picture."""


@final
class ClassEvaluateSettings(Settings):
    """How images are scored."""

    batch: int = Field(256, ge=1)
    """Images that pass the network together."""
    bins: int = Field(15, ge=1)
    """Bins of confidence of the calibration error."""


@final
@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over images: confusion matrix (K, K), how many have the truth among the first five (), calibration bins."""

    matrix: Tensor
    top: Tensor
    bins: Tensor

    @classmethod
    def empty(cls, classes: int, bins: int, device: torch.device) -> Tally:
        """Of no image."""
        matrix = torch.zeros(classes, classes, dtype=torch.long, device=device)
        top = torch.zeros((), dtype=torch.long, device=device)
        return cls(matrix, top, torch.zeros(3, bins, dtype=torch.float64, device=device))

    def __add__(self, other: Tally) -> Tally:
        """Of more images."""
        return Tally(self.matrix + other.matrix, self.top + other.top, self.bins + other.bins)

    def over_processes(self) -> Tally:
        """Of all processes."""
        return Tally(*map(sum_over_processes, (self.matrix, self.top, self.bins)))


def tallied(logits: Tensor, labels: Tensor, bins: int) -> Tally:
    """Logits (B, K) and true classes (B,)."""
    classes = logits.shape[1]
    confidence, predicted = logits.float().softmax(1).max(1)
    first = logits.topk(min(_TOP, classes), dim=1).indices
    counted = torch.ones_like(labels, dtype=torch.bool)
    return Tally(
        confusion.count(predicted, labels, counted, classes),
        (first == labels[:, None]).any(1).sum(),
        binned(confidence, predicted == labels, bins),
    )


def scores_of(tally: Tally, class_names: tuple[str, ...]) -> Scores:
    """Percentages: top-1, top-5 where there are more than five classes, ECE, and the share that is right of each class
    that occurs.
    """
    matrix = tally.matrix.cpu()
    total = int(matrix.sum())
    extra = {"top-5": int(tally.top) / total * 100} if len(class_names) > _TOP else {}
    found = (confusion.recall(matrix) * 100).tolist()
    present = (matrix.sum(dim=1) > 0).tolist()
    return Scores(
        metric="top-1",
        value=int(matrix.diagonal().sum()) / total * 100,
        per_class={name: value for name, value, there in zip(class_names, found, present, strict=True) if there},
        extra={**extra, "ECE": expected_calibration_error(tally.bins) * 100},
    )


@final
@dataclass(frozen=True)
class ClassEvaluation:
    """How networks that classify are scored: classes, settings, and the side images are cropped to (None: none is)."""

    class_names: tuple[str, ...]
    settings: ClassEvaluateSettings
    size: int | None

    def tallies(self, networks: Mapping[str, Network], source: ClassSource, inference: Inference) -> dict[str, Tally]:
        """The sums of each network over all labelled images of a source, each counted once, over all processes.

        Raises:
            DataError: when no image has a label, or a file is at fault.
        """
        labels = np.asarray(source.labels)
        known = np.flatnonzero(labels >= 0)
        if not len(known):
            raise DataError("nothing to score: no image has a label.")
        found = {name: Tally.empty(len(self.class_names), self.settings.bins, inference.device) for name in networks}
        mine = known[list(own_share(len(known)))]
        for start, images in self.batches(source, mine):
            truth = torch.from_numpy(labels[mine[start : start + len(images)]]).to(inference.device)
            for name, network in networks.items():
                found[name] += tallied(self.logits(network, images, inference), truth, self.settings.bins)
        agreed(GO)  # the hosts wait here as long as one has to: what waits on the device is given up after minutes
        return {name: tally.over_processes() for name, tally in found.items()}

    def comparison(self, networks: Mapping[str, Network], source: ClassSource, inference: Inference) -> Image.Image:
        """Some images spread over a source, each with its class and what every network takes it for."""
        chosen = np.unique(np.linspace(0, len(source) - 1, _SHOWN).round().astype(np.intp))
        images = np.concatenate([part for _, part in self.batches(source, chosen)])
        truth = np.asarray(source.labels)[chosen]
        lines: list[list[tuple[str, bool | None]]] = [[(self.class_names[k], None)] for k in truth]
        for network in networks.values():
            shares, found = self.logits(network, images, inference).float().softmax(1).max(1)
            for line, share, number, true in zip(lines, shares.tolist(), found.tolist(), truth, strict=True):
                line.append((f"{self.class_names[number]} {share * 100:.0f} %", bool(number == true)))
        return gallery([Example(*pair) for pair in zip(images, lines, strict=True)], ("truth", *networks))

    def logits(self, network: Network, images: Bytes, inference: Inference) -> Tensor:
        """Images (B, H, W, C) uint8 -> logits (B, K), on the device."""
        device = inference.device
        mean, std = channel_statistics(network.mean, network.std, device)  # type: ignore[arg-type]
        pixels = to_float(torch.from_numpy(images).to(device).movedim(-1, -3))
        with torch.no_grad(), inference.autocast():
            logits: Tensor = network(normalize(pixels, mean, std))
        return logits

    def batches(self, source: ClassSource, indices: NDArray[np.intp]) -> Iterator[tuple[int, Bytes]]:
        """(place in `indices`, images (B, H, W, C)) of one batch after the other; files are read ahead by threads."""
        stored, size = source.arrays() if self.size is None else None, self.settings.batch
        if stored is not None:
            for start in range(0, len(indices), size):
                yield start, stored[indices[start : start + size]]
            return
        read: Callable[[int], Bytes] = lambda k: self.cropped(source.image(int(indices[k])))  # noqa: E731
        waiting: list[Bytes] = []
        for number, image in enumerate(read_ahead(read, len(indices))):
            waiting.append(image)
            if len(waiting) == size or number == len(indices) - 1:
                yield number + 1 - len(waiting), np.stack(waiting)
                waiting = []

    def cropped(self, image: Bytes) -> Bytes:
        """An image (H, W, C) as the network sees it when it is scored."""
        return image if self.size is None else middle_crop(image, self.size)

    def fitted(self, image: Bytes, side: Sequence[int]) -> Bytes:
        """An image (H, W, C) of any size as the network sees it: cropped as for scoring, or, where it learned from
        small images of one size `side` (H, W), resized to it.
        """
        return squeezed(image, (side[0], side[1])) if self.size is None else self.cropped(image)
