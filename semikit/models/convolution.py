"""Convolution, batch norm, ReLU: what the convolutional decoders are made of."""

from __future__ import annotations

from torch import nn

from semikit.errors import ConfigError


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
