"""DeepLabV3+: atrous pooling of the last level, refined by the first. Default for convolutional encoders."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from semikit.errors import ConfigError
from semikit.models.decoders._base import Decoder, check_images, conv_norm_relu

RATES = (6, 12, 18)
"""Dilations at an output stride of 16, as released by UniMatch V1; at others they cover the same pixels."""

_CHANNELS = 256
_LOW = 48


@final
class Pooled(nn.Module):
    """The mean over all positions as a feature of each; (B, D, h, w) -> (B, channels, h, w)."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.project = conv_norm_relu(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, channels, h, w).

        Raises:
            ConfigError: for a single image in training mode, whose pooled feature has no variance to normalise by.
        """
        if self.training:
            check_images(len(x), "deeplabv3plus")
        mean: Tensor = self.project(x.mean(dim=(2, 3), keepdim=True))
        return mean.expand(-1, -1, *x.shape[-2:])


@final
class DeepLabV3Plus(Decoder):
    """DeepLabV3+ as in UniMatch V1; of the levels, only the first and the last are used."""

    output_stride = 16

    def __init__(
        self,
        widths: tuple[int, ...],
        reductions: tuple[int, ...],
        channels: int | None = None,
        level_widths: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(widths, reductions)
        if level_widths is not None:
            raise ConfigError(f"decoder_widths {level_widths}: deeplabv3plus has none; leave it unset or choose dpt.")
        self.embed_dim = channels or _CHANNELS
        rates = [max(1, round(rate * 16 / reductions[-1])) for rate in RATES]
        branches = [conv_norm_relu(widths[-1], self.embed_dim, 1)]
        branches += [conv_norm_relu(widths[-1], self.embed_dim, 3, rate) for rate in rates]
        self.branches = nn.ModuleList([*branches, Pooled(widths[-1], self.embed_dim)])
        self.project = conv_norm_relu(self.embed_dim * len(self.branches), self.embed_dim, 1)
        self.reduce = conv_norm_relu(widths[0], _LOW, 1)
        self.fuse = nn.Sequential(
            conv_norm_relu(self.embed_dim + _LOW, self.embed_dim, 3), conv_norm_relu(self.embed_dim, self.embed_dim, 3)
        )

    def forward(self, levels: tuple[Tensor, ...]) -> Tensor:
        """Levels (B, D_l, h_l, w_l) -> (B, embed_dim, h_0, w_0)."""
        low, high = levels[0], levels[-1]
        high = self.project(torch.cat([branch(high) for branch in self.branches], dim=1))
        high = functional.interpolate(high, size=low.shape[-2:], mode="bilinear", align_corners=True)
        embedding: Tensor = self.fuse(torch.cat((self.reduce(low), high), dim=1))
        return embedding


plugin = DeepLabV3Plus
