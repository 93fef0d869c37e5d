"""How far confidence is from the share that is right."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torchmetrics import Metric


@final
class CalibrationError(Metric):
    """Mean distance of confidence and accuracy over all images, by equal bins of confidence (arXiv 1706.04599), 0..1.

    The state `sums` (3, bins) holds for each bin the number of images, the sum of their confidence and how many are
    right.
    """

    full_state_update = False
    sums: Tensor

    def __init__(self, bins: int, dtype: torch.dtype = torch.float64) -> None:
        super().__init__(sync_on_compute=False)
        self.add_state("sums", torch.zeros(3, bins, dtype=dtype), dist_reduce_fx="sum")

    def update(self, confidence: Tensor, predicted: Tensor, labels: Tensor) -> None:
        """Confidence (B,) in 0..1, predicted and true classes (B,)."""
        bins = self.sums.shape[1]
        cell = (confidence * bins).long().clamp(0, bins - 1)
        values = torch.stack([torch.ones_like(confidence), confidence, (predicted == labels).to(confidence.dtype)])
        batch = torch.zeros_like(self.sums)
        self.sums += batch.scatter_add_(1, cell.expand(3, -1), values.to(batch.dtype))

    def compute(self) -> dict[str, Tensor]:
        """The expected calibration error; 0 of no image."""
        count, confidence, right = self.sums.cpu().double()
        return {"ECE": (confidence - right).abs().sum() / count.sum().clamp(min=1)}
