"""Whole images through a network: resized as one (`original`) or window by window (`sliding`)."""

from __future__ import annotations

from typing import Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from semikit.augment.normalize import channel_statistics, normalize, to_float
from semikit.core.network import Network
from semikit.core.settings import Settings
from semikit.core.task import Inference
from semikit.errors import DataError


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


def predict_logits(network: Network, images: Tensor, settings: EvaluateSettings, crop: int) -> Tensor:
    """Scores (B, K, H, W) for images (B, *T, C, H, W) of any size: logits (original) or summed softmax (sliding).

    Their argmax is the prediction; `probabilities` turns them into confidence.
    """
    if settings.window == "original":
        return original(network, images)
    return sliding(network, images, settings.size or crop)


def probabilities(scores: Tensor, settings: EvaluateSettings) -> Tensor:
    """Scores of `predict_logits` -> probabilities (B, K, H, W) that sum to 1."""
    if settings.window == "original":
        return scores.float().softmax(1)
    return scores / scores.sum(1, keepdim=True)


def probabilities_of(
    network: Network, image: NDArray[np.uint8], settings: EvaluateSettings, crop: int, inference: Inference
) -> Tensor:
    """One image (*T, H, W, C) uint8, as it is read -> probabilities (K, H, W) that sum to 1, on the device."""
    with torch.no_grad(), inference.autocast():
        scores = predict_logits(network, normalized(network, image[None], inference.device), settings, crop)
    return probabilities(scores, settings)[0]


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
