"""Probabilities averaged over networks and over views of an image: flips and scales (test-time augmentation)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from semikit.core.network import Network
from semikit.core.task import Inference
from semikit.inference.windows import (
    EvaluateSettings,
    coarse_scores,
    normalized,
    original,
    predict_scores,
    probabilities,
    rows_of,
)

Tta = Literal["none", "flip", "flip+scale"]

_SCALES = (0.75, 1.0, 1.25)

Predict = Callable[[Network, Tensor, float], Tensor]
"""A network, images (B, *T, C, H, W) as it takes them, a scale of their sides -> probabilities (B, K, *S)."""


@final
@dataclass(frozen=True, slots=True)
class Views:
    """How an image is predicted several times: mirrored along axes, each combination an entry, and at scales."""

    flips: tuple[tuple[int, ...], ...] = ((),)
    scales: tuple[float, ...] = (1.0,)

    @classmethod
    def of(cls, tta: str, from_above: bool = False) -> Views:
        """Those of `--tta`: images that show the ground from above have no up and down, others are mirrored only left
        to right.
        """
        if tta == "none":
            return cls()
        vertical = ((-2,), (-2, -1)) if from_above else ()
        return cls(((), (-1,), *vertical), _SCALES if tta == "flip+scale" else (1.0,))


@final
@dataclass(frozen=True, slots=True)
class Ensemble:
    """Networks of the same classes, each with its own normalisation and patch, and the views they predict. In eval mode
    on the device of `inference`. Nothing is drawn: the same images give the same probabilities.
    """

    networks: tuple[Network, ...]
    inference: Inference
    views: Views = Views()

    @classmethod
    def ready(cls, networks: Sequence[Network], inference: Inference) -> Ensemble:
        """The networks, moved to the device, which is named by its number: threads may have another current one."""
        inference = replace(inference, device=torch.empty(0, device=inference.device).device)
        return cls(tuple(network.to(inference.device).eval() for network in networks), inference)

    @property
    def num_classes(self) -> int:
        """K."""
        return self.networks[0].num_classes

    def mean(self, images: NDArray[np.uint8], predict: Predict) -> Tensor:
        """Images (B, *T, H, W, C) uint8, as they are read -> the mean probabilities (B, K, *S), on the device."""
        total, count = None, 0
        with torch.no_grad(), self.inference.autocast():
            for network in self.networks:
                inputs = normalized(network, images, self.inference.device)
                for scale in self.views.scales:
                    for axes in self.views.flips:
                        found = _mirrored(predict(network, _mirrored(inputs, axes), scale), axes)
                        total, count = found if total is None else total.add_(found), count + 1
            assert total is not None
            return total if count == 1 else total.div_(count)

    def windows(self, images: NDArray[np.uint8]) -> Tensor:
        """Windows (B, *T, h, w, C) uint8 -> probabilities (B, K, h, w), on the device."""
        return self.mean(images, _of_window)

    def whole(self, image: NDArray[np.uint8], settings: EvaluateSettings, crop: int) -> Tensor:
        """One image (*T, H, W, C) uint8, predicted as it is evaluated -> probabilities (K, H, W), on the device."""
        return self.wholes(image[None], settings, crop)[0]

    def wholes(self, images: NDArray[np.uint8], settings: EvaluateSettings, crop: int) -> Tensor:
        """As `whole`, images of one size (B, *T, H, W, C) -> (B, K, H, W)."""
        return self.mean(images, partial(_of_image, settings=settings, crop=crop))

    def rows(self, image: NDArray[np.uint8], count: int) -> Iterator[Tensor]:
        """As `whole` where the window is `original`, `count` rows (K, h, W) after another; the scores of no more than
        these are made at the size of the image.
        """
        size, every = (image.shape[-3], image.shape[-2]), []
        with torch.no_grad(), self.inference.autocast():
            for network in self.networks:
                inputs = normalized(network, image[None], self.inference.device)
                for scale, axes in product(self.views.scales, self.views.flips):
                    scores, seen = coarse_scores(network, _mirrored(inputs, axes), scale)
                    every.append((_mirrored(scores, axes), (seen,) if seen == size else (seen, size)))
                del inputs
        for first in range(0, size[0], count):
            end = min(first + count, size[0])
            shares = [rows_of(*one, first, end)[0].softmax(0) for one in every]
            yield shares[0] if len(shares) == 1 else torch.stack(shares).mean(0)


def _mirrored(images: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Images or maps mirrored; the classes of whole images (B, K) have no axes to mirror."""
    return images.flip(axes) if axes and images.ndim > 2 else images


def _of_window(network: Network, images: Tensor, scale: float) -> Tensor:
    """Padded on the right and below with the mean colour to a multiple of the patch; scaled, to the nearest one."""
    if scale != 1:
        return original(network, images, scale).softmax(1)
    height, width = images.shape[-2:]
    padded = F.pad(images, (0, -width % network.multiple, 0, -height % network.multiple))
    return network(padded)[..., :height, :width].float().softmax(1)  # type: ignore[no-any-return]


def _of_image(network: Network, images: Tensor, scale: float, settings: EvaluateSettings, crop: int) -> Tensor:
    return probabilities(predict_scores(network, images, settings, crop, scale), settings)
