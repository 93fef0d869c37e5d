"""Averages over the valid positions of a step, over all processes, and what follows them from step to step.

Nothing here waits for the device; where no position is valid, what follows stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from semikit.core.counts import class_counts
from semikit.distributed.collectives import gather_over_processes, sum_over_processes


@final
@dataclass(frozen=True, slots=True)
class Mean:
    """value () or (K,), 0 where nothing was counted; count (): the positions it was taken over."""

    value: Tensor
    count: Tensor


def mean_of(values: Tensor, valid: Tensor) -> Mean:
    """The mean of values (B, *S) over valid positions (B, *S) bool, ()."""
    summed = torch.stack([torch.where(valid, values, 0.0).sum(), valid.sum().to(values.dtype)])
    total, count = sum_over_processes(summed).unbind()
    return Mean(total / count.clamp(min=1), count)


def class_mean_of(probabilities: Tensor, valid: Tensor) -> Mean:
    """The mean of probabilities (B, K, *S) over valid positions (B, *S) bool, (K,)."""
    masked = torch.where(valid.unsqueeze(1), probabilities, 0.0)
    summed = masked.reshape(*masked.shape[:2], -1).sum(dim=(0, 2))
    summed = sum_over_processes(torch.cat([summed, valid.sum().to(summed.dtype).view(1)]))
    return Mean(summed[:-1] / summed[-1].clamp(min=1), summed[-1])


def class_share_of(labels: Tensor, valid: Tensor, num_classes: int) -> Mean:
    """The share of each class among labels (B, *S) int64 at valid positions (B, *S) bool, (K,)."""
    counts = sum_over_processes(class_counts(labels, valid, num_classes))
    return Mean(counts / counts.sum().clamp(min=1), counts.sum())


def quantile_of(values: Tensor, valid: Tensor, share: float | Tensor) -> Mean:
    """The quantile `share` (0..1) of values (B, *S) at valid positions (B, *S) bool, linear between neighbours, ()."""
    chosen = torch.where(valid, values, torch.inf).flatten()
    ordered = gather_over_processes(chosen).sort().values
    count = sum_over_processes(valid.sum())
    last = (count - 1).clamp(min=0)
    place = last * share
    below = place.floor().long()
    low, high = ordered.index_select(0, torch.stack([below, torch.minimum(below + 1, last)])).unbind()
    between = torch.lerp(low, high, (place - below).to(low.dtype))
    return Mean(torch.where(count > 0, between, 0.0), count)


def follow(state: Tensor, mean: Mean, momentum: float) -> None:
    """State <- momentum · state + (1 - momentum) · mean, in place."""
    state.copy_(torch.where(mean.count > 0, torch.lerp(mean.value.to(state.dtype), state, momentum), state))
