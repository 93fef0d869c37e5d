"""What an encoder is: images in, a tuple of feature maps out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from semikit.models.encoders.attention import attention_for
from semikit.models.settings import LoraSettings

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Encoder(nn.Module, ABC):
    """Images (B, C, H, W), normalised by `mean` and `std` -> levels (B, D_l, h_l, w_l).

    `widths` are the channels D_l, `reductions` the pixels per position of each level, `multiple` what the sides of an
    image must be a multiple of. A frozen encoder has no gradient, builds no graph and stays in eval mode; an adapted
    one (`lora`) has a graph, in which only its factors have a gradient.
    """

    backbone: Any

    widths: tuple[int, ...]
    reductions: tuple[int, ...]
    multiple: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    frozen: bool = False
    lora: LoraSettings | None = None

    @abstractmethod
    def levels(self, images: Tensor) -> tuple[Tensor, ...]:
        """The feature maps, finest first or in order of depth."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The feature maps; without a graph when frozen."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen), attention_for(images):
            return self.levels(images)

    def freeze(self) -> None:
        """Keep the weights as they are from now on."""
        self.frozen = True
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Encoder:
        """Training mode, which a frozen encoder never enters."""
        super().train(mode and not self.frozen)
        return self


def statistics(
    pretrained: dict[str, object], channels: int, random: bool
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation images are normalised by, in 0..1.

    Those of the pretraining, or ImageNet's for random weights; for other than three channels their averages, since no
    band has a known partner then.
    """
    mean = IMAGENET_MEAN if random else _numbers(pretrained.get("mean"), IMAGENET_MEAN)
    std = IMAGENET_STD if random else _numbers(pretrained.get("std"), IMAGENET_STD)
    if channels == len(mean):
        return mean, std
    return (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels


def _numbers(given: object, default: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(value) for value in given) if isinstance(given, tuple | list) else default
