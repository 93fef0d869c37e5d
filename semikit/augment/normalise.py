"""From bytes to what a network sees."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from semikit.core.batch import to_device
from semikit.errors import ConfigError


def to_float(images: Tensor) -> Tensor:
    """uint8 images of any shape -> float32 in 0..1, on the device they are on."""
    assert images.dtype == torch.uint8, images.dtype
    return images.to(torch.float32).div_(255)


def channel_statistics(
    mean: Sequence[float], std: Sequence[float], device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel (units of 0..1) as float32 tensors (C, 1, 1), made once for `normalize`.

    Raises:
        ConfigError: when the two have different lengths, or a standard deviation is not above 0.
    """
    if len(mean) != len(std) or not mean:
        raise ConfigError(
            f"mean has {len(mean)} values and std {len(std)}; both need one value for each channel of the images"
        )
    if not all(0 < value < float("inf") for value in std):
        raise ConfigError(f"std is {list(std)}; every value must be above 0 (leave a constant channel out, or write 1)")
    shape = (len(mean), 1, 1)
    made = [torch.tensor(values, dtype=torch.float32).view(shape) for values in (mean, std)]
    return to_device((made[0], made[1]), device)


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Images (..., C, H, W) in 0..1 -> (images - mean) / std, with mean and std (C, 1, 1) on the same device."""
    assert images.shape[-3] == mean.shape[0] == std.shape[0], (images.shape, mean.shape, std.shape)
    return (images - mean).div_(std)
