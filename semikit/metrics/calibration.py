"""How far confidence is from the share that is right."""

from __future__ import annotations

import torch
from torch import Tensor


def binned(confidence: Tensor, right: Tensor, bins: int) -> Tensor:
    """Counts, sums of confidence and numbers right of equal bins of confidence, (3, bins) float64.

    confidence (N,) in 0..1, right (N,) bool. Those of batches and processes add up.
    """
    cell = (confidence * bins).long().clamp(0, bins - 1)
    sums = torch.zeros(3, bins, dtype=torch.float64, device=confidence.device)
    values = torch.stack([torch.ones_like(confidence), confidence, right.to(confidence.dtype)]).double()
    return sums.scatter_add_(1, cell.expand(3, -1), values)


def expected_calibration_error(sums: Tensor) -> float:
    """Mean distance of confidence and accuracy over all images, by bins (arXiv 1706.04599), 0..1."""
    count, confidence, right = sums.cpu()
    return float((confidence - right).abs().sum() / count.sum().clamp(min=1))
