"""Networks on pixels in the form of the field's public code: the same weights and numbers, other operations."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar, final

import torch.nn.functional as F
from torch import Tensor, nn

from semikit.core.network import Features, Network
from semikit.models.decoders.dpt import DPT, Fusion
from semikit.models.siamese import Siamese

N = TypeVar("N", bound=nn.Module)


def encode(network: Network, dates: tuple[Tensor, ...]) -> Features:
    """Images (B, C, H, W) of one date, or of two, each in a call of its own, -> the features that are decoded."""
    if len(dates) == 1:
        return network.encode(dates[0])
    assert isinstance(network, Siamese), type(network)
    first, second = (network.segmenter.encode(images) for images in dates)
    return replace(first, levels=tuple((a - b).abs() for a, b in zip(first.levels, second.levels, strict=True)))


def plain_form(network: N) -> N:
    """The network itself, with explicit attention and, in DPT, its 1x1 convolutions after the enlargement."""
    explicit_attention(network)
    for module in list(network.modules()):
        if isinstance(module, DPT):
            module.fusions = nn.ModuleList(_LateFusion(fusion) for fusion in module.fusions)
    return network


def explicit_attention(network: N) -> N:
    """The network itself, with attention as two products and a softmax."""
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # type: ignore[assignment]
    return network


@final
class _LateFusion(nn.Module):
    """A fusion of DPT that enlarges before its 1x1 convolution."""

    def __init__(self, fusion: nn.Module) -> None:
        super().__init__()
        assert isinstance(fusion, Fusion), type(fusion)
        self.unit1, self.unit2, self.out_conv = fusion.unit1, fusion.unit2, fusion.out_conv

    def forward(self, coarse: Tensor | None, level: Tensor, size: tuple[int, int] | None) -> Tensor:
        """(B, D, h, w) of the coarser path and of the level -> (B, D, *size), None: twice as large."""
        if coarse is not None:
            assert self.unit1 is not None
            level = coarse + self.unit1(level)
        twice = 2 if size is None else None
        enlarged = F.interpolate(self.unit2(level), size, twice, mode="bilinear", align_corners=True)
        result: Tensor = self.out_conv(enlarged)
        return result
