"""How often each of a few cells comes among many positions, without many threads that write to one place."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_LANES = 64


def class_counts(labels: Tensor, weights: Tensor, num_classes: int) -> Tensor:
    """How many positions each class has, (K,) float32: labels (B, *S) int64, weights (B, *S) bool or >= 0.

    Adds up over images. Each row of a map is counted for itself at first.
    """
    rows = labels.flatten(0, -2) if labels.dim() > 1 else labels.unsqueeze(0)
    counts = torch.zeros(len(rows), num_classes, device=labels.device)
    return counts.scatter_add_(1, rows, weights.reshape(rows.shape).float()).sum(dim=0)


def cell_counts(cells: Tensor, weights: Tensor, size: int) -> Tensor:
    """The sum of the weights (N,) of each of `size` cells, which may be many: cells (N,) int64 -> (size,).

    On a device neighbours, which are often of one cell, are counted in places of their own.
    """
    if cells.device.type == "cpu":
        return weights.new_zeros(size).scatter_add_(0, cells, weights)
    return _counted_in_lanes(cells, weights, size)


def _counted_in_lanes(cells: Tensor, weights: Tensor, size: int) -> Tensor:
    cells, weights = (F.pad(values, (0, -len(values) % _LANES)).view(-1, _LANES) for values in (cells, weights))
    return weights.new_zeros(size, _LANES).scatter_add_(0, cells, weights).sum(dim=1)
