"""Dense prediction transformer (DPT): four levels, fused from coarse to fine. Default for transformers."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn
from torch.nn import functional

from semikit.errors import ConfigError
from semikit.models.decoders._base import Decoder
from semikit.models.encoders.names import dpt_channels


@final
class Residual(nn.Module):
    """Two 3x3 convolutions, each after a ReLU, and a shortcut; (B, D, h, w) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, D, h, w)."""
        inner: Tensor = self.conv1(functional.relu(x))
        inner = self.conv2(functional.relu(inner, inplace=True))
        return x + inner


@final
class Fusion(nn.Module):
    """Adds a finer level to what came from the coarser ones and enlarges the sum.

    The coarsest fusion has nothing to add and no first unit (the released weights hold one that is never used). The
    1x1 convolution commutes with the bilinear enlargement and therefore stands before it, at a quarter of the cost.
    """

    def __init__(self, channels: int, coarsest: bool) -> None:
        super().__init__()
        self.unit1 = None if coarsest else Residual(channels)
        self.unit2 = Residual(channels)
        self.out_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, coarse: Tensor | None, level: Tensor, size: tuple[int, int] | None) -> Tensor:
        """(B, D, h, w) of the coarser path and of the level -> (B, D, *size), None: twice as large."""
        if coarse is not None:
            assert self.unit1 is not None
            level = coarse + self.unit1(level)
        fused = self.out_conv(self.unit2(level))
        twice = 2 if size is None else None  # a traced graph may take the number 2 * h for the side of the images
        return functional.interpolate(fused, size=size, scale_factor=twice, mode="bilinear", align_corners=True)


@final
class DPT(Decoder):
    """DPT as released: transformers' levels are reassembled at 4, 2, 1 and 1/2 times their grid, a pyramid's are used
    as they are; the embedding has twice the finest level's resolution.

    Given `level_widths`, a pyramid's levels pass a 1x1 projection to these channels first. With (256, 512, 1024, 1024)
    and 256 channels that is the size the paper's Table 9 states for MiT-B5; the code of that table is not released.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        reductions: tuple[int, ...],
        channels: int | None = None,
        level_widths: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(widths, reductions)
        flat = len(set(reductions)) == 1
        self.embed_dim = channels or dpt_channels(widths[-1])[0]
        projected = flat or level_widths is not None
        level_widths = _level_widths(widths, flat, level_widths)
        self.projects = _projections(widths, level_widths) if projected else None
        self.resize = _resizing(level_widths) if flat else None
        self.adapt = nn.ModuleList(nn.Conv2d(width, self.embed_dim, 3, padding=1, bias=False) for width in level_widths)
        last = len(level_widths) - 1
        self.fusions = nn.ModuleList(Fusion(self.embed_dim, coarsest=i == last) for i in range(len(level_widths)))
        self.output = nn.Conv2d(self.embed_dim, self.embed_dim, 3, padding=1)

    def forward(self, levels: tuple[Tensor, ...]) -> Tensor:
        """Levels (B, D_l, h_l, w_l) -> (B, embed_dim, h, w)."""
        for layers in (self.projects, self.resize):
            if layers is not None:
                levels = tuple(layer(level) for layer, level in zip(layers, levels, strict=True))
        adapted = [adapt(level) for adapt, level in zip(self.adapt, levels, strict=True)]
        sizes = [None, *(level.shape[-2:] for level in adapted[:-1])]
        path: Tensor | None = None
        for i in reversed(range(len(adapted))):
            path = self.fusions[i](path, adapted[i], sizes[i])
        return functional.relu(self.output(path), inplace=True)


def _level_widths(widths: tuple[int, ...], flat: bool, given: tuple[int, ...] | None) -> tuple[int, ...]:
    """Channels of the levels that are fused."""
    chosen = given or (dpt_channels(widths[-1])[1] if flat else widths)
    if len(chosen) != len(widths) or (flat and len(widths) != 4):
        raise ConfigError(
            f"dpt fuses 4 levels; got {len(widths)} of the encoder (encoder_layers) and {len(chosen)} decoder_widths. "
            "Give 4 of each."
        )
    return chosen


def _projections(widths: tuple[int, ...], level_widths: tuple[int, ...]) -> nn.ModuleList:
    """1x1 convolutions from the encoder's channels to those of the levels that are fused."""
    return nn.ModuleList(nn.Conv2d(width, out, 1) for width, out in zip(widths, level_widths, strict=True))


def _resizing(level_widths: tuple[int, ...]) -> nn.ModuleList:
    """The layers that bring levels to 4, 2, 1 and 1/2 times their grid."""
    first, second, _, last = level_widths
    resize = [
        nn.ConvTranspose2d(first, first, 4, stride=4),
        nn.ConvTranspose2d(second, second, 2, stride=2),
        nn.Identity(),
        nn.Conv2d(last, last, 3, stride=2, padding=1),
    ]
    return nn.ModuleList(resize)


plugin = DPT
