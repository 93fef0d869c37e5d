"""Which positions are confident enough to learn from, and how much each class among them counts."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from semikit.core.processes import sum_over_processes

_MOMENTUM = 0.99
_SMALLEST_SHARE = 0.1  # of an equal share: no class weighs more than ten times (before normalising), however rare


def confident(confidence: Tensor, valid: Tensor, threshold: float) -> Tensor:
    """Valid positions whose confidence reaches the threshold, (B, *S) bool; threshold 0 takes all (paper eq. 4)."""
    return (confidence >= threshold) & valid


@final
class ClassBalance(nn.Module):
    """Weights against the majority class feeding itself, for small networks from scratch; not part of any paper here.

    Keeps `share` (K,), the moving share of each class among the confident positions (sums to 1, equal at first), and
    weighs class c by share_c ** -power, normalised so that a confident position weighs 1 on average. `power` 0..1:
    0 changes nothing, at 1 all classes count alike in sum.
    """

    share: Tensor

    def __init__(self, num_classes: int, power: float) -> None:
        super().__init__()
        self.power = power
        self.register_buffer("share", torch.full((num_classes,), 1 / num_classes))

    @torch.no_grad()
    def observe(self, labels: Tensor, mask: Tensor) -> None:
        """Count a step's pseudo-labels (B, *S) int64 where `mask` (B, *S) bool; over all processes, once a step."""
        counts = torch.zeros_like(self.share).scatter_add_(0, labels.flatten(), mask.flatten().to(self.share.dtype))
        counts = sum_over_processes(counts)
        total = counts.sum()
        share = torch.where(total > 0, counts / total.clamp(min=1), self.share)
        self.share.lerp_(share, 1 - _MOMENTUM)

    def weights(self) -> Tensor:
        """The weight of each class, (K,), positive."""
        floor = _SMALLEST_SHARE / len(self.share)
        raw = self.share.clamp(min=floor).pow(-self.power)
        return raw / (raw * self.share).sum()
