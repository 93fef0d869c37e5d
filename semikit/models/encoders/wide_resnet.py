"""Wide residual networks for small images (arXiv 1605.07146), as semi-supervised classification uses them."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

SLOPE = 0.1
_BLOCKS = 4
"""Blocks of a group at depth 28, (28 - 4) / 6."""


@final
class WideResNet(nn.Module):
    """Images (B, C, H, W) -> pooled features (B, D).

    `widths` are the channels after the first convolution and of each group; the first group keeps the resolution, the
    others halve it.

    Convolutions have a bias, as in the public PyTorch code (FixMatch's own have none). Leaky ReLU of slope 0.1; batch
    norm with epsilon 0.001 before each convolution. With `activated` false the first convolution of the later groups
    reads the raw input, as the public PyTorch code does by mistake: norm and activation before it are computed and
    dropped there, and their weights never learn. With `blocks` in each of three groups the depth is 6 · blocks + 4.
    `momentum` is that of the norms' running statistics: 0.001 takes thousands of steps, so short runs need more.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        channels: int = 3,
        *,
        activated: bool = True,
        blocks: int = _BLOCKS,
        momentum: float = 0.001,
    ) -> None:
        super().__init__()
        first, *later = widths
        self.width = later[-1]
        self.stem = nn.Conv2d(channels, first, 3, padding=1)
        layers: list[nn.Module] = []
        before = first
        for group, width in enumerate(later):
            for number in range(blocks):
                stride = 2 if group and not number else 1
                layers.append(Block(before, width, stride, both=not group and not number, activated=activated))
                before = width
        self.blocks = nn.Sequential(*layers)
        self.norm = _norm(before)
        self.pool = nn.AdaptiveAvgPool2d(1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="leaky_relu")
                module.bias.data.zero_()  # type: ignore[union-attr]
            elif isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> features (B, D)."""
        maps = nn.functional.leaky_relu(self.norm(self.blocks(self.stem(images))), SLOPE, inplace=True)
        pooled: Tensor = self.pool(maps)
        return pooled.flatten(1)


@final
class Block(nn.Module):
    """Norm, activation, convolution, twice, beside a shortcut; `both`: the shortcut sees the activation too."""

    def __init__(self, inputs: int, width: int, stride: int, *, both: bool, activated: bool) -> None:
        super().__init__()
        self.both = both
        self.raw = inputs != width and not both and not activated
        self.norm1 = _norm(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1)
        self.norm2 = _norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, width, 1, stride) if inputs != width else nn.Identity()
        if self.raw:
            self.norm1.requires_grad_(False)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, inputs, h, w) -> (B, width, h / stride, w / stride)."""
        active = maps if self.raw else nn.functional.leaky_relu(self.norm1(maps), SLOPE, inplace=True)
        inner = nn.functional.leaky_relu(self.norm2(self.conv1(active)), SLOPE, inplace=True)
        shortcut: Tensor = self.shortcut(active if self.both else maps)
        residual: Tensor = self.conv2(inner)
        return residual.add_(shortcut)  # nobody keeps the residual: one map less to write


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=0.001)
