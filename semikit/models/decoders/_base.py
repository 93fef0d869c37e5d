"""What a decoder is: levels of an encoder in, one embedding per position out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from semikit.errors import ConfigError


class Decoder(nn.Module, ABC):
    """Levels (B, D_l, h_l, w_l) -> embedding (B, embed_dim, h, w), which a 1x1 convolution classifies.

    Built from the encoder's `widths` D_l and `reductions` (pixels per position); `channels` and `level_widths` are
    the user's choice, None means the decoder's own.
    """

    embed_dim: int
    output_stride: ClassVar[int | None] = None
    """Where the user leaves it unset: the output stride that a convolutional encoder is dilated to; None: its own."""

    @abstractmethod
    def __init__(
        self,
        widths: tuple[int, ...],
        reductions: tuple[int, ...],
        channels: int | None = None,
        level_widths: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, levels: tuple[Tensor, ...]) -> Tensor:
        """Levels -> embedding (B, embed_dim, h, w)."""


def conv_norm_relu(width: int, channels: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    """Convolution of the same size, batch norm, ReLU: (B, width, h, w) -> (B, channels, h, w)."""
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(width, channels, kernel, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def check_images(count: int, decoder: str) -> None:
    """Refuse a training forward of one image, whose pooled feature has no variance to normalise by.

    Raises:
        ConfigError: when `count` is 1.
    """
    if count == 1:
        raise ConfigError(
            f"{decoder} normalises over the images of a forward and cannot train on 1 image. Give at least 2 "
            "per process and micro-batch, or choose --decoder dpt."
        )
