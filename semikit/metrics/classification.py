"""Scores of image classification."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from semikit.metrics.calibration import CalibrationError
from semikit.metrics.confusion import ConfusionMetric, accuracy, f1, recall

_TOP = 5


@final
class ClassificationScores(ConfusionMetric):
    """Top-1 of all images and of each class that occurs; the mean over the classes in the truth (balanced accuracy),
    and of the F1 of those in the truth or predicted, as scikit-learn has it.
    """

    def compute(self) -> dict[str, Tensor]:
        """Scores by name."""
        return {
            "top-1": accuracy(self.matrix),
            "balanced_accuracy": recall(self.matrix).nanmean(),
            "macro_F1": f1(self.matrix).nanmean(),
            **self.class_scores("top-1", recall(self.matrix)),
        }


@final
class TopAccuracy(Metric):
    """Share of images whose class is among the `top` with the highest logits."""

    full_state_update = False
    hits: Tensor
    total: Tensor

    def __init__(self, top: int) -> None:
        super().__init__(sync_on_compute=False)
        self.top = top
        for name in ("hits", "total"):
            self.add_state(name, torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Logits (B, K), labels (B,)."""
        self.hits += (logits.topk(self.top, dim=1).indices == labels[:, None]).any(1).sum()
        self.total += len(labels)

    def compute(self) -> dict[str, Tensor]:
        """The share."""
        return {f"top-{self.top}": self.hits.cpu().double() / self.total.cpu()}


def classification_metrics(num_classes: int, bins: int, device: torch.device) -> MetricCollection:
    """What classification is scored by; updated with logits (B, K), confidence, predicted, labels and valid (B,)."""
    top = [TopAccuracy(_TOP)] if num_classes > _TOP else []
    calibration = CalibrationError(bins, torch.float32 if device.type == "mps" else torch.float64)  # MPS has no float64
    return MetricCollection([ClassificationScores(num_classes), *top, calibration], compute_groups=False)
