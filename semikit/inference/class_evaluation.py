"""Scores and pictures of images that have one class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from torch import Tensor

from semikit.augment.weak import middle_crop, squeezed
from semikit.core.batch import to_device
from semikit.core.network import Network
from semikit.core.task import Final, Inference
from semikit.data.samples import Samples, spread
from semikit.distributed.collectives import own_share
from semikit.errors import DataError
from semikit.inference.ensemble import Ensemble, Views
from semikit.inference.inspection import Examined
from semikit.inference.pictures import Example, gallery
from semikit.inference.windows import grouped, normalized, read_ahead, readable_batches
from semikit.metrics.scoring import scored
from semikit.settings.base import Settings

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

Bytes = NDArray[np.uint8]

_SHOWN = 32
"""Images of a picture."""


@final
class ClassEvaluateSettings(Settings):
    """How images are scored."""

    batch: int = Field(256, ge=1)
    """Images that pass the network together."""
    bins: int = Field(15, ge=1)
    """Bins of confidence of the calibration error."""
    precise_bn: int = Field(0, ge=0)
    """Labelled images, at most, from which the running statistics of batch norm are taken anew before every evaluation
    and for the weights that are kept, seen as those that are scored; 0: the statistics of training."""


@final
@dataclass(frozen=True)
class ClassEvaluation:
    """How networks that classify are scored: classes, settings, and the side images are cropped to (None: none is)."""

    class_names: tuple[str, ...]
    settings: ClassEvaluateSettings
    size: int | None

    def metrics(
        self, networks: Mapping[str, Network], source: Samples, inference: Inference, final: Final | None = None
    ) -> dict[str, MetricCollection]:
        """The metrics of each network over all labelled images of a source, each counted once, over all processes; of a
        `final` evaluation of each with what it is averaged with.

        Raises:
            DataError: when no image has a label, or a file is at fault.
        """
        from semikit.metrics.classification import classification_metrics

        labels = np.asarray(source.labels)
        known = np.flatnonzero(labels >= 0)
        if not len(known):
            raise DataError("nothing to score: no image has a label.")
        mine = known[list(own_share(len(known)))]
        device = inference.device

        def outputs(network: Network, batch: tuple[Bytes, NDArray[np.intp]]) -> Iterator[Mapping[str, Tensor]]:
            images, indices = batch
            truth = to_device(torch.from_numpy(labels[indices]), device)
            if final is not None and final.averages:
                ensemble = Ensemble((network, *final.others), inference, Views.of(final.tta))
                logits = ensemble.mean(images, of_images).log()
            else:
                logits = self.logits(network, images, inference)
            confidence, predicted = logits.float().softmax(1).max(1)
            yield {
                "logits": logits,
                "confidence": confidence,
                "predicted": predicted,
                "labels": truth,
                "valid": torch.ones_like(truth, dtype=torch.bool),
            }

        new_metrics = partial(classification_metrics, len(self.class_names), self.settings.bins, device)
        batches = inference.followed(self.batches(source, mine), lambda batch: len(batch[1]), len(mine))
        return scored(networks, new_metrics, device, batches, outputs)

    def passes(
        self, networks: Sequence[Network], source: Samples, indices: Sequence[int], inference: Inference
    ) -> Iterator[int]:
        """Images of a source through networks as they are scored; how many at a time."""
        chosen = spread(indices, self.settings.precise_bn)
        for images, count in readable_batches(lambda k: self.cropped(source.image(k)[0]), chosen, self.settings.batch):
            for network in networks:
                self.logits(network, images, inference)
            yield count

    def examined(
        self, network: Network, source: Samples, inference: Inference, chosen: Sequence[int] | None = None
    ) -> Iterator[Examined]:
        """Images of a source one by one, predicted as they are scored."""
        indices = range(len(source)) if chosen is None else chosen
        labels = torch.from_numpy(np.asarray(source.labels)).to(inference.device)
        for images, part in self.batches(source, np.asarray(indices, np.intp)):
            shares = self.logits(network, images, inference).float().softmax(1)
            for index, image, share in zip(part.tolist(), images, shares, strict=True):
                known, pieces = labels[index], [((), share)]
                choose = lambda one: one.max(0)[::-1]  # noqa: E731
                yield Examined.of(index, [image], pieces, choose, known.clamp(min=0), known >= 0, 1)

    def predictions(
        self, network: Network, source: Samples, indices: Sequence[int], inference: Inference
    ) -> Iterator[tuple[Bytes, NDArray[np.float32]]]:
        """Classes () of images of a source and their probability; no label is read."""
        for images, _ in self.batches(source, np.asarray(indices, np.intp)):
            confidence, classes = self.logits(network, images, inference).float().softmax(1).max(1)
            yield from zip(classes.cpu().numpy(), confidence.cpu().numpy(), strict=True)

    def comparison(self, networks: Mapping[str, Network], source: Samples, inference: Inference) -> Image.Image:
        """Some images spread over a source, each with its class and what every network takes it for."""
        chosen = np.array(spread(range(len(source)), _SHOWN))
        images = np.concatenate([part for part, _ in self.batches(source, chosen)])
        truth = np.asarray(source.labels)[chosen]
        lines: list[list[tuple[str, bool | None]]] = [[(self.class_names[k], None)] for k in truth]
        for network in networks.values():
            shares, found = self.logits(network, images, inference).float().softmax(1).max(1)
            for line, share, number, true in zip(lines, shares.tolist(), found.tolist(), truth, strict=True):
                line.append((f"{self.class_names[number]} {share * 100:.0f} %", bool(number == true)))
        return gallery([Example(*pair) for pair in zip(images, lines, strict=True)], ("truth", *networks))

    def logits(self, network: Network, images: Bytes, inference: Inference) -> Tensor:
        """Images (B, H, W, C) uint8 -> logits (B, K), on the device."""
        with torch.no_grad(), inference.autocast():
            logits: Tensor = network(normalized(network, images, inference.device))
        return logits

    def batches(self, source: Samples, indices: NDArray[np.intp]) -> Iterator[tuple[Bytes, NDArray[np.intp]]]:
        """Images (B, H, W, C) and their numbers, one batch after the other; files are read ahead by threads."""
        stored, size = source.arrays() if self.size is None else None, self.settings.batch
        parts = (indices[start : start + size] for start in range(0, len(indices), size))
        if stored is not None:
            yield from ((stored[part], part) for part in parts)
            return
        images = read_ahead(lambda k: self.cropped(source.image(int(indices[k]))[0]), len(indices))
        yield from ((np.stack(group), part) for group, part in zip(grouped(images, size), parts, strict=True))

    def cropped(self, image: Bytes) -> Bytes:
        """An image (H, W, C) as the network sees it when it is scored."""
        return image if self.size is None else middle_crop(image, self.size)

    def fitted(self, image: Bytes, side: Sequence[int]) -> Bytes:
        """An image (H, W, C) of any size as the network sees it: cropped as for scoring, or, where it learned from
        small images of one size `side` (H, W), resized to it.
        """
        return squeezed(image, (side[0], side[1])) if self.size is None else self.cropped(image)


def of_images(network: Network, images: Tensor, scale: float) -> Tensor:
    """Normalised images (B, C, H, W) -> probabilities (B, K); `scale` is that of pixels."""
    return network(images).float().softmax(1)  # type: ignore[no-any-return]
