"""PSPNet: the last level beside its means over grids of 1, 2, 3 and 6 cells. A row of Table 14 (change detection)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from semikit.errors import ConfigError
from semikit.models.decoders._base import Decoder, check_images, conv_norm_relu

CELLS = (1, 2, 3, 6)
"""Cells along a side of the grids that the last level is averaged over (Zhao et al. 2017, arXiv 1612.01105)."""


@final
class Pooled(nn.Module):
    """The means over a grid as features of each position; (B, D, h, w) -> (B, channels, h, w)."""

    def __init__(self, width: int, channels: int, cells: int) -> None:
        super().__init__()
        self.cells = cells
        self.project = conv_norm_relu(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) of any size -> (B, channels, h, w); cells overlap where the grid does not divide the size."""
        means = self.project(functional.adaptive_avg_pool2d(x, self.cells))
        return functional.interpolate(means, size=x.shape[-2:], mode="bilinear", align_corners=True)


@final
class PSPNet(Decoder):
    """PSPNet as in UniMatch V1's change detection; of the levels, only the last is used, at an output stride of 8.

    Released, a dropout of 0.1 stands before the classifier. Here nothing is drawn inside a network, so there is none.
    """

    output_stride = 8

    def __init__(
        self,
        widths: tuple[int, ...],
        reductions: tuple[int, ...],
        channels: int | None = None,
        level_widths: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(widths, reductions)
        if level_widths is not None:
            raise ConfigError(f"decoder_widths {level_widths}: pspnet has none; leave it unset or choose dpt.")
        width = widths[-1]
        part = max(1, width // len(CELLS))
        self.embed_dim = channels or part
        self.branches = nn.ModuleList(Pooled(width, part, cells) for cells in CELLS)
        self.fuse = conv_norm_relu(width + part * len(CELLS), self.embed_dim, 3)

    def forward(self, levels: tuple[Tensor, ...]) -> Tensor:
        """Levels (B, D_l, h_l, w_l) -> (B, embed_dim, h, w) of the last.

        Raises:
            ConfigError: for a single image in training mode.
        """
        last = levels[-1]
        if self.training:
            check_images(len(last), "pspnet")
        embedding: Tensor = self.fuse(torch.cat([last, *(branch(last) for branch in self.branches)], dim=1))
        return embedding


plugin = PSPNet
